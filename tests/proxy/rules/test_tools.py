"""The text given to the tools themselves, in an empty network namespace: they take it, and print it back.

Tools of other versions may print another form, so that only those of one version are compared.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache

import pytest

from emu.core.config import ProxyMode
from emu.proxy.rules import rules_text
from emu.proxy.rules.view import View

from .world import everything

PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
NAMESPACE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]

IPTABLES_MATCHES = """*nat
:KUBE-A - [0:0]
:KUBE-B - [0:0]
-A KUBE-A -m comment --comment "a b" -m tcp -p tcp -d 10.0.0.1 --dport 80 ! -s 10.1.0.0/16 -j KUBE-B
-A KUBE-A -m udp -p udp -m addrtype --dst-type LOCAL -j REDIRECT --to-ports 1
-A KUBE-A -m sctp -p sctp -m physdev ! --physdev-is-in -j DNAT --to-destination 10.0.0.2:1
-A KUBE-A -m recent --name X --rcheck --seconds 10 --reap -m statistic --mode random --probability 0.5
-A KUBE-A -m mark --mark 0x4000/0x4000 -m state --state NEW -j MARK --xor-mark 0x4000
-A POSTROUTING -j MASQUERADE --random-fully
COMMIT
*filter
-A FORWARD -m conntrack --ctstate INVALID -p tcp -j REJECT
COMMIT
*mangle
COMMIT
"""
NFT_EXPRESSIONS = """table ip x {
    map m { type ipv4_addr . inet_proto . inet_service : verdict; }
    set s { type ipv4_addr; flags dynamic,timeout; timeout 1s; }
    chain a { type filter hook output priority 0; ct state new fib saddr type local reject; }
    chain b { type nat hook prerouting priority dstnat; meta l4proto tcp dnat to 10.0.0.1:80; }
    chain c { type nat hook postrouting priority srcnat; masquerade fully-random; }
    chain d { ip daddr . meta l4proto . th dport vmap @m; update @s { ip saddr }; }
    chain e { numgen random mod 2 vmap { 0 : goto d, 1 : goto d }; meta mark set meta mark or 0x4000; }
}
"""


def run(command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """A shell command with text as its input, in an empty network namespace."""
    return subprocess.run(
        [*NAMESPACE, "sh", "-c", command],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PATH": PATH},
        check=False,
    )


@cache
def hindrance(command: str, probe: str) -> str:
    """Why a command cannot be tried: a tool is missing, or kernel or sandbox allow less than the probe."""
    for tool in ("unshare", command.split()[0]):
        if shutil.which(tool, path=PATH) is None:
            return f"{tool} is not installed"
    tried = run(command, probe)
    if tried.returncode == 0:
        return ""
    return f"`{command}` cannot be tried here: {' '.join(tried.stderr.split())[:200]}"


@cache
def version(command: str) -> str:
    return run(f"{command} --version").stdout.strip()


def require(command: str, probe: str) -> None:
    if why := hindrance(command, probe):
        pytest.skip(why)


def require_version(command: str, wanted: str) -> None:
    if wanted not in version(command):
        pytest.skip(f"the form of output is that of {wanted}, not of {version(command)}")


def stated(text: str) -> list[str]:
    """The lines without comments."""
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def views() -> dict[str, View]:
    """Each node, each Service of the first node, and the settings that change rules."""
    world = everything()
    found = {"node-1": world.view("node-1"), "node-2": world.view("node-2")}
    for port in found["node-1"].ports:
        found[port.service] = found["node-1"].of_service(port.service)
    world.configure(masquerade_all=True, localhost_node_ports=False)
    found["masqueradeAll"] = world.view()
    world.configure(masquerade_all=False, detects_local=False, node_port_addresses=("192.168.0.0/16",))
    found["nodePortAddresses"] = world.view()
    world.configure(node_port_addresses=("0.0.0.0/0",))
    found["every address"] = world.view()
    return found


VIEWS = views()
each_view = pytest.mark.parametrize("name", VIEWS)
each_mode_with_tables = pytest.mark.parametrize("mode", [ProxyMode.IPTABLES, ProxyMode.USERSPACE])


@each_mode_with_tables
@each_view
def test_iptables_takes_the_text(mode, name):
    require("iptables-restore --test", IPTABLES_MATCHES)
    tried = run("iptables-restore --test", rules_text(mode, VIEWS[name]))
    assert (tried.returncode, tried.stderr) == (0, "")


@each_mode_with_tables
@each_view
def test_iptables_prints_the_text(mode, name):
    require("iptables-restore", IPTABLES_MATCHES)
    require_version("iptables-save", "v1.8.9")
    text = rules_text(mode, VIEWS[name])
    assert stated(run("iptables-restore && iptables-save", text).stdout) == stated(text)


@each_view
def test_nft_takes_the_text(name):
    require("nft -c -f -", NFT_EXPRESSIONS)
    tried = run("nft -c -f -", rules_text(ProxyMode.NFTABLES, VIEWS[name]))
    assert (tried.returncode, tried.stderr) == (0, "")


@each_view
def test_nft_prints_the_text(name):
    require("nft -f -", NFT_EXPRESSIONS)
    require_version("nft", "v1.0.6")
    text = rules_text(ProxyMode.NFTABLES, VIEWS[name])
    assert stated(run("nft -f - && nft list ruleset", text).stdout) == stated(text)


def listed(text: str) -> dict[str, tuple[dict[str, str], set[str]]]:
    """The fields and members of each set that `ipset list` prints, without what only a kernel knows."""
    found: dict[str, tuple[dict[str, str], set[str]]] = {}
    for block in "\n".join(line for line in text.splitlines() if not line.startswith("#")).split("\n\n"):
        head, _, members = block.partition("\nMembers:")
        fields = dict(line.split(": ", 1) for line in head.strip().splitlines())
        header = fields["Header"].partition(" bucketsize")[0]
        kept = {key: fields[key] for key in ("Type", "References", "Number of entries")}
        assert fields["Name"] not in found
        found[fields["Name"]] = ({**kept, "Header": header}, set(members.split()))
    return found


def as_commands(sets: dict[str, tuple[dict[str, str], set[str]]]) -> str:
    """What `ipset restore` takes."""
    lines = [f"create {name} {fields['Type']} {fields['Header']}" for name, (fields, _) in sets.items()]
    lines += [f"add {name} {member}" for name, (_, members) in sets.items() for member in members]
    return "".join(f"{line}\n" for line in lines)


@each_view
def test_ipset_and_iptables_take_and_print_the_text_of_ipvs_mode(name, tmp_path):
    require("ipset restore", "create x hash:ip,port,net family inet\nadd x 10.0.0.1,sctp:1,10.0.0.0/8\n")
    require("iptables-restore", IPTABLES_MATCHES)
    view = VIEWS[name]
    listing = listed(rules_text(ProxyMode.IPVS, view, "ipset"))
    # The kernel of this machine need not have ipvs, which one match belongs to.
    lines = rules_text(ProxyMode.IPVS, view, "iptables-save").splitlines()
    tables = "".join(f"{line}\n" for line in lines if " -m ipvs " not in line)
    sets, printed = tmp_path / "sets", tmp_path / "printed"
    sets.write_text(as_commands(listing))
    give = f"ipset restore -file {sets} && iptables-restore && iptables-save && ipset list > {printed}"
    restored = run(give, tables)
    assert (restored.returncode, restored.stderr) == (0, "")
    assert listed(printed.read_text()) == listing
    require_version("iptables-save", "v1.8.9")
    assert stated(restored.stdout) == stated(tables)
