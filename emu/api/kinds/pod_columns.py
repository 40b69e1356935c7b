"""The columns of Pods: what `kubectl get pods` prints, and how the status of a pod is put into a word.

Source: `printPod` in `pkg/printers/internalversion/printers.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from emu.api.kinds import cells
from emu.api.resource import Column, Document

COLUMNS = (
    cells.NAME,
    Column("Ready"),
    Column("Status"),
    Column("Restarts"),
    cells.AGE,
    Column("IP", priority=1),
    Column("Node", priority=1),
    Column("Nominated Node", priority=1),
    Column("Readiness Gates", priority=1),
)


class _Restarts(NamedTuple):
    total: int = 0
    last: str = ""
    """When the last of the ended containers ended."""

    def plus(self, status: Document) -> _Restarts:
        ended = (status.get("lastState") or {}).get("terminated") or {}
        last = max(self.last, ended.get("finishedAt") or "")
        return _Restarts(self.total + status.get("restartCount", 0), last)

    def text(self, now: float) -> str:
        if not self.total or not self.last:
            return str(self.total)
        return f"{self.total} ({cells.since(self.last, now)} ago)"


class _Init(NamedTuple):
    """What the init containers say."""

    reason: str
    """"" when all are done."""
    ready: int
    """Sidecars that are ready."""
    restarts: _Restarts
    sidecar_restarts: _Restarts


def row(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get pods`."""
    spec, status = document["spec"], document.get("status") or {}
    conditions = {entry["type"]: entry for entry in status.get("conditions") or ()}
    sidecars = {
        container.get("name")
        for container in spec.get("initContainers") or ()
        if container.get("restartPolicy") == "Always"
    }
    init = _init(spec, status, sidecars)
    ready, restarts = init.ready, init.restarts
    reason = init.reason or _phase(status, conditions)
    if not init.reason or _is_true(conditions, "Initialized"):
        restarts = init.sidecar_restarts
        containers = status.get("containerStatuses") or []
        for entry in containers:
            restarts = restarts.plus(entry)
        running = sum(1 for entry in containers if _is_running(entry))
        ready += running
        reason = _containers_reason(containers) or reason
        if reason == "Completed" and running:
            reason = "Running" if _is_true(conditions, "Ready") else "NotReady"
    gates = [gate["conditionType"] for gate in spec.get("readinessGates") or ()]
    return [
        document["metadata"]["name"],
        f"{ready}/{len(spec.get('containers') or ()) + len(sidecars)}",
        _deletion_reason(document) or reason,
        restarts.text(now),
        cells.age(document, now),
        status.get("podIP") or cells.NONE,
        spec.get("nodeName") or cells.NONE,
        status.get("nominatedNodeName") or cells.NONE,
        f"{sum(_is_true(conditions, gate) for gate in gates)}/{len(gates)}" if gates else cells.NONE,
    ]


def _phase(status: Document, conditions: Mapping[str, Document]) -> str:
    if (conditions.get("PodScheduled") or {}).get("reason") == "SchedulingGated":
        return "SchedulingGated"
    return status.get("reason") or status.get("phase") or ""


def _is_true(conditions: Mapping[str, Document], kind: str) -> bool:
    return (conditions.get(kind) or {}).get("status") == "True"


def _deletion_reason(document: Document) -> str:
    status = document.get("status") or {}
    if not document["metadata"].get("deletionTimestamp"):
        return ""
    if status.get("reason") == "NodeLost":
        return "Unknown"
    return "" if status.get("phase") in ("Succeeded", "Failed") else "Terminating"


def _init(spec: Document, status: Document, sidecars: set[Any]) -> _Init:
    """The first init container that is not done says what the pod waits for."""
    total, ready = len(spec.get("initContainers") or ()), 0
    restarts, sidecar_restarts = _Restarts(), _Restarts()
    for number, entry in enumerate(status.get("initContainerStatuses") or ()):
        restarts = restarts.plus(entry)
        sidecar = entry.get("name") in sidecars
        if sidecar:
            sidecar_restarts = sidecar_restarts.plus(entry)
        state = entry.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated")
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if sidecar and entry.get("started"):
            ready += bool(entry.get("ready"))
            continue
        if terminated is not None:
            reason = _ended(terminated)
        elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
            reason = waiting["reason"]
        else:
            reason = f"{number}/{total}"
        return _Init(f"Init:{reason}", ready, restarts, sidecar_restarts)
    return _Init("", ready, restarts, sidecar_restarts)


def _ended(terminated: Document) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    signal, code = terminated.get("signal"), terminated.get("exitCode", 0)
    return f"Signal:{signal}" if signal else f"ExitCode:{code}"


def _containers_reason(statuses: list[Document]) -> str:
    """What the first container that waits or has ended says."""
    for entry in statuses:
        state = entry.get("state") or {}
        if reason := (state.get("waiting") or {}).get("reason"):
            return str(reason)
        if state.get("terminated") is not None:
            return _ended(state["terminated"])
    return ""


def _is_running(status: Document) -> bool:
    state = status.get("state") or {}
    waits, ended = (state.get("waiting") or {}).get("reason"), state.get("terminated")
    return bool(status.get("ready") and state.get("running") is not None and not waits and ended is None)
