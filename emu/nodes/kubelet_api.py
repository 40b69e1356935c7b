"""The node's HTTP API on its own address: health, pods, flow records, metrics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web

from emu.nodes.host import Host
from emu.nodes.pods import Pods

_JSON_LINES = "application/x-ndjson"


@contextlib.asynccontextmanager
async def serve_kubelet_api(host: Host, pods: Pods) -> AsyncIterator[None]:
    """Serve as long as the block runs. Raises OSError when the port cannot be bound."""
    sock = host.plane.listen_tcp(host.address, host.config.fixed_ports.kubelet)
    api = _Api(host, pods)
    app = web.Application()
    app.router.add_get("/healthz", api.healthz)
    app.router.add_get("/pods", api.list_pods)
    app.router.add_get("/flows", api.flows)
    app.router.add_get("/metrics", api.metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    try:
        await runner.setup()
        await web.SockSite(runner, sock).start()
        yield
    finally:
        api.stopping.set()
        await runner.cleanup()
        sock.close()


class _Api:
    def __init__(self, host: Host, pods: Pods) -> None:
        self._host = host
        self._pods = pods
        self.stopping = asyncio.Event()

    async def healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def list_pods(self, request: web.Request) -> web.Response:
        items = [
            {"apiVersion": "v1", "kind": "Pod", **msgspec.to_builtins(pod)} for pod in self._pods.views()
        ]
        document = {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}
        return web.Response(body=msgspec.json.encode(document), content_type="application/json")

    async def flows(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("follow") != "true":
            return web.Response(body=self._host.flows.lines(), content_type=_JSON_LINES)
        response = web.StreamResponse(headers={"Content-Type": _JSON_LINES})
        await response.prepare(request)
        await response.write(self._host.flows.lines())
        stopping = asyncio.ensure_future(self.stopping.wait())
        follow = asyncio.ensure_future(self._follow(response))
        try:
            await asyncio.wait((stopping, follow), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            follow.cancel()
            await asyncio.gather(stopping, follow, return_exceptions=True)
        return response

    async def _follow(self, response: web.StreamResponse) -> None:
        async with contextlib.aclosing(self._host.flows.follow()) as lines:
            async for line in lines:
                await response.write(line)

    async def metrics(self, request: web.Request) -> web.Response:
        from emu.nodes.metrics import exposition  # prometheus_client is loaded by those who are asked

        return web.Response(body=exposition(self._host, len(self._pods)), content_type="text/plain")
