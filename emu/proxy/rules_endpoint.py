"""`/rules` of kube-proxy: what the real one would have programmed, as text.

`GET /rules?mode=M&node=N&service=NAMESPACE/NAME&part=TOOL&walk=true`, all of them optional. What names
nothing is answered with 400 or 404 and one sentence that names the remedy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from aiohttp import web

from emu.core.config import ProxyMode
from emu.proxy.modes.ipvs import RealServer
from emu.proxy.proxy import Proxy
from emu.proxy.rules import PARTS, rules_text
from emu.proxy.rules.view import View, real_servers_of, view_of
from emu.proxy.rules.walk import walk_table
from emu.proxy.tables import Address, NodeInfo

_FRONTENDS_PER_TURN = 500
_PARAMETERS = ("mode", "node", "service", "part", "walk")


class _QuestionError(Exception):
    """What was asked makes no sense (400) or names what is not there (404); the message is for the user."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _Question(NamedTuple):
    mode: ProxyMode
    part: str
    node: NodeInfo
    service: str
    walk: bool


def rules_handler(
    proxy: Proxy, service_cidrs: tuple[str, ...]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler of `/rules`. Text is made in a thread: connections do not wait for large clusters."""

    async def rules(request: web.Request) -> web.StreamResponse:
        try:
            question = _question(proxy, request.query)
            real_servers = await _real_servers(proxy, question)
            frontends = tuple(proxy.tables.frontends.values())
            configuration = proxy.configuration

            def answer() -> str:
                view = view_of(frontends, real_servers, configuration, question.node, service_cidrs)
                return _answer(question, view)

            return web.Response(text=await asyncio.to_thread(answer))
        except _QuestionError as error:
            return web.Response(text=f"{error}\n", status=error.status)

    return rules


async def _real_servers(proxy: Proxy, question: _Question) -> dict[Address, list[RealServer]]:
    """The counts of this moment, which only the ipvs mode has; connections go on in between."""
    found: dict[Address, list[RealServer]] = {}
    if question.mode is not ProxyMode.IPVS or proxy.configuration.mode is not ProxyMode.IPVS:
        return found
    current = proxy.tables.frontends
    addresses = tuple(current)
    for start in range(0, len(addresses), _FRONTENDS_PER_TURN):
        # Those of now: a plan that is made for one of before would stay in force.
        some = [current[a] for a in addresses[start : start + _FRONTENDS_PER_TURN] if a in current]
        found |= real_servers_of(some, proxy.planner, question.node, time.monotonic())
        await asyncio.sleep(0)
    return found


def _question(proxy: Proxy, query: Mapping[str, str]) -> _Question:
    """What is asked for. Raises _QuestionError."""
    for parameter in query:
        if parameter not in _PARAMETERS:
            raise _QuestionError(
                400, f'there is no parameter "{parameter}": take some of {", ".join(_PARAMETERS)}'
            )
    name = query.get("mode") or proxy.configuration.mode
    if name not in list(ProxyMode):
        raise _QuestionError(400, f'there is no mode "{name}": take one of {", ".join(ProxyMode)}')
    mode = ProxyMode(name)
    part = query.get("part", "")
    if part and part not in PARTS[mode]:
        raise _QuestionError(400, f'{mode} mode has no part "{part}": take one of {", ".join(PARTS[mode])}')
    walk = query.get("walk", "")
    if walk not in ("", "true", "false"):
        raise _QuestionError(400, f'walk is "true" or "false", not "{walk}"')
    if walk == "true" and (part or query.get("mode", "") not in ("", ProxyMode.IPTABLES)):
        raise _QuestionError(
            400, "only the rules of iptables mode are walked, and all of them: ask without mode and part"
        )
    service = query.get("service", "")
    if service:
        _check_name(service)
    return _Question(mode, part, _node(proxy, query.get("node", "")), service, walk == "true")


def _check_name(service: str) -> None:
    """Raises _QuestionError when it is not written as NAMESPACE/NAME."""
    whole, _, port = service.partition(":")
    if whole.count("/") != 1 or not all(whole.split("/")):
        likely = f"default/{whole}" if "/" not in whole and whole else "default/web"
        raise _QuestionError(400, f'"{service}" names no Service: write NAMESPACE/NAME, such as {likely}')
    if port:
        raise _QuestionError(400, f'"{service}" is one port of a Service: write {whole} for all its ports')


def _node(proxy: Proxy, name: str) -> NodeInfo:
    nodes = proxy.tables.node_order
    if not nodes:
        raise _QuestionError(
            404, "kube-proxy knows no node yet: wait until `emu status` says that all is Ready"
        )
    if not name:
        return nodes[0]
    for node in nodes:
        if node.name == name:
            return node
    raise _QuestionError(404, f'there is no node "{name}": `kubectl get nodes` lists those that are there')


def _answer(question: _Question, view: View) -> str:
    service = question.service
    if service and not any(port.service == service for port in view.ports):
        raise _QuestionError(
            404,
            f'there are no rules for a Service "{service}": `kubectl get services -A` lists those that are '
            "there, and the ones with a CLUSTER-IP have rules",
        )
    if question.walk:
        return walk_table(view, service)
    return rules_text(question.mode, view.of_service(service) if service else view, question.part)
