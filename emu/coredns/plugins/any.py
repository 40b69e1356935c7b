"""any: gives ANY queries a minimal answer (RFC 8482). See any.md."""

from __future__ import annotations

from emu.coredns import codec
from emu.coredns.chain import Answer, Plugin, Query, Reply
from emu.coredns.codec import Record
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment

TTL = 8482
_HINFO = b"\x0dANY obsoleted\x0cSee RFC 8482"


class Any(Plugin):
    """Answers ANY, and passes on everything else."""

    name = "any"
    every_class = True

    def answer(self, query: Query) -> Answer:
        """One HINFO record, whatever the name."""
        request = query.request
        if request.type != codec.ANY:
            return None
        record = Record(request.name, codec.HINFO, TTL, _HINFO)
        return Reply(answer=[record], plugin=self.name, constant=True)


def setup(directive: Directive, environment: Environment) -> Any:
    """`any`."""
    if directive.args or directive.block:
        raise directive.error("it takes no arguments")
    return Any()
