"""The rules that kube-proxy shows for the Services that are there: D1 to D7, E1 to E7, F1 to F3, G1.

Each line of them is tested in tests/proxy/rules; here they belong to a cluster, its traffic and its mode.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from urllib.parse import quote

import pytest
from as_a_client import OUTSIDE, Space, ask, connect, outcome, pod, service, spread
from proxy_modes import in_modes

from emu.core.objects import Pod

PODS = ("m-1", "m-2", "m-3")


class Shown:
    """A namespace, and what `emu proxy rules` asks kube-proxy for."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def rules(self, name: str, **query: str) -> str:
        """The rules of one Service in the mode in force."""
        asked = {"service": f"{self.space.name}/{name}", **query}
        path = "/rules?" + "&".join(f"{key}={quote(value)}" for key, value in asked.items())
        port = self.space.cluster.settings.config.fixed_ports.proxy_metrics
        reply = self.space.cluster.dial("127.0.0.1", "127.0.0.1", port, path)
        assert reply.status == 200, reply
        return reply.body

    def chain(self, prefix: str, name: str, *more: str) -> str:
        """The name of a chain of iptables mode: the hash of the port's name, its protocol and `more`."""
        return f"{prefix}-{_hash(16, f'{self.space.name}/{name}', 'tcp', *more)}"

    def endpoints(self) -> list[str]:
        return [f"{self.space.ip(name)}:8080" for name in PODS]


def _hash(length: int, *parts: str) -> str:
    return base64.b32encode(hashlib.sha256("".join(parts).encode()).digest()).decode()[:length]


@pytest.fixture(scope="module")
def shown(space: Space) -> Shown:
    space.apply(
        *(pod(f"m-{n}", node=f"node-{n}", labels={"app": "many"}) for n in (1, 2, 3)),
        service("many", "many"),
        service(
            "sticky",
            "many",
            sessionAffinity="ClientIP",
            sessionAffinityConfig={"clientIP": {"timeoutSeconds": 7}},
        ),
        service("local", "web", type="NodePort", externalTrafficPolicy="Local"),
        service("nobody", "nobody"),
    )
    address = space.vip("many")
    space.cluster.until(lambda: spread(OUTSIDE, address) == set(PODS), what="the Services are in force")
    return Shown(space)


@in_modes("iptables")
def test_d1_d3_d4_d5_d7_the_chains_of_a_service(shown: Shown, mode: str):
    space, text = shown.space, shown.rules("many")
    title, vip, chain = f"{space.name}/many", space.vip("many"), shown.chain("KUBE-SVC", "many")
    rules = [line for line in text.splitlines() if line.startswith("-A ")]
    entry = next(line for line in rules if line.startswith("-A KUBE-SERVICES ") and vip in line)
    assert entry.endswith(f" -j {chain}")
    assert f'-d {vip}/32 -p tcp -m comment --comment "{title} cluster IP" -m tcp --dport 8080' in entry
    of_chain = [line for line in rules if line.startswith(f"-A {chain} ")]
    assert of_chain[0].endswith(" -j KUBE-MARK-MASQ")
    found = []
    for line in of_chain[1:]:
        probability = re.search(r"--probability (\S+)", line)
        target, endpoint = line.rpartition(" -j ")[2], re.search(r' -> (\S+)"', line)
        assert endpoint
        assert target == shown.chain("KUBE-SEP", "many", endpoint[1])
        assert any(rule.startswith(f"-A {target} ") and rule.endswith(endpoint[1]) for rule in rules)
        found.append((endpoint[1], probability[1] if probability else ""))
    assert found == [*zip(sorted(shown.endpoints()), ("0.33333333349", "0.50000000000", ""), strict=True)]


@in_modes("iptables")
def test_d6_affinity_comes_before_chance(shown: Shown, mode: str):
    chain = shown.chain("KUBE-SVC", "sticky")
    rules = [line for line in shown.rules("sticky").splitlines() if line.startswith(f"-A {chain} ")]
    recent = [number for number, line in enumerate(rules) if "--rcheck --seconds 7 --reap" in line]
    chance = [number for number, line in enumerate(rules) if "--mode random" in line]
    assert len(recent) == 3
    assert max(recent) < min(chance)


@in_modes("iptables")
def test_d2_refused_and_dropped(shown: Shown, mode: str):
    nobody = shown.rules("nobody")
    assert f'"{shown.space.name}/nobody has no endpoints"' in nobody
    assert "-j REJECT --reject-with icmp-port-unreachable" in nobody
    assert outcome(OUTSIDE, shown.space.vip("nobody")) == "refused"
    dropped = f'"{shown.space.name}/local has no local endpoints"'
    assert dropped in shown.rules("local", node="node-3")
    assert dropped not in shown.rules("local", node="node-1")


@in_modes("nftables")
def test_f1_f2_f3_maps_chains_and_numgen(shown: Shown, mode: str):
    text, title = shown.rules("many"), f"{shown.space.name}/many/tcp/"
    name = f"service-{_hash(8, title)}-{title}"
    assert f"{shown.space.vip('many')} . tcp . 8080 : goto {name}" in text
    _, _, body = text.partition(f"chain {name} {{")
    numgen = re.search(r"numgen random mod 3 vmap \{ (.+?) \}", body)
    assert numgen
    found = re.findall(r"(\d) : goto (\S+?)__(\S+?)/8080", numgen[1])
    assert [number for number, _, _ in found] == ["0", "1", "2"]
    assert {f"{ip}:8080" for _, _, ip in found} == set(shown.endpoints())
    assert "no-endpoint-services" in shown.rules("nobody")


@in_modes("ipvs")
def test_e1_e2_e5_e7_servers_and_their_connections(shown: Shown, mode: str):
    space, vip = shown.space, shown.space.vip("many")

    def servers() -> dict[str, tuple[int, int]]:
        """Weight and active connections of each real server of the ClusterIP."""
        _, _, of_service = shown.rules("many", part="ipvsadm").partition(f"TCP  {vip}:8080 rr\n")
        found = {}
        for line in of_service.splitlines():
            real = re.fullmatch(r"  -> (\S+)\s+Masq\s+(\d+)\s+(\d+)\s+(\d+)\s*", line)
            if real is None:
                break
            found[real[1]] = (int(real[2]), int(real[3]))
        return found

    assert set(servers()) == set(shown.endpoints())
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(OUTSIDE, vip, 8080)) for _ in range(3)]
        names = [ask(sock) for sock in socks]
        assert set(names) == set(PODS)
        space.cluster.until(
            lambda: servers() == dict.fromkeys(shown.endpoints(), (1, 1)), what="each has one connection"
        )
        space.patch(Pod, "m-1", {"metadata": {"labels": {"app": "away"}}})
        gone = f"{space.ip('m-1')}:8080"
        space.cluster.until(lambda: servers().get(gone) == (0, 1), what="m-1 has weight 0 and its connection")
        space.patch(Pod, "m-1", {"metadata": {"labels": {"app": "many"}}})
        space.cluster.until(lambda: servers().get(gone) == (1, 1), what="m-1 has its weight again")
    space.cluster.until(lambda: servers() == dict.fromkeys(shown.endpoints(), (1, 0)), what="all have ended")
    sets = shown.rules("many", part="ipset")
    assert f"{vip},tcp:8080" in sets.partition("Name: KUBE-CLUSTER-IP\n")[2].partition("Name: ")[0]


@in_modes("userspace")
def test_g1_redirects_to_the_proxys_own_port(shown: Shown, mode: str):
    vip = shown.space.vip("many")
    rules = [line for line in shown.rules("many").splitlines() if f"-d {vip}/32" in line]
    ports = set()
    for chain, target in (("CONTAINER", "REDIRECT --to-ports "), ("HOST", r"DNAT --to-destination \S+:")):
        (line,) = [rule for rule in rules if rule.startswith(f"-A KUBE-PORTALS-{chain} ")]
        found = re.search(f"-j {target}(\\d+)$", line)
        assert found
        ports.add(found[1])
    assert len(ports) == 1
