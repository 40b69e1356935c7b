"""The node agent: kubelet and CNI of one node, in one process."""

from __future__ import annotations

import asyncio
import logging

from emu.client.kubeconfig import wait_for_credentials
from emu.client.policies import PolicyWatch
from emu.client.reflector import Reflector
from emu.client.rest import Client
from emu.core.objects import Pod
from emu.core.settings import Settings
from emu.nodes.host import Host
from emu.nodes.kubelet_api import serve_kubelet_api
from emu.nodes.pods import Pods
from emu.nodes.registration import Registration
from emu.nodes.takeover import Takeover
from emu.planes.handover import HandoverReceiver
from emu.planes.loopback import LoopbackPlane

log = logging.getLogger(__name__)


async def run(settings: Settings, name: str) -> None:
    """Be the node `name` until cancelled.

    A node that stops goes silent, as a machine that is switched off: its objects stay as they are, the
    control plane notices the missing Lease, and the next process of that name takes everything over.
    """
    config = settings.config
    address = config.node_address(name)
    credentials = await wait_for_credentials(settings.state.kubeconfig)
    plane = LoopbackPlane()
    async with Client(credentials, source=address, agent=f"emu-node/{name}") as client:
        policies = PolicyWatch(client)
        host = Host(name, config, plane, client, policies)
        pods = Pods(host)
        registration = Registration(name, config, client)
        takeover = Takeover(host)
        receiver = HandoverReceiver(settings.state.node_socket(name), takeover)
        try:
            async with serve_kubelet_api(host, pods), asyncio.TaskGroup() as tasks:
                tasks.create_task(policies.run())
                tasks.create_task(registration.run())
                watch = Reflector(client, Pod, field_selector=f"spec.nodeName={name}")
                tasks.create_task(watch.run())
                host.use(await registration.pod_cidr)
                receiver.start()
                registration.set_ready()
                await watch.synced.wait()
                pods.adopt(list(watch.items.values()))
                watch.subscribe(pods.changed)
                log.info("node is ready", extra={"node": name, "address": address, "pods": len(pods)})
        finally:
            receiver.stop()
            takeover.close()
            pods.stop()
            host.held.close()
