"""The scheduler: gives each pod without a node one that takes it, spread as evenly as a short rule can.

Rules: the Kubernetes documentation of node selectors, taints and tolerations; the messages of
kube-scheduler. Spread: the node with the fewest pods of the same controller, then the fewest pods.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from emu.client.events import timestamp
from emu.client.rest import STRATEGIC_MERGE_PATCH
from emu.controllers.actions import Action, Context, Create, Patch, Report, perform
from emu.controllers.workqueue import WorkQueue
from emu.core.objects import Node, Pod, ResourceName, Taint, Toleration, condition

_BINDING = ResourceName("", "v1", "pods")
_SCHEDULER_NAME = "default-scheduler"


class Load(NamedTuple):
    """What runs on a node already."""

    pods: int = 0
    of_same_controller: int = 0


class Placement(NamedTuple):
    """The node for a pod, or "" and why there is none."""

    node: str
    message: str = ""


def place(pod: Pod, nodes: Iterable[tuple[Node, Load]]) -> Placement:
    """The node that should run a pod. Equal ones in the order of their names."""
    best: tuple[int, int, str] | None = None
    refused: Counter[str] = Counter()
    count = 0
    for node, load in nodes:
        count += 1
        reason = refusal(pod, node)
        if reason:
            refused[reason] += 1
            continue
        rank = (load.of_same_controller, load.pods, node.name)
        if best is None or rank < best:
            best = rank
    if best is not None:
        return Placement(best[2])
    if not count:
        return Placement("", "no nodes available to schedule pods")
    reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(refused.items()))
    return Placement("", f"0/{count} nodes are available: {reasons}.")


def refusal(pod: Pod, node: Node) -> str:
    """Why a node cannot take a pod, in kube-scheduler's words; "" when it can."""
    if node.metadata.deletion_timestamp is not None:
        return "node(s) were being deleted"
    cordon = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
    if node.spec.unschedulable and not _tolerated(cordon, pod.spec.tolerations):
        return "node(s) were unschedulable"
    for taint in node.spec.taints:
        if taint.effect in ("NoSchedule", "NoExecute") and not _tolerated(taint, pod.spec.tolerations):
            return f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}"
    if not node.ready:
        not_ready = Taint(key="node.kubernetes.io/not-ready", effect="NoSchedule")
        if not _tolerated(not_ready, pod.spec.tolerations):
            return f"node(s) had untolerated taint {{{not_ready.key}: }}"
    if not pod.spec.node_selector.items() <= node.metadata.labels.items():
        return "node(s) didn't match Pod's node affinity/selector"
    return ""


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether a toleration matches a taint. An empty key with Exists matches every taint."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.value == taint.value


def _tolerated(taint: Taint, tolerations: Iterable[Toleration]) -> bool:
    return any(tolerates(toleration, taint) for toleration in tolerations)


def decide(pod: Pod, placement: Placement, now: float) -> list[Action]:
    """Bind the pod, or say on it and in an Event why that is not possible."""
    if placement.node:
        return [Create(_BINDING, binding(pod, placement.node), subresource="binding")]
    before = condition(pod.status.conditions, "PodScheduled")
    if before is not None and before.status == "False" and before.message == placement.message:
        return []
    scheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": placement.message,
        "lastTransitionTime": before.last_transition_time
        if before is not None and before.status == "False"
        else timestamp(now),
    }
    return [
        Report(pod, "FailedScheduling", placement.message, warning=True),
        Patch(
            Pod.resource,
            pod.namespace,
            pod.name,
            {"status": {"conditions": [scheduled]}},
            subresource="status",
            content_type=STRATEGIC_MERGE_PATCH,
        ),
    ]


def binding(pod: Pod, node: str) -> dict[str, Any]:
    """The document for `pods/NAME/binding`."""
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.metadata.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }


class Scheduler:
    """Binds pods as soon as they appear. Its own bindings count before the watch shows them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._recorder = context.recorder(_SCHEDULER_NAME)
        self._pods = context.informers.reflector(Pod)
        self._nodes = context.informers.reflector(Node)
        self._placed: dict[str, tuple[str, str]] = {}
        self._on_node: Counter[str] = Counter()
        self._of_controller: Counter[tuple[str, str]] = Counter()
        self._waiting: set[str] = set()
        self._queue = WorkQueue("scheduler", self._sync, workers=16)
        self._pods.subscribe(self._pod_changed)
        self._nodes.subscribe(self._node_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._context.informers.synced()
        await self._queue.run()

    def _pod_changed(self, key: str, before: Pod | None, now: Pod | None) -> None:
        if now is None or now.finished:
            self._unplace(key)
            self._waiting.discard(key)
            return
        if before is not None and before.metadata.uid != now.metadata.uid:
            self._unplace(key)
        if now.spec.node_name:
            self._place(key, now, now.spec.node_name)
            self._waiting.discard(key)
        elif not now.terminating and (before is None or before.metadata.uid != now.metadata.uid):
            self._queue.add(key)

    def _node_changed(self, key: str, before: Node | None, now: Node | None) -> None:
        """Only what the decision reads can let a waiting pod in; heartbeats cannot."""
        if self._waiting and (before is None or now is None or _relevant(before) != _relevant(now)):
            for pod_key in self._waiting:
                self._queue.add(pod_key)

    def _place(self, key: str, pod: Pod, node: str) -> None:
        owner = pod.metadata.controller
        place_now = (node, owner.uid if owner is not None else "")
        if self._placed.get(key) == place_now:
            return
        self._unplace(key)
        self._placed[key] = place_now
        self._on_node[node] += 1
        self._of_controller[place_now] += 1

    def _unplace(self, key: str) -> None:
        placed = self._placed.pop(key, None)
        if placed is not None:
            self._on_node[placed[0]] -= 1
            self._of_controller[placed] -= 1

    async def _sync(self, key: str) -> float | None:
        pod = self._pods.items.get(key)
        if pod is None or pod.spec.node_name or pod.terminating or pod.finished:
            self._waiting.discard(key)
            return None
        owner = pod.metadata.controller
        uid = owner.uid if owner is not None else ""
        placement = place(
            pod,
            (
                (node, Load(self._on_node[node.name], self._of_controller[node.name, uid] if uid else 0))
                for node in self._nodes.items.values()
            ),
        )
        actions = decide(pod, placement, time.time())
        if placement.node:
            self._waiting.discard(key)
            self._place(key, pod, placement.node)
        else:
            self._waiting.add(key)
        try:
            await perform(self._context, self._recorder, actions)
        except BaseException:
            seen = self._pods.items.get(key)
            if placement.node and (seen is None or not seen.spec.node_name):
                self._unplace(key)
            raise
        if placement.node:
            message = f"Successfully assigned {pod.key} to {placement.node}"
            self._recorder.normal(pod, "Scheduled", message)
        return None


def _relevant(node: Node) -> tuple[Any, ...]:
    return (node.ready, node.spec, node.metadata.labels, node.metadata.deletion_timestamp)
