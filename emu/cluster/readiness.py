"""When a cluster is Ready: its nodes, the pods of its workloads, and kube-proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import aiohttp

from emu.client.kubeconfig import wait_for_credentials
from emu.client.reflector import Reflector
from emu.client.rest import Client
from emu.core.config import ClusterConfig
from emu.core.objects import Deployment, Node, Pod
from emu.core.settings import Settings

_POLL_SECONDS = 0.02


def missing(
    config: ClusterConfig, nodes: Iterable[Node], deployments: Iterable[Deployment], pods: Iterable[Pod]
) -> list[str]:
    """What is not Ready yet, in words; empty when all is."""
    found = {node.name: node for node in nodes}
    waiting = [
        f"node {node.name}" for node in config.nodes if not (node.name in found and found[node.name].ready)
    ]
    rolled_out = {deployment.key for deployment in deployments if _available(deployment)}
    waiting += [f"Deployment {d.key}" for d in deployments if d.key not in rolled_out]
    if not any(key.startswith("kube-system/") for key in rolled_out):
        waiting.append("Deployment kube-system/coredns")
    waiting += [
        f"Pod {pod.key}" for pod in pods if not pod.ready and not pod.finished and not pod.terminating
    ]
    return sorted(set(waiting))


def _available(deployment: Deployment) -> bool:
    status = deployment.status
    return (
        status.observed_generation >= deployment.metadata.generation
        and status.updated_replicas >= deployment.spec.replicas
        and status.available_replicas >= deployment.spec.replicas
    )


class Readiness:
    """Watches a cluster until nothing is missing. `missing` says what is, at any time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.missing: list[str] = ["the API server"]

    async def wait(self) -> None:
        """Return when all is Ready; without limit, the caller sets one."""
        credentials = await wait_for_credentials(self._settings.state.kubeconfig)
        async with Client(credentials, agent="emu-supervisor") as client:
            nodes = Reflector(client, Node)
            deployments = Reflector(client, Deployment)
            pods = Reflector(client, Pod)
            changed = asyncio.Event()
            tasks = []
            for reflector in (nodes, deployments, pods):
                reflector.subscribe(lambda *_: changed.set())
                tasks.append(asyncio.create_task(reflector.run()))
            try:
                for reflector in (nodes, deployments, pods):
                    await reflector.synced.wait()
                while True:
                    changed.clear()
                    self.missing = missing(
                        self._settings.config,
                        nodes.items.values(),
                        deployments.items.values(),
                        pods.items.values(),
                    )
                    if not self.missing:
                        break
                    await changed.wait()
            finally:
                for task in tasks:
                    task.cancel()
        self.missing = ["kube-proxy"]
        await self._proxy_healthy()
        self.missing = []

    async def _proxy_healthy(self) -> None:
        url = f"http://127.0.0.1:{self._settings.config.fixed_ports.proxy_metrics}/healthz"
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(url) as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientError:
                    pass  # it is starting
                await asyncio.sleep(_POLL_SECONDS)
