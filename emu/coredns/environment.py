"""What plugins are set up with: their server block, the cluster's objects, and the server's own facts."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from emu.coredns import codec
from emu.coredns.chain import Endpoint, Plugin
from emu.coredns.clients import Clients
from emu.coredns.corefile import Directive, Zone, normalize_zones
from emu.coredns.index import Index
from emu.coredns.metrics import Metrics
from emu.coredns.wasted import WastedQueries


class Facts(msgspec.Struct):
    """What is true of the process, whatever the Corefile says. One for all chains."""

    index: Index
    metrics: Metrics
    watch_pods: Callable[[], None] = lambda: None
    """Called when a plugin needs the index to know all pods."""
    addresses: Callable[[], frozenset[str]] = frozenset
    """Addresses that this server answers on, for those that must not forward to themselves."""
    dns_pods: Callable[[], tuple[str, ...]] = tuple
    """Addresses of the DNS pods."""
    clients: Clients = msgspec.field(default_factory=Clients)
    """The pods that ask, by address."""
    wasted: WastedQueries = msgspec.UNSET  # type: ignore[assignment]
    """The search queries that were in vain."""

    def __post_init__(self) -> None:
        self.wasted = WastedQueries(self.clients)
        self.metrics.register(self.wasted)


class Environment(msgspec.Struct):
    """Given to the `setup` of each plugin of a server block."""

    zones: tuple[Zone, ...]
    facts: Facts
    endpoints: list[Endpoint] = []
    """Shared by all blocks: plugins append what they want served over HTTP."""
    plugins: list[Plugin] = []
    """Of all blocks; complete once every block was set up."""

    @property
    def zone_names(self) -> list[str]:
        """The zones of the server block."""
        return [zone.name for zone in self.zones]

    @property
    def server(self) -> str:
        """The label `server` of metrics."""
        return f"dns://:{self.zones[0].port}"

    def wire_zones(self, directive: Directive, names: tuple[str, ...]) -> list[bytes]:
        """As `zones_of`, in wire form."""
        return [codec.to_wire(zone) for zone in self.zones_of(directive, names)]

    def fallthrough(self, directive: Directive, names: tuple[str, ...]) -> list[bytes]:
        """The zones of an option `fallthrough [ZONES...]`: all of them where it names none."""
        return self.wire_zones(directive, names or (".",))

    def zones_of(self, directive: Directive, names: tuple[str, ...]) -> list[str]:
        """Zones written in a directive, or those of the block where it has none."""
        zones: list[str] = []
        for name in names:
            try:
                zones += normalize_zones(name)
            except ValueError as error:
                raise directive.error(str(error)) from None
        return zones or self.zone_names
