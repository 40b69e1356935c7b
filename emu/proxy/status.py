"""kube-proxy's own endpoints: health on every node's address; metrics, mode, rules and flows on 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import Any

from aiohttp import web

from emu.core.config import Ports
from emu.core.objects import Node
from emu.planes.base import Plane
from emu.proxy.configuration import ProxyConfiguration, section_of
from emu.proxy.exposition import CONTENT_TYPE, pieces
from emu.proxy.http_ports import At, HttpPorts, local_address
from emu.proxy.proxy import Proxy
from emu.proxy.rule_tally import RuleTally
from emu.proxy.rules_endpoint import rules_handler
from emu.proxy.sync_health import Answer, eligible, healthz, livez
from emu.proxy.tables import LOCALHOST

log = logging.getLogger(__name__)

_JSON = {"Content-Type": "application/json"}
_TEXT = {"Content-Type": "text/plain; charset=utf-8"}
_NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}


class Status:
    """The HTTP servers of the proxy. Needs a running loop."""

    def __init__(self, plane: Plane, proxy: Proxy, ports: Ports, service_cidrs: tuple[str, ...] = ()) -> None:
        self._plane = plane
        self._proxy = proxy
        self._ports = ports
        self._service_cidrs = service_cidrs
        self._nodes: dict[str, dict[str, Node]] = {}
        """By address and name: a node may get the address of one that is still to be deleted."""
        self._health = HttpPorts(plane, web.Server(self._answer_probe, access_log=None), _unbound)
        self._exit = contextlib.AsyncExitStack()
        self._rules = RuleTally(proxy.tables, lambda: proxy.configuration)
        proxy.subscribe(self._rules.changed)
        proxy.counters.iptables_rules = self._rules.counts

    async def start(self) -> None:
        """Serve on 127.0.0.1; node addresses follow as nodes become known."""
        self._health.open([(LOCALHOST, self._ports.proxy_healthz)])
        self._exit.push_async_callback(self._health.stop)
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/proxyMode", self._proxy_mode)
        app.router.add_get("/configz", self._configz)
        app.router.add_get("/healthz", _ok)
        app.router.add_get("/flows", self._flows)
        app.router.add_get("/rules", rules_handler(self._proxy, self._service_cidrs))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._exit.push_async_callback(runner.cleanup)
        assert runner.server is not None
        metrics = HttpPorts(self._plane, runner.server, _unbound)
        metrics.open([(LOCALHOST, self._ports.proxy_metrics)])
        self._exit.push_async_callback(metrics.stop)

    def set_node(self, key: str, before: Node | None, now: Node | None) -> None:
        """A Node was added, changed or deleted."""
        old, new = before.internal_ip if before else "", now.internal_ip if now else ""
        if now is not None and new:
            if new not in self._nodes:
                self._nodes[new] = {}
                self._health.open([(new, self._ports.proxy_healthz)])
            self._nodes[new][key] = now
        if old and old != new:
            del self._nodes[old][key]
            if not self._nodes[old]:
                del self._nodes[old]
                self._health.close([(old, self._ports.proxy_healthz)])

    async def stop(self) -> None:
        """Close all servers."""
        await self._exit.aclose()

    async def _answer_probe(self, request: web.BaseRequest) -> web.StreamResponse:
        health, counters, now = self._proxy.health, self._proxy.counters, time.time()
        timeout = self._proxy.configuration.health_timeout
        answer: Answer
        if request.path == "/healthz":
            # No node's end makes the host's own 127.0.0.1 unhealthy.
            nodes = self._nodes.get(local_address(request)[0])
            answer = healthz(health, now, timeout, not nodes or any(map(eligible, nodes.values())))
            counters.healthz[answer.status] += 1
        elif request.path == "/livez":
            answer = livez(health, now, timeout)
            counters.livez[answer.status] += 1
        else:
            return web.Response(status=404, text="404 page not found\n")
        body = json.dumps(answer.document, separators=(",", ":")).encode()
        return web.Response(status=answer.status, body=body, headers={**_JSON, **_NO_SNIFFING})

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
        await response.prepare(request)
        for _ in self._rules.catch_up():
            await asyncio.sleep(0)
        for piece in pieces(self._proxy.counters.families(self._proxy.configuration.mode)):
            await response.write(piece)
            await asyncio.sleep(0)
        return response

    async def _proxy_mode(self, request: web.Request) -> web.StreamResponse:
        body = self._proxy.configuration.mode.value.encode()
        return web.Response(body=body, headers={**_TEXT, **_NO_SNIFFING})

    async def _configz(self, request: web.Request) -> web.StreamResponse:
        document = {"kubeproxy.config.k8s.io": in_force(self._proxy.configuration)}
        return web.Response(body=json.dumps(document).encode(), headers={**_JSON, **_NO_SNIFFING})

    async def _flows(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await response.write(self._proxy.flows.lines())
        if request.query.get("follow") == "true":
            async for line in self._proxy.flows.follow():
                await response.write(line)
        return response


def in_force(configuration: ProxyConfiguration) -> dict[str, Any]:
    """A KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) of the fields that count here."""
    masquerade = {"masqueradeAll": configuration.masquerade_all}
    sections: dict[str, dict[str, Any]] = {
        "iptables": {**masquerade, "localhostNodePorts": configuration.localhost_node_ports},
        "ipvs": {
            **masquerade,
            "scheduler": configuration.scheduler,
            "schedulerFlags": configuration.scheduler_flags,
        },
        "nftables": {**masquerade},
    }
    sections[section_of(configuration.mode)]["syncPeriod"] = f"{configuration.sync_period:g}s"
    return {
        "mode": configuration.mode.value,
        **sections,
        "nodePortAddresses": configuration.node_port_addresses,
        "udpIdleTimeout": f"{configuration.udp_idle_seconds:g}s",
    }


async def _ok(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"ok", headers={**_TEXT, **_NO_SNIFFING})


def _unbound(at: At, error: OSError) -> None:
    log.warning(
        "cannot serve kube-proxy's status at %s:%s: %s; free it, or move the cluster to another slot",
        *at,
        error.strerror,
    )
