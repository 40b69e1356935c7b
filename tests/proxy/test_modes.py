"""How each mode chooses, without sockets or clocks."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from emu.core.config import IPVS_SCHEDULERS, ProxyMode
from emu.core.endpoints import PortEndpoint
from emu.proxy.configuration import ConfigurationError, ProxyConfiguration, parse_configuration
from emu.proxy.modes import new_balancer
from emu.proxy.modes.base import Balancer, Candidates
from emu.proxy.modes.schedulers import SCHEDULERS, Destination

CLIENT = ("127.244.1.9", 1000)


def candidates(names: str) -> Candidates:
    return Candidates(tuple(PortEndpoint(name, name, 80) for name in names))


def balancer(mode: ProxyMode, names: str, affinity: float | None = None, scheduler: str = "rr") -> Balancer:
    made = new_balancer(mode, scheduler, "127.96.0.20", Random(7))
    made.update(candidates(names).endpoints, affinity)
    return made


def chosen(
    made: Balancer, among: Candidates, count: int = 1, client: tuple[str, int] = CLIENT, now: float = 0.0
) -> str:
    picks = [made.choose(among, client, now) for _ in range(count)]
    return "".join(pick.key if pick else "-" for pick in picks)


@pytest.mark.parametrize("mode", [ProxyMode.IPTABLES, ProxyMode.NFTABLES])
def test_uniform_random(mode: ProxyMode) -> None:
    counts = Counter(chosen(balancer(mode, "abcde"), candidates("abcde"), 10000))
    assert set(counts) == set("abcde")
    # Four standard deviations of a binomial distribution with p = 1/5.
    assert all(abs(count - 2000) < 160 for count in counts.values())


@pytest.mark.parametrize("mode", list(ProxyMode))
def test_nothing_to_choose_from(mode: ProxyMode) -> None:
    assert chosen(balancer(mode, ""), candidates("")) == "-"


@pytest.mark.parametrize("mode", list(ProxyMode))
def test_affinity_lasts_for_its_timeout_after_the_last_connection(mode: ProxyMode) -> None:
    among = candidates("abcdefgh")
    made = balancer(mode, "abcdefgh", affinity=10.0)
    first = chosen(made, among)
    assert {chosen(made, among, now=now) for now in (5.0, 14.0, 23.0)} == {first}
    late = {chosen(made, among, now=now) for now in (40.0, 60.0, 80.0, 100.0, 120.0)}
    assert late != {first}


@pytest.mark.parametrize("mode", list(ProxyMode))
def test_affinity_ends_with_its_endpoint_and_not_when_others_come(mode: ProxyMode) -> None:
    made = balancer(mode, "abc", affinity=100.0)
    first = chosen(made, candidates("abc"))
    made.update(candidates("abcdef").endpoints, 100.0)
    assert chosen(made, candidates("abcdef"), 5) == first * 5
    rest = "abcdef".replace(first, "")
    made.update(candidates(rest).endpoints, 100.0)
    assert chosen(made, candidates(rest)) in rest


def test_userspace_starts_a_new_order_on_each_change() -> None:
    made = balancer(ProxyMode.USERSPACE, "abc")
    turns = chosen(made, candidates("abc"), 7)
    assert sorted(turns[:3]) == list("abc")
    assert turns[:3] == turns[3:6]
    made.update(candidates("abc").endpoints, None)
    assert chosen(made, candidates("abc")) == turns[1]
    made.update(candidates("abcd").endpoints, None)
    assert sorted(chosen(made, candidates("abcd"), 4)) == list("abcd")


def test_userspace_forgets_affinity_when_a_dial_fails() -> None:
    made = balancer(ProxyMode.USERSPACE, "ab", affinity=100.0)
    first = chosen(made, candidates("ab"))
    made.failed(CLIENT)
    assert chosen(made, candidates("ab")) != first


@pytest.mark.parametrize(
    ("scheduler", "weights", "active", "inactive", "expected"),
    [
        ("rr", (1, 1, 1), (0, 0, 0), (0, 0, 0), "ABCABC"),
        ("rr", (1, 0, 1), (0, 0, 0), (0, 0, 0), "ACACAC"),
        ("wrr", (3, 2, 1), (0, 0, 0), (0, 0, 0), "AABABC"),
        ("wrr", (1, 1, 1), (0, 0, 0), (0, 0, 0), "ABCABC"),
        ("wrr", (0, 0, 0), (0, 0, 0), (0, 0, 0), "-"),
        ("lc", (1, 1, 1), (2, 1, 1), (0, 0, 0), "B"),
        ("lc", (1, 1, 1), (0, 0, 0), (2, 1, 1), "B"),
        ("lc", (1, 1, 1), (1, 0, 1), (0, 255, 0), "B"),
        ("lc", (0, 1, 1), (0, 5, 4), (0, 0, 0), "C"),
        ("wlc", (1, 4, 1), (1, 3, 1), (0, 0, 0), "B"),
        ("wlc", (1, 1, 1), (0, 0, 0), (0, 0, 0), "A"),
        ("sed", (1, 3, 1), (0, 1, 0), (0, 0, 0), "B"),
        ("sed", (1, 1, 1), (1, 0, 0), (0, 0, 0), "B"),
        ("nq", (1, 9, 1), (0, 1, 0), (0, 0, 0), "A"),
        ("nq", (1, 9, 1), (1, 1, 1), (0, 0, 0), "B"),
        ("dh", (1, 1, 1), (0, 0, 0), (0, 0, 0), "AAA"),
    ],
)
def test_schedulers(
    scheduler: str,
    weights: tuple[int, ...],
    active: tuple[int, ...],
    inactive: tuple[int, ...],
    expected: str,
) -> None:
    destinations = []
    for name, weight, open_, closed in zip("ABC", weights, active, inactive, strict=True):
        destination = Destination(name, weight)
        destination.active, destination.inactive = open_, closed
        destinations.append(destination)
    made = SCHEDULERS[scheduler]("0.0.0.1")
    # dh: the bucket of 0.0.0.1 is 2654435761 & 255 = 177, and 177 % 3 = 0 names the first destination.
    picks = [made.pick(destinations, "127.244.1.9") for _ in expected]
    got = "".join(pick.key if pick else "-" for pick in picks)
    assert got == expected


def test_source_hashing_keeps_a_client_and_spreads_clients_by_weight() -> None:
    made = SCHEDULERS["sh"]("127.96.0.20")
    destinations = [Destination("A", 3), Destination("B", 1)]
    picks = [made.pick(destinations, f"127.244.1.{last}") for last in range(256)]
    assert Counter(pick.key for pick in picks if pick) == {"A": 192, "B": 64}
    destinations[0].weight = 0
    again = [made.pick([Destination("A", 0)], "127.244.1.9")]
    assert again == [None]


def test_round_robin_goes_on_behind_the_last_one_when_the_list_changes() -> None:
    made = SCHEDULERS["rr"]("")
    a, b, c, d = (Destination(name) for name in "abcd")
    assert made.pick([a, b, c], "") is a
    assert made.pick([a, b, c], "") is b
    assert made.pick([b, c, d], "") is c
    assert made.pick([b, d], "") is d
    assert made.pick([b, d], "") is b


def test_ipvs_counts_open_connections_and_those_in_time_wait() -> None:
    made = balancer(ProxyMode.IPVS, "ab", scheduler="lc")
    among = candidates("ab")
    a, b = among.endpoints
    made.begun(a, CLIENT, 0.0)
    assert chosen(made, among) == "b"
    made.begun(b, CLIENT, 0.0)
    made.ended(a, CLIENT, 1.0)
    assert chosen(made, among, now=2.0) == "a"
    made.ended(b, CLIENT, 2.0)
    made.begun(b, CLIENT, 3.0)
    made.ended(b, CLIENT, 4.0)
    assert chosen(made, among, now=5.0) == "a"
    assert chosen(made, among, now=121.5) == "a"


def test_ipvs_persistence_does_not_expire_while_connections_are_open() -> None:
    made = balancer(ProxyMode.IPVS, "abc", affinity=10.0)
    among = candidates("abc")
    first = made.choose(among, CLIENT, 0.0)
    assert first is not None
    made.begun(first, CLIENT, 0.0)
    assert chosen(made, among, now=1000.0) == first.key
    made.ended(first, CLIENT, 1001.0)
    assert chosen(made, among, now=1005.0) == first.key
    assert chosen(made, among, now=1020.0) != first.key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ProxyConfiguration()),
        ('mode: ""', ProxyConfiguration()),
        ("mode: nftables", ProxyConfiguration(mode=ProxyMode.NFTABLES)),
        ("mode: ipvs\nipvs: {scheduler: lc}", ProxyConfiguration(mode=ProxyMode.IPVS, scheduler="lc")),
        ("mode: ipvs\nipvs: {scheduler: ''}", ProxyConfiguration(mode=ProxyMode.IPVS)),
        ("iptables: {masqueradeAll: true}", ProxyConfiguration(masquerade_all=True)),
        ("iptables: {localhostNodePorts: false}", ProxyConfiguration(localhost_node_ports=False)),
        ("udpIdleTimeout: 1m0.5s", ProxyConfiguration(udp_idle_seconds=60.5)),
        ("udpIdleTimeout: 750ms", ProxyConfiguration(udp_idle_seconds=0.75)),
        ("clusterCIDR: 127.244.0.0/14\nconntrack: {maxPerCore: null}", ProxyConfiguration()),
    ],
)
def test_configuration(text: str, expected: ProxyConfiguration) -> None:
    assert parse_configuration(text) == expected


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("mode: bpf", '"mode"'),
        ("mode: 7", '"mode"'),
        ("ipvs: {scheduler: fastest}", '"ipvs.scheduler"'),
        ("ipvs: lc", '"ipvs"'),
        ("iptables: {masqueradeAll: perhaps}", '"iptables.masqueradeAll"'),
        ("udpIdleTimeout: 0s", '"udpIdleTimeout"'),
        ("udpIdleTimeout: 250", '"udpIdleTimeout"'),
        ("udpIdleTimeout: 250 ms", '"udpIdleTimeout"'),
        ("udpIdleTimeout: soon", '"udpIdleTimeout"'),
        ("kind: Pod", '"kind"'),
        ("- mode", "config.conf"),
        ("mode: [", "config.conf"),
    ],
)
def test_bad_configuration_names_the_key(text: str, key: str) -> None:
    with pytest.raises(ConfigurationError, match=key):
        parse_configuration(text)


def test_the_configuration_knows_the_schedulers_that_there_are() -> None:
    assert set(IPVS_SCHEDULERS) == set(SCHEDULERS)
