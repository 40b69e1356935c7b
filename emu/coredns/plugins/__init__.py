"""The plugins, and the one list that says in which order a query meets them.

The order is that of CoreDNS's plugin.cfg and does not depend on the Corefile. Each plugin is a module (or a
folder) of this package with `setup(directive, environment) -> Plugin` and a manual page, `README.md` or
`NAME.md`, beside it.
"""

from __future__ import annotations

from collections.abc import Callable

from emu.coredns.chain import Plugin
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment
from emu.coredns.plugins import (
    cache,
    errors,
    forward,
    health,
    kubernetes,
    loadbalance,
    log,
    loop,
    prometheus,
    ready,
    reload,
)

Setup = Callable[[Directive, Environment], Plugin]

ORDER: dict[str, Setup] = {
    "reload": reload.setup,
    "ready": ready.setup,
    "health": health.setup,
    "prometheus": prometheus.setup,
    "errors": errors.setup,
    "log": log.setup,
    "loadbalance": loadbalance.setup,
    "cache": cache.setup,
    "kubernetes": kubernetes.setup,
    "loop": loop.setup,
    "forward": forward.setup,
}
