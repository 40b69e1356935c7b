"""log: one line for each query, in CoreDNS's formats. See log.md."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import NamedTuple

from emu.coredns import codec
from emu.coredns.chain import Plugin, Query, Reply
from emu.coredns.clients import Clients
from emu.coredns.codec import NOERROR, NXDOMAIN, SOA
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment
from emu.coredns.values import seconds

log = logging.getLogger(__name__)

COMMON = (
    '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" '
    "{rcode} {>rflags} {rsize} {duration}"
)
COMBINED = COMMON + ' "{>opcode}"'
CLASSES = ("success", "denial", "error", "all")
_PLACEHOLDER = re.compile(r"\{[^{}\s]+\}")
_EMPTY = "-"
_LABELS = ("kubernetes/client-namespace", "kubernetes/client-pod-name")


class Entry(NamedTuple):
    """What a line tells of: `size` is the reply's in octets, `duration` in seconds."""

    query: Query
    reply: Reply
    size: int
    duration: float
    clients: Clients


def _flags(entry: Entry) -> str:
    asked, reply = entry.query.request.flags, entry.reply
    flags = (
        ("qr", True),
        ("aa", reply.authoritative),
        ("tc", reply.truncated),
        ("rd", asked & codec.RD),
        ("ra", reply.recursion),
        ("cd", asked & codec.CD),
    )
    return ",".join(name for name, is_set in flags if is_set)


def _address(text: str) -> str:
    return f"[{text}]" if ":" in text else text


def _client_namespace(entry: Entry) -> str:
    pod = entry.clients.pod_at(entry.query.client[0])
    return pod.namespace if pod else ""


def _client_pod_name(entry: Entry) -> str:
    pod = entry.clients.pod_at(entry.query.client[0])
    return pod.name if pod else ""


_VALUES: dict[str, Callable[[Entry], str]] = {
    "{type}": lambda entry: codec.type_name(entry.query.request.type),
    "{class}": lambda entry: codec.class_name(entry.query.request.cls),
    "{name}": lambda entry: codec.to_text(entry.query.request.name),
    "{proto}": lambda entry: entry.query.proto,
    "{remote}": lambda entry: _address(entry.query.client[0]),
    "{port}": lambda entry: str(entry.query.client[1]),
    "{local}": lambda entry: _address(entry.query.local[0]),
    "{size}": lambda entry: str(entry.query.request.length),
    "{rcode}": lambda entry: codec.rcode_name(entry.reply.rcode),
    "{rsize}": lambda entry: str(entry.size),
    "{duration}": lambda entry: f"{entry.duration:.9f}s",
    "{>id}": lambda entry: str(entry.query.request.id),
    "{>opcode}": lambda entry: str(entry.query.request.flags >> 11 & 0xF),
    "{>do}": lambda entry: str(bool(entry.query.request.edns and entry.query.request.edns.do)).lower(),
    "{>bufsize}": lambda entry: str(entry.query.request.udp_limit),
    "{>rflags}": _flags,
    "{/kubernetes/client-namespace}": _client_namespace,
    "{/kubernetes/client-pod-name}": _client_pod_name,
}


class Format:
    """A format with its placeholders found. Raises ValueError for one that nothing is known of."""

    def __init__(self, text: str) -> None:
        text = text.replace("{common}", COMMON).replace("{combined}", COMBINED)
        self._literals = _PLACEHOLDER.split(text)
        names = [match.lower() if match[1] == ">" else match for match in _PLACEHOLDER.findall(text)]
        for name in names:
            if name not in _VALUES:
                raise ValueError(f"{name} is no placeholder; known are {', '.join(sorted(_VALUES))}")
        self._values = [_VALUES[name] for name in names]
        self.names_clients = any(name[2:-1] in _LABELS for name in names)
        """Whether the pods must be known."""

    def line(self, entry: Entry) -> str:
        """The line for one query."""
        parts = [self._literals[0]]
        for value, literal in zip(self._values, self._literals[1:], strict=True):
            parts += (value(entry) or _EMPTY, literal)
        return "".join(parts)


def response_class(reply: Reply) -> str:
    """`success`, `denial` or `error`, as CoreDNS sorts responses.

    Without an SOA, a denial is none that may be kept (RFC 2308, section 5).
    """
    if any(record.type == SOA for record in reply.authority) and (
        reply.rcode == NXDOMAIN or (reply.rcode == NOERROR and not reply.answer)
    ):
        return "denial"
    return "success" if reply.rcode == NOERROR else "error"


class Log(Plugin):
    """Logs queries for some names."""

    name = "log"
    every_class = True

    def __init__(
        self,
        zones: list[bytes],
        line_format: Format,
        classes: frozenset[str],
        slow: float | None,
        clients: Clients,
    ) -> None:
        self._zones = zones
        self._format = line_format
        self._classes = classes
        self._slow = slow
        self._clients = clients

    def finish(self, query: Query, reply: Reply) -> Reply:
        """Have the reply logged once its size is known. It must pass here each time."""
        if any(codec.is_below(query.request.key, zone) for zone in self._zones):
            query.observers = (*query.observers, self._write)
            reply.constant = False
        return reply

    def _write(self, query: Query, reply: Reply, size: int) -> None:
        duration = time.perf_counter() - query.started
        wanted = "all" in self._classes or response_class(reply) in self._classes
        if wanted or (self._slow is not None and duration >= self._slow):
            log.info("%s", self._format.line(Entry(query, reply, size, duration, self._clients)))


def setup(directive: Directive, environment: Environment) -> Log:
    """`log [NAMES...] [FORMAT] { class CLASSES...; minDuration DURATION }`."""
    args = directive.args
    text = "{common}"
    if args and "{" in args[-1]:
        args, text = args[:-1], args[-1]
    try:
        line_format = Format(text)
    except ValueError as error:
        raise directive.error(str(error)) from None
    classes: set[str] = set()
    slow = None
    for line in directive.block:
        if line.name == "class" and line.args:
            for name in line.args:
                if name not in CLASSES:
                    raise directive.error(f'"{name}" is not one of {", ".join(CLASSES)}', line.number)
            classes.update(line.args)
        elif line.name == "minDuration" and len(line.args) == 1:
            slow = seconds(directive, line.args[0], line.number)
        else:
            raise directive.error(f'"{" ".join((line.name, *line.args))}" is not an option', line.number)
    if line_format.names_clients:
        environment.facts.clients.want()
    zones = [codec.to_wire(zone) for zone in environment.zones_of(directive, args)]
    return Log(zones, line_format, frozenset(classes or {"all"}), slow, environment.facts.clients)
