"""kube-proxy's own endpoints: health on every node's address; metrics, mode and flows on 127.0.0.1."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from emu.client.events import timestamp
from emu.core.config import Ports
from emu.core.objects import Node
from emu.planes.base import Plane
from emu.proxy.proxy import Proxy
from emu.proxy.tables import LOCALHOST

log = logging.getLogger(__name__)

_TO_BE_DELETED_TAINT = "ToBeDeletedByClusterAutoscaler"
_STOP_SECONDS = 0.5

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Status:
    """The HTTP servers of the proxy."""

    def __init__(self, plane: Plane, proxy: Proxy, ports: Ports) -> None:
        self._plane = plane
        self._proxy = proxy
        self._ports = ports
        self._nodes: dict[str, Node] = {}
        self._runners: dict[str, web.AppRunner] = {}
        self._changes: asyncio.Lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Serve on 127.0.0.1; node addresses follow as nodes become known."""
        await self._serve(LOCALHOST, self._ports.proxy_healthz, self._health_app(""))
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/proxyMode", self._proxy_mode)
        app.router.add_get("/configz", self._configz)
        app.router.add_get("/healthz", _ok)
        app.router.add_get("/flows", self._flows)
        await self._serve(LOCALHOST, self._ports.proxy_metrics, app)

    def set_node(self, key: str, before: Node | None, now: Node | None) -> None:
        """A Node was added, changed or deleted."""
        if now is None:
            self._nodes.pop(key, None)
        else:
            self._nodes[key] = now
        old, new = before.internal_ip if before else "", now.internal_ip if now else ""
        if old != new:
            task = asyncio.get_running_loop().create_task(self._move(key, old, new))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Close all servers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners.values()))
        self._runners.clear()

    async def _move(self, node: str, old: str, new: str) -> None:
        async with self._changes:
            runner = self._runners.pop(f"{old}:{self._ports.proxy_healthz}", None)
            if runner is not None:
                await runner.cleanup()
            if new:
                await self._serve(new, self._ports.proxy_healthz, self._health_app(node))

    async def _serve(self, address: str, port: int, app: web.Application) -> None:
        try:
            sock = self._plane.listen_tcp(address, port)
        except OSError as error:
            log.warning(
                "cannot serve kube-proxy's status at %s:%s: %s; free it, or move the cluster to another slot",
                address,
                port,
                error.strerror,
            )
            return
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_SECONDS)
        await runner.setup()
        await web.SockSite(runner, sock).start()
        self._runners[f"{address}:{port}"] = runner

    def _health_app(self, node: str) -> web.Application:
        """`node` "" stands for the host's own 127.0.0.1, which no node's end makes unhealthy."""

        async def healthz(request: web.Request) -> web.StreamResponse:
            eligible = self._eligible(node)
            code = 200 if eligible else 503
            self._proxy.counters.healthz.labels(str(code)).inc()
            return web.json_response({**_now(), "nodeEligible": eligible}, status=code)

        async def livez(request: web.Request) -> web.StreamResponse:
            self._proxy.counters.livez.labels("200").inc()
            return web.json_response(_now())

        app = web.Application()
        app.router.add_get("/healthz", healthz)
        app.router.add_get("/livez", livez)
        return app

    def _eligible(self, name: str) -> bool:
        """A node that is on its way out takes no new traffic from load balancers."""
        node = self._nodes.get(name)
        if node is None:
            return not name
        if node.metadata.deletion_timestamp is not None:
            return False
        return all(taint.key != _TO_BE_DELETED_TAINT for taint in node.spec.taints)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        body = generate_latest(self._proxy.counters.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _proxy_mode(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=self._proxy.configuration.mode)

    async def _configz(self, request: web.Request) -> web.Response:
        configuration = self._proxy.configuration
        masquerade = {"masqueradeAll": configuration.masquerade_all}
        in_force = {
            "mode": configuration.mode.value,
            "iptables": {**masquerade, "localhostNodePorts": configuration.localhost_node_ports},
            "ipvs": {
                **masquerade,
                "scheduler": configuration.scheduler,
                "schedulerFlags": configuration.scheduler_flags,
            },
            "nftables": masquerade,
        }
        return web.json_response({"kubeproxy.config.k8s.io": in_force})

    async def _flows(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await response.write(self._proxy.flows.lines())
        if request.query.get("follow") == "true":
            async for line in self._proxy.flows.follow():
                await response.write(line)
        return response


async def _ok(request: web.Request) -> web.StreamResponse:
    return web.Response(text="ok")


def _now() -> dict[str, str]:
    """Rules are in force as soon as they are known, so the last update is never stale."""
    now = timestamp(time.time())
    return {"lastUpdated": now, "currentTime": now}
