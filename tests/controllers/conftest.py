"""A control plane without nodes: API server and controllers, in an own state directory and slot."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from emu.api import server
from emu.client.kubeconfig import wait_for_credentials
from emu.client.rest import STRATEGIC_MERGE_PATCH, ApiError, Client
from emu.controllers import manager
from emu.core.config import ClusterConfig, NodeLifecycle
from emu.core.objects import Lease, Node
from emu.core.settings import Settings, StateDir

DEADLINE_SECONDS = 10.0


def _slot() -> int:
    """A slot of this xdist worker's own: 20 to 25."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    return 20 + int(worker.removeprefix("gw")) % 6


class ControlPlane:
    """The running control plane, and a kubelet's writes done by hand."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self.settings = settings
        self.client = client
        self._renewals = itertools.count()

    async def add_node(self, number: int, **spec: Any) -> None:
        """A Ready node, as its agent would register it."""
        name = f"node-{number}"
        await self.client.create(Node.resource, {"metadata": {"name": name}, "spec": spec})
        await self.ready(number)

    async def ready(self, number: int) -> None:
        """What the agent writes when it is (again) alive."""
        address = self.settings.config.ranges.node_address(number)
        status = {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        }
        await self.patch_status(Node, f"node-{number}", status)

    async def renew(self, number: int) -> None:
        """A heartbeat."""
        name = f"node-{number}"
        renewed = {"renewTime": f"2026-01-01T00:00:00.{next(self._renewals):06}Z"}
        try:
            await self.client.patch(Lease.resource, "kube-node-lease", name, {"spec": renewed})
        except ApiError as error:
            if not error.not_found:
                raise
            metadata = {"name": name, "namespace": "kube-node-lease"}
            await self.client.create(Lease.resource, {"metadata": metadata, "spec": renewed})

    async def patch_status(self, kind: Any, name: str, status: dict[str, Any], namespace: str = "") -> None:
        """A strategic merge patch of a status."""
        await self.client.patch(
            kind.resource,
            namespace,
            name,
            {"status": status},
            subresource="status",
            content_type=STRATEGIC_MERGE_PATCH,
        )


async def _first(server_task: asyncio.Task[None], awaitable: Awaitable[Any]) -> Any:
    """What is awaited, or the server's failure if that comes first."""
    waiting = asyncio.ensure_future(awaitable)
    await asyncio.wait((server_task, waiting), timeout=DEADLINE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if server_task.done():
        waiting.cancel()
        server_task.result()
    return await asyncio.wait_for(waiting, 0)


@pytest.fixture
async def control_plane(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ControlPlane]:
    """A parameter says after how many seconds a node without heartbeats is dead; no test takes as long
    without one, on a busy machine either.
    """
    lifecycle = NodeLifecycle(lease_duration_seconds=getattr(request, "param", 60.0))
    config = ClusterConfig(slot=_slot(), node_lifecycle=lifecycle)
    settings = Settings(config, StateDir(tmp_path))
    api = asyncio.create_task(server.run(settings))
    controllers = asyncio.create_task(manager.run(settings))
    try:
        credentials = await _first(api, wait_for_credentials(settings.state.kubeconfig))
        async with Client(credentials, agent="test") as client:
            await client.wait_until_ready()
            yield ControlPlane(settings, client)
    finally:
        for task in (controllers, api):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def eventually() -> Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]:
    """Ask until the answer is true."""

    async def ask(question: Callable[[], Awaitable[Any]]) -> Any:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (answer := await question()):  # noqa: ASYNC110  the API server's state
                await asyncio.sleep(0.005)
            return answer

    return ask
