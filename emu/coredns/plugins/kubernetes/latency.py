"""How long it took from a change of a Service or its pods until DNS answers by it: CoreDNS's metric of that.

Measured where the EndpointSlice controller says when the change happened, and for headless Services with a
selector alone, as upstream does; other answers do not depend on endpoints.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from emu.core.objects import EndpointSlice
from emu.coredns.families import Families, Family
from emu.coredns.index import Index

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
DURATION = Family(
    "coredns_kubernetes_dns_programming_duration_seconds",
    "Histogram of the time (in seconds) it took to program a dns instance.",
    ("service_kind",),
    "histogram",
    tuple(0.001 * 2**step for step in range(20)),
)


class ProgrammingLatency:
    """Told of EndpointSlices after the index. `clock` gives seconds since the epoch."""

    def __init__(self, index: Index, families: Families, clock: Callable[[], float] = time.time) -> None:
        self._index = index
        self._families = families
        self._clock = clock
        self._started = clock()

    def set_slice(self, _key: str, before: EndpointSlice | None, now: EndpointSlice | None) -> None:
        """Measure a change. Those from before the start say nothing about this process."""
        text = "" if now is None else now.metadata.annotations.get(TRIGGER_TIME, "")
        if now is None or not text or (before and before.metadata.annotations.get(TRIGGER_TIME) == text):
            return
        namespace, _, name = now.service_key.partition("/")
        entry = self._index.services.get((namespace.encode(), name.encode()))
        if entry is None or not entry.headless:
            return
        try:
            changed = datetime.fromisoformat(text).timestamp()
        except ValueError:  # an annotation may be written by anybody
            return
        if changed >= self._started:
            self._families.observe(
                DURATION, "headless_with_selector", value=max(0.0, self._clock() - changed)
            )
