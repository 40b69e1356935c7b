"""What kube-proxy says of its health: the decision, as tables."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from emu.core.objects import Node
from emu.proxy.sync_health import SyncHealth, eligible, healthz, livez

TIMEOUT = 60.0
T0 = 1_700_000_000.0
T0_TEXT = "2023-11-14T22:13:20.000000Z"


def history(*events: tuple[str, float]) -> SyncHealth:
    health = SyncHealth()
    for what, at in events:
        getattr(health, what)(T0 + at)
    return health


@pytest.mark.parametrize(
    ("events", "now", "healthy"),
    [
        pytest.param([], 1000, True, id="test_i1_it_starts"),
        pytest.param([("queue", 0)], 1000, True, id="test_i1_it_starts_and_has_never_synchronized"),
        pytest.param([("update", 0)], 100_000, True, id="test_i1_nothing_has_changed_for_long"),
        pytest.param([("update", 0), ("queue", 10)], 69.9, True, id="test_i1_a_change_waits_less_than_60_s"),
        pytest.param([("update", 0), ("queue", 10)], 70, False, id="test_i1_a_change_has_waited_60_s"),
        pytest.param(
            [("update", 0), ("queue", 10), ("queue", 60)], 70, False, id="test_i1_the_oldest_change_counts"
        ),
        pytest.param(
            [("update", 0), ("queue", 10), ("update", 200)], 201, True, id="test_i1_it_has_caught_up"
        ),
        pytest.param(
            [("update", 0), ("queue", 10), ("update", 20), ("queue", 200)],
            259,
            True,
            id="test_i1_changes_before_the_last_synchronization_do_not_count",
        ),
    ],
)
def test_health(events: list[tuple[str, float]], now: float, healthy: bool) -> None:
    health = history(*events)
    assert health.healthy(T0 + now, TIMEOUT) is healthy
    assert livez(health, T0 + now, TIMEOUT).status == (200 if healthy else 503)
    assert healthz(health, T0 + now, TIMEOUT, True).status == (200 if healthy else 503)
    assert healthz(health, T0 + now, TIMEOUT, False).status == 503


def test_i1_healthy_node() -> None:
    """What is healthy was updated now, as upstream says it."""
    answer = healthz(history(("update", 0)), T0 + 5, TIMEOUT, True)
    assert answer.document == {
        "lastUpdated": "2023-11-14T22:13:25.000000Z",
        "currentTime": "2023-11-14T22:13:25.000000Z",
        "nodeEligible": True,
        "healthy": True,
        "status": {"IPv4": {"lastUpdated": T0_TEXT, "healthy": True}},
    }


def test_i1_node_on_its_way_out() -> None:
    answer = healthz(history(("update", 0)), T0 + 5, TIMEOUT, False)
    assert answer.document["nodeEligible"] is False
    assert answer.document["healthy"] is True
    assert answer.document["lastUpdated"] == T0_TEXT


def test_i1_node_on_its_way_out_before_the_first_synchronization() -> None:
    answer = healthz(SyncHealth(), T0, TIMEOUT, False)
    assert answer.document["lastUpdated"] == "0001-01-01T00:00:00Z"
    assert "status" not in answer.document


def test_i2_livez_leaves_the_node_out() -> None:
    answer = livez(history(("update", 0), ("queue", 5)), T0 + 100, TIMEOUT)
    assert answer.status == 503
    assert answer.document == {
        "lastUpdated": T0_TEXT,
        "currentTime": "2023-11-14T22:15:00.000000Z",
        "healthy": False,
        "status": {"IPv4": {"lastUpdated": T0_TEXT, "healthy": False}},
    }


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, True),
        ({"spec": {"unschedulable": True}}, True),
        ({"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}}, True),
        (
            {"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}},
            False,
        ),
        ({"metadata": {"deletionTimestamp": "2023-11-14T22:13:20Z"}}, False),
    ],
)
def test_i1_eligible_nodes(document: dict[str, Any], expected: bool) -> None:
    assert eligible(msgspec.convert(document, Node)) is expected
