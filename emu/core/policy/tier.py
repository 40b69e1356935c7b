"""The shape that every tier of policies has: asked in order, each decides or leaves it to the next."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from emu.core.policy.compiled import Direction
from emu.core.policy.index import PodEntry
from emu.core.ranges import Ranges


class End(NamedTuple):
    """One end of a connection. `pod` is None for an address that no pod has."""

    address: int
    """Unsigned 32-bit, or -1 for what is no IPv4 address: no block contains it."""
    text: str
    pod: PodEntry | None

    def __str__(self) -> str:
        if self.pod is None:
            return f"{self.text} (no pod)"
        if not self.pod.labels:
            return f"{self.pod.key} (no labels)"
        labels = ", ".join(f"{key}={value}" for key, value in sorted(self.pod.labels.items()))
        return f"{self.pod.key} ({labels})"


class Connection(NamedTuple):
    """What is judged. `port` is the port of the destination itself: of the pod, not of a Service."""

    source: End
    destination: End
    port: int
    protocol: str

    def ends(self, direction: Direction) -> tuple[End, End]:
        """The subject of a direction and its peer."""
        if direction is Direction.INGRESS:
            return self.destination, self.source
        return self.source, self.destination

    @property
    def port_text(self) -> str:
        """`8080/TCP`."""
        return f"{self.port}/{self.protocol}"


class Judgement(NamedTuple):
    """A tier's final word on one side of a connection."""

    allowed: bool
    reason: str
    """A clause, to be part of a sentence."""
    policies: tuple[str, ...]
    """Keys of the policies that decided: the one that admits, or all that isolate."""


class SourceSplit(NamedTuple):
    """What a tier says of all sources of one destination; it leaves those in neither set to the next tier."""

    accepted: Ranges
    denied: Ranges
    """May overlap `accepted`, which wins: EVERYONE denies all that are not accepted."""


class PodSplit(NamedTuple):
    """What a tier says of all pods as sources towards one destination, as bit sets."""

    accepted: int
    denied: int


class Tier(Protocol):
    """Policies of one precedence. A side that it has no opinion on goes to the next tier."""

    @property
    def empty(self) -> bool:
        """Whether it has no policy at all."""

    def judge(self, connection: Connection, direction: Direction) -> Judgement | None:
        """Its word on one side, whose subject is a pod; None leaves it to the next tier."""

    def split_sources(self, destination: PodEntry, port: int, protocol: str) -> SourceSplit | None:
        """`judge` of the ingress side for every source at once."""

    def split_pods(
        self, destination: PodEntry | None, address: int, port: int, protocol: str
    ) -> PodSplit | None:
        """`judge` of the egress side for every source pod at once."""
