"""The process that runs all controllers over one client and one set of reflectors."""

from __future__ import annotations

import asyncio
import functools
import logging

from emu.client.discovery import served_kinds
from emu.client.events import EventRecorder
from emu.client.kubeconfig import wait_for_credentials
from emu.client.rest import Client
from emu.controllers.actions import Context
from emu.controllers.bootstrap import bootstrap
from emu.controllers.deployment import DeploymentController
from emu.controllers.endpoints import EndpointsController
from emu.controllers.endpointslice import EndpointSliceController
from emu.controllers.endpointslice_mirroring import EndpointSliceMirroringController
from emu.controllers.garbage_collector import GarbageCollector
from emu.controllers.informers import Informers
from emu.controllers.load_balancer import LoadBalancerController
from emu.controllers.namespaces import NamespaceController
from emu.controllers.node_ipam import NodeIpamController
from emu.controllers.node_lifecycle import NodeLifecycleController
from emu.controllers.replicaset import ReplicaSetController
from emu.controllers.scheduler import Scheduler
from emu.controllers.service_pods import ServicePods
from emu.core.objects import Node
from emu.core.settings import Settings
from emu.planes.loopback import LoopbackPlane

log = logging.getLogger(__name__)


async def run(settings: Settings) -> None:
    """Run until cancelled. Waits for the API server, and rides out its absence later on."""
    credentials = await wait_for_credentials(settings.state.kubeconfig)
    async with Client(credentials, agent="emu-controllers") as client:
        informers = Informers(client)
        context = Context(client, informers, settings.config, functools.partial(EventRecorder, client))
        await client.wait_until_ready()
        service_pods = ServicePods(informers)
        controllers = (
            NodeIpamController(context),
            Scheduler(context),
            ReplicaSetController(context),
            DeploymentController(context),
            EndpointSliceController(context, service_pods),
            EndpointSliceMirroringController(context),
            EndpointsController(context, service_pods),
            LoadBalancerController(context),
            NodeLifecycleController(context),
            NamespaceController(context, credentials.ca),
            GarbageCollector(context, await served_kinds(client)),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(informers.run())
            group.create_task(bootstrap(client, settings.config, LoopbackPlane(), informers.reflector(Node)))
            for controller in controllers:
                group.create_task(controller.run())
            await informers.synced()
            log.info("controllers are running")
