import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from emu.api.registry import Registry
from emu.api.resources import BY_NAME
from emu.api.server import start
from emu.api.service_admission import ServiceAdmission
from emu.api.store import Store
from emu.client.kubeconfig import read_kubeconfig
from emu.client.rest import Client
from emu.core.addresses import Networks
from emu.core.config import ClusterConfig, Ports
from emu.core.settings import Settings, StateDir

# An address corner of this folder's own.
NETWORKS = Networks(
    services="127.27.0.0/16", pods="127.59.0.0/16", nodes="127.91.0.0/16", load_balancers="127.0.140.0/24"
)
CONFIG = ClusterConfig(networks=NETWORKS, ports=Ports(apiserver=0))


@pytest.fixture
def registry() -> Registry:
    made = Registry(Store(None), BY_NAME, {"services": ServiceAdmission(NETWORKS, choose=lambda count: 0)})
    made.create(BY_NAME["namespaces"], "", {"metadata": {"name": "default"}})
    return made


class Server:
    def __init__(self, client: Client, kubeconfig: Path) -> None:
        self.client = client
        self.kubeconfig = kubeconfig


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Server]:
    """An API server on an ephemeral port, over TLS, and a client of it."""
    async with AsyncExitStack() as stack:
        settings = Settings(CONFIG, StateDir(directory))
        await start(settings, stack)
        client = await stack.enter_async_context(Client(read_kubeconfig(settings.state.kubeconfig)))
        yield Server(client, settings.state.kubeconfig)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as running:
        yield running


def pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "nginx"}], **spec}}


async def within(seconds: float, work: Any) -> Any:
    async with asyncio.timeout(seconds):
        return await work
