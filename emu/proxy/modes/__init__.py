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
from emu.proxy.modes.userspace import UserspaceBalancer


def new_balancer(mode: ProxyMode, scheduler: str, destination: str, random: Random) -> Balancer:
    """The balancer of one service port (in ipvs: of one virtual server at `destination`) on one node."""
    match mode:
        case ProxyMode.IPTABLES:
            return IptablesBalancer(random)
        case ProxyMode.NFTABLES:
            return NftablesBalancer(random)
        case ProxyMode.IPVS:
            return IpvsBalancer(scheduler, destination)
        case ProxyMode.USERSPACE:
            return UserspaceBalancer(random)
