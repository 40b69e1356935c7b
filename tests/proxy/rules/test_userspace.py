"""userspace mode (G1): portals that lead to the proxy's own port."""

import pytest

from emu.proxy.rules.userspace import userspace_rules

from .structure import check_iptables
from .world import HTTP, World, everything


@pytest.fixture
def world() -> World:
    world = World()
    world.service("default/web", "10.96.0.9", {**HTTP, "nodePort": 30080}, type="NodePort")
    return world


def test_g1_portals_and_node_ports(world):
    view = world.view()
    port = view.ports[0].proxy_port
    chains = check_iptables(userspace_rules(view), whole=True)["nat"]
    to_port = '-d 10.96.0.9/32 -p tcp -m comment --comment "default/web" -m tcp --dport 80'
    to_node_port = '-p tcp -m comment --comment "default/web" -m tcp --dport 30080'
    assert chains["KUBE-PORTALS-CONTAINER"] == [f"{to_port} -j REDIRECT --to-ports {port}"]
    assert chains["KUBE-PORTALS-HOST"] == [f"{to_port} -j DNAT --to-destination 192.168.1.10:{port}"]
    assert chains["KUBE-NODEPORT-CONTAINER"] == [f"{to_node_port} -j REDIRECT --to-ports {port}"]
    assert chains["KUBE-NODEPORT-HOST"] == [f"{to_node_port} -j DNAT --to-destination 192.168.1.10:{port}"]


def test_g1_portals_come_before_node_ports(world):
    chains = check_iptables(userspace_rules(world.view()), whole=True)
    jumps = {name: [rule.rpartition(" ")[2] for rule in rules] for name, rules in chains["nat"].items()}
    assert jumps["PREROUTING"] == ["KUBE-PORTALS-CONTAINER", "KUBE-NODEPORT-CONTAINER"]
    assert jumps["OUTPUT"] == ["KUBE-PORTALS-HOST", "KUBE-NODEPORT-HOST"]
    (accepted,) = chains["filter"]["KUBE-NODEPORT-NON-LOCAL"]
    assert accepted.endswith("-m state --state NEW -j ACCEPT")


def test_g1_external_ips_only_from_off_the_machine_or_where_they_are_local(world):
    world.service("default/web", "10.96.0.9", externalIPs=["198.51.100.7"])
    chains = check_iptables(userspace_rules(world.view()), whole=True)["nat"]
    off_machine, local = chains["KUBE-PORTALS-CONTAINER"][1:]
    assert "-m physdev ! --physdev-is-in -j REDIRECT" in off_machine
    assert "-m addrtype --dst-type LOCAL -j REDIRECT" in local
    assert "-m addrtype --dst-type LOCAL -j DNAT" in chains["KUBE-PORTALS-HOST"][1]


def test_g1_each_service_port_has_a_port_of_its_own_that_stays():
    world = World()
    for number in range(300):
        world.service(f"default/s{number:03}", f"10.96.1.{number % 250}", {"port": 1000 + number})
    before = {port.name: port.proxy_port for port in world.view().ports}
    assert len(set(before.values())) == len(before) == 300
    assert all(32768 <= number <= 60999 for number in before.values())
    world.service("default/a", "10.96.2.1")
    after = {port.name: port.proxy_port for port in world.view().ports}
    assert sum(before[name] != after[name] for name in before) <= 1


def test_one_service_alone():
    view = everything().view()
    text = userspace_rules(view.of_service("default/web"))
    check_iptables(text, whole=False)
    assert '"default/web"' in text
    assert "default/balanced" not in text
