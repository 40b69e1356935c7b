"""How each mode chooses an endpoint, and what open connections see when something changes.

Rules C6, C7 and C12 of the data path; D4, D6, E3, E4, E7, F3 and G2 to G4 of the modes.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import yaml
from as_a_client import (
    OUTSIDE,
    Space,
    ask,
    connect,
    http,
    node_ip,
    outcome,
    pod,
    program_at,
    service,
    spread,
)
from proxy_modes import MODES, STARTS_IN, ProxyInForce, every_mode, in_modes, kernel_modes, proxy_mode

from emu.core.objects import ConfigMap, Event, Pod, Service

MANY = {"m-1", "m-2", "m-3"}
CLIENTS = [f"127.220.12.{number}" for number in range(1, 42)]
"""Many more than endpoints, and no multiple: turns that go on do not give everyone the same again."""


@pytest.fixture(scope="module")
def many(space: Space) -> Space:
    """Three pods behind Services of several kinds; `spare` is a fourth that none selects."""
    space.apply(
        *(pod(f"m-{n}", node=f"node-{n}", labels={"app": "many"}) for n in (1, 2, 3)),
        pod("spare", labels={"app": "spare"}),
        pod("listens", labels={"app": "share"}),
        pod("mute", "pause", labels={"app": "share", "role": "mute"}),
        service("many", "many"),
        service("many-ports", "many", type="NodePort"),
        service("share", "share"),
        service("mute", {"role": "mute"}),
        service(
            "sticky",
            "many",
            type="LoadBalancer",
            externalIPs=[space.outside("12.1")],
            sessionAffinity="ClientIP",
        ),
        *(
            service(
                f"sticky-{seconds}",
                "many",
                sessionAffinity="ClientIP",
                sessionAffinityConfig={"clientIP": {"timeoutSeconds": seconds}},
            )
            for seconds in (1, 2)
        ),
    )
    balancer = space.external_ip("sticky")
    space.cluster.until(lambda: outcome(OUTSIDE, balancer) == "ok", what="the Services are in force")
    return space


def chosen(address: str, clients: list[str], port: int = 8080) -> dict[str, str]:
    """The pod that each client is sent to, one after the other."""
    return {client: http(client, address, port) for client in clients}


@contextlib.contextmanager
def labelled(space: Space, name: str, app: str) -> Iterator[None]:
    """A pod that belongs to another app meanwhile."""
    before = space.cluster.object(Pod, name, space.name).metadata.labels["app"]
    space.patch(Pod, name, {"metadata": {"labels": {"app": app}}})
    try:
        yield
    finally:
        space.patch(Pod, name, {"metadata": {"labels": {"app": before}}})


def until_many_are(space: Space, *sets: set[str]) -> None:
    """Wait until the pods of the Service `many` are those of one of the sets."""
    address = space.vip("many")
    space.cluster.until(
        lambda: spread(OUTSIDE, address) in sets, what=f"the endpoints are {' or '.join(map(str, sets))}"
    )


# --- without affinity ---


@in_modes("iptables", "nftables")
def test_d4_f3_each_endpoint_has_the_same_probability(many: Space, mode: str):
    answers = [http(many.ip("near"), many.vip("many")) for _ in range(300)]
    counts = Counter(answers)
    assert set(counts) == MANY
    # Chi-square with two degrees of freedom: more than 27 comes once in 700,000 runs.
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 27, counts
    # Turns would never give one pod twice in a row; chance does for a third of the pairs.
    assert 50 < sum(one == other for one, other in pairwise(answers)) < 150


@in_modes("ipvs")
@pytest.mark.parametrize("scheduler", ["rr", "wrr"])
def test_e3_round_robin_is_strict(many: Space, mode: str, proxy: ProxyInForce, scheduler: str):
    proxy.use(mode, ipvs={"scheduler": scheduler})
    answers = [http(many.ip("near"), many.vip("many")) for _ in range(9)]
    assert set(answers[:3]) == MANY
    assert answers == answers[:3] * 3


@in_modes("ipvs")
@pytest.mark.parametrize("scheduler", ["lc", "wlc", "sed", "nq"])
def test_e3_open_connections_count(many: Space, mode: str, proxy: ProxyInForce, scheduler: str):
    proxy.use(mode, ipvs={"scheduler": scheduler})
    source, address = many.ip("near"), many.vip("many")
    with contextlib.ExitStack() as held:

        def new() -> tuple[str, socket.socket]:
            sock = held.enter_context(connect(source, address, 8080))
            return ask(sock), sock

        by_pod: dict[str, list[socket.socket]] = {}
        for name, sock in [new() for _ in range(6)]:
            by_pod.setdefault(name, []).append(sock)
        assert {name: len(socks) for name, socks in by_pod.items()} == dict.fromkeys(MANY, 2)
        freed = [*by_pod][-1]
        for sock in by_pod[freed]:
            sock.close()

        def both_are_free() -> bool:
            """Whether its pod gets the next two: as long as it had one connection more, it would not."""
            found = [new(), new()]
            if {name for name, _ in found} == {freed}:
                return True
            for _, sock in found:
                sock.close()
            return False

        many.cluster.until(both_are_free, what="two new connections go where two have ended")


@in_modes("ipvs")
def test_e3_sh_keeps_a_client_and_spreads_clients(many: Space, mode: str, proxy: ProxyInForce):
    proxy.use(mode, ipvs={"scheduler": "sh"})
    first = chosen(many.vip("many"), CLIENTS)
    assert set(first.values()) == MANY
    assert chosen(many.vip("many"), CLIENTS) == first


@in_modes("ipvs")
def test_e3_dh_has_one_server_for_each_address_that_is_dialled(many: Space, mode: str, proxy: ProxyInForce):
    proxy.use(mode, ipvs={"scheduler": "dh"})
    assert len(set(chosen(many.vip("many"), CLIENTS).values())) == 1
    number = many.node_port("many-ports")
    for node in ("node-1", "node-2", "node-3"):
        address = node_ip(many.cluster, node)
        assert len(set(chosen(address, CLIENTS[:5], number).values())) == 1


@in_modes("ipvs")
@pytest.mark.parametrize("scheduler", ["lblc", "lblcr", "ovf"])
def test_e3_one_server_is_filled_before_the_next(many: Space, mode: str, proxy: ProxyInForce, scheduler: str):
    proxy.use(mode, ipvs={"scheduler": scheduler})
    source, address = many.ip("near"), many.vip("many")
    with contextlib.ExitStack() as held:
        socks = [held.enter_context(connect(source, address, 8080)) for _ in range(6)]
        names = [ask(sock) for sock in socks]
        # With a weight of 1 a server is overloaded when it has two connections.
        assert names[::2] == names[1::2]
        assert set(names) == MANY
        # Everyone is overloaded now: ovf has no destination, the others make the best of it.
        assert outcome(source, address) == ("reset" if scheduler == "ovf" else "ok")


@in_modes("ipvs")
def test_e3_fo_sends_everybody_to_one_server(many: Space, mode: str, proxy: ProxyInForce):
    proxy.use(mode, ipvs={"scheduler": "fo"})
    (name,) = set(chosen(many.vip("many"), CLIENTS[:10]).values())
    with labelled(many, name, "away"):
        until_many_are(many, {min(MANY - {name})}, {max(MANY - {name})})


@in_modes("ipvs")
@pytest.mark.parametrize(("scheduler", "flags"), [("mh", []), ("sh", ["sh-port"])])
def test_e3_a_hash_may_take_the_clients_port_with_it(
    many: Space, mode: str, proxy: ProxyInForce, scheduler: str, flags: list[str]
):
    proxy.use(mode, ipvs={"scheduler": scheduler, "schedulerFlags": flags})

    def by_port() -> dict[int, str]:
        return {
            number: _from_port("127.220.12.51", number, many.vip("many")) for number in range(21000, 21030)
        }

    first = by_port()
    assert set(first.values()) == MANY
    assert by_port() == first


def _from_port(source: str, number: int, address: str) -> str:
    """Who answers a client at a port of its own, which is free again at once."""
    with socket.socket() as sock:
        sock.settimeout(5)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.bind((source, number))
        sock.connect((address, 8080))
        return ask(sock)


@in_modes("userspace")
def test_g2_userspace_mode_goes_round_robin(many: Space, mode: str):
    answers = [http(many.ip("near"), many.vip("many")) for _ in range(9)]
    assert set(answers[:3]) == MANY
    assert answers == answers[:3] * 3


@kernel_modes
def test_c6_a_pod_that_does_not_listen_takes_its_share(many: Space, mode: str):
    found = Counter(outcome(many.ip("near"), many.vip("share")) for _ in range(30))
    assert set(found) == {"ok", "reset"}
    assert min(found.values()) > 2


@in_modes("userspace")
def test_c6_g3_userspace_mode_tries_the_next_endpoint_and_closes_when_all_fail(many: Space, mode: str):
    assert {outcome(many.ip("near"), many.vip("share")) for _ in range(10)} == {"ok"}
    assert outcome(many.ip("near"), many.vip("mute")) == "reset"


# --- affinity ---


@in_modes("iptables", "nftables", "userspace")
def test_c12_d6_g4_affinity_times_out_after_the_last_connection(many: Space, mode: str):
    short, long, few = many.vip("sticky-1"), many.vip("sticky-2"), CLIENTS[:10]
    first_short, first_long = chosen(short, few), chosen(long, few)
    time.sleep(1.2)
    # One second has passed, two have not; and these connections begin the two seconds anew.
    assert chosen(long, few) == first_long
    assert chosen(short, few) != first_short
    time.sleep(1.2)
    assert chosen(long, few) == first_long


@in_modes("iptables", "nftables", "userspace")
def test_c12_affinity_is_shared_by_all_ways_into_a_service(many: Space, mode: str):
    # Addresses of node-1's range stand for pods there.
    network = many.ip("near").rpartition(".")[0]
    clients = [f"{network}.{number}" for number in range(240, 250)]
    first = chosen(many.vip("sticky"), clients)
    assert len(set(first.values())) > 1
    number = many.node_port("sticky")
    assert chosen(node_ip(many.cluster, "node-1"), clients, number) == first
    assert chosen(many.external_ip("sticky"), clients) == first
    assert chosen(many.outside("12.1"), clients) == first


@every_mode
def test_c12_affinity_moves_only_those_whose_endpoint_goes(many: Space, mode: str):
    address = many.vip("sticky")
    first = chosen(address, CLIENTS)
    assert set(first.values()) == MANY
    rest = {"m-1", "m-3", "spare"}
    with labelled(many, "spare", "many"):
        until_many_are(many, {*MANY, "spare"})
        assert chosen(address, CLIENTS) == first
        with labelled(many, "m-2", "away"):
            until_many_are(many, rest)
            second = chosen(address, CLIENTS)
            assert {client for client in CLIENTS if second[client] != first[client]} == {
                client for client in CLIENTS if first[client] == "m-2"
            }
            assert set(second.values()) <= rest
            assert chosen(address, CLIENTS) == second
    until_many_are(many, MANY)


@in_modes("ipvs")
def test_e4_persistence_lasts_as_long_as_a_connection_does(many: Space, mode: str):
    address, few = many.vip("sticky-1"), CLIENTS[:10]
    first = chosen(address, few)
    time.sleep(1.3)
    # These have ended, but are connections until they have left TIME_WAIT. Turns would have gone on.
    assert chosen(address, few) == first
    with connect("127.220.12.99", address, 8080) as sock:
        name = ask(sock)
        time.sleep(1.3)
        assert [http("127.220.12.99", address) for _ in range(3)] == [name] * 3
        assert ask(sock) == name


@in_modes("userspace")
def test_g4_affinity_is_given_up_when_a_dial_fails(many: Space, mode: str):
    one, two = many.outside("12.2"), many.outside("12.3")
    with contextlib.ExitStack() as first, program_at(two, name="second") as port:
        first.enter_context(program_at(one, port, name="first"))
        addresses = [{"ip": one}, {"ip": two}]
        many.apply(
            service("programs", ports=[{"port": 8080, "targetPort": port}], sessionAffinity="ClientIP"),
            {
                "apiVersion": "v1",
                "kind": "Endpoints",
                "metadata": {"name": "programs"},
                "subsets": [{"addresses": addresses, "ports": [{"port": port}]}],
            },
        )
        address = many.vip("programs")
        many.cluster.until(lambda: outcome(OUTSIDE, address) == "ok", what="the programs are endpoints")
        clients = [client for client, name in chosen(address, CLIENTS[:4]).items() if name == "first"]
        assert clients
        first.close()
        assert set(chosen(address, clients).values()) == {"second"}
        with program_at(one, port, name="first"):
            assert set(chosen(address, clients).values()) == {"second"}


# --- changes under open connections ---


@every_mode
def test_c7_e7_an_established_connection_stays_with_an_endpoint_that_was_taken_out(many: Space, mode: str):
    source, address = many.ip("near"), many.vip("many")
    with connect(source, address, 8080) as sock:
        name = ask(sock)
        with labelled(many, name, "away"):
            until_many_are(many, MANY - {name})
            assert ask(sock) == name
        until_many_are(many, MANY)
        assert ask(sock) == name


def test_c7_established_connections_survive_every_change_of_mode_and_scheduler(
    many: Space, proxy: ProxyInForce
):
    source, address = many.ip("near"), many.vip("many")
    with contextlib.ExitStack() as stack:
        held = []
        turns: list[tuple[str, dict[str, Any]]] = [(mode, {}) for mode in MODES]
        turns += [("ipvs", {"ipvs": {"scheduler": scheduler}}) for scheduler in ("lc", "sh")]
        for mode, sections in turns:
            proxy.use(mode, **sections)
            sock = stack.enter_context(connect(source, address, 8080))
            held.append((sock, ask(sock)))
            assert [ask(sock) for sock, _ in held] == [name for _, name in held]


@every_mode
def test_c12_affinity_can_be_changed_under_open_connections(many: Space, mode: str):
    source, address = many.ip("far"), many.vip("many")
    with connect(source, address, 8080) as sock:
        name = ask(sock)
        many.patch(Service, "many", {"spec": {"sessionAffinity": "ClientIP"}})
        many.cluster.until(lambda: len(spread(source, address, 12)) == 1, what="clients stay")
        assert ask(sock) == name
        many.patch(Service, "many", {"spec": {"sessionAffinity": "None"}})
        many.cluster.until(lambda: spread(source, address, 12) == MANY, what="clients are spread")
        assert ask(sock) == name


# --- configuration ---


@in_modes("nftables")
def test_a_configuration_that_is_none_leaves_the_old_one_in_force(many: Space, mode: str):
    cluster = many.cluster

    def write(text: str | None) -> None:
        patch = {"data": {"config.conf": text}}
        cluster.call(lambda client: client.patch(ConfigMap.resource, "kube-system", "kube-proxy", patch))

    def complaints() -> list[str]:
        found = cluster.objects(Event, "kube-system")
        return [event.message for event in found if event.reason == "InvalidConfiguration"]

    write(yaml.safe_dump({"kind": "KubeProxyConfiguration", "mode": "fast"}))
    cluster.until(complaints, what="there is an Event")
    assert any('"mode"' in message and "'fast'" in message for message in complaints())
    write(None)
    cluster.until(lambda: any("no config.conf" in message for message in complaints()), what="it is missed")
    assert proxy_mode(cluster) == "nftables"
    write(yaml.safe_dump({"kind": "KubeProxyConfiguration", "mode": "nftables"}))


def test_the_mode_of_the_command_line_is_in_force_from_the_start(proxy: ProxyInForce):
    assert proxy.at_start == STARTS_IN
    assert yaml.safe_load(proxy.written_at_start)["mode"] == STARTS_IN
