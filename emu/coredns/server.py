"""The server: builds chains from a Corefile, and replaces them while it serves."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Mapping
from typing import NamedTuple

from emu.coredns import codec
from emu.coredns.chain import Chain, Endpoint, Plugin
from emu.coredns.corefile import DEFAULT_PORT, ServerBlock, parse_corefile
from emu.coredns.environment import Environment, Facts
from emu.coredns.index import Key
from emu.coredns.plugins.order import ORDER, REPEATED
from emu.coredns.responder import Responder

log = logging.getLogger(__name__)


class Configuration(NamedTuple):
    """A Corefile that was understood: chains by port and zone, and what belongs to them."""

    chains: dict[int, dict[bytes, Chain]]
    plugins: list[Plugin]
    endpoints: list[Endpoint]
    enabled: set[tuple[str, str, str]]

    @property
    def reloads(self) -> bool:
        """Whether the Corefile lets itself be replaced."""
        return any(plugin.name == "reload" for plugin in self.plugins)


def configure(text: str, file: str, facts: Facts, beside: Mapping[str, str] | None = None) -> Configuration:
    """Everything that a Corefile asks for, set up and not yet started. Raises CorefileError."""
    configuration = Configuration({}, [], [], set())
    for block in parse_corefile(text, file, os.environ, beside):
        environment = Environment(block.zones, facts, configuration.endpoints, configuration.plugins)
        plugins = _plugins(block, environment)
        configuration.plugins.extend(plugins)
        for zone in block.zones:
            chain = Chain(zone.name, plugins)
            configuration.chains.setdefault(zone.port, {})[codec.to_wire(zone.name)] = chain
            configuration.enabled.update(
                (f"dns://:{zone.port}", zone.name, plugin.name) for plugin in plugins
            )
    return configuration


def _plugins(block: ServerBlock, environment: Environment) -> list[Plugin]:
    order = list(ORDER)
    for directive in block.directives:
        if directive.name not in ORDER:
            raise directive.error(f"there is no such plugin; known are {', '.join(sorted(order))}")
    directives = sorted(block.directives, key=lambda item: order.index(item.name))
    for before, after in itertools.pairwise(directives):
        if before.name == after.name and before.name not in REPEATED:
            raise after.error("it is there twice in one server block")
    return [ORDER[directive.name](directive, environment) for directive in directives]


class Server:
    """The responders of all ports, and the configuration in force."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.configuration = Configuration({}, [], [], set())
        self._responders: dict[int, Responder] = {}
        facts.index.subscribe(self._changed)
        self._serial = facts.index.serial

    def responder(self, port: int) -> Responder:
        """What answers at a port of the Corefile. It stays the same over reloads."""
        found = self._responders.get(port)
        if found is None:
            chains = self.configuration.chains.get(port, {})
            found = Responder(f"dns://:{port}", chains, self.facts.metrics)
            self._responders[port] = found
        return found

    @property
    def other_ports(self) -> tuple[int, ...]:
        """Ports of server blocks besides the default one."""
        return tuple(sorted(self.configuration.chains.keys() - {DEFAULT_PORT}))

    def endpoints(self) -> list[Endpoint]:
        """What is to be served over HTTP."""
        return self.configuration.endpoints

    async def apply(self, text: str, file: str, beside: Mapping[str, str] | None = None) -> None:
        """Serve by another Corefile. Raises CorefileError, and then goes on with the old one.

        `beside` are the files that it may import, by name, where it is not itself a file.
        """
        try:
            configuration = configure(text, file, self.facts, beside)
        except ValueError:
            self.facts.metrics.reloads_failed += 1
            raise
        old, self.configuration = self.configuration, configuration
        self.facts.metrics.plugins = configuration.enabled
        for port, responder in self._responders.items():
            responder.replace(configuration.chains.get(port, {}))
        for plugin in configuration.plugins:
            await plugin.start()
        for plugin in old.plugins:
            await plugin.stop()

    async def stop(self) -> None:
        """Stop all plugins."""
        for plugin in self.configuration.plugins:
            await plugin.stop()

    def forget(self) -> None:
        """Drop all kept replies: something that any of them may depend on has changed."""
        for responder in self._responders.values():
            responder.kept.clear()

    def _changed(self, services: tuple[Key, ...] | None) -> None:
        serial, self._serial = self._serial, self.facts.index.serial
        if services is None:
            self.forget()
            return
        for responder in self._responders.values():
            responder.kept.forget(services, serial=serial != self._serial)
