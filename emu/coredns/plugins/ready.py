"""ready: says when all plugins can do their work. See ready.md."""

from __future__ import annotations

from emu.coredns.chain import Endpoint, Plugin
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment
from emu.coredns.values import http_port

PORT = 8181


class Ready(Plugin):
    """Serves /ready."""

    name = "ready"

    def __init__(self, plugins: list[Plugin]) -> None:
        self._plugins = plugins

    def serve(self) -> tuple[int, str, bytes]:
        """200, or 503 with the names of the plugins that are not ready."""
        waiting = sorted({plugin.name for plugin in self._plugins if plugin is not self and not plugin.ready})
        if waiting:
            return 503, "text/plain; charset=utf-8", ",".join(waiting).encode()
        return 200, "text/plain; charset=utf-8", b"OK"


def setup(directive: Directive, environment: Environment) -> Ready:
    """`ready [ADDRESS]`."""
    if directive.block:
        raise directive.error("it takes no block", directive.block[0].number)
    plugin = Ready(environment.plugins)
    environment.endpoints.append(Endpoint(http_port(directive, PORT), "/ready", plugin.serve))
    return plugin
