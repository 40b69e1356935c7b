"""What every mode answers to. Modes are pure: time is passed in, and so is the source of randomness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from emu.core.endpoints import Endpoints, PortEndpoint


class Candidates:
    """The endpoints that a connection may go to, as a list and by key."""

    __slots__ = ("by_key", "endpoints", "listed")

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self.listed: object = None
        """The mark of the list of real servers that agrees with them, in ipvs mode."""
        self.by_key: Mapping[str, PortEndpoint] = {endpoint.key: endpoint for endpoint in endpoints}


class Balancer(Protocol):
    """Chooses endpoints for one service port on one node.

    Times are in seconds of a clock that never goes back. A client is the (address, port) of its socket.
    """

    counts: bool
    """Whether it wants to know of connections begun and ended."""

    def update(self, endpoints: Sequence[PortEndpoint], affinity: float | None) -> None:
        """The endpoints of the port have changed, or its ClientIP affinity in seconds (None: no affinity)."""

    def choose(self, candidates: Candidates, client: tuple[str, int], now: float) -> PortEndpoint | None:
        """The endpoint of a new connection; None when the mode has no destination for it."""

    def begun(self, endpoint: PortEndpoint, client: tuple[str, int], now: float) -> None:
        """A connection to the endpoint was set up."""

    def ended(self, endpoint: PortEndpoint, client: tuple[str, int], now: float) -> None:
        """A connection that was begun is over."""

    def failed(self, client: tuple[str, int]) -> None:
        """The endpoint chosen for the client could not be reached."""


class Uncounted:
    """For modes that keep no account of connections."""

    counts = False

    def begun(self, endpoint: PortEndpoint, client: tuple[str, int], now: float) -> None:
        """See Balancer."""

    def ended(self, endpoint: PortEndpoint, client: tuple[str, int], now: float) -> None:
        """See Balancer."""

    def failed(self, client: tuple[str, int]) -> None:
        """See Balancer."""
