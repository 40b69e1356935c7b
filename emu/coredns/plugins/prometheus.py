"""prometheus: counts queries and serves the metrics. See prometheus.md."""

from __future__ import annotations

from emu.coredns.chain import Endpoint, Plugin, Query, Reply
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment
from emu.coredns.values import http_port

PORT = 9153


class Prometheus(Plugin):
    """Serves /metrics, and has the queries of its server block counted."""

    name = "prometheus"
    every_class = True

    def finish(self, query: Query, reply: Reply) -> Reply:
        """Have the query counted once its reply's size is known."""
        query.counted = True
        return reply


def setup(directive: Directive, environment: Environment) -> Prometheus:
    """`prometheus [ADDRESS]`."""
    if directive.block:
        raise directive.error("it takes no block", directive.block[0].number)
    endpoint = Endpoint(http_port(directive, PORT), "/metrics", environment.facts.metrics.serve)
    environment.endpoints.append(endpoint)
    return Prometheus()
