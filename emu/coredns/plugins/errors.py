"""errors: log what went wrong with a query. See errors.md."""

from __future__ import annotations

import logging

from emu.coredns import codec
from emu.coredns.chain import Plugin, Query, Reply
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment

log = logging.getLogger(__name__)


class Errors(Plugin):
    """One line for each failure."""

    name = "errors"
    every_class = True

    def finish(self, query: Query, reply: Reply) -> Reply:
        """Log the error that made the reply a SERVFAIL."""
        if reply.error is not None:
            request = query.request
            log.error(
                "%s %s %s: %s",
                codec.rcode_name(reply.rcode),
                codec.to_text(request.name),
                codec.type_name(request.type),
                reply.error or type(reply.error).__name__,
            )
        return reply


def setup(directive: Directive, environment: Environment) -> Errors:
    """`errors`."""
    if directive.args or directive.block:
        raise directive.error("it takes no arguments here")
    return Errors()
