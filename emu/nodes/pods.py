"""The pods of one node: each bound Pod object becomes servers on an address, and its status tells so."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from emu.client.events import timestamp
from emu.client.rest import ApiError, ApiUnreachable
from emu.core.objects import Pod
from emu.nodes.containers import ContainerRun
from emu.nodes.host import Host
from emu.nodes.ipam import AddressesExhaustedError
from emu.nodes.runtimes.base import PodIdentity
from emu.nodes.status import ContainerState, Transitions, pod_status

log = logging.getLogger(__name__)

_DEFAULT_GRACE_SECONDS = 30.0
# Longer than endpoints take to be withdrawn everywhere.
_NOTICE_SECONDS = 0.3
_FIRST_RETRY_SECONDS = 0.05
_LAST_RETRY_SECONDS = 2.0


class PodWorker:
    """One pod, from its binding to this node until its object is gone."""

    def __init__(self, host: Host, pod: Pod, address: str) -> None:
        self.pod = pod
        self.address = address
        self._host = host
        self._transitions = Transitions(pod)
        self._started = pod.status.start_time or timestamp()
        self._containers: list[ContainerRun] = []
        self._terminating = False
        self._draining = False
        self._deadline = 0.0
        self._over = False
        self._wanted = False
        self._written = 0
        self._version = 0
        self._writer: asyncio.Task[None] | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._starting: asyncio.Task[None] | None = None
        self._removing: asyncio.Task[None] | None = None

    @property
    def states(self) -> list[ContainerState]:
        """What the containers do."""
        return [container.state for container in self._containers]

    def start(self) -> None:
        """Start the containers as soon as the policies that were there before the pod are in force."""
        self._starting = asyncio.get_running_loop().create_task(self._start())

    def update(self, pod: Pod) -> None:
        """The object has changed."""
        self.pod = pod
        if self._over:
            return
        if not pod.spec.host_network and self.address:
            self._host.policies.set_own_pod(self._with_address())
        if pod.terminating:
            self._terminate()
        elif self._is_news(pod) and self._written and pod.ready != self._ready():
            # The node controller marks pods of a node that was silent; they are what they are.
            self._written = 0
            self._publish()

    def stop(self) -> None:
        """Stop at once, and write nothing more."""
        self._over = True
        for task in (self._starting, self._writer, self._removing):
            if task is not None:
                task.cancel()
        if self._grace is not None:
            self._grace.cancel()
        for container in self._containers:
            container.abort()
        self._host.policies.remove_own_pod(self.pod.key)

    async def _start(self) -> None:
        host = self._host
        if self.pod.terminating:
            self._terminate()
            return
        if not self.pod.spec.host_network:
            await host.policies.ready(self.pod.namespace)
            if self._terminating:
                return
            host.policies.set_own_pod(self._with_address())
        pod = self.pod
        identity = PodIdentity(
            name=pod.name,
            namespace=pod.namespace,
            hostname=host.name if pod.spec.host_network else pod.spec.hostname or pod.name,
            ip=self.address,
            node=host.name,
        )
        before = {status.name: status.restart_count + 1 for status in pod.status.container_statuses}
        self._containers = [
            ContainerRun(host, pod, container, identity, before.get(container.name, 0), self._publish)
            for container in pod.spec.containers
        ]
        for container in self._containers:
            container.start()

    def _with_address(self) -> Pod:
        status = msgspec.structs.replace(self.pod.status, pod_ip=self.address, host_ip=self._host.address)
        return msgspec.structs.replace(self.pod, status=status)

    # --- status ---

    def _ready(self) -> bool:
        return not self._draining and all(state.ready for state in self.states)

    def _is_news(self, pod: Pod) -> bool:
        """Whether an object is newer than this worker's last write; versions are ordered (KEP-5504)."""
        return int(pod.metadata.resource_version or 0) > self._version and self._writer is None

    def _publish(self) -> None:
        """Write the status, once for all changes of this turn of the loop."""
        self._wanted = True
        if self._writer is None and not self._over:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        delay = _FIRST_RETRY_SECONDS
        try:
            while self._wanted:
                async with self._host.writers:
                    self._wanted = False
                    status = pod_status(
                        self.pod,
                        self.states,
                        address=self.address,
                        host=self._host.address,
                        started=self._started,
                        transitions=self._transitions,
                        now=timestamp(),
                        terminating=self._draining,
                    )
                    patch = msgspec.json.encode(
                        {"metadata": {"uid": self.pod.metadata.uid}, "status": status}
                    )
                    # The hash, for the document itself would be most of a pod's memory.
                    if hash(patch) == self._written:
                        continue
                    try:
                        patched = await self._host.client.patch(
                            Pod.resource,
                            self.pod.namespace,
                            self.pod.name,
                            patch,
                            subresource="status",
                        )
                    except (ApiError, ApiUnreachable) as error:
                        if isinstance(error, ApiError) and error.code in (404, 409):
                            # The object is gone, or another of the same name: the watch will tell.
                            return
                        log.debug("status of pod %s is not written: %s", self.pod.key, error)
                        self._wanted = True
                    else:
                        self._written = hash(patch)
                        self._version = int(patched["metadata"]["resourceVersion"])
                        delay = _FIRST_RETRY_SECONDS
                        continue
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LAST_RETRY_SECONDS)
        finally:
            self._writer = None

    # --- the end ---

    def _terminate(self) -> None:
        """End gracefully: serve a moment longer, let requests end within the grace period, remove the object.

        The moment is for clients whose endpoint was chosen before the end of the pod was known: what a
        preStop hook that waits does on a cluster. It lasts as long as hooks and programs say that they take.
        Until it is over the pod is serving and terminating (KEP-1669).
        """
        if self._terminating:
            return
        self._terminating = True
        asked = self.pod.metadata.deletion_grace_period_seconds
        grace = _DEFAULT_GRACE_SECONDS if asked is None else float(asked)
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + grace
        if any(container.serving for container in self._containers):
            longest = max(container.shutdown_seconds for container in self._containers)
            self._grace = loop.call_later(min(grace, max(longest, _NOTICE_SECONDS)), self._drain)
        else:
            self._drain()

    def _drain(self) -> None:
        self._grace = None
        self._draining = True
        for container in self._containers:
            container.drain(self._check_idle)
        if self._active:
            self._grace = asyncio.get_running_loop().call_at(self._deadline, self._finish)
            self._publish()
        else:
            self._finish()

    @property
    def _active(self) -> int:
        return sum(container.active for container in self._containers)

    def _check_idle(self) -> None:
        if self._draining and self._grace is not None and not self._active:
            self._finish()

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        for container in self._containers:
            container.abort()
        self._removing = asyncio.get_running_loop().create_task(self._remove())

    async def _remove(self) -> None:
        delay = _FIRST_RETRY_SECONDS
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.pod.metadata.uid}}
        while True:
            try:
                async with self._host.writers:
                    await self._host.client.delete(
                        Pod.resource, self.pod.namespace, self.pod.name, options=options
                    )
                return
            except (ApiError, ApiUnreachable) as error:
                if isinstance(error, ApiError) and error.code in (404, 409):
                    return
                log.debug("pod %s is not removed: %s", self.pod.key, error)
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LAST_RETRY_SECONDS)


class Pods:
    """All pods that are bound to this node."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._workers: dict[str, PodWorker] = {}
        self._without_address: dict[str, Pod] = {}

    def __len__(self) -> int:
        return len(self._workers)

    def adopt(self, pods: list[Pod]) -> None:
        """Keep the addresses that pods have from an earlier process, before any new one is given out."""
        for pod in pods:
            if pod.ip and not pod.finished and not pod.spec.host_network:
                assert self._host.pool is not None
                self._host.pool.take(pod.ip)

    def changed(self, key: str, before: Pod | None, now: Pod | None) -> None:
        """Follow the watch of pods."""
        worker = self._workers.get(key)
        if worker is not None and (
            now is None
            or now.metadata.uid != worker.pod.metadata.uid
            # An ended pod has no address any more; the worker that removes its object never had one.
            or (now.finished and worker.address)
        ):
            self._drop(key)
            worker = None
        self._without_address.pop(key, None)
        if now is None:
            return
        if worker is not None:
            worker.update(now)
        else:
            self._begin(key, now)

    def stop(self) -> None:
        """Stop all at once."""
        for key in list(self._workers):
            self._drop(key)

    def views(self) -> list[Pod]:
        """The pods, as last seen."""
        return [worker.pod for worker in self._workers.values()]

    def _begin(self, key: str, pod: Pod) -> None:
        if pod.finished and not pod.terminating:
            return
        try:
            address = self._address(pod)
        except AddressesExhaustedError as error:
            log.error("pod %s gets no address: %s", key, error)
            self._host.events.warning(pod, "FailedCreatePodSandBox", str(error))
            self._without_address[key] = pod
            return
        worker = self._workers[key] = PodWorker(self._host, pod, address)
        worker.start()

    def _address(self, pod: Pod) -> str:
        if pod.spec.host_network:
            return self._host.address
        if pod.finished:
            return ""
        pool = self._host.pool
        assert pool is not None
        if pod.ip and pool.holds(pod.ip):
            return pod.ip
        return pool.allocate()

    def _drop(self, key: str) -> None:
        worker = self._workers.pop(key)
        worker.stop()
        if worker.address and not worker.pod.spec.host_network:
            assert self._host.pool is not None
            self._host.pool.release(worker.address)
            if self._without_address:
                waiting = next(iter(self._without_address))
                self._begin(waiting, self._without_address.pop(waiting))
