"""Who is an endpoint: slices of the controller, slices and Endpoints written by hand, conditions, hints.

Rules A3 to A5 and B1 to B13, and of the data path C13 (terminating endpoints) and C21 (topology).
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, NamedTuple

import pytest
from as_a_client import (
    DROPPED_SECONDS,
    OUTSIDE,
    Space,
    at_once,
    endpoint_slice,
    http,
    node_ip,
    outcome,
    pod,
    program_at,
    service,
    spread,
)
from proxy_modes import MODES, every_mode, in_modes, kernel_modes

from emu.client.rest import ApiError, Client
from emu.core.objects import Endpoints, EndpointSlice, Pod, Service

Expected = dict[tuple[str, int], str]
"""The pods that answer a client at a port of the ClusterIP, or the fate of its connection."""


class Case(NamedTuple):
    """A Service without selector, its slices, and what comes of them."""

    spec: dict[str, Any]
    slices: list[dict[str, Any]]
    expected: Expected


def at(
    address: str, node: str = "", hints: dict[str, Any] | None = None, **conditions: bool
) -> dict[str, Any]:
    """One endpoint of a slice; conditions that are not given are not set."""
    made: dict[str, Any] = {"addresses": [address]}
    if conditions:
        made["conditions"] = conditions
    if node:
        made["nodeName"] = node
    if hints:
        made["hints"] = hints
    return made


def holding(*endpoints: Any, port: Any = 8080, **fields: Any) -> dict[str, Any]:
    """What is special of a slice; one unnamed port unless `ports` are given."""
    return {"ports": [{"port": port}], "endpoints": list(endpoints), **fields}


NEAR, FAR, THIRD = ("near", 8080), ("far", 8080), ("third", 8080)


def _cases(one: str, two: str) -> dict[str, Case]:
    leaving = {"ready": False, "serving": True, "terminating": True}
    gone = {"ready": False, "serving": False, "terminating": True}
    two_ports = {"ports": [{"name": "a", "port": 8080, "targetPort": 1}, {"name": "b", "port": 8082}]}
    plain: dict[str, Any] = {}

    def node(name: str) -> dict[str, Any]:
        return {"forNodes": [{"name": name}]}

    def zone(name: str) -> dict[str, Any]:
        return {"forZones": [{"name": name}]}

    return {
        "unset-is-ready": Case(plain, [holding(at(one), at(two))], {NEAR: "one two"}),
        "two-authors": Case(plain, [holding(at(one)), holding(at(two))], {NEAR: "one two"}),
        "duplicates": Case(plain, [holding(at(one)), holding(at(one), at(two))], {NEAR: "one two"}),
        "first-address": Case(plain, [holding({"addresses": [one, two]})], {NEAR: "one"}),
        "other-family": Case(
            plain, [holding(at("fd00::1"), addressType="IPv6"), holding(at(one))], {NEAR: "one"}
        ),
        "only-other-families": Case(
            plain,
            [holding(at("fd00::1"), addressType="IPv6"), holding(at("one.example"), addressType="FQDN")],
            {NEAR: "refused"},
        ),
        "by-name": Case(
            two_ports,
            [
                holding(at(one), ports=[{"name": "a", "port": 8080}]),
                holding(at(two), ports=[{"name": "b", "port": 8080}]),
            ],
            {NEAR: "one", ("near", 8082): "two"},
        ),
        "wrong-name": Case(plain, [holding(at(one), ports=[{"name": "a", "port": 8080}])], {NEAR: "refused"}),
        "wrong-protocol": Case(
            two_ports,
            [
                holding(at(one), ports=[{"name": "a", "port": 8080, "protocol": "UDP"}]),
                holding(at(two), ports=[{"name": "b", "port": 8080}]),
            ],
            {NEAR: "refused", ("near", 8082): "two"},
        ),
        "no-number": Case(plain, [holding(at(one), ports=[{"name": ""}])], {NEAR: "refused"}),
        "ready-first": Case(plain, [holding(at(one, ready=True), at(two, **leaving))], {NEAR: "one"}),
        "all-leaving": Case(plain, [holding(at(one, **leaving), at(two, ready=False))], {NEAR: "one"}),
        "neither": Case(
            plain, [holding(at(one, ready=False, serving=True), at(two, **gone))], {NEAR: "refused"}
        ),
        "leaving-here-ready-there": Case(
            {"internalTrafficPolicy": "Local"},
            [holding(at(one, "node-1", **leaving), at(two, "node-2", ready=True))],
            {NEAR: "one", FAR: "two", THIRD: "dropped"},
        ),
        "leaving-everywhere-else": Case(
            plain,
            [holding(at(one, "node-1", **leaving), at(two, "node-2", ready=True))],
            {NEAR: "two", FAR: "two"},
        ),
        "node-hints": Case(
            plain,
            [holding(at(one, "node-1", node("node-1")), at(two, "node-2", node("node-2")))],
            {NEAR: "one", FAR: "two", THIRD: "one two"},
        ),
        "zone-hints": Case(
            plain,
            [holding(at(one, "node-1", zone("zone-a")), at(two, "node-2", zone("zone-b")))],
            {NEAR: "one", FAR: "two", THIRD: "two"},
        ),
        "node-before-zone": Case(
            plain,
            [
                holding(
                    at(one, "node-1", {**node("node-3"), **zone("zone-a")}),
                    at(two, "node-2", {**node("node-2"), **zone("zone-b")}),
                )
            ],
            {NEAR: "one", FAR: "two", THIRD: "one"},
        ),
        "a-hint-is-missing": Case(
            plain, [holding(at(one, hints=zone("zone-a")), at(two))], {NEAR: "one two", FAR: "one two"}
        ),
        "hints-name-other-zones": Case(
            plain,
            [holding(at(one, hints=zone("zone-c")), at(two, hints=zone("zone-b")))],
            {NEAR: "one two", FAR: "two"},
        ),
        "hints-of-ready-ones-count": Case(
            plain, [holding(at(one, hints=zone("zone-b")), at(two, ready=False))], {NEAR: "one", FAR: "one"}
        ),
        "local-policy-ignores-hints": Case(
            {"internalTrafficPolicy": "Local"},
            [holding(at(one, "node-1", zone("zone-b")), at(two, "node-2", zone("zone-a")))],
            {NEAR: "one", FAR: "two"},
        ),
    }


class ByHand:
    """All cases in force, in one namespace."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.cases = _cases(space.ip("one"), space.ip("two"))
        documents: list[Any] = []
        for name, case in self.cases.items():
            documents.append(service(name, **case.spec))
            for number, fields in enumerate(case.slices):
                slice_ = endpoint_slice(f"{name}-{number}", name, [], [])
                documents.append({**slice_, **fields})
        space.apply(*documents)
        last = next(reversed(self.cases))
        space.cluster.until(
            lambda: spread(space.ip("near"), space.vip(last), 1), what="the slices are in force"
        )

    def found(self, *names: str) -> dict[str, Expected]:
        """What becomes of the clients of some cases."""
        rows = [
            (name, client, expected)
            for name in names
            for client, expected in self.cases[name].expected.items()
        ]
        outcomes = at_once(self._fate, rows)
        found: dict[str, Expected] = {name: {} for name in names}
        for (name, client, _), fate in zip(rows, outcomes, strict=True):
            found[name][client] = fate
        return found

    def expected(self, *names: str) -> dict[str, Expected]:
        """What shall become of them."""
        return {name: self.cases[name].expected for name in names}

    def _fate(self, name: str, client: tuple[str, int], expected: str) -> str:
        source, address = self.space.ip(client[0]), self.space.vip(name)
        fates = ("dropped", "refused", "reset")
        fate = outcome(source, address, client[1], DROPPED_SECONDS if expected in fates else 5.0)
        if fate != "ok":
            return fate
        return " ".join(sorted(spread(source, address, 20 if " " in expected else 6, client[1])))


@pytest.fixture(scope="module")
def by_hand(space: Space) -> ByHand:
    return ByHand(space)


def holds(by_hand: ByHand, *names: str) -> None:
    assert by_hand.found(*names) == by_hand.expected(*names)


@kernel_modes
def test_b7_conditions_that_are_not_set_mean_ready(by_hand: ByHand, mode: str):
    holds(by_hand, "unset-is-ready")


@kernel_modes
def test_b8_b9_slices_of_any_author_count_and_an_endpoint_counts_once(by_hand: ByHand, mode: str):
    holds(by_hand, "two-authors", "duplicates", "first-address", "other-family", "only-other-families")


@in_modes("userspace")
def test_g5_userspace_mode_reads_endpoints_and_no_slices(by_hand: ByHand, mode: str):
    space = by_hand.space
    assert outcome(space.ip("near"), space.vip("unset-is-ready")) == "reset"


@in_modes("ipvs")
def test_b9_an_endpoint_of_two_slices_has_one_turn(by_hand: ByHand, mode: str):
    space = by_hand.space
    answers = [http(space.ip("near"), space.vip("duplicates")) for _ in range(6)]
    assert answers[0] != answers[1]
    assert answers == answers[:2] * 3


@kernel_modes
def test_b10_slice_ports_belong_to_service_ports_by_name_and_protocol(by_hand: ByHand, mode: str):
    holds(by_hand, "by-name", "wrong-name", "wrong-protocol", "no-number")


@kernel_modes
def test_c13_terminating_endpoints_serve_where_none_is_ready(by_hand: ByHand, mode: str):
    holds(by_hand, "ready-first", "all-leaving", "neither", "leaving-everywhere-else")


@in_modes("iptables", "nftables")
def test_c13_the_fallback_is_decided_for_each_node_by_itself_under_local_policy(by_hand: ByHand, mode: str):
    holds(by_hand, "leaving-here-ready-there")


@kernel_modes
def test_c21_node_hints_before_zone_hints_before_all(by_hand: ByHand, mode: str):
    holds(
        by_hand,
        "node-hints",
        "zone-hints",
        "node-before-zone",
        "a-hint-is-missing",
        "hints-name-other-zones",
        "hints-of-ready-ones-count",
        "local-policy-ignores-hints",
    )


def test_b8_only_slices_of_the_services_namespace_count(by_hand: ByHand):
    space = by_hand.space
    other = Space(space.cluster, "service-slices-other")
    # A Service that is served by both at once tells when the slice of the other namespace is known.
    stranger = endpoint_slice("unset-is-ready-9", "first-address", [{"port": 8080}], [at(space.ip("two"))])
    marker = endpoint_slice("marker", "marker", [{"port": 8080}], [at(space.ip("two"))])
    other.apply(stranger, service("marker"), marker)
    space.cluster.until(
        lambda: spread(space.ip("near"), other.vip("marker"), 1), what="the other is in force"
    )
    holds(by_hand, "first-address")


# --- the controller's slices ---


def slices_of(space: Space, name: str) -> list[EndpointSlice]:
    return space.cluster.objects(EndpointSlice, space.name, labels=f"kubernetes.io/service-name={name}")


def conditions_of(space: Space, name: str) -> dict[str, tuple[bool, bool, bool]]:
    """Each pod's (ready, serving, terminating)."""
    return {
        item.target_ref.name: (item.ready, item.serving, item.terminating)
        for slice_ in slices_of(space, name)
        for item in slice_.endpoints
        if item.target_ref
    }


PROBE = {"tcpSocket": {"port": 7070}, "periodSeconds": 1, "failureThreshold": 1}
NAMED = [{"port": 8080, "targetPort": "http"}]


@pytest.fixture(scope="module")
def managed(space: Space) -> Space:
    """Pods of every condition, and the Services that select them."""

    def named(name: str, number: int, protocol: str = "TCP") -> Any:
        ports = [{"name": "http", "containerPort": number, "protocol": protocol}]
        arguments = ("netexec", f"--http-port={number}", "--udp-port=-1")
        made = pod(name, *arguments, labels={"app": "named"}, ports=ports)
        admin = pod(name, "netexec", f"--http-port={number + 1}", "--udp-port=-1")["spec"]["containers"][0]
        admin |= {"name": "admin", "ports": [{"name": "admin", "containerPort": number + 1}]}
        made["spec"]["containers"].append(admin)
        return made

    sidecar = pod("sidecar", labels={"app": "sidecar"})
    sidecar["spec"]["initContainers"] = [
        {
            "name": "first",
            "image": "registry.k8s.io/pause",
            "restartPolicy": "Always",
            "ports": [{"name": "http", "containerPort": 8080}],
        }
    ]
    space.apply(
        pod("unready", node="node-1", labels={"app": "probed"}, readinessProbe=PROBE),
        service("strict", "probed"),
        service("lax", "probed", publishNotReadyAddresses=True),
        ready=False,
    )
    space.apply(
        pod("listens", labels={"app": "share", "tier": "a"}),
        pod("mute", "pause", labels={"app": "share", "tier": "b"}),
        named("first", 8000),
        named("second", 9000),
        named("datagrams", 9001, "UDP"),
        pod("nameless", labels={"app": "named"}),
        sidecar,
        *(pod(f"leaving-{mode}", "netexec", "--delay-shutdown=20", node="node-2") for mode in MODES),
        service("share", "share"),
        service("share-a", selector={"app": "share", "tier": "a"}),
        service("named", "named", ports=NAMED),
        service(
            "two-names",
            "named",
            ports=[
                {"name": "a", "port": 8080, "targetPort": "http"},
                {"name": "b", "port": 8082, "targetPort": "admin"},
            ],
        ),
        service("sidecar", "sidecar", ports=NAMED),
        *(service(f"leaving-{mode}", f"leaving-{mode}") for mode in MODES),
        service("close", "web", type="NodePort", trafficDistribution="PreferClose"),
        service("same-zone", "web", trafficDistribution="PreferSameZone"),
        service("same-node", "web", trafficDistribution="PreferSameNode"),
        service("headless", "web", clusterIP="None"),
        service("edited", "web"),
        service("labelled", "web")
        | {"metadata": {"name": "labelled", "labels": {"team": "red", "kubernetes.io/service-name": "no"}}},
        service("moving", "web", ports=[{"name": "a", "port": 8080, "targetPort": 8080}]),
        service("without"),
    )
    space.cluster.until(
        lambda: spread(space.ip("near"), space.vip("named"), 1), what="the Services are in force"
    )
    return space


def until_served(space: Space, name: str, expected: str, client: str = "near", port: int = 8080) -> None:
    """Wait until the pods of a Service, or the fate of a connection to it, are the expected ones."""
    source, address = space.ip(client), space.vip(name)

    def served() -> bool:
        fate = outcome(source, address, port)
        found = " ".join(sorted(spread(source, address, port=port))) if fate == "ok" else fate
        return found == expected

    space.cluster.until(served, what=f"{name} is served by {expected}")


@every_mode
def test_a4_named_target_ports_differ_per_pod(managed: Space, mode: str):
    until_served(managed, "named", "first second")
    until_served(managed, "sidecar", "sidecar")
    # Several ports, each with numbers of its own; a pod may have one of them and not the other.
    until_served(managed, "two-names", "first second")
    until_served(managed, "two-names", "datagrams first second", port=8082)


def test_a3_pods_that_do_not_listen_are_endpoints_all_the_same(managed: Space):
    (slice_,) = slices_of(managed, "share")
    assert {item.addresses[0] for item in slice_.endpoints} == {managed.ip("listens"), managed.ip("mute")}
    assert [port.port for port in slice_.ports] == [8080]


def test_a5_all_pairs_of_a_selector_must_match(managed: Space):
    until_served(managed, "share-a", "listens")
    assert set(conditions_of(managed, "share-a")) == {"listens"}
    assert slices_of(managed, "without") == []
    other = Space(managed.cluster, "service-slices-elsewhere")
    other.apply(service("share", "share"))
    managed.cluster.until(lambda: slices_of(other, "share"), what="the Service has its placeholder")
    assert slices_of(other, "share")[0].endpoints == ()


def test_b1_b6_conditions_of_pods(managed: Space):
    until_served(managed, "lax", "unready")
    assert conditions_of(managed, "strict") == {"unready": (False, False, False)}
    assert conditions_of(managed, "lax") == {"unready": (True, False, False)}
    assert conditions_of(managed, "share") == {
        "listens": (True, True, False),
        "mute": (True, True, False),
    }
    assert outcome(managed.ip("near"), managed.vip("strict")) == "refused"


def test_b3_readiness_makes_and_unmakes_an_endpoint(managed: Space):
    with program_at(managed.ip("unready"), 7070):
        until_served(managed, "strict", "unready")
        assert conditions_of(managed, "strict") == {"unready": (True, True, False)}
    until_served(managed, "strict", "refused")


def test_b3_labels_selector_and_ports_reconcile(managed: Space):
    until_served(managed, "moving", "one two")
    managed.patch(Pod, "two", {"metadata": {"labels": {"app": "elsewhere"}}})
    until_served(managed, "moving", "one")
    managed.patch(Pod, "two", {"metadata": {"labels": {"app": "web"}}})
    until_served(managed, "moving", "one two")
    managed.patch(Service, "moving", {"spec": {"selector": {"app": "near"}}})
    until_served(managed, "moving", "near")
    ports = [{"name": "a", "port": 9090, "targetPort": 8080, "protocol": "TCP"}]
    managed.patch(Service, "moving", {"spec": {"ports": ports}})
    until_served(managed, "moving", "near", port=9090)
    assert outcome(managed.ip("near"), managed.vip("moving")) == "refused"


def test_b3_a_slice_of_the_controller_that_somebody_changes_is_put_right(managed: Space):
    (before,) = slices_of(managed, "edited")

    def right() -> bool:
        found = slices_of(managed, "edited")
        return [slice_.endpoints for slice_ in found] == [before.endpoints]

    managed.patch(EndpointSlice, before.name, {"endpoints": [at("127.220.41.1")]})
    managed.cluster.until(right, what="the endpoints are the pods again")
    managed.delete(EndpointSlice, before.name)
    managed.cluster.until(right, what="there is a slice again")
    until_served(managed, "edited", "one two")


def test_b4_what_a_slice_says(managed: Space):
    (slice_,) = slices_of(managed, "labelled")
    owner = managed.cluster.object(Service, "labelled", managed.name)
    assert re.fullmatch(r"labelled-[a-z0-9]{5}", slice_.name)
    assert slice_.metadata.labels == {
        "team": "red",
        "kubernetes.io/service-name": "labelled",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    (reference,) = slice_.metadata.owner_references
    assert (reference.kind, reference.name, reference.uid) == ("Service", "labelled", owner.metadata.uid)
    assert reference.controller
    assert "endpoints.kubernetes.io/last-change-trigger-time" in slice_.metadata.annotations
    assert slice_.address_type == "IPv4"
    found = {item.addresses[0]: (item.node_name, item.zone) for item in slice_.endpoints}
    assert found == {
        managed.ip("one"): ("node-1", "zone-a"),
        managed.ip("two"): ("node-2", "zone-b"),
    }
    (headless,) = slices_of(managed, "headless")
    assert headless.metadata.labels["service.kubernetes.io/headless"] == ""


def test_b5_pods_are_grouped_by_their_numbers_of_a_named_port(managed: Space):
    groups = {
        tuple(port.port for port in slice_.ports): {item.target_ref.name for item in slice_.endpoints}
        for slice_ in slices_of(managed, "named")
    }
    assert groups == {(8000,): {"first"}, (9000,): {"second"}, (): {"datagrams", "nameless"}}


def test_b2_b5_pods_without_a_node_count_only_unready_and_a_slice_holds_100(managed: Space):
    ready = [{"type": "Ready", "status": "True"}]

    def ghost(number: int) -> dict[str, Any]:
        made = pod(f"ghost-{number}", node="ghost", labels={"app": "ghost"})
        return {**made, "metadata": {**made["metadata"], "namespace": managed.name}}

    async def create(client: Client) -> None:
        async def one(number: int) -> None:
            await client.create(Pod.resource, ghost(number))
            phase = {101: "Succeeded", 102: "Failed"}.get(number, "Running")
            ip = "" if number == 103 else f"127.220.40.{number + 1}"
            status = {
                "phase": phase,
                "conditions": ready,
                **({"podIP": ip, "podIPs": [{"ip": ip}]} if ip else {}),
            }
            patch = {"status": status}
            await client.patch(Pod.resource, managed.name, f"ghost-{number}", patch, subresource="status")

        await asyncio.gather(*(one(number) for number in range(104)))

    managed.apply(
        service("ghosts", "ghost", publishNotReadyAddresses=True),
        service("no-ghosts", "ghost"),
    )
    managed.cluster.call(create)
    alive = {f"ghost-{number}" for number in range(101)}
    managed.cluster.until(lambda: set(conditions_of(managed, "ghosts")) == alive, what="all are endpoints")
    sizes = [len(slice_.endpoints) for slice_ in slices_of(managed, "ghosts")]
    assert sum(sizes) == 101
    assert max(sizes) <= 100
    assert conditions_of(managed, "no-ghosts") == {}

    async def remove(client: Client) -> None:
        await asyncio.gather(
            *(
                client.delete(
                    Pod.resource, managed.name, f"ghost-{number}", options={"gracePeriodSeconds": 0}
                )
                for number in range(104)
            )
        )

    managed.cluster.call(remove)


@kernel_modes
def test_b12_c21_traffic_distribution_prefers_what_is_near(managed: Space, mode: str):
    for name in ("close", "same-zone", "same-node"):
        assert spread(managed.ip("near"), managed.vip(name), 6) == {"one"}
        assert spread(managed.ip("far"), managed.vip(name), 6) == {"two"}
        # Nothing is on its node: what is in its zone.
        assert spread(managed.ip("third"), managed.vip(name), 6) == {"two"}
    # At a node port it is the zone of the node that was asked.
    number = managed.node_port("close")
    for node, near in (("node-1", "one"), ("node-2", "two"), ("node-3", "two")):
        assert spread(OUTSIDE, node_ip(managed.cluster, node), 6, number) == {near}


def test_b12_hints_are_in_the_slices_and_the_annotation_wins(managed: Space):
    def hints(name: str) -> set[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        return {
            (
                item.target_ref.name,
                tuple(zone.name for zone in item.hints.for_zones) if item.hints else (),
                tuple(node.name for node in item.hints.for_nodes) if item.hints else (),
            )
            for slice_ in slices_of(managed, name)
            for item in slice_.endpoints
            if item.target_ref
        }

    zones = {("one", ("zone-a",), ()), ("two", ("zone-b",), ())}
    assert hints("close") == hints("same-zone") == zones
    assert hints("same-node") == {("one", ("zone-a",), ("node-1",)), ("two", ("zone-b",), ("node-2",))}
    auto = {"metadata": {"annotations": {"service.kubernetes.io/topology-mode": "Auto"}}}
    managed.patch(Service, "close", auto)
    without = {("one", (), ()), ("two", (), ())}
    managed.cluster.until(lambda: hints("close") == without, what="the hints are taken back")
    until_served(managed, "close", "one two")
    managed.patch(
        Service, "close", {"metadata": {"annotations": {"service.kubernetes.io/topology-mode": None}}}
    )
    managed.cluster.until(lambda: hints("close") == zones, what="the hints are back")


@kernel_modes
def test_c13_a_terminating_pod_serves_new_clients_while_it_shuts_down(managed: Space, mode: str):
    name = f"leaving-{mode}"
    until_served(managed, name, name)
    managed.delete(Pod, name, options={"gracePeriodSeconds": 15})
    managed.cluster.until(
        lambda: conditions_of(managed, name) == {name: (False, True, True)},
        what="the endpoint is terminating",
    )
    # Longer than a pod serves that has nothing to wait for.
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        assert http(managed.ip("near"), managed.vip(name)) == name
    managed.delete(Pod, name, options={"gracePeriodSeconds": 0})
    until_served(managed, name, "refused")


@in_modes("userspace")
def test_c13_g5_userspace_mode_knows_no_terminating_endpoints(managed: Space, mode: str):
    name = f"leaving-{mode}"
    until_served(managed, name, name)
    address = managed.ip(name)
    managed.delete(Pod, name, options={"gracePeriodSeconds": 15})
    until_served(managed, name, "reset")
    assert http(managed.ip("near"), address) == name
    managed.delete(Pod, name, options={"gracePeriodSeconds": 0})


# --- Endpoints ---


def endpoints(name: str, *ready: str, not_ready: tuple[str, ...] = (), skip: bool = False) -> dict[str, Any]:
    subset = {
        "addresses": [{"ip": ip} for ip in ready],
        "notReadyAddresses": [{"ip": ip} for ip in not_ready],
        "ports": [{"port": 8080}],
    }
    labels = {"endpointslice.kubernetes.io/skip-mirror": "true"} if skip else {}
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": name, "labels": labels},
        "subsets": [{key: value for key, value in subset.items() if value}],
    }


@pytest.fixture(scope="module")
def mirrored(space: Space) -> Space:
    one, two = space.ip("one"), space.ip("two")
    space.apply(
        service("mirrored"),
        endpoints("mirrored", one, not_ready=(two,)),
        service("skipped"),
        endpoints("skipped", one, skip=True),
    )
    space.cluster.until(
        lambda: outcome(space.ip("near"), space.vip("mirrored")) == "ok", what="it is mirrored"
    )
    return space


@every_mode
def test_b11_endpoints_written_by_hand_are_served(mirrored: Space, mode: str):
    assert spread(mirrored.ip("near"), mirrored.vip("mirrored"), 6) == {"one"}


@kernel_modes
def test_b11_a_label_keeps_endpoints_from_being_mirrored(mirrored: Space, mode: str):
    assert slices_of(mirrored, "skipped") == []
    assert outcome(mirrored.ip("near"), mirrored.vip("skipped")) == "refused"


@every_mode
def test_b11_changed_endpoints_are_followed(mirrored: Space, mode: str):
    one, two = mirrored.ip("one"), mirrored.ip("two")
    mirrored.apply(endpoints("mirrored", two))
    until_served(mirrored, "mirrored", "two")
    (slice_,) = slices_of(mirrored, "mirrored")
    managed_by = "endpointslice.kubernetes.io/managed-by"
    assert slice_.metadata.labels[managed_by] == "endpointslicemirroring-controller.k8s.io"
    mirrored.delete(Endpoints, "mirrored")
    until_served(mirrored, "mirrored", "reset" if mode == "userspace" else "refused")
    mirrored.apply(endpoints("mirrored", one, not_ready=(two,)))
    until_served(mirrored, "mirrored", "one")


# --- what the API takes ---


@pytest.mark.parametrize(
    ("fault", "fields"),
    [
        ("no address type", {"addressType": None}),
        ("an address of another type", {"endpoints": [at("fd00::1")]}),
        ("no address", {"endpoints": [{"addresses": []}]}),
        ("101 addresses", {"endpoints": [{"addresses": [f"10.0.0.{number}" for number in range(101)]}]}),
        ("1001 endpoints", {"endpoints": [at(f"10.0.{n // 250}.{n % 250 + 1}") for n in range(1001)]}),
        ("two ports of one name", {"ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]}),
        ("a protocol", {"ports": [{"port": 1, "protocol": "QUIC"}]}),
    ],
)
def test_b13_slices_that_are_refused(space: Space, fault: str, fields: dict[str, Any]):
    slice_ = endpoint_slice("refused", "refused", [{"port": 80}], [at("10.0.0.1")])
    document = {**slice_, **fields, "metadata": {**slice_["metadata"], "namespace": space.name}}
    with pytest.raises(ApiError) as caught:
        space.cluster.call(lambda client: client.create(EndpointSlice.resource, document))
    assert (caught.value.code, caught.value.reason) == (422, "Invalid")


def test_b13_the_address_type_is_for_good(by_hand: ByHand):
    with pytest.raises(ApiError) as caught:
        by_hand.space.patch(EndpointSlice, "unset-is-ready-0", {"addressType": "IPv6"})
    assert caught.value.code == 422
