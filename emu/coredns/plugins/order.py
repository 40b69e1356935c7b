"""The one list that says in which order a query meets the plugins: that of CoreDNS's plugin.cfg."""

from __future__ import annotations

from collections.abc import Callable

from emu.coredns.chain import Plugin
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment
from emu.coredns.plugins import (
    any as any_,
)
from emu.coredns.plugins import (
    autopath,
    cache,
    chaos,
    erratic,
    errors,
    forward,
    health,
    hosts,
    kubernetes,
    loadbalance,
    log,
    loop,
    prometheus,
    ready,
    reload,
    rewrite,
    template,
    transfer,
    whoami,
)

Setup = Callable[[Directive, Environment], Plugin]

ORDER: dict[str, Setup] = {
    "reload": reload.setup,
    "ready": ready.setup,
    "health": health.setup,
    "prometheus": prometheus.setup,
    "errors": errors.setup,
    "log": log.setup,
    # At the end in CoreDNS, where it answers itself; here it spoils what the others would answer.
    "erratic": erratic.setup,
    "any": any_.setup,
    "chaos": chaos.setup,
    "loadbalance": loadbalance.setup,
    "cache": cache.setup,
    "rewrite": rewrite.setup,
    "autopath": autopath.setup,
    "template": template.setup,
    "transfer": transfer.setup,
    "hosts": hosts.setup,
    "kubernetes": kubernetes.setup,
    "loop": loop.setup,
    "forward": forward.setup,
    "whoami": whoami.setup,
}

REPEATED = frozenset(("erratic", "forward", "log", "rewrite", "template", "transfer"))
"""Plugins that one server block may mention several times; they are asked in the order of the Corefile."""
