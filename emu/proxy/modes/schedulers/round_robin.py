"""rr and wrr: the destinations in turn."""

from __future__ import annotations

import math

from emu.proxy.modes.schedulers.base import Destination, Destinations, Scheduler


class RoundRobin(Scheduler):
    """rr: the next one after the last chosen, in list order."""

    def __init__(self, destinations: Destinations) -> None:
        super().__init__(destinations)
        self._at = -1

    def pick(self, client: tuple[str, int], now: float) -> Destination | None:
        """See Scheduler."""
        destinations, at = self.destinations, self._at
        for _ in destinations:
            at += 1
            if at == len(destinations):
                at = 0
            if destinations[at].weight > 0:
                self._at = at
                return destinations[at]
        return None

    def added(self, at: int) -> None:
        """See Scheduler. The turn stays with the one that had it."""
        if at <= self._at:
            self._at += 1

    def removed(self, at: int, destination: Destination) -> None:
        """See Scheduler. The turn goes back to the one before, so that the one after is next."""
        if at <= self._at:
            self._at -= 1


class WeightedRoundRobin(Scheduler):
    """wrr: passes over the list take those of at least the current weight, which falls with each pass.

    It falls by the greatest common divisor of the weights, from the greatest weight less (divisor - 1), so
    that it comes down to 1. A change of the list starts a pass.
    """

    def __init__(self, destinations: Destinations) -> None:
        super().__init__(destinations)
        self._at = -1
        self._current = self._step = self._top = 0
        self._divisor = self._greatest = 0
        self.changed()

    def pick(self, client: tuple[str, int], now: float) -> Destination | None:
        """See Scheduler."""
        if not self._top:
            return None
        destinations = self.destinations
        while True:
            self._at += 1
            if self._at == len(destinations):
                self._at = 0
                self._current -= self._step
                if self._current <= 0:
                    self._current = self._top
            if destinations[self._at].weight >= self._current:
                return destinations[self._at]

    def added(self, at: int) -> None:
        """See Scheduler."""
        weight = self.destinations[at].weight
        self._divisor = math.gcd(self._divisor, weight)
        self._greatest = max(self._greatest, weight)
        self._start_again()

    def changed(self) -> None:
        """See Scheduler."""
        weights = [destination.weight for destination in self.destinations]
        self._divisor = math.gcd(*weights)
        self._greatest = max(weights, default=0)
        self._start_again()

    def _start_again(self) -> None:
        self._at = -1
        self._step = self._divisor or 1
        self._top = self._greatest - (self._step - 1)
        if self._current > self._top or not self._current:
            self._current = self._top
        elif self._step > 1:
            self._current = self._current // self._step * self._step + 1
