"""Whether the proxy keeps up with what it is told, and what it says of it at /healthz and /livez.

Source: upstream's pkg/proxy/healthcheck/proxy_health.go. Times are seconds since the epoch, passed in.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from emu.core.objects import Node

TO_BE_DELETED_TAINT = "ToBeDeletedByClusterAutoscaler"
_NEVER = "0001-01-01T00:00:00Z"


class SyncHealth:
    """When changes came in, and when they were in force."""

    def __init__(self) -> None:
        self.updated: float | None = None
        """When rules were synchronized last, None before the first time."""
        self._queued: float | None = None

    def queue(self, now: float) -> None:
        """A change waits for a synchronization. The oldest one counts."""
        if self._queued is None:
            self._queued = now

    def update(self, now: float) -> None:
        """All that was queued is in force."""
        self._queued = None
        self.updated = now

    def healthy(self, now: float, timeout: float) -> bool:
        """Whether no change has waited for `timeout` seconds. It is, as long as the proxy starts."""
        return self.updated is None or self._queued is None or now - self._queued < timeout


class Answer(NamedTuple):
    """An answer to a probe."""

    status: int
    document: dict[str, Any]


def livez(health: SyncHealth, now: float, timeout: float) -> Answer:
    """The answer at /livez."""
    return _answer(health, now, timeout, None)


def healthz(health: SyncHealth, now: float, timeout: float, eligible: bool) -> Answer:
    """The answer at /healthz of a node that is `eligible` for new traffic or not."""
    return _answer(health, now, timeout, eligible)


def eligible(node: Node) -> bool:
    """Whether load balancers may send new traffic to a node: not when it is on its way out."""
    if node.metadata.deletion_timestamp is not None:
        return False
    return all(taint.key != TO_BE_DELETED_TAINT for taint in node.spec.taints)


def _answer(health: SyncHealth, now: float, timeout: float, node_eligible: bool | None) -> Answer:
    healthy = health.healthy(now, timeout)
    good = healthy and node_eligible is not False
    # Upstream calls what is in good health updated now, however long nothing has changed.
    document: dict[str, Any] = {
        "lastUpdated": _timestamp(now if good else health.updated),
        "currentTime": _timestamp(now),
    }
    if node_eligible is not None:
        document["nodeEligible"] = node_eligible
    document["healthy"] = healthy
    if health.updated is not None:
        document["status"] = {"IPv4": {"lastUpdated": _timestamp(health.updated), "healthy": healthy}}
    return Answer(200 if good else 503, document)


def _timestamp(at: float | None) -> str:
    """RFC 3339 with microseconds; None is Go's zero time."""
    if at is None:
        return _NEVER
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
