"""DNS messages on the wire: a total decoder and encoder (RFC 1035, 3597, 6891).

Names are kept in wire form (length-prefixed labels and a final zero octet). A length octet is at most 63 and
so never an ASCII letter: `name.lower()` folds a whole name, and labels stay octet strings in which a dot is
an ordinary octet. Whatever the packet, decoding raises nothing but CodecError, and takes time linear in it.
Of dnslib only the tables of type and class names are used: its parser raises errors of five other kinds,
and its packer writes wrong compression pointers beyond 16 KiB.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable
from typing import NamedTuple

from dnslib import CLASS, QTYPE

MAX_NAME = 255
MAX_LABEL = 63
_MAX_POINTER = 0x3FFF
_POINTER = 0xC0

A, NS, CNAME, SOA, PTR, HINFO, MX, TXT, AAAA, SRV, DNAME, OPT, AXFR, IXFR, ANY = (
    1, 2, 5, 6, 12, 13, 15, 16, 28, 33, 39, 41, 252, 251, 255,
)  # fmt: skip
COUNTED_TYPES = frozenset(
    (A, AAAA, MX, SOA, CNAME, PTR, TXT, NS, SRV, 43, 48, 46, 47, 50, 65, IXFR, AXFR, ANY)
)
"""Types that metrics tell apart; a client must not be able to make endless series."""
IN, CH = 1, 3
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 16: "BADVERS"}

# Flag bits of the header's second word.
QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
_OPCODE = 0x7800
_DO = 0x8000

UDP_MINIMUM = 512
UDP_MAXIMUM = 65507
"""The most that one datagram carries over IPv4."""
TCP_MAXIMUM = 65535
_REMEMBERED = 256
_TRANSFER_MESSAGE = 16384
"""Octets of records in one message of a transfer: as far as compression pointers reach."""

_header = struct.Struct("!6H")
_record = struct.Struct("!HHIH")
_question = struct.Struct("!HH")

# How many octets precede the domain names in the rdata of types that may come compressed (RFC 3597,
# section 4), and how many names follow.
_NAMES_IN_RDATA = {
    NS: (0, 1), CNAME: (0, 1), PTR: (0, 1), DNAME: (0, 1), 7: (0, 1), 8: (0, 1), 9: (0, 1),
    SOA: (0, 2), 14: (0, 2), 17: (0, 2), MX: (2, 1), 18: (2, 1), 21: (2, 1), 36: (2, 1), SRV: (6, 1),
}  # fmt: skip


class CodecError(Exception):
    """A message cannot be read. `rcode` is what its sender is told."""

    def __init__(self, message: str, rcode: int = FORMERR) -> None:
        super().__init__(message)
        self.rcode = rcode


class Record(NamedTuple):
    """A resource record. `name` is in wire form and `rdata` holds no compressed names."""

    name: bytes
    type: int
    ttl: int
    rdata: bytes
    cls: int = IN


class Edns(NamedTuple):
    """The OPT record of a request."""

    size: int
    version: int = 0
    do: bool = False


class Request(NamedTuple):
    """A query with its one question."""

    id: int
    flags: int
    name: bytes
    """As the client spelt it."""
    key: bytes
    """`name` in lower case."""
    type: int
    cls: int
    edns: Edns | None
    length: int

    @property
    def udp_limit(self) -> int:
        """The largest reply that the client takes over UDP."""
        return UDP_MINIMUM if self.edns is None else min(max(UDP_MINIMUM, self.edns.size), UDP_MAXIMUM)


class Message(NamedTuple):
    """A reply as an upstream server sent it, without its OPT record."""

    id: int
    flags: int
    key: bytes
    type: int
    answer: list[Record]
    authority: list[Record]
    additional: list[Record]

    @property
    def rcode(self) -> int:
        """The lower four bits of the response code."""
        return self.flags & 0xF


# --- names ---


def to_wire(name: str) -> bytes:
    """The wire form of a text name. Raises CodecError for labels or names that are too long or empty."""
    if not name.isascii():
        raise CodecError(f'"{name}" is not in ASCII')
    return join_labels(name.rstrip(".").encode().split(b".") if name.strip(".") else [])


def join_labels(labels: list[bytes]) -> bytes:
    """The wire form of labels. Raises CodecError for labels or names that are too long or empty."""
    wire = b"".join(bytes((len(label),)) + label for label in labels if 0 < len(label) <= MAX_LABEL) + b"\0"
    if len(wire) != sum(map(len, labels)) + len(labels) + 1 or len(wire) > MAX_NAME:
        raise CodecError("a name has an empty label, or is too long")
    return wire


def split_labels(wire: bytes) -> list[bytes]:
    """The labels of a name in wire form, without the root."""
    labels = []
    at = 0
    while length := wire[at]:
        labels.append(wire[at + 1 : at + 1 + length])
        at += 1 + length
    return labels


def to_text(wire: bytes) -> str:
    """A name for people, ending with a dot. Octets that are not plain are escaped (RFC 4343)."""
    return "".join(_escape(label) + "." for label in split_labels(wire)) or "."


def _escape(label: bytes) -> str:
    return "".join(
        f"\\{chr(octet)}"
        if octet in b".\"\\;()@'"
        else chr(octet)
        if 33 <= octet <= 126
        else f"\\{octet:03d}"
        for octet in label
    )


def is_below(key: bytes, zone: bytes) -> bool:
    """Whether a lower-case name is the zone or lies in it; a match within a label does not count."""
    if not key.endswith(zone):
        return False
    start = len(key) - len(zone)
    at = 0
    while at < start:
        at += 1 + key[at]
    return at == start


def matching_zone(key: bytes, zones: Iterable[bytes]) -> bytes | None:
    """The longest of some zones that a lower-case name lies in."""
    return max((zone for zone in zones if is_below(key, zone)), key=len, default=None)


def _read_name(packet: bytes, at: int) -> tuple[bytes, int]:
    """The name at an offset, expanded, and the offset after it."""
    parts = []
    size = 1
    after = -1
    try:
        while length := packet[at]:
            if length >= _POINTER:
                target = (length & 0x3F) << 8 | packet[at + 1]
                # Pointers only ever lead backwards, so every chain of them ends.
                if target >= at:
                    raise CodecError("a compression pointer leads forward")
                if after < 0:
                    after = at + 2
                at = target
                continue
            if length > MAX_LABEL:
                raise CodecError("a label has a reserved type")
            part = packet[at : at + 1 + length]
            if len(part) <= length:
                raise CodecError("a label overruns the message")
            size += 1 + length
            if size > MAX_NAME:
                raise CodecError("a name is longer than 255 octets")
            parts.append(part)
            at += 1 + length
    except IndexError:
        raise CodecError("a name overruns the message") from None
    parts.append(b"\0")
    return b"".join(parts), after if after >= 0 else at + 1


def names_in_rdata(record: Record) -> tuple[bytes, list[bytes], bytes] | None:
    """The rdata of a record as octets, names and octets; None for types without names, or broken rdata."""
    skip, count = _NAMES_IN_RDATA.get(record.type, (0, 0))
    if not count:
        return None
    at = skip
    names = []
    try:
        for _ in range(count):
            name, at = _read_name(record.rdata, at)
            names.append(name)
    except CodecError:
        return None
    return record.rdata[:skip], names, record.rdata[at:]


# --- requests ---


def parse_request(packet: bytes) -> Request:
    """The query in a packet of at least 12 octets. Raises CodecError with the rcode for its sender."""
    ident, flags, questions, answers, authorities, additionals = _header.unpack_from(packet)
    if flags & _OPCODE:
        raise CodecError("the opcode is not QUERY", NOTIMP)
    if questions != 1 or answers > 1 or authorities > 1 or additionals > 2:
        raise CodecError("a section has an impossible number of records")
    name, at = _read_name(packet, 12)
    if at != 12 + len(name):
        raise CodecError("the question is compressed, with no name before it")
    if len(packet) < at + 4:
        raise CodecError("the question is cut off")
    qtype, qclass = _question.unpack_from(packet, at)
    edns = None
    if answers or authorities or additionals:
        edns = _read_edns(packet, at + 4, answers + authorities, additionals)
    return Request(ident, flags, name, name.lower(), qtype, qclass, edns, len(packet))


def _read_edns(packet: bytes, at: int, before: int, additionals: int) -> Edns | None:
    edns = None
    for number in range(before + additionals):
        name, at = _read_name(packet, at)
        if len(packet) < at + 10:
            raise CodecError("a record is cut off")
        kind, cls, ttl, length = _record.unpack_from(packet, at)
        at += 10
        if len(packet) < at + length:
            raise CodecError("rdata overruns the message")
        if kind == OPT and number >= before:
            if edns is not None or name != b"\0":
                raise CodecError(
                    "more than one OPT record, or one that is not at the root"
                )  # RFC 6891, 6.1.1
            if not _are_options(packet[at : at + length]):
                raise CodecError("an EDNS option overruns its record")
            edns = Edns(cls, ttl >> 16 & 0xFF, bool(ttl & _DO))
        at += length
    return edns


def _are_options(rdata: bytes) -> bool:
    at = 0
    while at < len(rdata):
        at += 4 + int.from_bytes(rdata[at + 2 : at + 4])
    return at == len(rdata)


_ONE_QUESTION = b"\0\1\0\0\0\0\0\0"
_AND_ONE_MORE = b"\0\1\0\0\0\0\0\1"
_OPT_HEAD = b"\0\0\x29"


def canonical(packet: bytes) -> bytes | None:
    """A query without its id, such that all that become the same have the same answer but for the spelling.

    The name is in lower case; flags, bits and EDNS options without effect are gone. None for a packet that is
    out of the ordinary. Where the name holds no octet of zero, a packet with a canonical form can be parsed.
    """
    end = packet.find(0, 12)
    opt = end + 5
    counts = packet[4:12]
    if end < 0 or packet[2] & 0xF8:
        return None
    if counts == _ONE_QUESTION:
        if len(packet) != opt:
            return None
        tail = packet[end:]
    elif counts == _AND_ONE_MORE and packet[opt : opt + 3] == _OPT_HEAD and len(packet) >= opt + 11:
        options = packet[opt + 11 :]
        if packet[opt + 6] or int.from_bytes(packet[opt + 9 : opt + 11]) != len(options):
            return None
        if options and not _are_options(options):
            return None
        do = b"\0\0\x80\0\0\0" if packet[opt + 7] & 0x80 else b"\0\0\0\0\0\0"
        tail = packet[end : opt + 5] + do
    else:
        return None
    return _FLAGS[packet[2] & 1, packet[3] & 0x10] + counts + packet[12:end].lower() + tail


_FLAGS = {(rd, cd): bytes((rd, cd)) for rd in (0, 1) for cd in (0, 0x10)}


def error_reply(packet: bytes, rcode: int) -> bytes:
    """A bare header that refuses a packet whose question cannot be read."""
    flags = int.from_bytes(packet[2:4])
    return packet[:2] + ((flags & (_OPCODE | RD)) | QR | rcode).to_bytes(2) + bytes(8)


# --- replies ---


def encode_reply(
    request: Request,
    rcode: int,
    flags: int,
    sections: tuple[list[Record], list[Record], list[Record]],
    limit: int,
) -> bytes:
    """A reply of at most `limit` octets; records that do not fit are left out from the end, and TC is set.

    `flags` holds AA, RA and TC as wanted; RD and CD come from the request. Owner names and those of an SOA
    are compressed; other names in rdata are not, which RFC 2782 wants for SRV.
    """
    opt = b""
    if request.edns is not None:
        do = _DO if request.edns.do else 0
        opt = b"\0" + _record.pack(OPT, request.edns.size, (rcode >> 4) << 24 | do, 0)
    room = limit - len(opt)
    out = bytearray(12)
    out += request.name
    out += _question.pack(request.type, request.cls)
    offsets: dict[bytes, int] = {}
    counts = [0, 0, 0]
    for number, section in enumerate(sections):
        for record in section:
            start = len(out)
            if record.type == SOA and record.rdata and is_below(request.name, record.name):
                out += _compressed_soa(record, 12 + len(request.name) - len(record.name))
            else:
                if record.name == request.name:
                    out += b"\xc0\x0c"
                else:
                    if not offsets:
                        _remember(offsets, request.name, 12)
                    _write_name(out, record.name, offsets)
                out += _record.pack(record.type, record.cls, record.ttl, len(record.rdata))
                out += record.rdata
            if len(out) > room:
                del out[start:]
                flags |= TC
                break
            counts[number] += 1
        if flags & TC and len(section) != counts[number]:
            break
    flags |= QR | request.flags & (_OPCODE | RD | CD) | rcode & 0xF
    _header.pack_into(out, 0, request.id, flags, 1, counts[0], counts[1], counts[2] + bool(opt))
    return bytes(out + opt)


class Stream(bytes):
    """Several messages as they go over TCP, each after its length."""


def encode_transfer(request: Request, flags: int, records: list[Record]) -> Stream:
    """A zone transfer (RFC 5936, section 2.2): the records in as many messages as it takes."""
    messages = []
    chunk: list[Record] = []
    room = _TRANSFER_MESSAGE
    for record in records:
        size = len(record.name) + _record.size + len(record.rdata)
        if chunk and size > room:
            messages.append(encode_reply(request, NOERROR, flags, (chunk, [], []), TCP_MAXIMUM))
            chunk, room = [], _TRANSFER_MESSAGE
        chunk.append(record)
        room -= size
    messages.append(encode_reply(request, NOERROR, flags, (chunk, [], []), TCP_MAXIMUM))
    return Stream(b"".join(len(message).to_bytes(2) + message for message in messages))


def any_spelling(name: bytes, sections: tuple[list[Record], list[Record], list[Record]]) -> bool:
    """Whether an encoded reply to a question for `name` holds its spelling in the question alone."""
    for section in sections:
        for record in section:
            if record.type in (A, AAAA):
                if record.name != name and not is_below(name, record.name):
                    return False
            elif record.type != SOA or not is_below(name, record.name) or not _is_own_soa(record):
                return False
    return True


@functools.lru_cache(_REMEMBERED)
def _is_own_soa(record: Record) -> bool:
    """Whether both names of an SOA lie in its zone."""
    return all(is_below(name, record.name) for name in _soa_parts(record.rdata)[:2])


@functools.lru_cache(_REMEMBERED)
def _compressed_soa(record: Record, at: int) -> bytes:
    """An SOA whose owner is found at an offset, as it is written, with its names compressed to that."""
    pointer = (_POINTER << 8 | at).to_bytes(2)
    mname, rname, numbers = _soa_parts(record.rdata)
    rdata = b"".join(
        name[: len(name) - len(record.name)] + pointer if is_below(name, record.name) else name
        for name in (mname, rname)
    )
    return pointer + _record.pack(SOA, record.cls, record.ttl, len(rdata) + len(numbers)) + rdata + numbers


def _soa_parts(rdata: bytes) -> tuple[bytes, bytes, bytes]:
    mname, at = _read_name(rdata, 0)
    rname, end = _read_name(rdata, at)
    return mname, rname, rdata[end:]


def _write_name(out: bytearray, name: bytes, offsets: dict[bytes, int]) -> None:
    at = 0
    while name[at]:
        known = offsets.get(name[at:])
        if known is not None:
            _remember(offsets, name[:at], len(out), name[at:])
            out += name[:at]
            out += (_POINTER << 8 | known).to_bytes(2)
            return
        at += 1 + name[at]
    _remember(offsets, name, len(out))
    out += name


def _remember(offsets: dict[bytes, int], name: bytes, start: int, rest: bytes = b"") -> None:
    """Note where each suffix of a name that is about to be written will be found."""
    at = 0
    while at < len(name) and name[at] and start + at <= _MAX_POINTER:
        offsets.setdefault(name[at:] + rest, start + at)
        at += 1 + name[at]


def encode_query(
    ident: int, name: bytes, qtype: int, *, qclass: int = IN, flags: int = RD, edns: Edns | None = None
) -> bytes:
    """A query for a name in wire form."""
    opt = b"" if edns is None else b"\0" + _record.pack(OPT, edns.size, _DO if edns.do else 0, 0)
    return _header.pack(ident, flags, 1, 0, 0, int(bool(opt))) + name + _question.pack(qtype, qclass) + opt


def parse_message(packet: bytes) -> Message:
    """A reply from another server. Raises CodecError when it cannot be read."""
    if len(packet) < 12:
        raise CodecError("the message is shorter than its header")
    ident, flags, questions, *counts = _header.unpack_from(packet)
    if questions != 1:
        raise CodecError("the reply has not one question")
    name, at = _read_name(packet, 12)
    if len(packet) < at + 4:
        raise CodecError("the question is cut off")
    qtype, _ = _question.unpack_from(packet, at)
    at += 4
    sections: list[list[Record]] = []
    for count in counts:
        section: list[Record] = []
        for _ in range(count):
            record, at = _read_record(packet, at)
            if record.type != OPT:
                section.append(record)
        sections.append(section)
    return Message(ident, flags, name.lower(), qtype, *sections)


def _read_record(packet: bytes, at: int) -> tuple[Record, int]:
    name, at = _read_name(packet, at)
    if len(packet) < at + 10:
        raise CodecError("a record is cut off")
    kind, cls, ttl, length = _record.unpack_from(packet, at)
    at += 10
    end = at + length
    if len(packet) < end:
        raise CodecError("rdata overruns the message")
    rdata = packet[at:end]
    if kind in _NAMES_IN_RDATA and length:
        skip, names = _NAMES_IN_RDATA[kind]
        parts = [packet[at : at + skip]]
        at += skip
        for _ in range(names):
            target, at = _read_name(packet, at)
            parts.append(target)
        if at > end:
            raise CodecError("a name overruns its rdata")
        parts.append(packet[at:end])
        rdata = b"".join(parts)
    return Record(name, kind, ttl if ttl < 1 << 31 else 0, rdata, cls), end


# --- for people ---


def type_name(number: int) -> str:
    """A type as zone files write it, `TYPE123` where it has no name."""
    return str(QTYPE.forward.get(number, f"TYPE{number}"))


def class_name(number: int) -> str:
    """A class as zone files write it."""
    return str(CLASS.forward.get(number, f"CLASS{number}"))


def rcode_name(number: int) -> str:
    """A response code as CoreDNS writes it."""
    return _RCODES.get(number, f"RCODE{number}")
