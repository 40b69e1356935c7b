"""whoami: tells the client its own address, port and protocol. See whoami.md."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from emu.coredns import codec
from emu.coredns.chain import Answer, Plugin, Query, Reply
from emu.coredns.codec import Record
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment


class Whoami(Plugin):
    """Answers every query that nobody above answered."""

    name = "whoami"
    every_class = True

    def answer(self, query: Query) -> Answer:
        """No answer, and in the additional section an address and an SRV record."""
        request = query.request
        packed = ip_address(query.client[0]).packed
        kind = codec.A if len(packed) == 4 else codec.AAAA
        label = f"_{query.proto}".encode()
        owner = bytes((len(label),)) + label + request.name
        additional = [Record(request.name, kind, 0, packed, cls=request.cls)]
        if len(owner) <= codec.MAX_NAME:
            rdata = struct.pack("!HHH", 0, 0, query.client[1]) + b"\0"
            additional.append(Record(owner, codec.SRV, 0, rdata, cls=request.cls))
        return Reply(additional=additional, authoritative=True, plugin=self.name, personal=True)


def setup(directive: Directive, environment: Environment) -> Whoami:
    """`whoami`."""
    if directive.args or directive.block:
        raise directive.error("it takes no arguments")
    return Whoami()
