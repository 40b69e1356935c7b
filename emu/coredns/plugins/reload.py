"""reload: takes up a changed Corefile while running. See reload.md."""

from __future__ import annotations

from emu.coredns.chain import Plugin
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment
from emu.coredns.values import seconds


class Reload(Plugin):
    """Its presence lets the server apply changes of the ConfigMap, at once: it is watched, not polled."""

    name = "reload"


def setup(directive: Directive, environment: Environment) -> Reload:
    """`reload [INTERVAL] [JITTER]`; both are checked and have no effect."""
    if len(directive.args) > 2 or directive.block:
        raise directive.error("it takes an interval and a jitter")
    for text in directive.args:
        seconds(directive, text)
    return Reload()
