"""The kernel's filter on a frontend's socket says the same as the decision that comes after it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from emu.core.addresses import to_int
from emu.core.config import ProxyMode
from emu.core.ranges import contains
from emu.telemetry.flows import Verdict

from .worlds import OUTSIDE, World, node_ip, pod_ip

NODES = 3
CONDITIONS = st.sampled_from(
    [
        {},
        {"ready": False},
        {"ready": False, "serving": True, "terminating": True},
        {"ready": False, "serving": False, "terminating": True},
    ]
)
ENDPOINTS = st.lists(
    st.builds(
        lambda node, last, conditions: {
            "addresses": [pod_ip(node or 9, last)],
            "nodeName": f"n{node}" if node else None,
            "conditions": conditions,
        },
        # Node 0 is none, and n4 is not (or no longer) in the cluster.
        st.integers(0, NODES + 1),
        st.integers(2, 4),
        CONDITIONS,
    ),
    max_size=4,
)
POLICY = st.sampled_from(["Cluster", "Local"])
SPECS = st.fixed_dictionaries(
    {"internalTrafficPolicy": POLICY, "externalTrafficPolicy": POLICY},
    optional={
        "sessionAffinity": st.just("ClientIP"),
        "loadBalancerSourceRanges": st.lists(
            st.sampled_from(
                ["127.220.0.0/16", f"{node_ip(1)}/32", "127.244.1.0/24", "127.0.0.1/32", "fd00::/8"]
            ),
            min_size=1,
        ),
    },
)
CONFIGURATIONS = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(ProxyMode),
        "masquerade_all": st.booleans(),
        "detects_local": st.booleans(),
        "node_port_addresses": st.sampled_from([(), ("primary",), (f"{node_ip(1)}/32",), ("127.0.0.0/24",)]),
    }
)
CLIENTS = [
    OUTSIDE,
    "127.221.0.1",
    "127.0.0.1",
    *(node_ip(number) for number in range(1, NODES + 1)),
    *(pod_ip(number, last) for number in range(1, NODES + 2) for last in (1, 2, 9)),
]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, NODES), CONFIGURATIONS, SPECS, ENDPOINTS)
def test_the_filter_drops_exactly_whom_the_decision_drops(
    nodes: int, configuration: dict[str, Any], spec: dict[str, Any], endpoints: list[dict[str, Any]]
) -> None:
    world = World(nodes, **configuration)
    world.service(**spec)
    world.endpoints(*endpoints)
    for frontend in world.tables.frontends.values():
        if not world.planner.knows(frontend):
            assert not world.planner.listens(frontend)
            continue
        verdicts = {ip: world.planner.decide(frontend, (ip, 40000), 0.0).verdict for ip in CLIENTS}
        if world.planner.listens(frontend):
            allowed = world.planner.allowed_sources(frontend)
            let_through = {ip for ip in CLIENTS if contains(allowed, to_int(ip))}
            assert let_through == {ip for ip in CLIENTS if verdicts[ip] is not Verdict.DROPPED}
        else:
            assert set(verdicts.values()) == {Verdict.REFUSED}


@settings(max_examples=50, deadline=None)
@given(SPECS, ENDPOINTS, st.sampled_from([mode for mode in ProxyMode if mode is not ProxyMode.USERSPACE]))
def test_a_change_of_endpoints_leaves_nothing_of_the_state_before(
    spec: dict[str, Any], endpoints: list[dict[str, Any]], mode: ProxyMode
) -> None:
    """What is kept from one connection to the next must not outlive what it was made from."""
    before, after = World(NODES, mode=mode), World(NODES, mode=mode)
    before.service(**spec)
    before.endpoints({"addresses": [pod_ip(1, 2)], "nodeName": "n1"})
    for frontend in before.tables.frontends.values():
        for ip in CLIENTS:
            before.planner.decide(frontend, (ip, 40000), 0.0)
            before.planner.allowed_sources(frontend)
    for world in (before, after):
        world.service(**spec)
        world.endpoints(*endpoints)
    for address, frontend in after.tables.frontends.items():
        old = before.tables.frontends[address]
        assert before.planner.listens(old) is after.planner.listens(frontend)
        assert before.planner.allowed_sources(old) == after.planner.allowed_sources(frontend)
        for ip in CLIENTS:
            one = before.planner.decide(old, (ip, 40000), 0.0)
            other = after.planner.decide(frontend, (ip, 40000), 0.0)
            assert (one.verdict, one.plan.candidates.endpoints) == (
                other.verdict,
                other.plan.candidates.endpoints,
            ), (address, ip)
