"""The modes of kube-proxy: how the endpoint of a new connection is chosen.

One module for each mode, one interface for all: `emu.proxy.modes.base.Balancer`.
"""

from __future__ import annotations

from random import Random

from emu.core.config import ProxyMode
from emu.proxy.modes.base import Balancer
from emu.proxy.modes.iptables import IptablesBalancer
from emu.proxy.modes.ipvs import IpvsBalancer
from emu.proxy.modes.nftables import NftablesBalancer
from emu.proxy.modes.schedulers import Flags, flags_in_force
from emu.proxy.modes.userspace import UserspaceBalancer


def new_balancer(
    mode: ProxyMode, scheduler: str, flags: Flags, address: str, protocol: str, random: Random
) -> Balancer:
    """The balancer of one service port on one node.

    In ipvs it is that of one virtual server: `address` is its IP, `scheduler` its scheduler, and `flags` are
    those that the user gives to it.
    """
    match mode:
        case ProxyMode.IPTABLES:
            return IptablesBalancer(random)
        case ProxyMode.NFTABLES:
            return NftablesBalancer(random)
        case ProxyMode.IPVS:
            return IpvsBalancer(scheduler, flags_in_force(scheduler, flags), address, protocol)
        case ProxyMode.USERSPACE:
            return UserspaceBalancer(random)


def reschedule(balancer: Balancer, scheduler: str, flags: Flags) -> None:
    """Give a virtual server another scheduler, or other flags. Modes other than ipvs have none."""
    if isinstance(balancer, IpvsBalancer):
        balancer.reschedule(scheduler, flags_in_force(scheduler, flags))
