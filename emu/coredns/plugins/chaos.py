"""chaos: says which server this is, in class CH. See chaos.md."""

from __future__ import annotations

import random
import socket

from emu import __version__
from emu.coredns import codec
from emu.coredns.chain import Answer, Plugin, Query, Reply
from emu.coredns.codec import Record
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment

_MAX_STRING = 255
_AUTHORS = codec.to_wire("authors.bind.")
_VERSION = (codec.to_wire("version.bind."), codec.to_wire("version.server."))
_HOSTNAME = (codec.to_wire("hostname.bind."), codec.to_wire("id.server."))


class Chaos(Plugin):
    """Answers TXT queries of class CH for the well-known names (RFC 4892)."""

    name = "chaos"
    every_class = True
    opens = "classes"

    def __init__(self, version: str, authors: tuple[str, ...]) -> None:
        self._version = version
        self._authors = authors

    def answer(self, query: Query) -> Answer:
        """TXT records, for the names that it knows."""
        request = query.request
        if request.cls != codec.CH or request.type != codec.TXT:
            return None
        if request.key == _AUTHORS:
            texts = random.sample(self._authors, len(self._authors))
        elif request.key in _VERSION:
            texts = [self._version]
        elif request.key in _HOSTNAME:
            texts = [socket.gethostname()]
        else:
            return None
        records = []
        for text in texts:
            octets = text.encode()[:_MAX_STRING]
            records.append(Record(request.name, codec.TXT, 0, bytes((len(octets),)) + octets, cls=codec.CH))
        return Reply(answer=records, plugin=self.name, personal=True)


def setup(directive: Directive, environment: Environment) -> Chaos:
    """`chaos [VERSION] [AUTHORS...]`."""
    if directive.block:
        raise directive.error("it takes no block", directive.block[0].number)
    version, *authors = directive.args or (f"emu-{__version__}",)
    return Chaos(version, tuple(authors))
