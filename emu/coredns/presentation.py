"""Names, types and records as master files write them (RFC 1035, section 5; RFC 3597)."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from dnslib import CLASS, QTYPE

from emu.coredns import codec
from emu.coredns.codec import CodecError, Record

DEFAULT_TTL = 3600
_RCODES = {
    "NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5, "YXDOMAIN": 6,
    "YXRRSET": 7, "NXRRSET": 8, "NOTAUTH": 9, "NOTZONE": 10,
}  # fmt: skip
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_WORD = re.compile(r'"((?:\\.|[^"\\])*)"|(;[^\n]*)|((?:\\.|[^\s";()\\])+)|[()\s]+')
_ESCAPE = re.compile(r"\\(\d{3})|\\(.)|([^\\])", re.DOTALL)
_MAX_STRING = 255


def parse_name(text: str) -> bytes:
    """The wire form of a name, with its final dot or without. Raises CodecError."""
    labels: list[bytes] = [b""]
    for octets, escaped in _octets(text):
        if octets == b"." and not escaped:
            labels.append(b"")
        else:
            labels[-1] += octets
    if labels[-1] == b"":
        labels.pop()  # the final dot
    return codec.join_labels([] if labels == [b""] else labels)


def _octets(text: str) -> list[tuple[bytes, bool]]:
    """The octets of a text, and whether each was written as an escape."""
    found = []
    for match in _ESCAPE.finditer(text):
        number, escaped, plain = match.groups()
        if number is not None:
            if int(number) > 255:
                raise CodecError(f'"\\{number}" is no octet')
            found.append((bytes((int(number),)), True))
        else:
            found.append(((escaped or plain).encode(), escaped is not None))
    return found


def parse_type(text: str) -> int | None:
    """The number of a type, None where it is not known."""
    return _number(QTYPE.reverse, "TYPE", text)


def parse_class(text: str) -> int | None:
    """The number of a class, None where it is not known."""
    return _number(CLASS.reverse, "CLASS", text)


def parse_rcode(text: str) -> int | None:
    """The number of a response code, None where it is not known."""
    return int(text) if text.isdecimal() and int(text) < 4096 else _RCODES.get(text.upper())


def _number(names: dict[str, int], prefix: str, text: str) -> int | None:
    text = text.upper()
    found = re.fullmatch(rf"{prefix}(\d{{1,5}})", text)
    if found is not None and int(found[1]) < 65536:
        return int(found[1])
    return names.get(text) if text != "ANY" else 255


def parse_record(text: str) -> Record:
    """One record, `OWNER [TTL] [CLASS] TYPE RDATA`, TTL and class in any order. Raises CodecError."""
    words = _words(text)
    if not words:
        raise CodecError("a record is empty")
    owner, rest = parse_name(words[0]), words[1:]
    ttl, cls = DEFAULT_TTL, codec.IN
    while rest:
        found = parse_ttl(rest[0])
        if found is not None:
            ttl = found
        elif rest[0].upper() in ("IN", "CH", "HS", "CS"):
            cls = parse_class(rest[0]) or codec.IN
        else:
            break
        rest = rest[1:]
    kind = parse_type(rest[0]) if rest else None
    if kind is None:
        raise CodecError(f'"{text}" has no known type')
    return Record(owner, kind, ttl, _rdata(kind, rest[0], rest[1:]), cls)


def parse_ttl(text: str) -> int | None:
    """Seconds, also as `1h30m`; None where it is not a time."""
    if not re.fullmatch(r"(\d+[smhdwSMHDW]?)+", text):
        return None
    total = sum(int(number) * _UNITS[unit.lower()] for number, unit in re.findall(r"(\d+)(\D?)", text))
    return total if total < 1 << 31 else None


def _words(text: str) -> list[str]:
    """The words of a record; what was in quotes keeps them, so that it is not taken for anything else."""
    words = []
    at = 0
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None:
            raise CodecError(f'"{text}" is no record')
        if match[1] is not None or match[3] is not None:
            words.append(match[0])
        at = match.end()
    return words


def _string(text: str) -> bytes:
    """A character-string with its length."""
    plain = text[1:-1] if text.startswith('"') else text
    octets = b"".join(octet for octet, _ in _octets(plain))
    if len(octets) > _MAX_STRING:
        raise CodecError("a character-string is longer than 255 octets")
    return bytes((len(octets),)) + octets


def _integer(bits: int) -> Callable[[str], bytes]:
    def encode(text: str) -> bytes:
        if not text.isdecimal() or int(text) >> bits:
            raise CodecError(f'"{text}" is no number of {bits} bits')
        return int(text).to_bytes(bits // 8)

    return encode


def _time(text: str) -> bytes:
    seconds = parse_ttl(text)
    if seconds is None:
        raise CodecError(f'"{text}" is no time')
    return struct.pack("!I", seconds)


def _address(family: type[IPv4Address] | type[IPv6Address]) -> Callable[[str], bytes]:
    def encode(text: str) -> bytes:
        try:
            return family(text).packed
        except ValueError as error:
            raise CodecError(str(error)) from None

    return encode


_16 = _integer(16)
_FIELDS: dict[int, tuple[Callable[[str], bytes], ...]] = {
    codec.A: (_address(IPv4Address),),
    codec.AAAA: (_address(IPv6Address),),
    codec.NS: (parse_name,),
    codec.CNAME: (parse_name,),
    codec.PTR: (parse_name,),
    codec.DNAME: (parse_name,),
    codec.MX: (_16, parse_name),
    codec.SRV: (_16, _16, _16, parse_name),
    codec.SOA: (parse_name, parse_name, _integer(32), _time, _time, _time, _time),
    codec.HINFO: (_string, _string),
    35: (_16, _16, _string, _string, _string, parse_name),  # NAPTR
}


def _rdata(kind: int, name: str, words: list[str]) -> bytes:
    if words[:1] == [r"\#"]:  # RFC 3597, section 5
        return _generic(words)
    if kind == codec.TXT and words:
        return b"".join(_string(word) for word in words)
    fields = _FIELDS.get(kind)
    if fields is None:
        raise CodecError(f"records of type {name} are to be written as \\# LENGTH HEXADECIMAL")
    if len(fields) != len(words):
        raise CodecError(f"{name} takes {len(fields)} fields, not {len(words)}")
    return b"".join(encode(word) for encode, word in zip(fields, words, strict=True))


def _generic(words: list[str]) -> bytes:
    try:
        octets = bytes.fromhex("".join(words[2:]))
    except ValueError as error:
        raise CodecError(str(error)) from None
    if words[1:2] != [str(len(octets))]:
        raise CodecError("the length of a generic record is not that of its octets")
    return octets
