"""Port numbers, port names and protocols as fields of objects: what is wrong with one."""

from __future__ import annotations

from typing import Any

from emu.api.errors import FieldError, invalid, not_supported, required
from emu.api.naming import check, port_name_faults

PROTOCOLS = ("SCTP", "TCP", "UDP")


def check_port_number(port: Any, path: str) -> list[FieldError]:
    """Errors of a port number."""
    if 1 <= port <= 65535:
        return []
    return [invalid(path, port, "must be between 1 and 65535, inclusive")]


def check_port_name(name: str, path: str) -> list[FieldError]:
    """Errors of the name of a container port."""
    return check(name, path, port_name_faults)


def check_port(port: Any, path: str) -> list[FieldError]:
    """Errors of a port that is given by its number or its name."""
    return check_port_name(port, path) if isinstance(port, str) else check_port_number(port, path)


def check_protocol(protocol: str | None, path: str) -> list[FieldError]:
    """Errors of a transport protocol."""
    if not protocol:
        return [required(path)]
    return [] if protocol in PROTOCOLS else [not_supported(path, protocol, PROTOCOLS)]
