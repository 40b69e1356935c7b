"""When a cluster is Ready: its nodes, the pods of its workloads, and kube-proxy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import TypeVar

import aiohttp

from emu.client.kubeconfig import wait_for_credentials
from emu.client.reflector import Reflector
from emu.client.rest import Client
from emu.core.config import ClusterConfig
from emu.core.objects import Deployment, Node, Object, Pod
from emu.core.settings import Settings

T = TypeVar("T", bound=Object)

_POLL_SECONDS = 0.02


def missing(
    config: ClusterConfig, nodes: Iterable[Node], deployments: Iterable[Deployment], pods: Iterable[Pod]
) -> list[str]:
    """What is not Ready yet, in words; empty when all is."""
    waiting = missing_nodes(config, nodes)
    rolled_out = {deployment.key for deployment in deployments if _available(deployment)}
    waiting += [f"Deployment {d.key}" for d in deployments if d.key not in rolled_out]
    if not any(key.startswith("kube-system/") for key in rolled_out):
        waiting.append("Deployment kube-system/coredns")
    waiting += [
        f"Pod {pod.key}" for pod in pods if not pod.ready and not pod.finished and not pod.terminating
    ]
    return sorted(set(waiting))


def missing_nodes(config: ClusterConfig, nodes: Iterable[Node]) -> list[str]:
    """The configured nodes that are not Ready yet, in words."""
    ready = {node.name for node in nodes if node.ready}
    return [f"node {node.name}" for node in config.nodes if node.name not in ready]


def _available(deployment: Deployment) -> bool:
    status = deployment.status
    return (
        status.observed_generation >= deployment.metadata.generation
        and status.updated_replicas >= deployment.spec.replicas
        and status.available_replicas >= deployment.spec.replicas
    )


class Readiness:
    """Watches a cluster come up. `missing` says what is not Ready yet, at any time.

    An async context manager; inside, `nodes` and `everything` wait without limit: the caller sets one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._exit = contextlib.AsyncExitStack()
        self._changed = asyncio.Event()
        self.client: Client
        self.missing: list[str] = ["the API server"]

    async def __aenter__(self) -> Readiness:
        credentials = await wait_for_credentials(self._settings.state.kubeconfig)
        self.client = await self._exit.enter_async_context(Client(credentials, agent="emu-supervisor"))
        self._nodes = self._watch(Node)
        self._deployments = self._watch(Deployment)
        self._pods = self._watch(Pod)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def nodes(self) -> None:
        """Return when all configured nodes are Ready, so that the scheduler can spread over all of them."""
        await self._until(lambda: missing_nodes(self._settings.config, self._nodes.items.values()))

    async def everything(self) -> None:
        """Return when nodes, workloads, their pods, and kube-proxy are Ready."""
        for reflector in (self._nodes, self._deployments, self._pods):
            await reflector.synced.wait()
        await self._until(
            lambda: missing(
                self._settings.config,
                self._nodes.items.values(),
                self._deployments.items.values(),
                self._pods.items.values(),
            )
        )
        self.missing = ["kube-proxy"]
        await self._proxy_synchronized()
        self.missing = []

    def _watch(self, view: type[T]) -> Reflector[T]:
        reflector = Reflector(self.client, view)
        reflector.subscribe(lambda *_: self._changed.set())
        task = asyncio.get_running_loop().create_task(reflector.run())
        self._exit.callback(task.cancel)
        return reflector

    async def _until(self, lacking: Callable[[], list[str]]) -> None:
        while True:
            self._changed.clear()
            self.missing = lacking()
            if not self.missing:
                return
            await self._changed.wait()

    async def _proxy_synchronized(self) -> None:
        """Wait until kube-proxy is healthy and its rules are in force: `status` is there from then on."""
        url = f"http://127.0.0.1:{self._settings.config.fixed_ports.proxy_healthz}/healthz"
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(url) as response:
                        if response.status == 200 and "status" in await response.json():
                            return
                except aiohttp.ClientError:
                    pass  # it is starting
                await asyncio.sleep(_POLL_SECONDS)
