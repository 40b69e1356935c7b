"""EndpointSlices: which pods are endpoints, how they look, and how they are packed."""

from __future__ import annotations

from typing import Any

import pytest
from controller_objects import NOW, node, pod, service, written_slice

from emu.controllers.actions import Action, Create, Delete, Replace
from emu.controllers.endpointslice import decide
from emu.core.objects import EndpointSlice, Pod, Service

NODES = {"node-1": node(labels={"topology.kubernetes.io/zone": "a"})}


def slices(subject: Service, pods: list[Pod], existing: list[EndpointSlice] | None = None) -> list[Action]:
    return decide(subject, pods, NODES, existing or [], NOW)


def endpoints(subject: Service, pods: list[Pod]) -> list[dict[str, Any]]:
    return [e for a in slices(subject, pods) if isinstance(a, Create) for e in a.document["endpoints"]]


def written(actions: list[Action]) -> list[EndpointSlice]:
    return [written_slice(dict(a.document)) for a in actions if isinstance(a, Create | Replace)]


def many(count: int, start: int = 0) -> list[Pod]:
    return [pod(f"p{n:03}", ip=f"127.244.{1 + n // 200}.{n % 200 + 2}") for n in range(start, start + count)]


def test_b4_metadata() -> None:
    subject = service(labels={"team": "x", "kubernetes.io/service-name": "other"})
    document = next(a for a in slices(subject, [pod("a")]) if isinstance(a, Create)).document
    assert document["metadata"]["name"].startswith("web-")
    assert document["metadata"]["labels"] == {
        "team": "x",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    reference = document["metadata"]["ownerReferences"][0]
    assert (reference["kind"], reference["controller"], reference["blockOwnerDeletion"]) == (
        "Service",
        True,
        True,
    )
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


@pytest.mark.parametrize(
    ("rule", "subject", "candidate", "expected"),
    [
        ("B1 ready", service(), pod("a"), (True, True, False)),
        ("B1 not ready", service(), pod("a", ready=False), (False, False, False)),
        (
            "B1 terminating is not ready and may serve",
            service(),
            pod("a", terminating=True),
            (False, True, True),
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


@pytest.mark.parametrize(
    ("rule", "candidate"),
    [
        ("B2 succeeded", pod("a", phase="Succeeded")),
        ("B2 failed", pod("a", phase="Failed")),
        ("B2 no address", pod("a", ip="")),
        ("B2 its node is gone", pod("a", node="node-9")),
    ],
)
def test_no_endpoint(rule: str, candidate: Pod) -> None:
    assert endpoints(service(), [candidate]) == [], rule


def test_b2_publish_not_ready_needs_no_node() -> None:
    assert endpoints(service(publishNotReadyAddresses=True), [pod("a", node="node-9")])


@pytest.mark.parametrize(
    ("rule", "spec", "expected"),
    [
        ("subdomain is the Service", {"hostname": "h", "subdomain": "web"}, "h"),
        ("another subdomain", {"hostname": "h", "subdomain": "other"}, None),
        ("no subdomain", {"hostname": "h"}, None),
    ],
)
def test_hostname(rule: str, spec: dict[str, Any], expected: str | None) -> None:
    assert endpoints(service(), [pod("a", spec=spec)])[0].get("hostname") == expected, rule


def test_b5_named_ports_that_differ_give_slices_of_their_own() -> None:
    def listening(name: str, ip: str, port: int, protocol: str = "TCP") -> Pod:
        ports = [{"name": "http", "containerPort": port, "protocol": protocol}]
        return pod(name, ip=ip, spec={"containers": [{"name": "c", "ports": ports}]})

    subject = service(ports=[{"port": 80, "targetPort": "http", "name": "web"}])
    pods = [
        listening("a", "127.244.1.2", 8080),
        listening("b", "127.244.1.3", 9090),
        listening("c", "127.244.1.4", 8080),
        listening("udp", "127.244.1.5", 8080, "UDP"),
    ]
    found = {
        tuple(port["port"] for port in a.document["ports"]): [
            e["addresses"][0] for e in a.document["endpoints"]
        ]
        for a in slices(subject, pods)
        if isinstance(a, Create)
    }
    assert found == {
        (8080,): ["127.244.1.2", "127.244.1.4"],
        (9090,): ["127.244.1.3"],
        (): ["127.244.1.5"],
    }


def test_b4_placeholder_and_back() -> None:
    placeholder = written(slices(service(), []))
    assert len(placeholder) == 1
    assert (placeholder[0].endpoints, placeholder[0].ports) == ((), ())
    assert slices(service(), [], placeholder) == []
    filled = slices(service(), [pod("a")], placeholder)
    assert [type(a) for a in filled] == [Replace]
    emptied = slices(service(), [], written(filled))
    assert [type(a) for a in emptied] == [Replace]
    assert written(emptied)[0].endpoints == ()


def test_unchanged_writes_nothing() -> None:
    present = written(slices(service(), many(3)))
    assert slices(service(), many(3), present) == []


def test_b5_at_most_100_in_a_slice() -> None:
    assert sorted(len(s.endpoints) for s in written(slices(service(), many(250)))) == [50, 100, 100]


def test_b5_new_endpoints_go_into_a_slice_with_room() -> None:
    present = written(slices(service(), many(150)))
    actions = slices(service(), many(160), present)
    assert [type(a) for a in actions] == [Replace]
    assert len(written(actions)[0].endpoints) == 60


def test_b5_changed_slices_are_filled_first() -> None:
    present = written(slices(service(), many(150)))
    full = next(s for s in present if len(s.endpoints) == 100)
    gone = full.endpoints[0].addresses[0]
    pods = [p for p in many(151) if p.ip != gone]
    actions = slices(service(), pods, present)
    assert [(type(a), a.document["metadata"]["name"]) for a in actions if isinstance(a, Replace)] == [
        (Replace, full.name)
    ]


def test_b5_never_rebalanced_and_empty_slices_go() -> None:
    present = written(slices(service(), many(150)))
    full = next(s for s in present if len(s.endpoints) == 100)
    gone = {e.addresses[0] for e in full.endpoints}
    actions = slices(service(), [p for p in many(150) if p.ip not in gone], present)
    assert [(type(a), getattr(a, "name", "")) for a in actions] == [(Delete, full.name)]


def test_changed_labels_of_the_service_reach_its_slices() -> None:
    present = written(slices(service(), many(1)))
    assert [type(a) for a in slices(service(labels={"a": "b"}), many(1), present)] == [Replace]


@pytest.mark.parametrize(
    ("rule", "subject", "expected"),
    [
        ("no preference", service(), None),
        ("B12 PreferClose", service(trafficDistribution="PreferClose"), {"forZones": [{"name": "a"}]}),
        (
            "B12 PreferSameNode",
            service(trafficDistribution="PreferSameNode"),
            {"forZones": [{"name": "a"}], "forNodes": [{"name": "node-1"}]},
        ),
        (
            "B12 topology-mode Auto wins",
            service(
                trafficDistribution="PreferClose",
                annotations={"service.kubernetes.io/topology-mode": "Auto"},
            ),
            None,
        ),
    ],
)
def test_hints(rule: str, subject: Service, expected: dict[str, Any] | None) -> None:
    assert endpoints(subject, [pod("a")])[0].get("hints") == expected, rule


@pytest.mark.parametrize(
    ("rule", "subject"),
    [
        ("A5 no selector", service(selector={})),
        ("A8 ExternalName", service(type="ExternalName", externalName="example.com")),
    ],
)
def test_no_slices(rule: str, subject: Service) -> None:
    assert slices(subject, [pod("a")]) == [], rule
