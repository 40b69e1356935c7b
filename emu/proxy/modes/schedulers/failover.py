"""fo and ovf: everything to the destination of the greatest weight."""

from __future__ import annotations

from emu.proxy.modes.schedulers.base import Destination, Destinations, Scheduler


class Failover(Scheduler):
    """fo: the greatest weight, the first in the list on ties."""

    def __init__(self, destinations: Destinations) -> None:
        super().__init__(destinations)
        self._picked: Destination | None = None
        self._stale = True

    def pick(self, client: tuple[str, int], now: float) -> Destination | None:
        """See Scheduler. The kernel looks at all of them each time; the answer changes only with the list."""
        if self._stale:
            self._stale = False
            heaviest = max(self.destinations, key=lambda destination: destination.weight, default=None)
            self._picked = heaviest if heaviest is not None and heaviest.weight > 0 else None
        return self._picked

    def changed(self) -> None:
        """See Scheduler."""
        self._stale = True


class Overflow(Scheduler):
    """ovf: the greatest weight among those whose active connections do not exceed their weight."""

    def pick(self, client: tuple[str, int], now: float) -> Destination | None:
        """See Scheduler."""
        best: Destination | None = None
        for destination in self.destinations:
            weight = destination.weight
            if weight > 0 and destination.active <= weight and (best is None or weight > best.weight):
                best = destination
        return best
