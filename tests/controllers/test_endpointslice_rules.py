"""Which pods are endpoints of a Service, how they look, and what their slices are like."""

from __future__ import annotations

from typing import Any

import pytest

from emu.controllers.actions import Action, Create, Replace, Report
from emu.controllers.endpointslice import Decision, Known, decide
from emu.core.objects import EndpointSlice, Pod, Service

from .controller_objects import node, pod, service, written_slice

NODES = {"node-1": node(labels={"topology.kubernetes.io/zone": "a"}), "node-2": node("node-2")}
TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


def decided(
    subject: Service,
    pods: list[Pod],
    existing: list[EndpointSlice] | None = None,
    known: Known | None = None,
) -> Decision:
    decision = decide(subject, pods, NODES, existing or [], known)
    assert decision is not None
    return decision


def slices(subject: Service, pods: list[Pod], existing: list[EndpointSlice] | None = None) -> list[Action]:
    return decided(subject, pods, existing).actions


def documents(actions: list[Action]) -> list[dict[str, Any]]:
    return [dict(a.document) for a in actions if isinstance(a, Create | Replace)]


def endpoints(subject: Service, pods: list[Pod]) -> list[dict[str, Any]]:
    return [e for document in documents(slices(subject, pods)) for e in document["endpoints"]]


def written(actions: list[Action]) -> list[EndpointSlice]:
    return [written_slice(document) for document in documents(actions)]


def test_b4_metadata() -> None:
    subject = service(
        labels={"team": "x", "kubernetes.io/service-name": "other"}, annotations={"example.com/note": "y"}
    )
    (document,) = documents(slices(subject, [pod("a")]))
    meta = document["metadata"]
    prefix, _, suffix = meta["name"].rpartition("-")
    assert (prefix, len(suffix), meta["generateName"]) == ("web", 5, "web-")
    assert meta["labels"] == {
        "team": "x",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert meta["annotations"] == {TRIGGER: "2026-01-01T00:00:00Z"}
    assert meta["ownerReferences"] == [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "name": "web",
            "uid": "uid-web",
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    assert document["addressType"] == "IPv4"
    assert document["endpoints"] == [
        {
            "addresses": ["127.244.1.2"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "node-1",
            "zone": "a",
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "a", "uid": "uid-a"},
        }
    ]
    assert document["ports"] == [{"name": "", "protocol": "TCP", "port": 8080}]


def test_b4_a_long_name_leaves_room_for_the_suffix() -> None:
    (document,) = documents(slices(service("s" * 63), []))
    assert len(document["metadata"]["name"]) == 63
    assert document["metadata"]["name"].startswith("s" * 58)


@pytest.mark.parametrize(
    ("rule", "subject", "expected"),
    [
        ("with a virtual IP", service(labels={"service.kubernetes.io/headless": ""}), None),
        ("headless", service(clusterIP="None"), ""),
    ],
)
def test_b4_headless_label(rule: str, subject: Service, expected: str | None) -> None:
    (document,) = documents(slices(subject, []))
    assert document["metadata"]["labels"].get("service.kubernetes.io/headless") == expected, rule


def test_b4_changed_labels_of_the_service_reach_its_slices() -> None:
    present = written(slices(service(labels={"team": "x"}), [pod("a")]))
    (update,) = documents(slices(service(labels={"a": "b"}), [pod("a")], present))
    labels = update["metadata"]["labels"]
    assert (labels.get("a"), "team" in labels) == ("b", False)
    assert slices(service(labels={"a": "b"}), [pod("a")], [written_slice(update)]) == []


@pytest.mark.parametrize(
    ("rule", "subject", "candidate", "expected"),
    [
        ("B1 ready", service(), pod("a"), (True, True, False)),
        ("B1 not ready", service(), pod("a", ready=False), (False, False, False)),
        ("B1 terminating, still serving", service(), pod("a", terminating=True), (False, True, True)),
        (
            "B1 unready while it terminates",
            service(),
            pod("a", ready=False, terminating=True),
            (False, False, True),
        ),
        (
            "B6 publishNotReadyAddresses",
            service(publishNotReadyAddresses=True),
            pod("a", ready=False),
            (True, False, False),
        ),
        (
            "B6 terminating as well",
            service(publishNotReadyAddresses=True),
            pod("a", terminating=True),
            (True, True, True),
        ),
    ],
)
def test_conditions(rule: str, subject: Service, candidate: Pod, expected: tuple[bool, bool, bool]) -> None:
    conditions = endpoints(subject, [candidate])[0]["conditions"]
    assert (conditions["ready"], conditions["serving"], conditions["terminating"]) == expected, rule


def test_b1_graceful_termination_in_one_slice() -> None:
    present = written(slices(service(), [pod("a"), pod("b", ip="127.244.1.3")]))
    states = []
    for candidates in (
        [pod("a", terminating=True), pod("b", ip="127.244.1.3")],
        [pod("a", terminating=True, ready=False), pod("b", ip="127.244.1.3")],
        [pod("b", ip="127.244.1.3")],
    ):
        actions = slices(service(), candidates, present)
        assert [type(action) for action in actions] == [Replace]
        present = written(actions)
        states.append([(e.ready, e.serving, e.terminating) for e in present[0].endpoints])
    assert states == [
        [(False, True, True), (True, True, False)],
        [(False, False, True), (True, True, False)],
        [(True, True, False)],
    ]


@pytest.mark.parametrize(
    ("rule", "candidate"),
    [
        ("succeeded", pod("a", phase="Succeeded")),
        ("failed", pod("a", phase="Failed")),
        ("no address", pod("a", ip="")),
        ("an address of another family", pod("a", ip="fd00::2")),
        ("its node is gone", pod("a", node="node-9")),
    ],
)
def test_b2_no_endpoint(rule: str, candidate: Pod) -> None:
    assert endpoints(service(), [candidate]) == [], rule
    ended = rule in ("succeeded", "failed", "no address", "an address of another family")
    assert bool(endpoints(service(publishNotReadyAddresses=True), [candidate])) is not ended, rule


def test_b2_a_missing_node_is_told_once() -> None:
    lost = [pod("a", node="node-9"), pod("b", node="node-8", ip="127.244.1.3"), pod("c", ip="127.244.1.4")]
    first = decided(service(), lost)
    (report,) = [action for action in first.actions if isinstance(action, Report)]
    assert (report.reason, report.warning) == ("FailedToUpdateEndpointSlices", True)
    assert report.message == (
        "Error updating Endpoint Slices for Service default/web: "
        "[skipping Pod a for Service default/web: Node node-9 Not Found, "
        "skipping Pod b for Service default/web: Node node-8 Not Found]"
    )
    present = written(first.actions)
    assert decided(service(), lost, present, first.known).actions == []
    (report,) = decided(service(), lost[1:], present, first.known).actions
    assert isinstance(report, Report)
    assert report.message.endswith(
        "Service default/web: skipping Pod b for Service default/web: Node node-8 Not Found"
    )


@pytest.mark.parametrize(
    ("rule", "spec", "expected"),
    [
        ("subdomain is the Service", {"hostname": "h", "subdomain": "web"}, "h"),
        ("another subdomain", {"hostname": "h", "subdomain": "other"}, None),
        ("no subdomain", {"hostname": "h"}, None),
        ("no hostname", {"subdomain": "web"}, None),
    ],
)
def test_b4_hostname(rule: str, spec: dict[str, Any], expected: str | None) -> None:
    assert endpoints(service(), [pod("a", spec=spec)])[0].get("hostname") == expected, rule


def listening(name: str, ip: str, **ports: int | str) -> Pod:
    """A pod with named ports, such as `http=80` or `dns="53/UDP"`, or `sidecar_http` of a sidecar."""
    containers: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for port, number in ports.items():
        value, _, protocol = str(number).partition("/")
        sidecar = port.startswith("sidecar_")
        found = {
            "name": port.removeprefix("sidecar_"),
            "containerPort": int(value),
            "protocol": protocol or "TCP",
        }
        containers[sidecar].append(found)
    spec = {
        "containers": [{"name": "c", "ports": containers[False]}],
        "initContainers": [{"name": "s", "restartPolicy": "Always", "ports": containers[True]}],
    }
    return pod(name, ip=ip, spec=spec)


@pytest.mark.parametrize(
    ("rule", "ports", "candidate", "expected"),
    [
        ("A3 no targetPort", [{"port": 80}], pod("a"), [80]),
        ("A3 a number is not checked", [{"port": 80, "targetPort": 81}], pod("a"), [81]),
        (
            "A4 by name",
            [{"port": 80, "targetPort": "http"}],
            listening("a", "127.244.1.2", http=8080),
            [8080],
        ),
        (
            "A4 and protocol",
            [{"port": 80, "targetPort": "http"}],
            listening("a", "127.244.1.2", http="8080/UDP"),
            [],
        ),
        (
            "A4 a sidecar's",
            [{"port": 80, "targetPort": "http"}],
            listening("a", "127.244.1.2", sidecar_http=8080),
            [8080],
        ),
        (
            "A4 a container's before a sidecar's",
            [{"port": 80, "targetPort": "http"}],
            listening("a", "127.244.1.2", sidecar_http=8081, http=8080),
            [8080],
        ),
        (
            "A4 the others stay",
            [{"port": 80, "targetPort": "http", "name": "a"}, {"port": 81, "name": "b"}],
            listening("a", "127.244.1.2"),
            [81],
        ),
        (
            "A2 TCP and UDP on one number",
            [{"port": 53, "name": "dns", "protocol": "UDP"}, {"port": 53, "name": "dns-tcp"}],
            pod("a"),
            [53, 53],
        ),
    ],
)
def test_ports(rule: str, ports: list[dict[str, Any]], candidate: Pod, expected: list[int]) -> None:
    (document,) = documents(slices(service(ports=ports), [candidate]))
    assert [port["port"] for port in document["ports"]] == expected, rule
    assert document["endpoints"], rule


def test_b5_named_ports_that_differ_give_slices_of_their_own() -> None:
    subject = service(ports=[{"port": 80, "targetPort": "http", "name": "web"}])
    pods = [
        listening("a", "127.244.1.2", http=8080),
        listening("b", "127.244.1.3", http=9090),
        listening("c", "127.244.1.4", http=8080),
        listening("udp", "127.244.1.5", http="8080/UDP"),
    ]
    found = {
        tuple(port["port"] for port in document["ports"]): [e["addresses"][0] for e in document["endpoints"]]
        for document in documents(slices(subject, pods))
    }
    assert found == {
        (8080,): ["127.244.1.2", "127.244.1.4"],
        (9090,): ["127.244.1.3"],
        (): ["127.244.1.5"],
    }


def test_a6_headless_without_ports_has_endpoints_without_ports() -> None:
    """A name of such a Service has addresses all the same."""
    placeholder = written(slices(service(clusterIP="None", ports=[]), []))
    (update,) = documents(slices(service(clusterIP="None", ports=[]), [pod("a")], placeholder))
    assert update["metadata"]["name"] == placeholder[0].name
    assert (update["ports"], len(update["endpoints"])) == ([], 1)


def test_app_protocol_is_carried_over() -> None:
    subject = service(ports=[{"port": 80, "appProtocol": "kubernetes.io/h2c"}])
    (document,) = documents(slices(subject, [pod("a")]))
    assert document["ports"] == [
        {"name": "", "protocol": "TCP", "port": 80, "appProtocol": "kubernetes.io/h2c"}
    ]


@pytest.mark.parametrize(
    ("rule", "subject"),
    [
        ("A5 no selector", service(selector={})),
        ("A8 ExternalName", service(type="ExternalName", externalName="example.com")),
    ],
)
def test_no_slices_and_those_from_before_stay(rule: str, subject: Service) -> None:
    present = written(slices(service(), [pod("a")]))
    assert decide(subject, [pod("a")], NODES, present) is None, rule


def test_b3_the_zone_of_a_node_changes() -> None:
    present = written(slices(service(), [pod("a"), pod("b", node="node-2", ip="127.244.2.2")]))
    assert [e.zone for e in present[0].endpoints] == ["a", None]
    moved = {**NODES, "node-2": node("node-2", labels={"topology.kubernetes.io/zone": "b"})}
    pods = [pod("a"), pod("b", node="node-2", ip="127.244.2.2")]
    decision = decide(service(), pods, moved, present)
    assert decision is not None
    assert [e.zone for e in written(decision.actions)[0].endpoints] == ["a", "b"]


@pytest.mark.parametrize(
    ("rule", "before", "now", "expected"),
    [
        ("never seen: the Service's creation", None, [("a", "02")], "2026-01-01T00:00:00Z"),
        ("one pod changed", [("a", "02"), ("b", "03")], [("a", "05"), ("b", "03")], "2026-01-01T00:00:05Z"),
        (
            "the earliest of two",
            [("a", "02"), ("b", "03")],
            [("a", "06"), ("b", "05")],
            "2026-01-01T00:00:05Z",
        ),
        ("a new pod", [("a", "02")], [("a", "02"), ("b", "01")], "2026-01-01T00:00:01Z"),
        ("a pod was deleted", [("a", "02"), ("b", "03")], [("a", "02")], None),
        ("a time that went back", [("a", "02")], [("a", "01"), ("b", "")], None),
    ],
)
def test_b4_trigger_time(
    rule: str, before: list[tuple[str, str]] | None, now: list[tuple[str, str]], expected: str | None
) -> None:
    def pods(times: list[tuple[str, str]]) -> list[Pod]:
        return [
            pod(
                name,
                ip=f"127.244.1.{ord(name)}",
                ready_since=f"2026-01-01T00:00:{second}Z" if second else "",
                ready=bool(second),
                labels={"app": "web", "version": second},
            )
            for name, second in times
        ]

    first = decided(service(), pods(before)) if before is not None else None
    # A write is wanted, whatever the pods say: the labels change.
    present = written(first.actions) if first is not None else []
    actions = decided(
        service(labels={"new": "x"}), pods(now), present, first.known if first is not None else None
    ).actions
    assert documents(actions)[0]["metadata"]["annotations"].get(TRIGGER) == expected, rule


def test_unchanged_writes_nothing_and_one_pod_of_five_thousand_writes_one_slice() -> None:
    pods = [pod(f"p{n}", ip=f"127.244.{1 + n // 250}.{n % 250 + 2}") for n in range(5000)]
    first = decided(service(), pods)
    present = written(first.actions)
    assert len(present) == 50
    assert decided(service(), pods, present, first.known).actions == []
    pods[77] = pod("p77", ip=pods[77].ip, ready=False)
    changed = decided(service(), pods, present, first.known).actions
    assert [type(action) for action in changed] == [Replace]
