"""health: says that the process is alive. See health.md."""

from __future__ import annotations

from emu.coredns.chain import Endpoint, Plugin
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment
from emu.coredns.values import http_port, seconds

PORT = 8080


class Health(Plugin):
    """Serves /health."""

    name = "health"

    @staticmethod
    def serve() -> tuple[int, str, bytes]:
        """Always 200."""
        return 200, "text/plain; charset=utf-8", b"OK"


def setup(directive: Directive, environment: Environment) -> Health:
    """`health [ADDRESS] { lameduck DURATION }`."""
    for line in directive.block:
        if line.name != "lameduck" or len(line.args) != 1:
            raise directive.error(f'"{line.name}" is not an option', line.number)
        seconds(directive, line.args[0], line.number)
    port = http_port(directive, PORT)
    environment.endpoints.append(Endpoint(port, "/health", Health.serve))
    return Health()
