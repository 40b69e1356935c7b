"""loadbalance: puts address records into a new order in each reply. See loadbalance.md."""

from __future__ import annotations

import random

from emu.coredns.chain import Plugin, Query, Reply, Section
from emu.coredns.codec import AAAA, CNAME, MX, A
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment

_SHUFFLED = (A, AAAA, MX)


def shuffled(section: Section, first: int | None = None) -> Section:
    """CNAMEs, then other records, then addresses in random order; `first` chooses the leading one."""
    addresses = [record for record in section if record.type in _SHUFFLED]
    if len(addresses) > 1:
        lead = [addresses.pop(first % len(addresses))] if first is not None else []
        random.shuffle(addresses)
        addresses = lead + addresses
    aliases = [record for record in section if record.type == CNAME]
    others = [record for record in section if record.type != CNAME and record.type not in _SHUFFLED]
    return aliases + others + addresses


class LoadBalance(Plugin):
    """Marks replies for shuffling: a reply that is kept is kept in several orders."""

    name = "loadbalance"
    every_class = True

    def finish(self, query: Query, reply: Reply) -> Reply:
        """Mark the reply where it has an order to change."""
        if len(reply.answer) > 1 or len(reply.additional) > 1:
            reply.shuffle = True
        return reply


def setup(directive: Directive, environment: Environment) -> LoadBalance:
    """`loadbalance [round_robin]`."""
    if directive.args not in ((), ("round_robin",)) or directive.block:
        raise directive.error("only the policy round_robin is known")
    return LoadBalance()
