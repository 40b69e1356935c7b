"""The schedulers of ipvs, each as Linux' `net/netfilter/ipvs` has it, by name."""

from __future__ import annotations

from collections.abc import Callable, Collection

from emu.proxy.modes.schedulers.base import Destinations, Scheduler
from emu.proxy.modes.schedulers.failover import Failover, Overflow
from emu.proxy.modes.schedulers.hashing import DestinationHashing, SourceHashing
from emu.proxy.modes.schedulers.least import (
    LeastConnection,
    NeverQueue,
    ShortestExpectedDelay,
    WeightedLeastConnection,
)
from emu.proxy.modes.schedulers.locality import LocalityBased, LocalityBasedWithReplication
from emu.proxy.modes.schedulers.maglev import MaglevHashing
from emu.proxy.modes.schedulers.round_robin import RoundRobin, WeightedRoundRobin

Flags = Collection[str]

SCHEDULERS: dict[str, Callable[[Destinations, str, Flags], Scheduler]] = {
    "rr": lambda destinations, address, flags: RoundRobin(destinations),
    "wrr": lambda destinations, address, flags: WeightedRoundRobin(destinations),
    "lc": lambda destinations, address, flags: LeastConnection(destinations),
    "wlc": lambda destinations, address, flags: WeightedLeastConnection(destinations),
    "sed": lambda destinations, address, flags: ShortestExpectedDelay(destinations),
    "nq": lambda destinations, address, flags: NeverQueue(destinations),
    "sh": lambda destinations, address, flags: SourceHashing(
        destinations, port="sh-port" in flags, fallback="sh-fallback" in flags
    ),
    "dh": lambda destinations, address, flags: DestinationHashing(destinations, address),
    "lblc": lambda destinations, address, flags: LocalityBased(destinations),
    "lblcr": lambda destinations, address, flags: LocalityBasedWithReplication(destinations),
    "mh": lambda destinations, address, flags: MaglevHashing(
        destinations, port="mh-port" in flags, fallback="mh-fallback" in flags
    ),
    "fo": lambda destinations, address, flags: Failover(destinations),
    "ovf": lambda destinations, address, flags: Overflow(destinations),
}
"""Each takes the list of destinations, the address of the virtual server, and the flags in force."""

SCHEDULER_FLAGS: dict[str, tuple[str, ...]] = {
    "sh": ("sh-fallback", "sh-port"),
    "mh": ("mh-fallback", "mh-port"),
}
"""The flags that a scheduler knows, as `ipvsadm --sched-flags` names them; others know none."""


def flags_in_force(scheduler: str, given: Flags) -> tuple[str, ...]:
    """The flags of virtual servers, in `ipvsadm`'s order. kube-proxy always sets mh-port for mh."""
    return tuple(flag for flag in SCHEDULER_FLAGS.get(scheduler, ()) if flag in given or flag == "mh-port")
