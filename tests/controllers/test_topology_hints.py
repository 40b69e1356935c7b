"""B12: hints by trafficDistribution, and by the annotation that spreads endpoints over zones."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from emu.controllers.actions import Create, Delete, Replace, Report
from emu.controllers.endpointslice import Decision, Known, decide
from emu.controllers.topology import Allocation, allocate, balance, cpu_shares
from emu.core.objects import EndpointSlice, Node, Pod, Service

from .controller_objects import node, pod, service, written_slice

AUTO = {"service.kubernetes.io/topology-mode": "Auto"}
DISABLED, ENABLED = "TopologyAwareHintsDisabled", "TopologyAwareHintsEnabled"


def in_zone(name: str, zone: str, **more: Any) -> Node:
    return node(name, labels={"topology.kubernetes.io/zone": zone} if zone else {}, **more)


def three_zones(*cpus: str) -> dict[str, Node]:
    return {f"node-{z}": in_zone(f"node-{z}", z, cpu=cpu) for z, cpu in zip("abc", cpus, strict=False)}


def pods(**counts: int) -> list[Pod]:
    """So many pods on the node of each zone."""
    return [
        pod(f"{zone}{number}", node=f"node-{zone}", ip=f"127.244.{ord(zone)}.{number + 2}")
        for zone, count in counts.items()
        for number in range(count)
    ]


def decided(
    subject: Service,
    found: list[Pod],
    nodes: dict[str, Node],
    existing: list[EndpointSlice] | None = None,
    known: Known | None = None,
) -> Decision:
    decision = decide(subject, found, nodes, existing or [], known)
    assert decision is not None
    return decision


def after(decision: Decision, existing: list[EndpointSlice] | None = None) -> list[EndpointSlice]:
    found = {item.name: item for item in existing or []}
    for action in decision.actions:
        if isinstance(action, Create | Replace):
            item = written_slice(dict(action.document))
            found[item.name] = item
        elif isinstance(action, Delete):
            del found[action.name]
    return list(found.values())


def zones(slices: list[EndpointSlice]) -> Counter[tuple[str | None, str]]:
    """How many endpoints of a zone are hinted for which one."""
    return Counter(
        (endpoint.zone, ",".join(zone.name for zone in endpoint.hints.for_zones) if endpoint.hints else "")
        for item in slices
        for endpoint in item.endpoints
    )


def told(decision: Decision) -> list[tuple[str, bool, str]]:
    return [(a.reason, a.warning, a.message) for a in decision.actions if isinstance(a, Report)]


@pytest.mark.parametrize(
    ("rule", "subject", "candidate", "expected"),
    [
        ("no preference", service(), pod("a", node="node-a"), None),
        ("PreferClose", service(trafficDistribution="PreferClose"), pod("a", node="node-a"), (["a"], [])),
        (
            "PreferSameZone",
            service(trafficDistribution="PreferSameZone"),
            pod("a", node="node-a"),
            (["a"], []),
        ),
        (
            "PreferSameNode",
            service(trafficDistribution="PreferSameNode"),
            pod("a", node="node-a"),
            (["a"], ["node-a"]),
        ),
        (
            "not ready",
            service(trafficDistribution="PreferSameNode"),
            pod("a", node="node-a", ready=False),
            None,
        ),
        (
            "terminating",
            service(trafficDistribution="PreferClose"),
            pod("a", node="node-a", terminating=True),
            None,
        ),
        (
            "ready by publishNotReadyAddresses",
            service(trafficDistribution="PreferClose", publishNotReadyAddresses=True),
            pod("a", node="node-a", ready=False),
            (["a"], []),
        ),
        ("no zone", service(trafficDistribution="PreferClose"), pod("a", node="node-x"), None),
        (
            "no zone, but a node",
            service(trafficDistribution="PreferSameNode"),
            pod("a", node="node-x"),
            ([], ["node-x"]),
        ),
        (
            "the annotation wins",
            service(trafficDistribution="PreferClose", annotations=AUTO),
            pod("a", node="node-a"),
            None,
        ),
        (
            "the annotation is off",
            service(
                trafficDistribution="PreferClose",
                annotations={"service.kubernetes.io/topology-mode": "Disabled"},
            ),
            pod("a", node="node-a"),
            (["a"], []),
        ),
    ],
)
def test_b12_traffic_distribution(
    rule: str, subject: Service, candidate: Pod, expected: tuple[list[str], list[str]] | None
) -> None:
    nodes = {**three_zones("1"), "node-x": in_zone("node-x", "")}
    (item,) = after(decided(subject, [candidate], nodes))
    hints = item.endpoints[0].hints
    found = ([z.name for z in hints.for_zones], [n.name for n in hints.for_nodes]) if hints else None
    assert found == expected, rule


def test_b12_hints_come_change_and_go_with_the_field() -> None:
    nodes, found = three_zones("1"), pods(a=2)
    present = after(decided(service(), found, nodes))
    close = decided(service(trafficDistribution="PreferClose"), found, nodes, present)
    assert [type(a) for a in close.actions] == [Replace]
    present = after(close, present)
    assert zones(present) == {("a", "a"): 2}
    assert decided(service(trafficDistribution="PreferSameZone"), found, nodes, present).actions == []
    same_node = decided(service(trafficDistribution="PreferSameNode"), found, nodes, present)
    assert all(e.hints and e.hints.for_nodes for e in after(same_node)[0].endpoints)
    none = decided(service(), found, nodes, present)
    assert zones(after(none, present)) == {("a", ""): 2}


def test_b12_hints_are_no_reason_to_fill_a_slice() -> None:
    """Which slice takes a new endpoint is settled before hints are looked at."""
    nodes = three_zones("1")
    present = after(decided(service(), pods(a=150), nodes))
    grown = decided(service(trafficDistribution="PreferClose"), pods(a=151), nodes, present)
    assert sorted(len(item.endpoints) for item in after(grown, present)) == [51, 100]


@pytest.mark.parametrize(
    ("rule", "nodes", "expected"),
    [
        ("in proportion", three_zones("4", "4", "2"), {"a": 0.4, "b": 0.4, "c": 0.2}),
        ("thousandths", three_zones("500m", "1.5"), {"a": 0.25, "b": 0.75}),
        ("one zone", three_zones("4"), {}),
        ("no node", {}, {}),
        ("a node without zone", {**three_zones("4", "4"), "x": in_zone("x", "")}, {}),
        ("a node without CPUs", {**three_zones("4", "4"), "x": in_zone("x", "a", cpu="")}, {}),
        ("a node with no CPU", {**three_zones("4", "4"), "x": in_zone("x", "a", cpu="0")}, {}),
        ("what is no number", {**three_zones("4", "4"), "x": in_zone("x", "a", cpu="many")}, {}),
        (
            "nodes that are not ready do not count",
            {
                **three_zones("4", "4"),
                "x": in_zone("x", "", ready="False"),
                "y": in_zone("y", "c", ready=None),
            },
            {"a": 0.5, "b": 0.5},
        ),
        (
            "nor do those of the control plane",
            {**three_zones("4", "4"), "x": node("x", labels={"node-role.kubernetes.io/control-plane": ""})},
            {"a": 0.5, "b": 0.5},
        ),
        (
            "nodes of one zone add up",
            {**three_zones("1", "2"), "x": in_zone("x", "a", cpu="1")},
            {"a": 0.5, "b": 0.5},
        ),
    ],
)
def test_shares_of_zones(rule: str, nodes: dict[str, Node], expected: dict[str, float]) -> None:
    assert cpu_shares(nodes.values()) == pytest.approx(expected), rule


@pytest.mark.parametrize(
    ("rule", "shares", "count", "expected"),
    [
        (
            "even",
            {"a": 0.5, "b": 0.5},
            4,
            {"a": Allocation(2, 2, 2.0), "b": Allocation(2, 2, 2.0)},
        ),
        (
            "room to move",
            {"a": 0.5, "b": 0.5},
            12,
            {"a": Allocation(5, 7, 6.0), "b": Allocation(5, 7, 6.0)},
        ),
        (
            "nobody knows the nodes",
            {},
            4,
            "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes",
        ),
        (
            "fewer endpoints than zones",
            {"a": 0.4, "b": 0.4, "c": 0.2},
            2,
            "Insufficient number of endpoints (2 endpoints, 3 zones)",
        ),
        (
            "overload",
            {"a": 0.5, "b": 0.5},
            3,
            "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold "
            "(3 endpoints, 2 zones)",
        ),
    ],
)
def test_allocations(
    rule: str, shares: dict[str, float], count: int, expected: dict[str, Allocation] | str
) -> None:
    assert allocate(shares, count) == expected, rule


@pytest.mark.parametrize(
    ("rule", "desired", "counts", "expected"),
    [
        ("as wanted", {"a": 2.0, "b": 2.0}, {"a": 2, "b": 2}, ({}, {})),
        ("one moves", {"a": 2.0, "b": 2.0}, {"a": 3, "b": 1}, ({"a": 1}, {"b": 1})),
        ("less than half an endpoint", {"a": 2.4, "b": 2.6}, {"a": 2, "b": 3}, ({}, {})),
        ("half against a whole", {"a": 2.5, "b": 3.5}, {"a": 3, "b": 2}, ({"a": 1}, {"b": 1})),
        ("halves", {"a": 2.4, "b": 2.6}, {"a": 3, "b": 2}, ({}, {})),
        ("two givers", {"a": 1.0, "b": 1.0, "c": 4.0}, {"a": 3, "b": 3}, ({"a": 2, "b": 2}, {"c": 4})),
        ("a zone without nodes gives none", {"a": 2.0, "b": 2.0}, {"z": 4}, ({}, {})),
    ],
)
def test_balance(
    rule: str,
    desired: dict[str, float],
    counts: dict[str, int],
    expected: tuple[dict[str, int], dict[str, int]],
) -> None:
    allocations = {zone: Allocation(0, 100, number) for zone, number in desired.items()}
    assert balance(allocations, counts) == expected, rule


@pytest.mark.parametrize(
    ("rule", "counts", "expected"),
    [
        ("each its own", {"a": 4, "b": 4}, {("a", "a"): 4, ("b", "b"): 4}),
        ("a zone without endpoints is given some", {"a": 8}, {("a", "a"): 4, ("a", "b"): 4}),
        ("a rest stays", {"a": 5, "b": 3}, {("a", "a"): 4, ("a", "b"): 1, ("b", "b"): 3}),
    ],
)
def test_topology_mode_auto(rule: str, counts: dict[str, int], expected: dict[tuple[str, str], int]) -> None:
    nodes = three_zones("2", "2")
    decision = decided(service(annotations=AUTO), pods(**counts), nodes)
    assert zones(after(decision)) == expected, rule
    assert told(decision) == [(ENABLED, False, "Topology Aware Hints has been enabled, addressType: IPv4")]


@pytest.mark.parametrize(
    ("rule", "annotations", "hinted"),
    [
        ("Auto", AUTO, True),
        ("auto", {"service.kubernetes.io/topology-mode": "auto"}, True),
        ("AUTO", {"service.kubernetes.io/topology-mode": "AUTO"}, False),
        ("the older name", {"service.kubernetes.io/topology-aware-hints": "auto"}, True),
        ("the older one wins", {**AUTO, "service.kubernetes.io/topology-aware-hints": "Disabled"}, False),
    ],
)
def test_topology_annotations(rule: str, annotations: dict[str, str], hinted: bool) -> None:
    decision = decided(service(annotations=annotations), pods(a=1, b=1), three_zones("2", "2"))
    assert bool(told(decision)) is hinted, rule


def test_topology_hints_stay_until_a_zone_has_too_many() -> None:
    nodes, subject = three_zones("2", "2"), service(annotations=AUTO)
    first = decided(subject, pods(a=6, b=6), nodes)
    present = after(first)
    same = decided(subject, pods(a=6, b=6), nodes, present, first.known)
    assert same.actions == []
    # What is written anyway is hinted anew, the rest stays within the threshold.
    more = decided(subject, pods(a=8, b=6), nodes, present, same.known)
    assert told(more) == []
    assert zones(after(more, present)) == {("a", "a"): 7, ("a", "b"): 1, ("b", "b"): 6}


def test_topology_hints_in_a_slice_that_stays_are_counted() -> None:
    nodes, subject = three_zones("2", "2"), service(annotations=AUTO)
    first = decided(subject, pods(a=60, b=60), nodes)
    present = after(first)
    lost = pods(a=60, b=60)
    lost[119] = pod("b59", node="node-b", ip=lost[119].ip, ready=False)
    second = decided(subject, lost, nodes, present, first.known)
    assert sum(isinstance(action, Replace) for action in second.actions) == 1
    assert zones(after(second, present))[("b", "")] == 1


def test_topology_hints_of_a_zone_without_nodes_do_not_write_forever() -> None:
    nodes = {**three_zones("2", "2", "2"), "node-c": in_zone("node-c", "c", ready="False")}
    first = decided(service(annotations=AUTO), pods(a=2, b=2, c=2), nodes)
    again = decided(service(annotations=AUTO), pods(a=2, b=2, c=2), nodes, after(first), first.known)
    assert again.actions == []


@pytest.mark.parametrize(
    ("rule", "nodes", "counts", "message"),
    [
        (
            "nodes without zone",
            {**three_zones("2", "2"), "x": in_zone("x", "")},
            {"a": 4, "b": 4},
            "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes",
        ),
        (
            "too few endpoints",
            three_zones("2", "2"),
            {"a": 1},
            "Insufficient number of endpoints (1 endpoints, 2 zones)",
        ),
        (
            "an endpoint without zone",
            {**three_zones("2", "2"), "node-x": in_zone("node-x", "", ready="False")},
            {"a": 4, "b": 3, "x": 1},
            "One or more endpoints do not have a zone specified",
        ),
    ],
)
def test_topology_hints_that_cannot_be_are_taken_away(
    rule: str, nodes: dict[str, Node], counts: dict[str, int], message: str
) -> None:
    subject = service(annotations=AUTO)
    first = decided(subject, pods(a=4, b=4), three_zones("2", "2"))
    second = decided(subject, pods(**counts), nodes, after(first), first.known)
    assert told(second) == [(DISABLED, True, f"{message}, addressType: IPv4")], rule
    present = after(second, after(first))
    assert {hint for _, hint in zones(present)} == {""}, rule
    assert decided(subject, pods(**counts), nodes, present, second.known).actions == [], rule


def test_topology_hints_go_with_the_annotation() -> None:
    nodes, found = three_zones("2", "2"), pods(a=2, b=2)
    first = decided(service(annotations=AUTO), found, nodes)
    second = decided(service(), found, nodes, after(first), first.known)
    assert told(second) == [(DISABLED, True, "Topology Aware Hints has been disabled, addressType: IPv4")]
    present = after(second, after(first))
    assert {hint for _, hint in zones(present)} == {""}
    assert decided(service(), found, nodes, present, second.known).actions == []


@pytest.mark.parametrize("seed", range(12))
def test_topology_hints_are_settled_by_one_sync(seed: int) -> None:
    """Whatever the nodes and endpoints are: the next sync finds nothing to write, and no zone too many."""
    random = Random(seed)
    nodes = {
        f"node-{zone}": in_zone(
            f"node-{zone}",
            zone,
            cpu=random.choice(["1", "2", "3", "8"]),
            ready=random.choice(["True"] * 6 + ["False"]),
        )
        for zone in "abcd"[: random.randint(2, 4)]
    }
    subject = service(annotations=AUTO)
    found = pods(**{name[-1]: random.choice([0, 1, 2, 5, 20, 70, 130]) for name in nodes})
    present: list[EndpointSlice] = []
    known = None
    for _ in range(4):
        changed = {random.choice(found).name for _ in range(random.choice([1, 3, 30]))} if found else set()
        found = [
            pod(p.name, node=p.spec.node_name, ip=p.ip, ready=p.ready is not (p.name in changed))
            for p in found
        ]
        decision = decided(subject, found, nodes, present, known)
        present, known = after(decision, present), decision.known
        assert decided(subject, found, nodes, present, known).actions == []
        allocations = allocate(cpu_shares(nodes.values()), sum(p.ready for p in found))
        if not isinstance(allocations, str):
            hints = Counter(hint for _, hint in zones(present).elements() if hint)
            ours = {zone: number for zone, number in hints.items() if zone in allocations}
            assert all(number <= allocations[zone].maximum for zone, number in ours.items())
