"""forward: asks other servers. See forward.md."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import time
from ipaddress import ip_address
from pathlib import Path

import msgspec

from emu.coredns import codec
from emu.coredns.chain import Answer, Plugin, Query, Reply
from emu.coredns.codec import CodecError, Message, Request
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment, Facts
from emu.coredns.values import natural, seconds

log = logging.getLogger(__name__)

READ_SECONDS = 2.0
TOTAL_SECONDS = 5.0
_MAX_DATAGRAM = 65535


class Upstream(msgspec.Struct):
    """A server to ask, and whether it has answered lately."""

    address: str
    port: int = 53
    fails: int = 0
    checking: bool = False


class Options(msgspec.Struct):
    """The directive's options."""

    excepted: tuple[bytes, ...] = ()
    max_concurrent: int = 0
    policy: str = "random"
    force_tcp: bool = False
    prefer_udp: bool = False
    max_fails: int = 2
    health_check: float = 0.5


class Forward(Plugin):
    """Forwards queries below one zone."""

    name = "forward"
    every_class = True
    opens = "classes"

    def __init__(self, zone: bytes, upstreams: list[Upstream], options: Options, facts: Facts) -> None:
        self._zone = zone
        self._upstreams = upstreams
        self._options = options
        self._facts = facts
        self._running = 0
        self._turn = 0
        self._checks: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """End the health checks."""
        for task in list(self._checks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def answer(self, query: Query) -> Answer:
        """An upstream's reply, for names in the zone that are not excepted."""
        key = query.request.key
        if not codec.is_below(key, self._zone) or any(
            codec.is_below(key, zone) for zone in self._options.excepted
        ):
            return None
        if self._options.max_concurrent and self._running >= self._options.max_concurrent:
            return Reply(codec.REFUSED, plugin=self.name)
        return self._ask(query)

    async def _ask(self, query: Query) -> Reply:
        self._running += 1
        try:
            return await self._try_upstreams(query)
        finally:
            self._running -= 1

    async def _try_upstreams(self, query: Query) -> Reply:
        own = self._facts.addresses()
        usable = [item for item in self._order() if (item.port, item.address in own) != (53, True)]
        error: Exception = LookupError("no upstream server is known besides this one itself")
        deadline = time.monotonic() + TOTAL_SECONDS
        for upstream in usable:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                async with asyncio.timeout(min(READ_SECONDS, left)):
                    message = await self._exchange(upstream, query.request, query.proto)
            except (OSError, TimeoutError, CodecError, EOFError) as failure:
                error = OSError(f"{upstream.address}:{upstream.port}: {str(failure) or 'no answer in time'}")
                self._failed(upstream)
                continue
            return _reply(message)
        return Reply(codec.SERVFAIL, plugin=self.name, error=error)

    def _order(self) -> list[Upstream]:
        upstreams = list(self._upstreams)
        if self._options.policy == "random":
            random.shuffle(upstreams)
        elif self._options.policy == "round_robin" and upstreams:
            self._turn = (self._turn + 1) % len(upstreams)
            upstreams = upstreams[self._turn :] + upstreams[: self._turn]
        limit = self._options.max_fails
        healthy = [item for item in upstreams if not limit or item.fails < limit]
        # With all of them down, CoreDNS assumes that its checks are at fault, and asks one at random.
        return healthy or upstreams

    async def _exchange(self, upstream: Upstream, request: Request, proto: str) -> Message:
        tcp = self._options.force_tcp or (proto == "tcp" and not self._options.prefer_udp)
        ident = random.getrandbits(16)
        flags = request.flags & (codec.RD | codec.CD)
        packet = codec.encode_query(
            ident, request.name, request.type, qclass=request.cls, flags=flags, edns=request.edns
        )
        return await (_over_tcp if tcp else _over_udp)(upstream, packet, ident, request)

    def _failed(self, upstream: Upstream) -> None:
        """Ask `. NS` until the server answers again; any answer will do."""
        if upstream.checking or not self._options.max_fails:
            return
        upstream.checking = True
        task = asyncio.get_running_loop().create_task(self._check(upstream))
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _check(self, upstream: Upstream) -> None:
        probe = codec.parse_request(codec.encode_query(0, b"\0", codec.NS))
        try:
            while True:
                try:
                    async with asyncio.timeout(READ_SECONDS):
                        await self._exchange(upstream, probe, "udp")
                except (OSError, TimeoutError, CodecError, EOFError):
                    upstream.fails += 1
                else:
                    upstream.fails = 0
                    return
                await asyncio.sleep(self._options.health_check)
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


async def _over_udp(upstream: Upstream, packet: bytes, ident: int, request: Request) -> Message:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in upstream.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((upstream.address, upstream.port))
        await loop.sock_sendall(sock, packet)
        while True:
            message = codec.parse_message(await loop.sock_recv(sock, _MAX_DATAGRAM))
            if _matches(message, ident, request):
                return message


async def _over_tcp(upstream: Upstream, packet: bytes, ident: int, request: Request) -> Message:
    reader, writer = await asyncio.open_connection(upstream.address, upstream.port)
    try:
        writer.write(len(packet).to_bytes(2) + packet)
        while True:
            length = int.from_bytes(await reader.readexactly(2))
            message = codec.parse_message(await reader.readexactly(length))
            if _matches(message, ident, request):
                return message
    finally:
        writer.close()


def _matches(message: Message, ident: int, request: Request) -> bool:
    """A reply with another id or question is somebody else's, or forged."""
    return (
        bool(message.flags & codec.QR)
        and message.id == ident
        and message.key == request.key
        and message.type == request.type
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
    if not upstreams:
        log.warning(
            "%s:%d: forward knows no server: queries for names outside the cluster fail",
            directive.file,
            directive.line,
        )
    return Forward(zone, upstreams, _options(directive, environment), environment.facts)


def _upstreams(directive: Directive, text: str) -> list[Upstream]:
    text = text.removeprefix("dns://")
    if "://" in text:
        raise directive.error(f'"{text}": only plain DNS is spoken')
    with contextlib.suppress(ValueError):
        return [Upstream(str(ip_address(text.strip("[]"))))]
    host, _, port = text.rpartition(":")
    if port.isdigit() and 0 < int(port) < 65536:
        with contextlib.suppress(ValueError):
            return [Upstream(str(ip_address(host.strip("[]"))), int(port))]
    path = Path(text)
    if path.is_absolute():
        # A machine without resolv.conf has a cluster all the same, and only lacks names outside it.
        return read_nameservers(path) if path.exists() else []
    raise directive.error(f'"{text}" is neither an address nor a file')


def _options(directive: Directive, environment: Environment) -> Options:
    options = Options()
    for line in directive.block:
        match line.name, line.args:
            case "except", (_, *_):
                names = environment.zones_of(directive, line.args)
                options.excepted = tuple(codec.to_wire(name) for name in names)
            case "max_concurrent", (text,):
                options.max_concurrent = natural(directive, text, line.number)
            case "policy", ("random" | "round_robin" | "sequential" as policy,):
                options.policy = policy
            case "force_tcp", ():
                options.force_tcp = True
            case "prefer_udp", ():
                options.prefer_udp = True
            case "max_fails", (text,):
                options.max_fails = natural(directive, text, line.number)
            case "health_check", (text, *_):
                options.health_check = seconds(directive, text, line.number)
            case _:
                raise directive.error(f'"{" ".join((line.name, *line.args))}" is not an option', line.number)
    return options
