"""What a name has: sets of records, made of addresses, ports and names."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from emu.coredns.codec import AAAA, MAX_NAME, SOA, SRV, A, Record
from emu.coredns.index import ByType, Key, Port

_SOA_TTL_LIMIT = 300
_SOA_TIMES = (7200, 1800, 86400)


class Found(msgspec.Struct, frozen=True):
    """What a name has of the asked type. No records: the name exists and lacks the type (NODATA)."""

    answer: Sequence[Record] = ()
    additional: Sequence[Record] = ()
    exists: bool = True
    """False: there is no such name (NXDOMAIN)."""
    services: tuple[Key, ...] | None = ()
    """The Services that can change this, beside Namespaces; None where other objects can."""
    target: bytes = b""
    """The name is an alias of this one; `answer` is the CNAME."""


NODATA = Found()
MISSING = Found(exists=False)
UNKNOWN = Found(exists=False, services=None)
"""Told by identity: whether there is such a name is not known yet (43)."""


class Host(NamedTuple):
    """Something that SRV and NS records point at: labels below the zone, and an address."""

    labels: tuple[bytes, ...]
    packed: bytes


class Question(msgspec.Struct, frozen=True):
    """What is asked: the name as it was spelt, its zone, the type; and the TTL of answers."""

    name: bytes
    zone: bytes
    type: int
    ttl: int

    def full(self, labels: tuple[bytes, ...]) -> bytes:
        """A name below the zone, which keeps the query's spelling of the zone (3).

        It may be too long for a name: then nobody can ask for it, and it must not be in an answer.
        """
        return b"".join([bytes((len(label),)) + label for label in labels]) + self.zone

    def addresses(self, by_type: ByType, services: tuple[Key, ...] | None = ()) -> Found:
        """The A or AAAA records among the addresses; NODATA for other types (9, 39)."""
        name, qtype, ttl = self.name, self.type, self.ttl
        records = [Record(name, qtype, ttl, packed) for packed in by_type.get(qtype, ())]
        return Found(records, (), True, services)

    def srv(self, pairs: list[tuple[Host, Port]], services: tuple[Key, ...]) -> Found:
        """SRV records, weighted by their number before equal ones collapse (14), and their addresses."""
        weight = max(1, 100 // len(pairs)) if pairs else 0
        records: dict[bytes, Record] = {}
        hosts: dict[Host, None] = {}
        for host, port in pairs:
            target = self.full(host.labels)
            if len(target) <= MAX_NAME:
                rdata = struct.pack("!HHH", 0, weight, port.number) + target
                records.setdefault(rdata, Record(self.name, SRV, self.ttl, rdata))
                hosts[host] = None
        return Found(tuple(records.values()), self.glue(hosts), True, services)

    def glue(self, hosts: dict[Host, None]) -> tuple[Record, ...]:
        """The addresses of targets, for the additional section."""
        return tuple(
            Record(self.full(host.labels), A if len(host.packed) == 4 else AAAA, self.ttl, host.packed)
            for host in hosts
        )


def soa(zone: bytes, ttl: int, serial: int) -> Record:
    """The SOA of a zone, spelt as given (37)."""
    times = struct.pack("!5I", serial & 0xFFFFFFFF, *_SOA_TIMES, ttl)
    rdata = b"\x02ns\x03dns" + zone + b"\x0ahostmaster" + zone + times
    return Record(zone, SOA, min(ttl, _SOA_TTL_LIMIT), rdata)
