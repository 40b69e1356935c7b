"""The API server's process: opens the store, listens, and says so by writing the kubeconfig."""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from contextlib import AsyncExitStack

from aiohttp import web

from emu.api.address_ledger import AddressLedger
from emu.api.bootstrap import bootstrap
from emu.api.connection import Server
from emu.api.errors import PortTakenError, StateError
from emu.api.http import Api
from emu.api.pki import ensure_pki, host_names
from emu.api.registry import Registry, now_text
from emu.api.resources import BY_NAME
from emu.api.schemas import require_data
from emu.api.service_admission import ServiceAdmission
from emu.api.store import Store
from emu.client.kubeconfig import Credentials, write_kubeconfig
from emu.core.settings import Settings

log = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
SERVICE_PORT = 443
_STOP_SECONDS = 0.5
_REMEDY = "sysctl net.ipv4.ip_unprivileged_port_start=0"


async def run(settings: Settings) -> None:
    """Serve until cancelled.

    Raises PortTakenError when the main port is in use and StateError when the state directory cannot be used.
    """
    async with AsyncExitStack() as stack:
        await start(settings, stack)
        await asyncio.Event().wait()


async def start(settings: Settings, stack: AsyncExitStack) -> int:
    """Start serving; what must be undone goes onto the stack. Gives the main port."""
    config, state = settings.config, settings.state
    service_address = config.ranges.kubernetes_service
    try:
        state.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"the state directory {state.root} cannot be made: {error}") from None
    require_data()
    pki = ensure_pki(state.pki, (ADDRESS, service_address), config.cluster_domain)
    store = Store(state.store)
    stack.callback(store.close)
    ledger = AddressLedger(store)
    admission = ServiceAdmission(config.ranges, ledger=ledger)
    registry = Registry(store, BY_NAME, {"services": admission})
    registry.load()
    ledger.start(config.ranges.services, admission.held)
    api = Api(registry, pki.token, host_names(config.cluster_domain))
    runner = web.ServerRunner(
        Server(api.handle, handler_cancellation=True, access_log=None),
        handle_signals=False,
        shutdown_timeout=_STOP_SECONDS,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    stack.callback(store.end_watches)
    context = pki.ssl_context()
    port = await _listen(runner, config.fixed_ports.apiserver, context)
    bootstrap(registry, service_address, port)
    await _listen_on_service(runner, service_address, context, registry)
    api.ready = True
    write_kubeconfig(
        state.kubeconfig, Credentials(server=f"https://{ADDRESS}:{port}", ca=pki.ca, token=pki.token)
    )
    log.info("serving on https://%s:%d", ADDRESS, port)
    return port


async def _listen(runner: web.ServerRunner, port: int, context: ssl.SSLContext) -> int:
    site = web.TCPSite(runner, ADDRESS, port, ssl_context=context, backlog=1024)
    try:
        await site.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(ADDRESS, port) from None
        raise StateError(f"the API server cannot listen on {ADDRESS}:{port}: {error.strerror}") from None
    bound: int = runner.addresses[0][1]
    return bound


async def _listen_on_service(
    runner: web.ServerRunner, address: str, context: ssl.SSLContext, registry: Registry
) -> None:
    """Listen on the ClusterIP of default/kubernetes too; not being able to is told, and not fatal."""
    try:
        await web.TCPSite(runner, address, SERVICE_PORT, ssl_context=context, backlog=1024).start()
    except OSError as error:
        message = (
            f"port {SERVICE_PORT} of the ClusterIP {address} cannot be bound ({error.strerror}); on Linux "
            f"`{_REMEDY}` allows it"
        )
        log.warning("Service default/kubernetes: %s", message)
        _record_not_bound(registry, message)


def _record_not_bound(registry: Registry, message: str) -> None:
    now = now_text()
    registry.create(
        registry.resources["events"],
        "default",
        {
            "metadata": {"generateName": "kubernetes."},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Service",
                "namespace": "default",
                "name": "kubernetes",
            },
            "type": "Warning",
            "reason": "PortNotBound",
            "message": message,
            "source": {"component": "emu-apiserver"},
            "reportingComponent": "emu-apiserver",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        },
    )
