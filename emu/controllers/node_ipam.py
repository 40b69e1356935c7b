"""Node IPAM: gives each node its pod range, by the number of its address when that is free."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Network

from emu.controllers.actions import Action, Context, Patch, Report, perform
from emu.controllers.workqueue import WorkQueue
from emu.core.addresses import POD_PREFIX_LENGTH, Networks
from emu.core.objects import Node


def decide(node: Node, taken: Collection[str], ranges: Networks) -> list[Action]:
    """What to do for a node, where `taken` are the pod ranges of the other nodes.

    Waits for the node's InternalIP: node N of the node network gets the N-th pod range.
    """
    if node.spec.pod_cidr or not node.internal_ip:
        return []
    chosen = _choose(node, taken, ranges)
    if chosen is None:
        message = (
            f"no free pod range in {ranges.pods}: remove a node, or give `networks.pods` in emu.yaml a "
            "larger range"
        )
        return [Report(node, "CIDRNotAvailable", message, warning=True)]
    patch = {
        "metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
        "spec": {"podCIDR": chosen, "podCIDRs": [chosen]},
    }
    return [Patch(Node.resource, "", node.name, patch)]


def _choose(node: Node, taken: Collection[str], ranges: Networks) -> str | None:
    count = 2 ** (POD_PREFIX_LENGTH - IPv4Network(ranges.pods).prefixlen)
    number = ranges.node_number(node.internal_ip)
    if number is not None and number < count and ranges.pod_cidr(number) not in taken:
        return ranges.pod_cidr(number)
    free = (ranges.pod_cidr(number) for number in range(1, count))
    return next((cidr for cidr in free if cidr not in taken), None)


class NodeIpamController:
    """Gives out pod ranges, one node after the other."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._recorder = context.recorder("cidrAllocator")
        self._nodes = context.informers.reflector(Node)
        self._queue = WorkQueue("node-ipam", self._sync)
        self._nodes.subscribe(self._changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._context.informers.synced()
        await self._queue.run()

    def _changed(self, key: str, before: Node | None, now: Node | None) -> None:
        if now is not None and not now.spec.pod_cidr:
            self._queue.add(key)
        if now is None:
            for waiting, node in self._nodes.items.items():
                if not node.spec.pod_cidr:
                    self._queue.add(waiting)

    async def _sync(self, key: str) -> float | None:
        node = self._nodes.items.get(key)
        if node is None:
            return None
        taken = {other.spec.pod_cidr for other in self._nodes.items.values() if other is not node}
        actions = decide(node, taken, self._context.config.ranges)
        return await perform(self._context, self._recorder, actions)
