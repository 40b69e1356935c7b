"""iptables mode: a chain of `statistic --mode random` rules; affinity by the `recent` match.

Endpoint i of n has a rule with probability 1/(n-i), the last one none, so that each gets exactly 1/n.
"""

from __future__ import annotations

from random import Random

from emu.proxy.modes.chains import ChainBalancer, ClientLists

RECENT_CLIENTS = 100
"""How many addresses a `recent` list holds (xt_recent's ip_list_tot)."""


class RecentLists(ClientLists):
    """`--rcheck --seconds T` in the service's chain, `--set` in the endpoint's.

    `--reap` takes away only what `--seconds` keeps from matching.
    """

    def fresh(self, seen: float, timeout: float, now: float) -> bool:
        """See ClientLists."""
        return now - seen <= timeout

    def make_room(self, key: str, timeout: float, now: float) -> bool:
        """See ClientLists. In a full list the client that was seen longest ago makes room, fresh or not."""
        if self.size(key) >= RECENT_CLIENTS and (oldest := self.oldest(key)):
            self.forget(oldest[0], key)
        return True


class IptablesBalancer(ChainBalancer):
    """Uniform random; with ClientIP affinity a recent list for each endpoint."""

    def __init__(self, random: Random) -> None:
        super().__init__(random, RecentLists())
