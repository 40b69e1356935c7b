"""From a packet to a reply: the server blocks of one port, and the replies that are kept packed.

A reply that is the same for every client is kept under the octets of its query from the flags on, so the
next such query is answered by one dictionary look-up and two octets of id. All kept replies are dropped when
an object of the cluster changes; their number and size are bounded.
"""

from __future__ import annotations

import random
import time
from collections.abc import Coroutine
from typing import Any

import msgspec

from emu.coredns import codec
from emu.coredns.chain import Chain, Query, Reply
from emu.coredns.codec import CodecError, Request
from emu.coredns.metrics import Labels, Metrics
from emu.coredns.plugins.loadbalance import shuffled

MAX_KEPT = 16384
_MAX_KEPT_QUERY = 512
_MAX_KEPT_REPLY = 4096
_MAX_ORDERS = 16
_HEADER = 12


class Kept(msgspec.Struct):
    """A packed reply without its id, in one or several orders of its records."""

    bodies: tuple[bytes, ...]
    count: int = 0
    labels: Labels | None = None
    request_size: int = 0


class Responder:
    """Answers what comes to one port. Sockets call `kept` and `handle`."""

    def __init__(self, server: str, chains: dict[bytes, Chain], metrics: Metrics) -> None:
        self._server = server
        self._chains = chains
        self._metrics = metrics
        self.kept: dict[bytes, Kept] = {}
        """Keyed by the UDP query without its id. Only to be read by the sockets."""

    def replace(self, chains: dict[bytes, Chain]) -> None:
        """Serve by other chains from now on: lower-case zones and what answers for them."""
        self._chains = chains
        self.forget()

    def forget(self) -> None:
        """Drop all kept replies: an object that they may depend on has changed."""
        kept, self_kept = dict(self.kept), self.kept
        self_kept.clear()
        self._fold(kept)

    def fold(self) -> None:
        """Bring the counts of kept replies into the metrics."""
        self._fold(self.kept)

    def _fold(self, kept: dict[bytes, Kept]) -> None:
        for item in kept.values():
            self._fold_one(item)

    def _fold_one(self, item: Kept) -> None:
        if item.count and item.labels is not None:
            self._metrics.add(item.labels, item.request_size, len(item.bodies[0]) + 2, 0.0, item.count)
        item.count = 0

    def handle(
        self, packet: bytes, client: tuple[str, int], local: tuple[str, int], proto: str
    ) -> bytes | Coroutine[Any, Any, bytes] | None:
        """The reply to a packet; None where none is due; a coroutine where a plugin has to wait."""
        if len(packet) < _HEADER or packet[2] & 0x80:
            return None
        try:
            request = codec.parse_request(packet)
        except CodecError as error:
            return codec.error_reply(packet, error.rcode)
        chain = self._chain_of(request.key)
        rcode = self._refusal(request, chain)
        if chain is None or rcode is not None:
            return codec.encode_reply(request, rcode or codec.REFUSED, 0, ([], [], []), request.udp_limit)
        query = Query(request, client, proto, local, zone=chain.zone, lookup=self.lookup)
        found = chain.resolve(query)
        if isinstance(found, Reply):
            return self._encode(query, found, packet)
        return self._later(query, found)

    async def lookup(self, query: Query, name: bytes, qtype: int) -> Reply:
        """Another name on behalf of a query, through the blocks of this port."""
        key = name.lower()
        chain = self._chain_of(key)
        if chain is None:
            return Reply(codec.REFUSED)
        request = query.request._replace(name=name, key=key, type=qtype)
        inner = Query(
            request, query.client, query.proto, query.local,
            zone=chain.zone, lookup=self.lookup, depth=query.depth + 1,
        )  # fmt: skip
        found = chain.resolve(inner)
        return found if isinstance(found, Reply) else await found

    @staticmethod
    def _refusal(request: Request, chain: Chain | None) -> int | None:
        if request.edns is not None and request.edns.version:
            return codec.BADVERS
        if chain is None:
            return codec.REFUSED
        if request.cls != codec.IN and "classes" not in chain.opens:
            return codec.REFUSED
        if request.type in (codec.AXFR, codec.IXFR) and "transfers" not in chain.opens:
            return codec.REFUSED
        return None

    def _chain_of(self, key: bytes) -> Chain | None:
        """The block with the longest zone that the name lies in."""
        at = 0
        chains = self._chains
        while True:
            found = chains.get(key[at:])
            if found is not None:
                return found
            if not key[at]:
                return None
            at += 1 + key[at]

    async def _later(self, query: Query, pending: Coroutine[Any, Any, Reply]) -> bytes:
        return self._encode(query, await pending, b"")

    def _encode(self, query: Query, reply: Reply, packet: bytes) -> bytes:
        request = query.request
        udp = query.proto == "udp"
        limit = request.udp_limit if udp else codec.TCP_MAXIMUM
        if reply.split:
            return self._transfer(query, reply)
        orders = self._orders(reply) if reply.shuffle else 1
        if orders == 1 or not (udp and packet and reply.constant):
            wires: tuple[bytes, ...] = (self._pack(request, reply, limit),)
        else:
            wires = tuple(self._pack(request, reply, limit, first) for first in range(orders))
        labels = self._count(query, reply, len(wires[0])) if query.counted else None
        for observer in query.observers:
            observer(query, reply, len(wires[0]))
        if udp and reply.constant and 0 < len(packet) <= _MAX_KEPT_QUERY and len(wires[0]) <= _MAX_KEPT_REPLY:
            self._keep(packet, tuple(wire[2:] for wire in wires), labels)
        return wires[0] if len(wires) == 1 else random.choice(wires)

    def _transfer(self, query: Query, reply: Reply) -> bytes:
        stream = codec.encode_transfer(query.request, reply.flags, reply.answer)
        if query.counted:
            self._count(query, reply, len(stream))
        for observer in query.observers:
            observer(query, reply, len(stream))
        return stream

    @staticmethod
    def _orders(reply: Reply) -> int:
        """How many orders to keep, so that each address comes first equally often."""
        longest = max(
            sum(record.type in (codec.A, codec.AAAA) for record in section)
            for section in (reply.answer, reply.additional)
        )
        return max(1, min(longest, _MAX_ORDERS))

    @staticmethod
    def _pack(request: Request, reply: Reply, limit: int, first: int | None = None) -> bytes:
        sections = (reply.answer, reply.authority, reply.additional)
        if reply.shuffle:
            sections = (
                shuffled(reply.answer, first),
                shuffled(reply.authority),
                shuffled(reply.additional, first),
            )
        return codec.encode_reply(request, reply.rcode, reply.flags, sections, limit)

    def _keep(self, packet: bytes, bodies: tuple[bytes, ...], labels: Labels | None) -> None:
        if len(self.kept) >= MAX_KEPT:
            self._fold_one(self.kept.pop(next(iter(self.kept))))
        self.kept[packet[2:]] = Kept(bodies, 0, labels, len(packet))

    def _count(self, query: Query, reply: Reply, size: int) -> Labels:
        request = query.request
        labels = Labels(
            self._server,
            query.zone,
            query.proto,
            codec.type_name(request.type) if request.type in codec.COUNTED_TYPES else "other",
            codec.rcode_name(reply.rcode),
            reply.plugin,
            request.edns is not None and request.edns.do,
        )
        self._metrics.add(labels, request.length, size, time.perf_counter() - query.started)
        return labels
