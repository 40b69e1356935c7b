"""cache: keeps replies of the plugins below. See cache.md."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable

import msgspec

from emu.coredns import codec
from emu.coredns.chain import Answer, Plugin, Query, Reply, Section
from emu.coredns.codec import NOERROR, NXDOMAIN, SERVFAIL, SOA
from emu.coredns.corefile import Directive, Line
from emu.coredns.environment import Environment
from emu.coredns.families import Families, Family
from emu.coredns.values import natural, seconds

Key = tuple[bytes, int, int, bool, bool]
CAPACITY = 9984
SUCCESS, DENIAL = "success", "denial"
_MAX_SUCCESS, _MAX_DENIAL, _MIN_TTL = 3600, 1800, 5
_MAX_SERVFAIL = 300

_LABELS = ("server", "zones", "view")
_TYPED = ("server", "type", "zones", "view")
ENTRIES = Family("coredns_cache_entries", "The number of elements in the cache.", _TYPED, "gauge")
REQUESTS = Family("coredns_cache_requests", "The count of cache requests.", _LABELS)
HITS = Family("coredns_cache_hits", "The count of cache hits.", _TYPED)
MISSES = Family(
    "coredns_cache_misses",
    "The count of cache misses. Deprecated, derive misses from cache hits/requests counters.",
    _LABELS,
)
PREFETCHES = Family(
    "coredns_cache_prefetch", "The number of times the cache has prefetched a cached item.", _LABELS
)
STALE = Family(
    "coredns_cache_served_stale", "The number of requests served from stale cache entries.", _LABELS
)
EVICTIONS = Family("coredns_cache_evictions", "The count of cache evictions.", _TYPED)


class Limits(msgspec.Struct):
    """Of one of the two caches: how many replies, and for how many seconds."""

    capacity: int
    ttl: int
    min_ttl: int = _MIN_TTL
    disabled: tuple[bytes, ...] = ()


class Options(msgspec.Struct):
    """The directive's options. Times in seconds."""

    success: Limits
    denial: Limits
    servfail: int = 5
    keep_ttl: bool = False
    prefetch: int = 0
    """Hits that make a reply worth refreshing before its time; 0 is never."""
    prefetch_gap: float = 60
    prefetch_percent: int = 10
    stale: float = 0
    """How long after its time a reply may be served."""
    verify: bool = False
    """Whether a stale reply is served only where there is no new one."""


class Item(msgspec.Struct):
    """A reply that is kept: for how many seconds, since when, and how often it was asked for."""

    reply: Reply
    ttl: int
    stored: float
    hits: int = 0
    last: float = 0.0


class Cache(Plugin):
    """Two bounded caches, of successes and of denials."""

    name = "cache"
    every_class = True

    def __init__(
        self,
        zones: list[bytes],
        options: Options,
        families: Families,
        server: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._zones = zones
        self._options = options
        self._families = families
        self._labels = (server, ",".join(codec.to_text(zone) for zone in zones), "")
        self._clock = clock
        self._kept: dict[str, dict[Key, Item]] = {SUCCESS: {}, DENIAL: {}}
        self._refreshing: dict[Key, asyncio.Task[None]] = {}

    async def stop(self) -> None:
        """Refresh nothing any more."""
        for task in list(self._refreshing.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def answer(self, query: Query) -> Answer:
        """A kept reply with its TTLs counted down, or one that is stale where that is allowed."""
        if codec.matching_zone(query.request.key, self._zones) is None:
            return None
        self._families.increase(REQUESTS, *self._labels)
        key = _key(query)
        now = self._clock()
        for kind, kept in self._kept.items():
            item = kept.get(key)
            if item is None:
                continue
            left = item.ttl - int(now - item.stored)
            if left > 0:
                self._families.increase(HITS, *self._typed(kind))
                if self._is_popular(item, left, now) and self._refresh(key, query):
                    self._families.increase(PREFETCHES, *self._labels)
                return self._served(item.reply, left)
            if now - item.stored - item.ttl < self._options.stale:
                return self._stale(key, query, item, kind)
            self._drop(kind, key)
        self._families.increase(MISSES, *self._labels)
        return None

    def finish(self, query: Query, reply: Reply) -> Reply:
        """Keep the reply, with its TTLs brought within the limits."""
        return self._store(_key(query), query, reply)

    def _store(self, key: Key, query: Query, reply: Reply) -> Reply:
        kind = SUCCESS if reply.rcode == NOERROR and reply.answer else DENIAL
        limits = self._options.success if kind == SUCCESS else self._options.denial
        if not self._is_kept(query.request.key, reply, kind, limits):
            return reply
        if reply.rcode == SERVFAIL:
            ttl = self._options.servfail
        else:
            ttl = max(limits.min_ttl, min(_minimal_ttl(reply, kind), limits.ttl))
        if ttl <= 0:
            return reply
        self._drop(DENIAL if kind == SUCCESS else SUCCESS, key)
        kept = self._kept[kind]
        old = kept.pop(key, None)
        while len(kept) >= max(1, limits.capacity):
            del kept[next(iter(kept))]
            self._families.increase(EVICTIONS, *self._typed(kind))
        now = self._clock()
        hits, last = (old.hits, old.last) if old is not None else (0, now)
        kept[key] = Item(reply, ttl, now, hits, last)
        self._families.set(ENTRIES, *self._typed(kind), value=len(kept))
        return reply if self._options.keep_ttl else _with_ttl(reply, ttl)

    def _is_kept(self, name: bytes, reply: Reply, kind: str, limits: Limits) -> bool:
        if reply.constant or reply.personal or reply.truncated or reply.error is not None:
            return False
        if reply.rcode not in (NOERROR, NXDOMAIN, SERVFAIL):
            return False
        if codec.matching_zone(name, self._zones) is None or codec.matching_zone(name, limits.disabled):
            return False
        has_soa = any(item.type == SOA for item in reply.authority)
        return kind == SUCCESS or reply.rcode == SERVFAIL or has_soa  # RFC 2308, section 5

    def _served(self, reply: Reply, left: int) -> Reply:
        # AA as in CoreDNS: some clients throw away what is not authoritative.
        shown = reply if self._options.keep_ttl and left else _with_ttl(reply, left)
        return msgspec.structs.replace(shown, authoritative=True, plugin=self.name)

    def _stale(self, key: Key, query: Query, item: Item, kind: str) -> Answer:
        stale = self._served(item.reply, 0)
        if not self._options.verify:
            self._refresh(key, query)
            self._served_stale(kind)
            return stale
        return self._verified(key, query, stale, kind)

    async def _verified(self, key: Key, query: Query, stale: Reply, kind: str) -> Reply:
        found = self.below(query)
        reply = found if isinstance(found, Reply) else await found
        if reply.rcode == SERVFAIL:
            self._served_stale(kind)
            return stale
        return self._store(key, query, reply)

    def _served_stale(self, kind: str) -> None:
        self._families.increase(HITS, *self._typed(kind))
        self._families.increase(STALE, *self._labels)

    def _is_popular(self, item: Item, left: int, now: float) -> bool:
        options = self._options
        if not options.prefetch:
            return False
        item.hits = item.hits + 1 if now - item.last < options.prefetch_gap else 1
        item.last = now
        threshold = math.ceil(item.ttl * options.prefetch_percent / 100)
        return item.hits >= options.prefetch and left <= threshold

    def _refresh(self, key: Key, query: Query) -> bool:
        """Ask the plugins below in the background, once at a time; a failure leaves what is kept."""
        if key in self._refreshing:
            return False

        async def refresh() -> None:
            found = self.below(msgspec.structs.replace(query, observers=()))
            reply = found if isinstance(found, Reply) else await found
            if reply.rcode != SERVFAIL:
                self._store(key, query, reply)

        task = asyncio.get_running_loop().create_task(refresh())
        self._refreshing[key] = task
        task.add_done_callback(lambda _: self._refreshing.pop(key, None))
        return True

    def _drop(self, kind: str, key: Key) -> None:
        if self._kept[kind].pop(key, None) is not None:
            self._families.set(ENTRIES, *self._typed(kind), value=len(self._kept[kind]))

    def _typed(self, kind: str) -> tuple[str, ...]:
        server, zones, view = self._labels
        return server, kind, zones, view


def _key(query: Query) -> Key:
    request = query.request
    return (
        request.key,
        request.type,
        request.cls,
        request.edns is not None and request.edns.do,
        bool(request.flags & codec.CD),
    )


def _minimal_ttl(reply: Reply, kind: str) -> int:
    """The smallest TTL; of a denial also the SOA's minimum (RFC 2308, section 5)."""
    ttls = [record.ttl for section in (reply.answer, reply.authority, reply.additional) for record in section]
    if kind == DENIAL:
        ttls += [int.from_bytes(record.rdata[-4:]) for record in reply.authority if record.type == SOA]
    return min(ttls, default=_MIN_TTL)


def _with_ttl(reply: Reply, ttl: int) -> Reply:
    def section(records: Section) -> Section:
        return [record._replace(ttl=ttl) for record in records]

    return msgspec.structs.replace(
        reply,
        answer=section(reply.answer),
        authority=section(reply.authority),
        additional=section(reply.additional),
    )


def setup(directive: Directive, environment: Environment) -> Cache:
    """`cache [TTL] [ZONES...] { success|denial|prefetch|serve_stale|servfail|disable|keepttl ... }`."""
    args = directive.args
    ttl = None
    if args and args[0].isdecimal():
        ttl, args = int(args[0]), args[1:]
        if not ttl:
            raise directive.error("a TTL is at least 1 second")
    zones = environment.wire_zones(directive, args)
    options = Options(
        Limits(CAPACITY, min(_MAX_SUCCESS, ttl or _MAX_SUCCESS)),
        Limits(CAPACITY, min(_MAX_DENIAL, ttl or _MAX_DENIAL)),
    )
    for line in directive.block:
        _option(directive, environment, line, options)
    return Cache(zones, options, environment.facts.metrics.families, environment.server)


def _option(directive: Directive, environment: Environment, line: Line, options: Options) -> None:
    limits = {SUCCESS: options.success, DENIAL: options.denial}
    number = line.number
    match line.name, line.args:
        case "success" | "denial", (capacity, *times) if len(times) <= 2:
            chosen = limits[line.name]
            chosen.capacity = natural(directive, capacity, number)
            if times:
                chosen.ttl = int(seconds(directive, times[0], number))
            if len(times) > 1:
                chosen.min_ttl = int(seconds(directive, times[1], number))
        case "disable", ("success" | "denial" as kind, *names):
            limits[kind].disabled = tuple(environment.wire_zones(directive, tuple(names)))
        case "servfail", (text,):
            options.servfail = int(seconds(directive, text, number))
            if options.servfail > _MAX_SERVFAIL:
                raise directive.error("servfail is 5 minutes at most", number)
        case "keepttl", ():
            options.keep_ttl = True
        case _:
            _refresh_option(directive, line, options)


def _refresh_option(directive: Directive, line: Line, options: Options) -> None:
    number = line.number
    match line.name, line.args:
        case "prefetch", (amount, *more) if len(more) <= 2:
            options.prefetch = natural(directive, amount, number)
            if more:
                options.prefetch_gap = seconds(directive, more[0], number)
            if len(more) > 1:
                options.prefetch_percent = _percent(directive, more[1], number)
        case "serve_stale", words if len(words) <= 2:
            options.stale = seconds(directive, words[0], number) if words else 3600
            if len(words) > 1:
                if words[1] not in ("verify", "immediate"):
                    raise directive.error(f'"{words[1]}" is neither verify nor immediate', number)
                options.verify = words[1] == "verify"
        case _:
            raise directive.error(f'"{" ".join((line.name, *line.args))}" is not an option', number)


def _percent(directive: Directive, text: str, line: int) -> int:
    number = text.removesuffix("%")
    if number == text or not number.isdecimal() or not 10 <= int(number) <= 90:
        raise directive.error(f'"{text}" is not between 10% and 90%', line)
    return int(number)
