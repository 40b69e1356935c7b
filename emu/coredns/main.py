"""The process: feeds the index from the API server, follows Corefile, DNS pods and policies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from emu.client.events import EventRecorder
from emu.client.kubeconfig import wait_for_credentials
from emu.client.policies import PolicyWatch
from emu.client.reflector import Reflector
from emu.client.rest import Client
from emu.core.objects import ConfigMap, EndpointSlice, Namespace, Object, Pod, Service
from emu.core.settings import Settings
from emu.coredns import on_disk
from emu.coredns.bindings import KUBE_DNS, Bindings
from emu.coredns.clients import ClientPod, Clients
from emu.coredns.corefile import CorefileError, kubeadm_corefile
from emu.coredns.environment import Facts
from emu.coredns.index import Index
from emu.coredns.inquiries import serve_inquiries
from emu.coredns.memory import settle
from emu.coredns.metrics import Metrics
from emu.coredns.plugins.kubernetes.latency import ProgrammingLatency
from emu.coredns.server import Server
from emu.planes.loopback import LoopbackPlane

log = logging.getLogger(__name__)

NAMESPACE = "kube-system"
CONFIG_MAP = "coredns"
CONFIG_KEY = "Corefile"
POD_SELECTOR = "k8s-app=kube-dns"


async def run(settings: Settings) -> None:
    """Serve cluster DNS until cancelled. Answers SERVFAIL for the cluster until the API server was heard."""
    process = _Process(settings)
    try:
        await process.run()
    finally:
        await process.close()


class _Process:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._index = Index()
        self._all_pods = asyncio.Event()
        self._clients = Clients()
        self._warnings: list[tuple[Object, str, str]] = []
        self._recorder: EventRecorder | None = None
        self._pending: asyncio.Queue[ConfigMap] = asyncio.Queue()
        metrics = Metrics()
        self._latency = ProgrammingLatency(self._index, metrics.families)
        facts = Facts(
            self._index,
            metrics,
            self._all_pods.set,
            lambda: self._bindings.addresses,
            lambda: self._bindings.pods,
            self._clients,
        )
        self._server = Server(facts)
        self._bindings = Bindings(
            LoopbackPlane(),
            settings.config,
            self._server.responder,
            self._server.endpoints,
            lambda about, message: self._warn(about, "PortNotBound", message),
        )

    async def run(self) -> None:
        settings = self._settings
        await self._server.apply(kubeadm_corefile(settings.config.cluster_domain), "built-in Corefile")
        corefile = settings.config.corefile
        self._bindings.apply()
        credentials = await wait_for_credentials(settings.state.kubeconfig)
        async with (
            await serve_inquiries(settings.state.coredns_socket, self._server),
            Client(credentials, agent="emu-coredns") as client,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._feed(client))
            tasks.create_task(self._follow_pods(client))
            tasks.create_task(self._follow_policies(client))
            if corefile is None:
                tasks.create_task(self._follow_corefile(client))
            else:
                tasks.create_task(on_disk.follow(Path(corefile), partial(self._take_up, corefile, KUBE_DNS)))
            tasks.create_task(self._feed_pods(client))
            tasks.create_task(self._feed_clients(client))

    async def close(self) -> None:
        self._bindings.close()
        await self._server.stop()

    async def _feed(self, client: Client) -> None:
        index = self._index
        namespaces = Reflector(client, Namespace)
        services = Reflector(client, Service)
        slices = Reflector(client, EndpointSlice)
        namespaces.subscribe(index.set_namespace)
        services.subscribe(index.set_service)
        slices.subscribe(index.set_slice)
        slices.subscribe(self._latency.set_slice)
        async with asyncio.TaskGroup() as tasks:
            for reflector in (namespaces, services, slices):
                tasks.create_task(reflector.run())
            for synced in (namespaces.synced, services.synced, slices.synced):
                await synced.wait()
            index.set_synced()
            settle()
            log.info("all %d Services are known", len(index.services))
            self._recorder = EventRecorder(client, "coredns")
            for warning in self._warnings:
                self._recorder.warning(*warning)
            self._warnings.clear()

    async def _feed_pods(self, client: Client) -> None:
        """Only `pods verified` wants all pods."""
        await self._all_pods.wait()
        pods = Reflector(client, Pod)
        pods.subscribe(self._index.set_pod)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pods.run())
            await pods.synced.wait()
            self._index.set_pods_synced()

    async def _feed_clients(self, client: Client) -> None:
        """Only what names the client wants all pods, and less of them."""
        await self._clients.wanted.wait()
        pods = Reflector(client, ClientPod)
        pods.subscribe(self._clients.set_pod)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pods.run())
            await pods.synced.wait()
            self._clients.synced = True

    async def _follow_pods(self, client: Client) -> None:
        pods = Reflector(client, Pod, namespace=NAMESPACE, label_selector=POD_SELECTOR)

        def changed(_key: str, _before: Pod | None, _now: Pod | None) -> None:
            self._bindings.set_pods(pods.items.values())
            self._server.forget()  # the addresses of ns.dns and of the zone's NS are those of the pods

        pods.subscribe(changed)
        await pods.run()

    async def _follow_policies(self, client: Client) -> None:
        policies = PolicyWatch(client)

        def changed() -> None:
            self._bindings.set_sources(None if policies.engine.empty else policies.engine.sources)

        policies.subscribe(changed)
        await policies.run()

    async def _follow_corefile(self, client: Client) -> None:
        maps = Reflector(client, ConfigMap, namespace=NAMESPACE, field_selector=f"metadata.name={CONFIG_MAP}")

        def changed(_key: str, before: ConfigMap | None, now: ConfigMap | None) -> None:
            if now is not None and (before is None or before.data != now.data):
                self._pending.put_nowait(now)

        maps.subscribe(changed)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(maps.run())
            while True:
                now = await self._pending.get()
                file = f"ConfigMap {now.key} {CONFIG_KEY}"
                await self._take_up(file, now, now.data.get(CONFIG_KEY, ""), now.data)

    async def _take_up(
        self, file: str, about: Object, text: str, beside: Mapping[str, str] | None = None
    ) -> None:
        """Serve by another Corefile; what is wrong with it is said in an Event about an object."""
        if not self._server.configuration.reloads:
            log.warning("the Corefile has changed and is not taken up: the one in force has no `reload`")
            return
        try:
            await self._server.apply(text, file, beside)
        except CorefileError as error:
            log.error("the Corefile is refused, the old one goes on serving: %s", error)
            self._warn(about, "CorefileRefused", f"{error}; the old Corefile goes on serving")
            return
        self._bindings.set_ports(self._server.other_ports)
        log.info("serving by %s", file)

    def _warn(self, about: Object, reason: str, message: str) -> None:
        """Record an Event, as soon as the API server can be written to."""
        if self._recorder is None:
            self._warnings.append((about, reason, message))
        else:
            self._recorder.warning(about, reason, message)
