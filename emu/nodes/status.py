"""`status` of a Pod as its node writes it: pure, from what the containers do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from emu.core.objects import Container, Pod


class ContainerState(NamedTuple):
    """One container. `kind` is `waiting`, `running` or `terminated`; times are RFC 3339."""

    name: str
    kind: str = "waiting"
    reason: str = "ContainerCreating"
    message: str = ""
    exit_code: int = 0
    started_at: str = ""
    finished_at: str = ""
    ready: bool = False
    restart_count: int = 0
    last: Mapping[str, Any] | None = None
    """`lastState.terminated`."""


class Transitions:
    """When each condition got its present status."""

    def __init__(self, pod: Pod) -> None:
        self._since = {
            item.type: (item.status, item.last_transition_time or "") for item in pod.status.conditions
        }

    def since(self, kind: str, status: str, now: str) -> str:
        """`lastTransitionTime` of a condition that has `status` at `now`."""
        before = self._since.get(kind)
        if before is not None and before[0] == status and before[1]:
            return before[1]
        self._since[kind] = (status, now)
        return now


def phase_of(states: Sequence[ContainerState], restart_policy: str) -> str:
    """The pod's phase (kubelet's getPhase, without init containers)."""
    if all(state.kind == "terminated" for state in states):
        if all(state.exit_code == 0 for state in states):
            return "Running" if restart_policy == "Always" else "Succeeded"
        return "Failed" if restart_policy == "Never" else "Running"
    if any(state.kind == "waiting" and state.reason == "ContainerCreating" for state in states):
        return "Pending"
    return "Running"


def pod_status(
    pod: Pod,
    states: Sequence[ContainerState],
    *,
    address: str,
    host: str,
    started: str,
    transitions: Transitions,
    now: str,
    terminating: bool = False,
) -> dict[str, Any]:
    """The fields of `status` that the node owns; lists are whole."""
    phase = phase_of(states, pod.spec.restart_policy)
    containers = {container.name: container for container in pod.spec.containers}
    return {
        "phase": phase,
        "conditions": _conditions(states, phase, bool(address), terminating, transitions, now),
        "hostIP": host,
        "hostIPs": [{"ip": host}],
        **({"podIP": address, "podIPs": [{"ip": address}]} if address else {}),
        "startTime": started,
        "containerStatuses": [
            _container_status(pod, containers[state.name], state, terminating) for state in states
        ],
        **(
            {"initContainerStatuses": [_init_status(pod, item, started) for item in pod.spec.init_containers]}
            if pod.spec.init_containers
            else {}
        ),
    }


def _conditions(
    states: Sequence[ContainerState],
    phase: str,
    has_address: bool,
    terminating: bool,
    transitions: Transitions,
    now: str,
) -> list[dict[str, Any]]:
    unready = [state.name for state in states if not state.ready or terminating]
    ready: dict[str, Any] = {"status": "True"}
    if phase in ("Succeeded", "Failed"):
        reason = "PodCompleted" if phase == "Succeeded" else "PodFailed"
        ready = {"status": "False", "reason": reason}
    elif unready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        ready = {"status": "False", "reason": "ContainersNotReady", "message": message}
    values: dict[str, dict[str, Any]] = {
        "PodReadyToStartContainers": {"status": "True" if has_address else "False"},
        "Initialized": {"status": "True"},
        "Ready": ready,
        "ContainersReady": ready,
        "PodScheduled": {"status": "True"},
    }
    return [
        {
            "type": kind,
            **value,
            "lastProbeTime": None,
            "lastTransitionTime": transitions.since(kind, value["status"], now),
        }
        for kind, value in values.items()
    ]


def _container_status(
    pod: Pod, container: Container, state: ContainerState, terminating: bool
) -> dict[str, Any]:
    running = state.kind == "running"
    return {
        "name": state.name,
        "image": container.image,
        "imageID": f"emu://{container.image}",
        "containerID": _container_id(pod, state),
        "ready": state.ready and not terminating,
        "started": running,
        "restartCount": state.restart_count,
        "state": {state.kind: _state(pod, state)},
        "lastState": {"terminated": dict(state.last)} if state.last else {},
    }


def _state(pod: Pod, state: ContainerState) -> dict[str, Any]:
    if state.kind == "running":
        return {"startedAt": state.started_at}
    if state.kind == "terminated":
        return termination(pod, state)
    return {"reason": state.reason, **({"message": state.message} if state.message else {})}


def termination(pod: Pod, state: ContainerState) -> dict[str, Any]:
    """`state.terminated` of a container that has ended."""
    return {
        "exitCode": state.exit_code,
        "reason": "Completed" if state.exit_code == 0 else "Error",
        **({"message": state.message} if state.message else {}),
        "startedAt": state.started_at,
        "finishedAt": state.finished_at,
        "containerID": _container_id(pod, state),
    }


def _container_id(pod: Pod, state: ContainerState) -> str:
    return f"emu://{pod.metadata.uid}/{state.name}/{state.restart_count}" if state.started_at else ""


def _init_status(pod: Pod, container: Container, started: str) -> dict[str, Any]:
    """Init containers of the images that emu knows have nothing to do: they are completed."""
    state = ContainerState(container.name, "terminated", started_at=started, finished_at=started, ready=True)
    return {**_container_status(pod, container, state, terminating=False), "started": False}
