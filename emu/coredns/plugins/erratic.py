"""erratic: faults for tests and lessons. See erratic.md."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import msgspec

from emu.coredns import codec
from emu.coredns.chain import Answer, Dropped, Plugin, Query, Reply
from emu.coredns.clients import Clients
from emu.coredns.codec import AAAA, SERVFAIL, A
from emu.coredns.corefile import Directive, Line
from emu.coredns.environment import Environment
from emu.coredns.values import natural, seconds

log = logging.getLogger(__name__)

HOLD_SECONDS = 0.005
"""How long an A or AAAA query of a new flow waits for its twin: what comes after was not sent in parallel."""
FLOW_SECONDS = 30.0
"""How long conntrack remembers a UDP flow (nf_conntrack_udp_timeout)."""
_MAX_FLOWS = 4096
_DEFAULT_AMOUNT = 2
_DEFAULT_DELAY = 0.1

Flow = tuple[tuple[str, int], tuple[str, int]]
"""The client's address and port, and the server's."""


class Faults(msgspec.Struct):
    """One of so many queries, or of so many pairs, suffers each fault; 0 for none."""

    drop: int = 0
    truncate: int = 0
    delay: int = 0
    seconds: float = _DEFAULT_DELAY
    servfail: int = 0
    drop_parallel: int = 0


class Erratic(Plugin):
    """Does wrong to queries for some names, or of some pods."""

    name = "erratic"

    def __init__(
        self, zones: list[bytes], pods: frozenset[tuple[str, str]], faults: Faults, clients: Clients
    ) -> None:
        """`pods` are (namespace, name), or (namespace, "*"); none at all means everybody."""
        self._zones = zones
        self._pods = pods
        self._faults = faults
        self._clients = clients
        self._queries = 0
        self._pairs = 0
        self._waiting: dict[Flow, tuple[bytes, int]] = {}
        self._known: dict[Flow, float] = {}

    def answer(self, query: Query) -> Answer:
        """Let the query pass, or not."""
        if not self._concerns(query):
            return None
        faults = self._faults
        number = self._queries
        self._queries += 1
        if _hits(faults.drop, number):
            return self._drop(query)
        if _hits(faults.servfail, number):
            self._log("answers SERVFAIL to", query)
            return Reply(SERVFAIL, plugin=self.name)
        if _hits(faults.truncate, number) and query.proto == "udp":
            self._log("truncates the reply to", query)
            return Reply(authoritative=True, truncated=True, plugin=self.name)
        seconds = faults.seconds if _hits(faults.delay, number) else 0.0
        if faults.drop_parallel and query.proto == "udp" and query.request.type in (A, AAAA):
            return self._race(query, seconds)
        return self._wait(query, seconds) if seconds else None

    def finish(self, query: Query, reply: Reply) -> Reply:
        """Nothing that is kept may pass by here: the next query may be one that suffers."""
        if any(codec.is_below(query.request.key, zone) for zone in self._zones):
            reply.constant = False
        return reply

    def explain(self, query: Query) -> str:
        """Which faults a query may meet."""
        if not self._concerns(query):
            return ""
        faults = self._faults
        words = [
            f"{what} {_share(amount)}"
            for what, amount in (
                ("drops", faults.drop),
                ("truncates", faults.truncate),
                (f"delays by {faults.seconds:g} s", faults.delay),
                ("answers SERVFAIL to", faults.servfail),
            )
            if amount
        ]
        if faults.drop_parallel:
            words.append(f"drops the second of a parallel pair, {_share(faults.drop_parallel)}")
        return f"the plugin erratic meets these queries: it {', '.join(words)}" if words else ""

    def _concerns(self, query: Query) -> bool:
        if not any(codec.is_below(query.request.key, zone) for zone in self._zones):
            return False
        if not self._pods:
            return True
        pod = self._clients.pod_at(query.client[0])
        return pod is not None and not self._pods.isdisjoint((pod, (pod.namespace, "*")))

    def _drop(self, query: Query) -> Coroutine[Any, Any, Reply | None]:
        self._log("drops", query)

        async def drop() -> Reply | None:
            raise Dropped

        return drop()

    async def _wait(self, query: Query, seconds: float) -> Reply | None:
        self._log(f"delays by {seconds:g} s", query)
        await asyncio.sleep(seconds)
        return None

    def _race(self, query: Query, seconds: float) -> Answer:
        """The race of two datagrams of a new flow: conntrack drops the one that comes second.

        They race only while the first has not been answered: a client that waits for that loses none. Once
        the flow is known there is no race any more.
        """
        now = asyncio.get_running_loop().time()
        flow = (query.client, query.local)
        request = query.request
        twin = self._waiting.get(flow)
        if twin is not None:
            if twin[0] == request.key and twin[1] != request.type:
                self._pairs += 1
                if _hits(self._faults.drop_parallel, self._pairs - 1):
                    return self._drop(query)
        elif now - self._known.get(flow, -FLOW_SECONDS) >= FLOW_SECONDS:
            self._remember(flow, now)
            self._waiting[flow] = (request.key, request.type)
            return self._hold(query, flow, seconds)
        return self._wait(query, seconds) if seconds else None

    def _remember(self, flow: Flow, now: float) -> None:
        self._known.pop(flow, None)
        if len(self._known) >= _MAX_FLOWS:
            del self._known[next(iter(self._known))]
        self._known[flow] = now

    async def _hold(self, query: Query, flow: Flow, seconds: float) -> Reply | None:
        try:
            await asyncio.sleep(HOLD_SECONDS)
        finally:
            del self._waiting[flow]
        return await self._wait(query, seconds) if seconds else None

    def _log(self, what: str, query: Query) -> None:
        request = query.request
        pod = self._clients.pod_at(query.client[0])
        log.info(
            "%s %s %s from %s",
            what,
            codec.type_name(request.type),
            codec.to_text(request.name),
            pod or f"{query.client[0]}:{query.client[1]}",
        )


def _share(amount: int) -> str:
    return "every one" if amount == 1 else f"1 of {amount}"


def _hits(amount: int, number: int) -> bool:
    """Whether the query of this number, counted from 0, is the one of `amount`."""
    return amount > 0 and number % amount == 0


def setup(directive: Directive, environment: Environment) -> Erratic:
    """`erratic [NAMES...] { pods ...; drop [AMOUNT]; ... }`."""
    faults = Faults()
    pods: set[tuple[str, str]] = set()
    named = False
    for line in directive.block:
        if line.name == "pods" and line.args:
            pods.update(_pod(directive, line, text) for text in line.args)
        else:
            _fault(directive, line, faults)
            named = True
    if not named:
        faults.drop = _DEFAULT_AMOUNT
    if pods:
        environment.facts.clients.want()
    zones = [codec.to_wire(zone) for zone in environment.zones_of(directive, directive.args)]
    return Erratic(zones, frozenset(pods), faults, environment.facts.clients)


def _pod(directive: Directive, line: Line, text: str) -> tuple[str, str]:
    namespace, _, name = text.partition("/")
    if not namespace or not name or "/" in name or "*" in namespace or ("*" in name and name != "*"):
        raise directive.error(
            f'"{text}" is no pod, such as default/web-0, nor all of a namespace, as default/*', line.number
        )
    return namespace, name


def _fault(directive: Directive, line: Line, faults: Faults) -> None:
    match line.name, line.args:
        case "drop" | "truncate" | "servfail" as fault, () | (_,):
            amount = natural(directive, line.args[0], line.number) if line.args else _DEFAULT_AMOUNT
            setattr(faults, fault, amount)
        case "delay", () | (_,) | (_, _):
            faults.delay = natural(directive, line.args[0], line.number) if line.args else _DEFAULT_AMOUNT
            if len(line.args) > 1:
                faults.seconds = seconds(directive, line.args[1], line.number)
        case "drop_parallel", () | (_,):
            faults.drop_parallel = natural(directive, line.args[0], line.number) if line.args else 1
        case _:
            raise directive.error(f'"{" ".join((line.name, *line.args))}" is not an option', line.number)
