"""Values that several plugins take in a Corefile."""

from __future__ import annotations

import re

from emu.core.durations import parse_duration
from emu.coredns.corefile import Directive


def seconds(directive: Directive, text: str, line: int | None = None) -> float:
    """A duration as Go writes it (`5s`, `500ms`, `1m30s`); a bare number counts seconds."""
    if re.fullmatch(r"\d+", text):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", text):
        raise directive.error(f'"{text}" is not a duration, such as 5s', line)
    return parse_duration(text)


def natural(directive: Directive, text: str, line: int | None = None) -> int:
    """A whole number of at least 0."""
    if not text.isdecimal():
        raise directive.error(f'"{text}" is not a number', line)
    return int(text)


def http_port(directive: Directive, default: int) -> int:
    """The port of an optional `[HOST]:PORT`. The host does not matter: the pods' addresses are used."""
    if len(directive.args) > 1:
        raise directive.error("it takes one address at most")
    if not directive.args:
        return default
    port = directive.args[0].rpartition(":")[2]
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise directive.error(f'"{directive.args[0]}" is not an address with a port, such as :{default}')
    return int(port)
