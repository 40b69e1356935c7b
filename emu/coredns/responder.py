"""From a packet to a reply: the server blocks of one port, and the replies that are kept packed.

The common query is answered by one dictionary look-up and two octets of id. One that is spelt in another way,
or has flags and options without effect, costs a few operations on strings more. The rest goes down the chain.
"""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Coroutine
from typing import Any

from emu.coredns import codec
from emu.coredns.chain import Chain, Query, Reply
from emu.coredns.codec import CodecError, Request
from emu.coredns.kept import KeptReplies
from emu.coredns.metrics import Labels, Metrics, Tally
from emu.coredns.plugins.loadbalance import shuffled

log = logging.getLogger(__name__)

_MAX_KEPT_REPLY = 4096
_MAX_ORDERS = 16
_MAX_LABELS = 1024
_HEADER = 12
_ID = 2


class Responder:
    """Answers what comes to one port. Sockets look into `kept`, then call `respelt`, then `handle`."""

    def __init__(self, server: str, chains: dict[bytes, Chain], metrics: Metrics) -> None:
        self._server = server
        self._chains = chains
        self._metrics = metrics
        self._uncounted = Tally()
        self.kept = KeptReplies()

    def replace(self, chains: dict[bytes, Chain]) -> None:
        """Serve by other chains from now on: lower-case zones and what answers for them."""
        self._chains = chains
        self.kept.clear()

    def respelt(self, packet: bytes, client: str) -> bytes | None:
        """The reply to a UDP query for which one is kept under another spelling; None where none is.

        `client` is the address that asks.
        """
        query = codec.canonical(packet)
        if query is None:
            return None
        kept = self.kept.by_query.get(query)
        if kept is None or not kept.any_spelling:
            return None
        kept.tally.times += 1
        if kept.clients is not None:
            kept.clients[client] += 1
        body = kept.bodies[int(random.random() * len(kept.bodies))]
        end = packet.index(0, _HEADER)
        return packet[:2] + body[: _HEADER - 2] + packet[_HEADER:end] + body[end - 2 :]

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
            return _bare(request, rcode or codec.REFUSED)
        query = Query(request, client, proto, local, zone=chain.zone, lookup=self.lookup)
        try:
            found = chain.resolve(query)
            if isinstance(found, Reply):
                return self._encode(query, found, packet)
        except Exception:
            log.exception("cannot answer %s", codec.to_text(request.name))
            return _bare(request, codec.SERVFAIL)
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
        try:
            return self._encode(query, await pending, b"")
        except Exception:
            log.exception("cannot answer %s", codec.to_text(query.request.name))
            return _bare(query.request, codec.SERVFAIL)

    def _encode(self, query: Query, reply: Reply, packet: bytes) -> bytes:
        request = query.request
        udp = query.proto == "udp"
        limit = request.udp_limit if udp else codec.TCP_MAXIMUM
        if reply.split:
            return self._transfer(query, reply)
        canonical = codec.canonical(packet) if udp and reply.constant and packet else None
        if canonical is None or not reply.shuffle:
            wires: tuple[bytes, ...] = (self._pack(request, reply, limit),)
        else:
            wires = tuple(self._pack(request, reply, limit, first) for first in range(_orders(reply)))
        size = len(wires[0])
        labels = self._observe(query, reply, size)
        if canonical is not None and size <= _MAX_KEPT_REPLY:
            tally = (
                self._uncounted if labels is None else self._metrics.tally(labels, _ID + len(canonical), size)
            )
            self._keep(canonical, request, reply, wires, tally)
        return wires[0] if len(wires) == 1 else random.choice(wires)

    def _transfer(self, query: Query, reply: Reply) -> bytes:
        stream = codec.encode_transfer(query.request, reply.flags, reply.answer)
        self._observe(query, reply, len(stream))
        return stream

    def _observe(self, query: Query, reply: Reply, size: int) -> Labels | None:
        """Have the reply counted and logged; gives what it is counted under."""
        labels = None
        if query.counted:
            labels = self._labels(query, reply)
            duration = time.perf_counter() - query.started
            self._metrics.add(labels, query.request.length, size, duration)
        if reply.clients is not None:
            reply.clients[query.client[0]] += 1
        for observer in query.observers:
            observer(query, reply, size)
        return labels

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

    def _keep(
        self, query: bytes, request: Request, reply: Reply, wires: tuple[bytes, ...], tally: Tally
    ) -> None:
        if request.key.find(0) != len(request.key) - 1:
            return  # `canonical` takes the first octet of zero for the end of the name
        any_spelling = codec.any_spelling(request.name, (reply.answer, reply.authority, reply.additional))
        if not any_spelling and request.name != request.key:
            return
        end = _HEADER + len(request.key)
        self.kept.keep(
            query,
            tuple(wire[2:_HEADER] + request.key + wire[end:] for wire in wires),
            tally,
            any_spelling=any_spelling,
            services=reply.services,
            serial=any(record.type == codec.SOA for record in (*reply.answer, *reply.authority)),
            clients=reply.clients,
        )

    def _labels(self, query: Query, reply: Reply) -> Labels:
        request = query.request
        do = request.edns is not None and request.edns.do
        kind = request.type if request.type in codec.COUNTED_TYPES else None
        return _labels(self._server, query.zone, query.proto, kind, reply.rcode, reply.plugin, do)


@functools.lru_cache(_MAX_LABELS)
def _labels(
    server: str, zone: str, proto: str, kind: int | None, rcode: int, plugin: str, do: bool
) -> Labels:
    type_name = "other" if kind is None else codec.type_name(kind)
    return Labels(server, zone, proto, type_name, codec.rcode_name(rcode), plugin, do)


def _bare(request: Request, rcode: int) -> bytes:
    return codec.encode_reply(request, rcode, 0, ([], [], []), request.udp_limit)


def _orders(reply: Reply) -> int:
    """How many orders to keep, so that each address comes first equally often."""
    longest = max(
        sum(record.type in (codec.A, codec.AAAA) for record in section)
        for section in (reply.answer, reply.additional)
    )
    return max(1, min(longest, _MAX_ORDERS))
