"""The process `emu proxy`: kube-proxy for every node of the cluster, and the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator

from emu.client.events import EventRecorder
from emu.client.kubeconfig import wait_for_credentials
from emu.client.policies import PolicyWatch
from emu.client.reflector import Reflector
from emu.client.resolver import Resolver
from emu.client.rest import Client
from emu.core.config import ClusterConfig, ProxyMode
from emu.core.objects import ConfigMap, Endpoints, EndpointSlice, Node, Service
from emu.core.settings import Settings
from emu.planes.loopback import LoopbackPlane
from emu.proxy import configuration
from emu.proxy.configuration import ConfigurationError, ProxyConfiguration, parse_configuration
from emu.proxy.dialer import Dialer, Pods
from emu.proxy.gateway import Gateway
from emu.proxy.health_checks import UNBOUND, HealthChecks
from emu.proxy.proxy import Proxy
from emu.proxy.status import Status
from emu.proxy.switching import Switch
from emu.proxy.tables import LOCALHOST, Frontend

log = logging.getLogger(__name__)

_OWN_SERVICES = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless"
"""What kube-proxy looks at: no Services of another proxy, and no endpoints without a virtual IP."""


async def run(settings: Settings) -> None:
    """Run until cancelled. While the API server is away, what was programmed last keeps working."""
    plane = LoopbackPlane()
    config = settings.config
    credentials = await wait_for_credentials(settings.state.kubeconfig)
    async with Client(credentials, agent="emu-proxy") as client:
        events = EventRecorder(client, "kube-proxy")

        def unbound(frontend: Frontend, cause: str) -> None:
            events.warning(frontend.port.service, "PortNotBound", cause)
            log.warning("%s", cause, extra={"service": frontend.port.name})

        def unchecked(service: Service, message: str) -> None:
            events.warning(service, UNBOUND, message)
            log.warning("%s", message)

        policies = PolicyWatch(client)
        proxy = Proxy(
            plane, _initial_configuration(config), policies.engine, settings.state.node_socket, unbound
        )
        status = Status(plane, proxy, config.fixed_ports, (config.ranges.services,))
        health_checks = HealthChecks(plane, proxy, unchecked)
        gateway = Gateway(Dialer(plane, proxy, Resolver(plane, config)), Pods(client))
        async with _closing(proxy, status, health_checks, gateway), asyncio.TaskGroup() as tasks:
            await status.start()
            try:
                await gateway.start(plane.listen_tcp(LOCALHOST, config.fixed_ports.gateway))
            except OSError as error:
                log.warning(
                    "the gateway cannot listen at %s:%s: %s; set ports.gateway, or stop what listens there",
                    LOCALHOST,
                    config.fixed_ports.gateway,
                    error.strerror,
                )
            policies.subscribe(proxy.policies_changed)
            tasks.create_task(policies.run())
            await _watch(client, proxy, status, events, policies, tasks)


async def _watch(
    client: Client,
    proxy: Proxy,
    status: Status,
    events: EventRecorder,
    policies: PolicyWatch,
    tasks: asyncio.TaskGroup,
) -> None:
    """Feed the proxy. Nothing is opened before all is known: half a picture would refuse, or let through."""
    nodes = Reflector(client, Node)
    services = Reflector(client, Service, label_selector=_OWN_SERVICES)
    slices = Reflector(client, EndpointSlice, label_selector=_OWN_SERVICES)
    config_maps = Reflector(
        client,
        ConfigMap,
        namespace=configuration.NAMESPACE,
        field_selector=f"metadata.name={configuration.NAME}",
    )
    switch = Switch(proxy, tasks, lambda: Reflector(client, Endpoints, label_selector=_OWN_SERVICES))
    proxy.hold_back()
    switch.to(proxy.configuration)
    nodes.subscribe(proxy.set_node)
    nodes.subscribe(status.set_node)
    services.subscribe(proxy.set_service)
    slices.subscribe(proxy.set_slice)
    config_maps.subscribe(_ConfigurationListener(switch, events).changed)
    reflectors = (nodes, services, slices, config_maps)
    for reflector in reflectors:
        tasks.create_task(reflector.run())
    for reflector in reflectors:
        await reflector.synced.wait()
    await switch.settled.wait()
    await policies.synced.wait()
    proxy.synchronize()
    # What is known by now stays. To look at all of it again and again for garbage would stop the proxy each
    # time: 0.4 s with 10,000 Service ports.
    gc.freeze()
    log.info(
        "%d frontends of %d services are in force",
        len(proxy.tables.frontends),
        len(services.items),
        extra={"mode": proxy.configuration.mode.value},
    )


class _ConfigurationListener:
    """Takes kube-proxy's configuration over; a bad one leaves the old one in force."""

    def __init__(self, switch: Switch, events: EventRecorder) -> None:
        self._switch = switch
        self._events = events

    def changed(self, key: str, before: ConfigMap | None, now: ConfigMap | None) -> None:
        try:
            if now is None:
                raise ConfigurationError("it is gone")
            if configuration.KEY not in now.data:
                raise ConfigurationError(f"there is no {configuration.KEY}")
            self._switch.to(parse_configuration(now.data[configuration.KEY]))
        except ConfigurationError as error:
            message = f"ConfigMap {key}: {error}; {self._switch.wanted.mode} mode goes on as before"
            log.warning("%s", message)
            if now is not None:
                self._events.warning(now, "InvalidConfiguration", message)


def _initial_configuration(config: ClusterConfig) -> ProxyConfiguration:
    """What is in force until the ConfigMap is known."""
    return ProxyConfiguration(
        mode=config.proxy_mode or ProxyMode.IPTABLES,
        scheduler=config.ipvs_scheduler or configuration.DEFAULT_SCHEDULER,
    )


@contextlib.asynccontextmanager
async def _closing(
    proxy: Proxy, status: Status, health_checks: HealthChecks, gateway: Gateway
) -> AsyncIterator[None]:
    try:
        yield
    finally:
        proxy.close()
        await gateway.stop()
        await health_checks.stop()
        await status.stop()
