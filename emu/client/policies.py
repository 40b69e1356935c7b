"""Feeding a policy engine from the API: what policies need is watched only while there are policies.

Without any NetworkPolicy only NetworkPolicies are watched. The first one starts the watches of pods,
namespaces and nodes; policies are withheld from the engine until those are in, for a policy whose peers are
not known yet would cut traffic that it allows. New pods need not suffer from that: a node awaits `ready`
before it starts one, so that it is isolated before its first server listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import msgspec

from emu.client.reflector import Reflector
from emu.client.rest import ApiError, ApiUnreachable, Client
from emu.core.objects import Namespace, NetworkPolicy, Node, Pod
from emu.core.policy import PolicyEngine

log = logging.getLogger(__name__)

_CATCHING_UP_SECONDS = 0.005


class PolicyWatch:
    """Keeps `engine` true to the API server.

    `synced` is set while the engine knows all policies and, if there are any, all that they refer to; it is
    cleared from the appearance of the first policy until the rest is in.
    """

    def __init__(self, client: Client) -> None:
        self.engine = PolicyEngine()
        self.synced = asyncio.Event()
        self._client = client
        self._policies = Reflector(client, NetworkPolicy)
        self._policies.subscribe(self._policy_changed)
        self._enforcing = False
        self._first_or_last = asyncio.Event()
        self._own: dict[str, Pod] = {}
        self._callbacks: list[Callable[[], None]] = []
        self._scheduled = False
        self._lookups: dict[str, asyncio.Task[int]] = {}

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call back once per burst of changes that may alter an answer of the engine."""
        self._callbacks.append(callback)

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._policies.run())
            await self._policies.synced.wait()
            while True:
                if not self._policies.items:
                    self.synced.set()
                await self._until(any_policy=True)
                async with self._everything_watched():
                    self._enforcing = True
                    for policy in self._policies.items.values():
                        self._set_policy(policy)
                    self.synced.set()
                    await self._until(any_policy=False)
                    self._enforcing = False

    async def ready(self, namespace: str = "") -> None:
        """Wait until the engine isolates pods of a namespace ("" means all) as the API server would now.

        To be awaited before a pod is started: a policy that was accepted before the pod was is then in force.
        While the API server is away, what was known last counts.
        """
        await self.synced.wait()
        lookup = self._lookups.get(namespace)
        if lookup is None:
            lookup = asyncio.get_running_loop().create_task(self._newest_version(namespace))
            self._lookups[namespace] = lookup
        version = await asyncio.shield(lookup)
        while self._policies.version < version:  # noqa: ASYNC110  a new list may reach it without any change
            await asyncio.sleep(_CATCHING_UP_SECONDS)
        await self.synced.wait()

    def set_own_pod(self, pod: Pod) -> None:
        """Tell at once of a pod that this process hosts, with its `status.podIP`.

        It counts until `remove_own_pod`, even where the watch does not know the address yet or saw the
        pod's deletion already; labels are taken from whichever is newer.
        """
        self._own[pod.key] = pod
        self._changed(self.engine.set_pod(pod))

    def remove_own_pod(self, key: str) -> None:
        """Tell that this process no longer hosts a pod."""
        if self._own.pop(key, None) is not None:
            self._changed(self.engine.remove_pod(key))

    async def _until(self, *, any_policy: bool) -> None:
        while bool(self._policies.items) is not any_policy:
            self._first_or_last.clear()
            await self._first_or_last.wait()

    @contextlib.asynccontextmanager
    async def _everything_watched(self) -> AsyncIterator[None]:
        """Pods, namespaces and nodes are in the engine, and watched, as long as the block runs."""
        pods = Reflector(self._client, Pod)
        namespaces = Reflector(self._client, Namespace)
        nodes = Reflector(self._client, Node)
        pods.subscribe(self._pod_changed)
        namespaces.subscribe(self._namespace_changed)
        nodes.subscribe(self._node_changed)
        async with asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(item.run()) for item in (namespaces, nodes, pods)]
            for item in (namespaces, nodes, pods):
                await item.synced.wait()
            yield
            for task in watching:
                task.cancel()
        for key in pods.items:
            if key not in self._own:
                self.engine.remove_pod(key)
        for name in namespaces.items:
            self.engine.remove_namespace(name)
        for name in nodes.items:
            self.engine.remove_node(name)

    def _policy_changed(self, key: str, before: NetworkPolicy | None, now: NetworkPolicy | None) -> None:
        if self._enforcing:
            if now is None:
                self._changed(self.engine.remove_policy(key))
            else:
                self._set_policy(now)
        elif now is not None:
            self.synced.clear()
        self._first_or_last.set()

    def _set_policy(self, policy: NetworkPolicy) -> None:
        if self.engine.set_policy(policy):
            self._changed(True)
            if error := self.engine.errors.get(policy.key):
                log.warning("NetworkPolicy %s cannot be compiled and admits nobody: %s", policy.key, error)

    def _pod_changed(self, key: str, before: Pod | None, now: Pod | None) -> None:
        own = self._own.get(key)
        if own is None:
            self._changed(self.engine.remove_pod(key) if now is None else self.engine.set_pod(now))
        elif now is not None and now.metadata.uid == own.metadata.uid and _newer(now, own):
            # The address is the host's to say: the API may not have it yet, or have it still.
            self.set_own_pod(msgspec.structs.replace(now, status=own.status))

    def _namespace_changed(self, key: str, before: Namespace | None, now: Namespace | None) -> None:
        changed = self.engine.remove_namespace(key) if now is None else self.engine.set_namespace(now)
        self._changed(changed)

    def _node_changed(self, key: str, before: Node | None, now: Node | None) -> None:
        self._changed(self.engine.remove_node(key) if now is None else self.engine.set_node(now))

    async def _newest_version(self, namespace: str) -> int:
        # Calls of one turn of the loop share one request; a later call may have learnt of a later policy.
        await asyncio.sleep(0)
        del self._lookups[namespace]
        try:
            policies = await self._client.list(NetworkPolicy, namespace)
        except (ApiError, ApiUnreachable) as error:
            log.debug("cannot look up policies: %s", error)
            return 0
        return max((int(policy.metadata.resource_version) for policy in policies), default=0)

    def _changed(self, changed: bool) -> None:
        if changed and self._enforcing and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._call_back)

    def _call_back(self) -> None:
        self._scheduled = False
        for callback in self._callbacks:
            callback()


def _newer(pod: Pod, than: Pod) -> bool:
    return int(pod.metadata.resource_version or 0) >= int(than.metadata.resource_version or 0)
