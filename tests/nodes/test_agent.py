"""The agent against a real API server, with the podCIDR given by hand."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from emu.api import server
from emu.client.kubeconfig import wait_for_credentials
from emu.client.rest import ApiError, Client
from emu.core.config import ClusterConfig, NodeConfig, Ports
from emu.core.objects import Node, Pod
from emu.core.settings import Settings, StateDir
from emu.nodes import agent
from emu.nodes.dialler import Dialler
from emu.planes.handover import HandoverSender
from emu.planes.loopback import LoopbackPlane

SLOT = 27
NODE = "node-1"
IMAGE = "registry.k8s.io/e2e-test-images/agnhost:2.53"


class Cluster:
    """An API server and one node, in this process."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self.settings = settings
        self.client = client
        self._agent: asyncio.Task[None] | None = None

    @property
    def pod_cidr(self) -> str:
        return self.settings.config.ranges.pod_cidr(1)

    async def start_node(self) -> None:
        self._agent = asyncio.create_task(agent.run(self.settings, NODE))
        await self.eventually(lambda: self.client.get(Node, "", NODE))
        spec = {"spec": {"podCIDR": self.pod_cidr, "podCIDRs": [self.pod_cidr]}}
        await self.client.patch(Node.resource, "", NODE, spec)

    async def stop_node(self) -> None:
        assert self._agent is not None
        self._agent.cancel()
        await asyncio.gather(self._agent, return_exceptions=True)

    async def create(self, name: str, *args: str, **spec: Any) -> None:
        container = {"name": "c", "image": IMAGE, "args": list(args)}
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": NODE, "containers": [container], **spec},
        }
        await self.client.create(Pod.resource, document)

    async def eventually(self, get: Any, condition: Any = lambda found: True) -> Any:
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(ApiError):
                    found = await get()
                    if condition(found):
                        return found
                await asyncio.sleep(0.01)

    async def pod(self, name: str, condition: Any) -> Pod:
        return await self.eventually(lambda: self.client.get(Pod, "default", name), condition)

    async def hostname(self, address: str, port: int) -> str:
        dialler = Dialler(LoopbackPlane(), "127.200.32.1")
        return (await dialler.get(address, port, "/hostname", address, "t", 5)).body.decode()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    config = ClusterConfig(slot=SLOT, nodes=(NodeConfig(name=NODE),), ports=Ports())
    settings = Settings(config, StateDir(tmp_path))
    settings.state.run.mkdir()
    settings.state.pki.mkdir()
    api = asyncio.create_task(server.run(settings))
    waiting = asyncio.create_task(wait_for_credentials(settings.state.kubeconfig))
    await asyncio.wait((api, waiting), return_when=asyncio.FIRST_COMPLETED)
    if api.done():
        waiting.cancel()
        api.result()
    async with Client(await waiting) as client:
        made = Cluster(settings, client)
        await made.start_node()
        try:
            yield made
        finally:
            await made.stop_node()
    api.cancel()
    await asyncio.gather(api, return_exceptions=True)


async def test_a_pod_lives_survives_its_node_and_ends(cluster: Cluster) -> None:
    node = await cluster.eventually(lambda: cluster.client.get(Node, "", NODE), lambda node: node.ready)
    assert node.internal_ip == cluster.settings.config.node_address(NODE)
    probe = {"httpGet": {"path": "/healthz", "port": 18501}}
    container = {"name": "c", "image": IMAGE, "args": ["netexec", "--http-port=18501"]}
    await cluster.create("web", containers=[{**container, "readinessProbe": probe}])
    pod = await cluster.pod("web", lambda pod: pod.ready)
    assert pod.ip == cluster.settings.config.ranges.pod_cidr(1).replace(".0/24", ".2")
    assert await cluster.hostname(pod.ip, 18501) == "web"

    await cluster.stop_node()
    assert not cluster.settings.state.node_socket(NODE).exists()
    with pytest.raises(ConnectionRefusedError):
        await cluster.hostname(pod.ip, 18501)
    await cluster.start_node()
    again = await cluster.pod("web", lambda pod: pod.ready and pod.status.container_statuses[0].restart_count)
    assert again.ip == pod.ip
    assert await cluster.hostname(pod.ip, 18501) == "web"

    await cluster.client.delete(Pod.resource, "default", "web")
    await cluster.eventually(
        lambda: cluster.client.list(Pod, "default"), lambda pods: "web" not in [pod.name for pod in pods]
    )
    with pytest.raises(ConnectionRefusedError):
        await cluster.hostname(pod.ip, 18501)


async def test_a_job_ends_and_a_taken_port_waits(cluster: Cluster) -> None:
    await cluster.create("try", "connect", "127.200.32.9:1", restartPolicy="Never")
    await cluster.pod("try", lambda pod: pod.status.phase == "Failed")
    two = [
        {"name": name, "image": IMAGE, "args": ["netexec", "--http-port=18502", "--udp-port=-1"]}
        for name in ("a", "b")
    ]
    await cluster.create("clash", containers=two)
    pod = await cluster.pod("clash", lambda pod: len(pod.status.container_statuses) == 2)
    assert [status.ready for status in pod.status.container_statuses] == [True, False]
    assert not pod.ready


async def test_sockets_that_the_proxy_hands_over(cluster: Cluster) -> None:
    await cluster.create("web", "netexec", "--http-port=18503", "--udp-port=-1")
    pod = await cluster.pod("web", lambda pod: pod.ready)
    ended: list[int] = []
    sender = HandoverSender(cluster.settings.state.node_socket(NODE), ended.append)
    plane = LoopbackPlane()
    with plane.listen_tcp("127.200.32.2", 18504) as vip:
        for port, expected in ((18503, b"127.200.32.3:"), (18599, None)):
            with await plane.connect_tcp("127.200.32.3", "127.200.32.2", 18504, 2) as client:
                accepted, address = vip.accept()
                dialled = ("127.200.32.2", 18504)
                assert sender.send(accepted.detach(), address, pod.ip, port, dialled, "default/web:", port)
                sender.flush()
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(5):
                    if expected is None:
                        with pytest.raises(ConnectionResetError):
                            await loop.sock_recv(client, 1000)
                    else:
                        await loop.sock_sendall(client, b"GET /clientip HTTP/1.1\r\n\r\n")
                        assert expected in await loop.sock_recv(client, 1000)
            async with asyncio.timeout(5):
                while port not in ended:  # noqa: ASYNC110  the sender tells by a plain call
                    await asyncio.sleep(0.005)
    sender.close()
