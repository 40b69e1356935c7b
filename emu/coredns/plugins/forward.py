"""forward: asks other servers. See forward.md."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from ipaddress import ip_address
from pathlib import Path

import msgspec

from emu.coredns import codec
from emu.coredns.chain import Answer, Plugin, Query, Reply
from emu.coredns.codec import Message
from emu.coredns.corefile import Directive, Line
from emu.coredns.environment import Environment, Facts
from emu.coredns.families import Family
from emu.coredns.metrics import DURATION_BUCKETS
from emu.coredns.presentation import parse_rcode
from emu.coredns.upstream import ERRORS, Upstream
from emu.coredns.values import natural, seconds

log = logging.getLogger(__name__)

READ_SECONDS = 2.0
TOTAL_SECONDS = 5.0
MAX_UPSTREAMS = 15
_PROXY = "forward"
"""The label `proxy_name` of metrics."""

DURATION = Family(
    "coredns_proxy_request_duration_seconds",
    "Histogram of the time each request took.",
    ("proxy_name", "to", "rcode"),
    "histogram",
    DURATION_BUCKETS,
)
CHECK_FAILURES = Family(
    "coredns_proxy_healthcheck_failures",
    "Counter of the number of failed healthchecks.",
    ("proxy_name", "to"),
)
REUSED = Family(
    "coredns_proxy_conn_cache_hits",
    "Counter of connection cache hits per upstream and protocol.",
    ("proxy_name", "to", "proto"),
)
OPENED = Family(
    "coredns_proxy_conn_cache_misses",
    "Counter of connection cache misses per upstream and protocol.",
    ("proxy_name", "to", "proto"),
)
BROKEN = Family(
    "coredns_forward_healthcheck_broken",
    "Counter of the number of complete failures of the healthchecks.",
    (),
)
REJECTS = Family(
    "coredns_forward_max_concurrent_rejects",
    "Counter of the number of queries rejected because the concurrent queries were at maximum.",
    (),
)


class Options(msgspec.Struct):
    """The directive's options."""

    excepted: tuple[bytes, ...] = ()
    max_concurrent: int = 0
    policy: str = "random"
    force_tcp: bool = False
    prefer_udp: bool = False
    expire: float = 10.0
    max_idle: int = 0
    max_fails: int = 2
    max_attempts: int = 0
    health_check: float = 0.5
    health_flags: int = codec.RD
    health_domain: bytes = b"\0"
    fail_fast: bool = False
    next: frozenset[int] = frozenset()
    """Response codes with which a query goes on to the next plugin."""
    failover: frozenset[int] = frozenset()
    """Response codes with which the next server is asked."""


class Forward(Plugin):
    """Forwards queries below one zone."""

    name = "forward"
    every_class = True
    opens = "classes"

    def __init__(self, zone: bytes, upstreams: list[Upstream], options: Options, facts: Facts) -> None:
        self._zone = zone
        self._upstreams = upstreams
        self._options = options
        self._addresses = facts.addresses
        self._families = facts.metrics.families
        self._running = 0
        self._turn = 0
        self._checks: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """End the health checks and the connections."""
        for task in list(self._checks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for upstream in self._upstreams:
            upstream.close()

    def answer(self, query: Query) -> Answer:
        """An upstream's reply, for names in the zone that are not excepted."""
        key = query.request.key
        options = self._options
        if not codec.is_below(key, self._zone) or codec.matching_zone(key, options.excepted) is not None:
            return None
        if options.max_concurrent and self._running >= options.max_concurrent:
            self._families.increase(REJECTS)
            return Reply(codec.REFUSED, plugin=self.name)
        return self._ask(query)

    def explain(self, query: Query) -> str:
        """Who is asked."""
        key = query.request.key
        if (
            not codec.is_below(key, self._zone)
            or codec.matching_zone(key, self._options.excepted) is not None
        ):
            return ""
        servers = ", ".join(map(str, self._upstreams))
        return f"outside the cluster: forwarded to {servers or 'nobody, since no server is known'}"

    async def _ask(self, query: Query) -> Reply | None:
        self._running += 1
        try:
            reply = await self._try_upstreams(query)
        finally:
            self._running -= 1
        return None if reply.rcode in self._options.next and self._has_next() else reply

    def _has_next(self) -> bool:
        """Whether a `forward` comes after this one, as `next` needs it."""
        plugins = self.chain.plugins if self.chain is not None else []
        return any(isinstance(plugin, Forward) for plugin in plugins[plugins.index(self) + 1 :])

    async def _try_upstreams(self, query: Query) -> Reply:
        options = self._options
        error: Exception = LookupError("no upstream server is known besides this one itself")
        refused: Reply | None = None
        deadline = time.monotonic() + TOTAL_SECONDS
        for upstream in self._order()[: options.max_attempts or None]:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            started = time.perf_counter()
            try:
                async with asyncio.timeout(min(READ_SECONDS, left)):
                    message = await self._exchange(upstream, query)
            except ERRORS as failure:
                error = OSError(f"{upstream}: {str(failure) or 'no answer in time'}")
                self._failed(upstream)
                continue
            took = time.perf_counter() - started
            rcode = codec.rcode_name(message.rcode)
            self._families.observe(DURATION, _PROXY, str(upstream), rcode, value=took)
            refused = _reply(message)
            if message.rcode not in options.failover:
                return refused
        return refused or Reply(codec.SERVFAIL, plugin=self.name, error=error)

    def _order(self) -> list[Upstream]:
        """The servers to try, in this order."""
        own = self._addresses()
        upstreams = [item for item in self._upstreams if (item.port, item.address in own) != (53, True)]
        if self._options.policy == "random":
            random.shuffle(upstreams)
        elif self._options.policy == "round_robin" and upstreams:
            self._turn = (self._turn + 1) % len(upstreams)
            upstreams = upstreams[self._turn :] + upstreams[: self._turn]
        limit = self._options.max_fails
        healthy = [item for item in upstreams if not limit or item.fails < limit]
        if healthy or not upstreams:
            return healthy
        # With all of them down, CoreDNS assumes that its checks are at fault, and asks one at random.
        self._families.increase(BROKEN)
        return [] if self._options.fail_fast else random.sample(upstreams, len(upstreams))

    async def _exchange(self, upstream: Upstream, query: Query) -> Message:
        options = self._options
        flags = query.request.flags & (codec.RD | codec.CD)
        tcp = options.force_tcp or (query.proto == "tcp" and not options.prefer_udp)
        message = await self._over(upstream, query, flags, tcp=tcp)
        if message.flags & codec.TC and not tcp and options.prefer_udp:
            return await self._over(upstream, query, flags, tcp=True)
        return message

    async def _over(self, upstream: Upstream, query: Query, flags: int, *, tcp: bool) -> Message:
        options = self._options
        before = upstream.reused, upstream.opened
        try:
            return await upstream.ask(
                query.request, tcp=tcp, flags=flags, expire=options.expire, most_idle=options.max_idle
            )
        finally:
            if upstream.reused > before[0]:
                self._families.increase(REUSED, _PROXY, str(upstream), "tcp")
            if upstream.opened > before[1]:
                self._families.increase(OPENED, _PROXY, str(upstream), "tcp")

    def _failed(self, upstream: Upstream) -> None:
        """Ask until the server answers again; any answer will do."""
        if upstream.checking or not self._options.max_fails:
            return
        upstream.checking = True
        task = asyncio.get_running_loop().create_task(self._check(upstream))
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _check(self, upstream: Upstream) -> None:
        options = self._options
        probe = codec.parse_request(codec.encode_query(0, options.health_domain, codec.NS))
        try:
            while True:
                try:
                    async with asyncio.timeout(READ_SECONDS):
                        await upstream.ask(probe, tcp=options.force_tcp, flags=options.health_flags)
                except ERRORS:
                    upstream.fails += 1
                    self._families.increase(CHECK_FAILURES, _PROXY, str(upstream))
                else:
                    upstream.fails = 0
                    return
                await asyncio.sleep(options.health_check)
        finally:
            upstream.checking = False


def _reply(message: Message) -> Reply:
    return Reply(
        message.rcode,
        message.answer,
        message.authority,
        message.additional,
        authoritative=bool(message.flags & codec.AA),
        recursion=bool(message.flags & codec.RA),
        truncated=bool(message.flags & codec.TC),
        plugin="forward",
    )


def read_nameservers(path: Path) -> list[Upstream]:
    """The `nameserver` lines of a resolv.conf(5)."""
    upstreams = []
    for line in path.read_text(errors="replace").splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                upstreams.append(Upstream(str(ip_address(words[1].partition("%")[0]))))
    return upstreams


def setup(directive: Directive, environment: Environment) -> Forward:
    """`forward FROM TO... { ... }`."""
    if len(directive.args) < 2:
        raise directive.error("it needs a zone and at least one server")
    zone = codec.to_wire(environment.zones_of(directive, directive.args[:1])[0])
    upstreams = [item for text in directive.args[1:] for item in _upstreams(directive, text)]
    if len(upstreams) > MAX_UPSTREAMS:
        raise directive.error(f"it takes at most {MAX_UPSTREAMS} servers")
    if not upstreams:
        log.warning(
            "%s:%d: forward knows no server: queries for names outside the cluster fail",
            directive.file,
            directive.line,
        )
    options = Options()
    for line in directive.block:
        if not (_exchange_option(directive, environment, line, options) or _health(directive, line, options)):
            raise directive.error(f'"{" ".join((line.name, *line.args))}" is not an option', line.number)
    return Forward(zone, upstreams, options, environment.facts)


def _upstreams(directive: Directive, text: str) -> list[Upstream]:
    text = text.removeprefix("dns://")
    if "://" in text:
        raise directive.error(f'"{text}": only plain DNS is spoken')
    with contextlib.suppress(ValueError):
        return [Upstream(str(ip_address(text.strip("[]"))))]
    host, _, port = text.rpartition(":")
    if port.isdecimal() and 0 < int(port) < 65536:
        with contextlib.suppress(ValueError):
            return [Upstream(str(ip_address(host.strip("[]"))), int(port))]
    path = Path(text)
    if path.is_absolute():
        # A machine without resolv.conf has a cluster all the same, and only lacks names outside it.
        return read_nameservers(path) if path.exists() else []
    raise directive.error(f'"{text}" is neither an address nor a file')


def _exchange_option(directive: Directive, environment: Environment, line: Line, options: Options) -> bool:
    """Take up an option of how to ask; False where it is none."""
    match line.name, line.args:
        case "except", (_, *_):
            options.excepted = tuple(environment.wire_zones(directive, line.args))
        case "max_concurrent", (text,):
            options.max_concurrent = natural(directive, text, line.number)
        case "policy", ("random" | "round_robin" | "sequential" as policy,):
            options.policy = policy
        case "force_tcp", ():
            options.force_tcp = True
        case "prefer_udp", ():
            options.prefer_udp = True
        case "expire", (text,):
            options.expire = seconds(directive, text, line.number)
        case "max_idle_conns", (text,):
            options.max_idle = natural(directive, text, line.number)
        case "max_connect_attempts", (text,):
            options.max_attempts = natural(directive, text, line.number)
        case "tls" | "tls_servername" | "doh_method", _:
            raise directive.error("servers are asked over plain DNS only, not over TLS", line.number)
        case _:
            return False
    return True


def _health(directive: Directive, line: Line, options: Options) -> bool:
    """Take up an option of what counts as an answer; False where it is none."""
    match line.name, line.args:
        case "max_fails", (text,):
            options.max_fails = natural(directive, text, line.number)
        case "health_check", (text, *words):
            options.health_check = seconds(directive, text, line.number)
            _health_words(directive, line, words, options)
        case "failfast_all_unhealthy_upstreams", ():
            options.fail_fast = True
        case "next", (_, *_):
            options.next = _rcodes(directive, line)
        case "failover", (_, *_):
            options.failover = _rcodes(directive, line)
            if codec.NOERROR in options.failover:
                raise directive.error("failover cannot be on NOERROR", line.number)
        case _:
            return False
    return True


def _health_words(directive: Directive, line: Line, words: list[str], options: Options) -> None:
    while words:
        match words:
            case ["no_rec", *words]:
                options.health_flags = 0
            case ["domain", name, *words]:
                try:
                    options.health_domain = codec.to_wire(name)
                except codec.CodecError as error:
                    raise directive.error(f'"{name}": {error}', line.number) from None
            case _:
                raise directive.error(f'"{words[0]}" is neither no_rec nor domain', line.number)


def _rcodes(directive: Directive, line: Line) -> frozenset[int]:
    codes = [parse_rcode(text) for text in line.args]
    if None in codes:
        raise directive.error(f'"{" ".join(line.args)}" are not response codes', line.number)
    return frozenset(code for code in codes if code is not None)
