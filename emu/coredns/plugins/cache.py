"""cache: keeps replies of the plugins below. See cache.md."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from emu.coredns import codec
from emu.coredns.chain import Answer, Plugin, Query, Reply
from emu.coredns.codec import NOERROR, NXDOMAIN, SERVFAIL, SOA, Record
from emu.coredns.corefile import Directive, Line
from emu.coredns.environment import Environment
from emu.coredns.values import natural, seconds

Key = tuple[bytes, int, int, bool, bool]
_SERVFAIL_SECONDS = 5


class Limits(msgspec.Struct):
    """Of one of the two caches: how many replies, and for how many seconds."""

    capacity: int
    ttl: int
    min_ttl: int = 5
    disabled: tuple[bytes, ...] = ()


class Cache(Plugin):
    """Two bounded caches, of successes and of denials."""

    name = "cache"
    every_class = True

    def __init__(
        self, zones: list[bytes], success: Limits, denial: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._zones = zones
        self._success = success
        self._denial = denial
        self._clock = clock
        self._kept: tuple[dict[Key, tuple[float, Reply]], dict[Key, tuple[float, Reply]]] = ({}, {})

    def answer(self, query: Query) -> Answer:
        """A kept reply that has not expired, with its TTLs counted down."""
        key = _key(query)
        now = self._clock()
        for kept in self._kept:
            stored, reply = kept.get(key, (0.0, None))
            if reply is None:
                continue
            age = int(now - stored)
            if age >= _lifetime(reply):
                del kept[key]
                continue
            return msgspec.structs.replace(
                reply,
                answer=_aged(reply.answer, age),
                authority=_aged(reply.authority, age),
                additional=_aged(reply.additional, age),
                plugin=self.name,
            )
        return None

    def finish(self, query: Query, reply: Reply) -> Reply:
        """Keep the reply, with its TTLs brought within the limits."""
        denial = not (reply.rcode == NOERROR and reply.answer)
        limits = self._denial if denial else self._success
        key = query.request.key
        if (
            reply.constant
            or reply.personal
            or reply.truncated
            or reply.rcode not in (NOERROR, NXDOMAIN, SERVFAIL)
            or not any(codec.is_below(key, zone) for zone in self._zones)
            or any(codec.is_below(key, zone) for zone in limits.disabled)
            or (denial and reply.rcode != SERVFAIL and not any(item.type == SOA for item in reply.authority))
        ):
            return reply
        if reply.rcode == SERVFAIL:
            if reply.error is not None:
                return reply
            limits = Limits(limits.capacity, _SERVFAIL_SECONDS, 0)
        kept = self._kept[denial]
        kept.pop(_key(query), None)
        while len(kept) >= max(1, limits.capacity):
            del kept[next(iter(kept))]
        bounded = msgspec.structs.replace(
            reply,
            answer=_bounded(reply.answer, limits),
            authority=_bounded(reply.authority, limits),
            additional=_bounded(reply.additional, limits),
        )
        kept[_key(query)] = (self._clock(), bounded)
        return bounded


def _key(query: Query) -> Key:
    request = query.request
    return (
        request.key,
        request.type,
        request.cls,
        request.edns is not None and request.edns.do,
        bool(request.flags & codec.CD),
    )


def _lifetime(reply: Reply) -> int:
    ttls = [record.ttl for section in (reply.answer, reply.authority, reply.additional) for record in section]
    return min(ttls, default=_SERVFAIL_SECONDS)


def _aged(section: list[Record], age: int) -> list[Record]:
    return [record._replace(ttl=record.ttl - age) for record in section] if age else section


def _bounded(section: list[Record], limits: Limits) -> list[Record]:
    return [
        record._replace(ttl=max(limits.min_ttl, min(record.ttl, limits.ttl)) if limits.ttl else record.ttl)
        for record in section
    ]


def setup(directive: Directive, environment: Environment) -> Cache:
    """`cache [TTL] [ZONES...] { success|denial CAPACITY [TTL [MINTTL]]; disable ... }`."""
    args = directive.args
    ttl = None
    if args and args[0].isdigit():
        ttl, args = int(args[0]), args[1:]
    zones = [codec.to_wire(zone) for zone in environment.zones_of(directive, args)]
    limits = {
        "success": Limits(9984, min(3600, ttl) if ttl is not None else 3600),
        "denial": Limits(9984, min(1800, ttl) if ttl is not None else 1800),
    }
    for line in directive.block:
        _option(directive, environment, line, limits)
    return Cache(zones, limits["success"], limits["denial"])


def _option(directive: Directive, environment: Environment, line: Line, limits: dict[str, Limits]) -> None:
    if line.name in limits and 1 <= len(line.args) <= 3:
        chosen = limits[line.name]
        chosen.capacity = natural(directive, line.args[0], line.number)
        if len(line.args) > 1:
            chosen.ttl = int(seconds(directive, line.args[1], line.number))
        if len(line.args) > 2:
            chosen.min_ttl = int(seconds(directive, line.args[2], line.number))
    elif line.name == "disable" and line.args and line.args[0] in limits:
        names = environment.zones_of(directive, line.args[1:])
        limits[line.args[0]].disabled = tuple(codec.to_wire(name) for name in names)
    else:
        raise directive.error(f'"{" ".join((line.name, *line.args))}" is not an option', line.number)
