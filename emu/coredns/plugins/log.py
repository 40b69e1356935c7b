"""log: one line for each query, in CoreDNS's common format. See log.md."""

from __future__ import annotations

import logging
import time

from emu.coredns import codec
from emu.coredns.chain import Plugin, Query, Reply
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment

log = logging.getLogger(__name__)


def common_format(query: Query, reply: Reply, size: int, duration: float) -> str:
    """`remote:port - id "type class name proto size do bufsize" rcode flags rsize duration`."""
    request = query.request
    flags = (
        ("qr", True),
        ("aa", reply.authoritative),
        ("tc", reply.truncated),
        ("rd", request.flags & codec.RD),
        ("ra", reply.recursion),
        ("cd", request.flags & codec.CD),
    )
    return (
        f"{query.client[0]}:{query.client[1]} - {request.id} "
        f'"{codec.type_name(request.type)} {codec.class_name(request.cls)} {codec.to_text(request.name)} '
        f"{query.proto} {request.length} {str(bool(request.edns and request.edns.do)).lower()} "
        f'{request.udp_limit}" {codec.rcode_name(reply.rcode)} '
        f"{','.join(name for name, is_set in flags if is_set)} {size} {duration:.9f}s"
    )


class Log(Plugin):
    """Logs queries for some names."""

    name = "log"
    every_class = True

    def __init__(self, zones: list[bytes]) -> None:
        self._zones = zones

    def finish(self, query: Query, reply: Reply) -> Reply:
        """Have the reply logged once its size is known. It must pass here each time."""
        if any(codec.is_below(query.request.key, zone) for zone in self._zones):
            query.observers = (*query.observers, self._write)
            reply.constant = False
        return reply

    @staticmethod
    def _write(query: Query, reply: Reply, size: int) -> None:
        log.info("%s", common_format(query, reply, size, time.perf_counter() - query.started))


def setup(directive: Directive, environment: Environment) -> Log:
    """`log [NAMES...]`."""
    if directive.block:
        raise directive.error("classes are not supported", directive.block[0].number)
    return Log([codec.to_wire(zone) for zone in environment.zones_of(directive, directive.args)])
