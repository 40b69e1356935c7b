"""Node life cycle: a node whose Lease is not renewed any more becomes Unknown, and its pods not Ready.

As upstream's controller it never compares clocks: it notes by its own monotonic clock when it saw the
Lease's renewTime change. Everybody has a full grace period from the start of the controller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from emu.client.events import timestamp
from emu.client.rest import STRATEGIC_MERGE_PATCH
from emu.controllers.actions import Action, Context, Patch, Report, Requeue, perform, plain
from emu.controllers.workqueue import WorkQueue
from emu.core.objects import Lease, Node, Pod, Taint, condition

LEASE_NAMESPACE = "kube-node-lease"
UNREACHABLE = "node.kubernetes.io/unreachable"
NOT_READY = "node.kubernetes.io/not-ready"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_OWN_TAINTS = (UNREACHABLE, NOT_READY, UNSCHEDULABLE)
_HEARTBEAT_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


def decide(node: Node, pods: Iterable[Pod], silent_seconds: float, grace: float, now: float) -> list[Action]:
    """What to do for a node that was last heard of `silent_seconds` ago; `now` is the wall clock."""
    actions: list[Action] = []
    ready = condition(node.status.conditions, "Ready")
    gone = silent_seconds >= grace
    status = ready.status if ready is not None else ""
    if gone and status != "Unknown":
        status = "Unknown"
        actions.append(_unknown(node, now))
        message = f"Node {node.name} status is now: NodeNotReady"
        actions.append(Report(node, "NodeNotReady", message))
    wanted = taints(node, status)
    if wanted != node.spec.taints:
        actions.append(_taint(node, wanted))
    if status in ("Unknown", "False"):
        actions += [_not_ready(pod, now) for pod in pods if pod.ready]
    if not gone:
        actions.append(Requeue(grace - silent_seconds))
    return actions


def taints(node: Node, ready: str) -> tuple[Taint, ...]:
    """The node's taints with those that follow from its Ready condition and `spec.unschedulable`."""
    kept = tuple(taint for taint in node.spec.taints if taint.key not in _OWN_TAINTS)
    own: list[Taint] = []
    if node.spec.unschedulable:
        own.append(Taint(key=UNSCHEDULABLE, effect="NoSchedule"))
    if key := {"Unknown": UNREACHABLE, "False": NOT_READY}.get(ready):
        own += [Taint(key=key, effect="NoSchedule"), Taint(key=key, effect="NoExecute")]
    present = [taint for taint in node.spec.taints if taint.key in _OWN_TAINTS]
    same = sorted((t.key, t.effect) for t in present) == sorted((t.key, t.effect) for t in own)
    return node.spec.taints if same else (*kept, *own)


def _unknown(node: Node, now: float) -> Patch:
    conditions: list[dict[str, Any]] = []
    for kind in _HEARTBEAT_CONDITIONS:
        before = condition(node.status.conditions, kind)
        if before is None and kind != "Ready":
            continue
        conditions.append(
            {
                "type": kind,
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": timestamp(now),
            }
        )
    return Patch(
        Node.resource,
        "",
        node.name,
        {"status": {"conditions": conditions}},
        subresource="status",
        content_type=STRATEGIC_MERGE_PATCH,
    )


def _taint(node: Node, wanted: tuple[Taint, ...]) -> Patch:
    patch = {
        "metadata": {"resourceVersion": node.metadata.resource_version},
        "spec": {"taints": [{**plain(taint), "effect": taint.effect} for taint in wanted] or None},
    }
    return Patch(Node.resource, "", node.name, patch)


def _not_ready(pod: Pod, now: float) -> Patch:
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": timestamp(now)}
    return Patch(
        Pod.resource,
        pod.namespace,
        pod.name,
        {"status": {"conditions": [ready]}},
        subresource="status",
        content_type=STRATEGIC_MERGE_PATCH,
    )


class NodeLifecycleController:
    """Watches the nodes' Leases."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._recorder = context.recorder("node-controller")
        self._grace = context.config.node_lifecycle.lease_duration_seconds
        self._nodes = context.informers.reflector(Node)
        self._pods_on = context.informers.index(Pod, "node", lambda pod: (pod.spec.node_name,))
        self._heard: dict[str, float] = {}
        self._queue = WorkQueue("node-lifecycle", self._sync, workers=4)
        self._nodes.subscribe(self._node_changed)
        context.informers.reflector(Lease).subscribe(self._lease_changed)
        context.informers.reflector(Pod).subscribe(self._pod_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._context.informers.synced()
        self._heard = dict.fromkeys(self._nodes.items, asyncio.get_running_loop().time())
        await self._queue.run()

    def _node_changed(self, key: str, before: Node | None, now: Node | None) -> None:
        if now is None:
            self._heard.pop(key, None)
            return
        if before is None or before.metadata.uid != now.metadata.uid:
            self._heard[key] = asyncio.get_running_loop().time()
        self._queue.add(key)

    def _lease_changed(self, key: str, before: Lease | None, now: Lease | None) -> None:
        if now is None or now.namespace != LEASE_NAMESPACE or now.name not in self._nodes.items:
            return
        if before is None or before.spec.renew_time != now.spec.renew_time:
            self._heard[now.name] = asyncio.get_running_loop().time()

    def _pod_changed(self, key: str, before: Pod | None, now: Pod | None) -> None:
        """A pod that turns Ready on a node that is away, by a late write, is judged again."""
        if now is None or not now.ready:
            return
        node = self._nodes.items.get(now.spec.node_name)
        if node is not None and not node.ready:
            self._queue.add(node.name)

    async def _sync(self, key: str) -> float | None:
        node = self._nodes.items.get(key)
        if node is None or key not in self._heard:
            return None
        silent = asyncio.get_running_loop().time() - self._heard[key]
        actions = decide(node, self._pods_on.get(key).values(), silent, self._grace, time.time())
        return await perform(self._context, self._recorder, actions)
