"""What the schedulers of ipvs work on and answer to, as in Linux' `net/netfilter/ipvs`."""

from __future__ import annotations


class Destination:
    """A real server of a virtual server: its weight and its connections."""

    __slots__ = ("active", "inactive", "key", "last_weight", "listed", "weight")

    def __init__(self, key: str, weight: int = 1) -> None:
        self.key = key
        """`ip:port`."""
        self.weight = weight
        """0: it gets no new connection."""
        self.last_weight = weight
        """The weight before it was set to 0; mh keeps the places of a server that is only on its way out."""
        self.active = 0
        self.inactive = 0
        self.listed = True
        """Whether it is in the list of its virtual server."""

    @property
    def idle(self) -> bool:
        """Whether it has no connection, not even one that has ended a short time ago."""
        return not self.active and not self.inactive

    @property
    def overhead(self) -> int:
        """Its load: an active connection costs as much as 256 inactive ones."""
        return self.active * 256 + self.inactive

    def set_weight(self, weight: int) -> None:
        """Change the weight. The scheduler has to be told."""
        self.weight = weight
        if weight:
            self.last_weight = weight


Destinations = list[Destination]
"""The list of a virtual server, in the kernel's order. Its scheduler holds it too."""


class Scheduler:
    """Picks a destination for a new connection.

    It is told of each change of the list, after the change, so that it has nothing to look for in `pick`.
    A destination of weight 0 is never picked.
    """

    def __init__(self, destinations: Destinations) -> None:
        self.destinations = destinations

    def pick(self, client: tuple[str, int], now: float) -> Destination | None:
        """The destination for a client's address and port; None when there is none for it.

        `now` is in seconds of a clock that never goes back.
        """
        raise NotImplementedError

    def added(self, at: int) -> None:
        """There is a new destination at a place of the list."""
        self.changed()

    def removed(self, at: int, destination: Destination) -> None:
        """A destination is gone; it was at a place of the list."""
        self.changed()

    def updated(self, destination: Destination) -> None:
        """A destination has another weight."""
        self.changed()

    def changed(self) -> None:
        """Any of these three, for schedulers to which they are the same."""
