"""How eagerly the kernel runs the proxy: at once when it is asked for little, in batches when for much.

A process that wakes for each connection takes the processor from the client that makes the next one, and from
the node that answers: with two processors a third of the connections per second is lost. SCHED_BATCH
(sched(7)) lets those go on, and what has come meanwhile is handed over together. Where other programs keep
all processors busy it makes a connection wait for some milliseconds; hence only under load.
"""

from __future__ import annotations

import logging
import os

log = logging.getLogger(__name__)

MUCH = 2000.0
"""Connections per second from which on they are worth waiting for."""
_WINDOW_SECONDS = 0.05


class Pace:
    """Follows the rate of new connections."""

    def __init__(self) -> None:
        self.in_batches = False
        # Whoever has chosen another policy for emu has a reason.
        self._fixed = not hasattr(os, "SCHED_BATCH") or os.sched_getscheduler(0) != os.SCHED_OTHER
        self._since = 0.0
        self._count = 0

    def accepted(self, count: int, now: float) -> None:
        """So many connections came at once; `now` in seconds of a clock that never goes back."""
        self._count += count
        elapsed = now - self._since
        if elapsed < _WINDOW_SECONDS:
            return
        much = self._count / elapsed > MUCH
        self._since, self._count = now, 0
        if much is not self.in_batches and not self._fixed:
            self._change(much)

    def _change(self, in_batches: bool) -> None:
        policy = os.SCHED_BATCH if in_batches else os.SCHED_OTHER
        try:
            os.sched_setscheduler(0, policy, os.sched_param(0))
        except OSError as error:
            # A sandbox may forbid it.
            self._fixed = True
            log.debug("cannot change the scheduling policy: %s", error)
        else:
            self.in_batches = in_batches
