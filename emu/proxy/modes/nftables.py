"""nftables mode: `numgen random mod N` over the endpoints; affinity by a set with a timeout for each."""

from __future__ import annotations

from random import Random

from emu.proxy.modes.chains import ChainBalancer, ClientLists

SET_SIZE = 65535
"""How many elements a dynamic set of no given size holds."""


class AffinitySets(ClientLists):
    """`ip saddr @affinity-E goto E` in the service's chain, `update @affinity-E { ip saddr }` in that of E.

    `update` starts an element's timeout again.
    """

    def fresh(self, seen: float, timeout: float, now: float) -> bool:
        """See ClientLists."""
        return now - seen < timeout

    def make_room(self, key: str, timeout: float, now: float) -> bool:
        """See ClientLists. Elements whose timeout is over are collected; a full set takes no other client."""
        while (oldest := self.oldest(key)) and not self.fresh(oldest[1], timeout, now):
            self.forget(oldest[0], key)
        return self.size(key) < SET_SIZE


class NftablesBalancer(ChainBalancer):
    """Uniform random; with ClientIP affinity a set of clients for each endpoint."""

    def __init__(self, random: Random) -> None:
        super().__init__(random, AffinitySets())
