"""Which pod has an address, whatever the order in which pods come and go."""

import msgspec

from emu.coredns.clients import ClientPod, Clients, PodName

ADDRESS = "127.244.1.5"


def pod(name, *addresses, phase="Running", **spec):
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": "shop"},
            "spec": spec,
            "status": {"phase": phase, "podIPs": [{"ip": address} for address in addresses]},
        },
        ClientPod,
    )


def feed(clients, before, now):
    clients.set_pod("", before, now)


def test_a_pod_is_known_by_each_of_its_addresses():
    clients = Clients()
    feed(clients, None, pod("web", ADDRESS, "fd00::5"))
    assert clients.pod_at(ADDRESS) == clients.pod_at("fd00::5") == PodName("shop", "web")
    assert str(clients.pod_at(ADDRESS)) == "shop/web"
    assert clients.pod_at("127.244.1.6") is None


def test_a_pod_without_an_address_of_its_own_is_nobody():
    clients = Clients()
    feed(clients, None, pod("waiting"))
    feed(clients, None, pod("agent", ADDRESS, hostNetwork=True))
    feed(clients, None, pod("done", ADDRESS, phase="Succeeded"))
    assert clients.pod_at(ADDRESS) is None


def test_an_ended_pod_leaves_its_address():
    clients = Clients()
    running = pod("job", ADDRESS)
    feed(clients, None, running)
    feed(clients, running, pod("job", ADDRESS, phase="Succeeded"))
    assert clients.pod_at(ADDRESS) is None


def test_a_successor_keeps_the_address_when_the_former_pod_goes_later():
    clients = Clients()
    former, successor = pod("former", ADDRESS), pod("successor", ADDRESS)
    feed(clients, None, former)
    feed(clients, None, successor)
    feed(clients, former, None)
    assert clients.pod_at(ADDRESS) == PodName("shop", "successor")


def test_listeners_hear_of_a_change_before_it_is_made():
    clients = Clients()
    seen = []
    clients.before_change(lambda address: seen.append((address, clients.pod_at(address))))
    web = pod("web", ADDRESS)
    feed(clients, None, web)
    feed(clients, web, pod("web", ADDRESS))
    feed(clients, web, None)
    assert seen == [(ADDRESS, None), (ADDRESS, PodName("shop", "web"))]
