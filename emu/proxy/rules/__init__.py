"""The rules that the real kube-proxy would have programmed on a node, as the system's own tools print them.

One module for each mode makes text from a `View`; nothing here takes part in forwarding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from emu.core.config import ProxyMode
from emu.proxy.rules.ipsets import ipset_list
from emu.proxy.rules.iptables import iptables_rules
from emu.proxy.rules.ipvs import ipvsadm_list
from emu.proxy.rules.ipvs_iptables import ipvs_iptables_rules
from emu.proxy.rules.nftables import nftables_rules
from emu.proxy.rules.userspace import userspace_rules
from emu.proxy.rules.view import View

PARTS: Mapping[ProxyMode, Mapping[str, Callable[[View], str]]] = {
    ProxyMode.IPTABLES: {"iptables-save": iptables_rules},
    ProxyMode.NFTABLES: {"nft": nftables_rules},
    ProxyMode.IPVS: {
        "ipvsadm": ipvsadm_list,
        "ipset": lambda view: ipset_list(view, ipvs_iptables_rules(view)),
        "iptables-save": ipvs_iptables_rules,
    },
    ProxyMode.USERSPACE: {"iptables-save": userspace_rules},
}
"""What a mode programs, by the tool that shows it."""

_COMMANDS = {
    "iptables-save": "iptables-save",
    "nft": "nft list ruleset",
    "ipvsadm": "ipvsadm -Ln",
    "ipset": "ipset list",
}


def rules_text(mode: ProxyMode, view: View, part: str = "") -> str:
    """The rules of a mode, each part under a comment that names its command; or one `part` of PARTS[mode]."""
    where = f"on {view.node.name} ({view.node.address}), {mode} mode"
    return "\n".join(
        f"# {_COMMANDS[name]} {where}\n{write(view)}"
        for name, write in PARTS[mode].items()
        if part in ("", name)
    )
