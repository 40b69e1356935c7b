"""prometheus: counts queries and serves the metrics. See prometheus.md."""

from __future__ import annotations

from emu.coredns.chain import Endpoint, Plugin, Query, Reply
from emu.coredns.codec import NXDOMAIN
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment
from emu.coredns.values import http_port
from emu.coredns.wasted import WastedQueries

PORT = 9153
_ARPA = b"\x04arpa\0"


class Prometheus(Plugin):
    """Serves /metrics, and has the queries of its server block counted."""

    name = "prometheus"
    every_class = True

    def __init__(self, wasted: WastedQueries) -> None:
        self._wasted = wasted

    def finish(self, query: Query, reply: Reply) -> Reply:
        """Have the query counted once its reply's size is known."""
        query.counted = True
        if reply.rcode == NXDOMAIN and reply.plugin == "kubernetes" and not query.request.key.endswith(_ARPA):
            reply.clients = self._wasted.counts
        return reply


def setup(directive: Directive, environment: Environment) -> Prometheus:
    """`prometheus [ADDRESS]`."""
    if directive.block:
        raise directive.error("it takes no block", directive.block[0].number)
    endpoint = Endpoint(http_port(directive, PORT), "/metrics", environment.facts.metrics.serve)
    environment.endpoints.append(endpoint)
    environment.facts.wasted.want()
    return Prometheus(environment.facts.wasted)
