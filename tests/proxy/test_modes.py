"""How each mode chooses, without sockets or clocks. ipvs has tests of its own in test_ipvs.py."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from emu.core.config import ProxyMode
from emu.core.endpoints import PortEndpoint
from emu.proxy.modes import new_balancer
from emu.proxy.modes.base import Balancer, Candidates
from emu.proxy.modes.iptables import RECENT_CLIENTS

CLIENT = ("127.244.1.9", 1000)
CHAINS = [ProxyMode.IPTABLES, ProxyMode.NFTABLES]
TIMEOUT = 10.0


def candidates(names: str) -> Candidates:
    return Candidates(tuple(PortEndpoint(name, name, 80) for name in names))


def balancer(mode: ProxyMode, names: str, affinity: float | None = None, seed: int = 7) -> Balancer:
    made = new_balancer(mode, "rr", (), "127.96.0.20", "TCP", Random(seed))
    made.update(candidates(names).endpoints, affinity)
    return made


def chosen(
    made: Balancer, names: str, count: int = 1, client: tuple[str, int] = CLIENT, now: float = 0.0
) -> str:
    among = candidates(names)
    picks = [made.choose(among, client, now) for _ in range(count)]
    return "".join(pick.key if pick else "-" for pick in picks)


def address(number: int) -> tuple[str, int]:
    return (f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1000)


@pytest.mark.parametrize("mode", CHAINS)
def test_d4_f3_uniform_random(mode: ProxyMode) -> None:
    counts = Counter(chosen(balancer(mode, "abcde"), "abcde", 20000))
    # Chi-squared with four degrees of freedom exceeds 18.5 once in a thousand times; the seed is fixed.
    assert sum((counts[name] - 4000) ** 2 / 4000 for name in "abcde") < 18.5


@pytest.mark.parametrize("mode", CHAINS)
def test_d4_f3_choices_are_independent(mode: ProxyMode) -> None:
    picks = chosen(balancer(mode, "abc"), "abc", 18000)
    pairs = Counter(zip(picks[::2], picks[1::2], strict=True))
    # Eight degrees of freedom: 26.1 once in a thousand times.
    assert sum((pairs[a, b] - 1000) ** 2 / 1000 for a in "abc" for b in "abc") < 26.1


@pytest.mark.parametrize("mode", list(ProxyMode))
def test_nothing_to_choose_from(mode: ProxyMode) -> None:
    assert chosen(balancer(mode, ""), "") == "-"
    assert chosen(balancer(mode, "", affinity=TIMEOUT), "") == "-"


@pytest.mark.parametrize("mode", list(ProxyMode))
def test_c12_affinity_lasts_for_its_timeout_after_the_last_connection(mode: ProxyMode) -> None:
    made = balancer(mode, "abcdefgh", affinity=TIMEOUT)
    first = chosen(made, "abcdefgh")
    assert {chosen(made, "abcdefgh", now=now) for now in (5.0, 14.0, 23.0, 32.5)} == {first}
    # Each is late by a moment: eight endpoints and 20 tries do not all give the same one.
    late = [chosen(made, "abcdefgh", now=50.0 + turn * (TIMEOUT + 0.001)) for turn in range(20)]
    assert set(late) != {first}


@pytest.mark.parametrize("mode", list(ProxyMode))
def test_c12_clients_are_told_apart_by_address_alone(mode: ProxyMode) -> None:
    made = balancer(mode, "abcdefgh", affinity=TIMEOUT)
    first = chosen(made, "abcdefgh")
    assert {chosen(made, "abcdefgh", client=(CLIENT[0], port)) for port in range(20)} == {first}
    assert len({chosen(made, "abcdefgh", client=address(number)) for number in range(20)}) > 1


@pytest.mark.parametrize("mode", list(ProxyMode))
def test_c12_affinity_ends_with_its_endpoint_and_not_when_others_come(mode: ProxyMode) -> None:
    made = balancer(mode, "abc", affinity=100.0)
    first = chosen(made, "abc")
    made.update(candidates("abcdef").endpoints, 100.0)
    assert chosen(made, "abcdef", 5) == first * 5
    rest = "abcdef".replace(first, "")
    made.update(candidates(rest).endpoints, 100.0)
    second = chosen(made, rest)
    assert second in rest
    # It stays at the second when the first comes back.
    made.update(candidates("abcdef").endpoints, 100.0)
    assert chosen(made, "abcdef", 5) == second * 5


@pytest.mark.parametrize("mode", [*CHAINS, ProxyMode.USERSPACE])
def test_c12_a_client_that_stayed_away_while_its_endpoint_was_gone_is_not_tied_to_it(mode: ProxyMode) -> None:
    everyone = "abcdefghijklmnopqrstuvwxyz"
    made = balancer(mode, everyone, affinity=100.0)
    tied = {number: chosen(made, everyone, client=address(number)) for number in range(60)}
    made.update(candidates("z").endpoints, 100.0)
    made.update(candidates(everyone).endpoints, 100.0)
    again = {number: chosen(made, everyone, client=address(number)) for number in range(60)}
    assert all(again[number] == "z" for number in tied if tied[number] == "z")
    assert sum(again[number] == tied[number] for number in tied if tied[number] != "z") < 20


@pytest.mark.parametrize("mode", list(ProxyMode))
def test_c12_affinity_that_is_turned_off_ties_no_one(mode: ProxyMode) -> None:
    made = balancer(mode, "abcdefgh", affinity=100.0)
    chosen(made, "abcdefgh")
    made.update(candidates("abcdefgh").endpoints, None)
    assert len(set(chosen(made, "abcdefgh", 50))) > 1


@pytest.mark.parametrize("mode", CHAINS)
def test_c12_the_first_endpoint_in_the_chain_that_has_the_client_wins(mode: ProxyMode) -> None:
    """A client can be with several: the chains of the two traffic policies lead to the same endpoints."""
    made = balancer(mode, "abc", affinity=TIMEOUT)
    assert chosen(made, "c") == "c"
    assert chosen(made, "ab", now=1.0) in "ab"
    second = chosen(made, "ab", now=2.0)
    assert chosen(made, "abc", 9, now=3.0) == second * 9
    # Only c is asked where the others are no candidates; it has not seen the client since 0.0.
    assert chosen(made, "c", now=4.0) == "c"
    # The first is asked first though another has seen the client since.
    assert chosen(made, "abc", now=5.0) == second
    # And where it is too long ago, the next has its turn.
    assert chosen(made, "c", now=14.0) == "c"
    assert chosen(made, "abc", 9, now=16.0) == "c" * 9


@pytest.mark.parametrize("mode", CHAINS)
def test_c12_the_order_of_the_chain_counts_and_not_the_order_of_the_connections(mode: ProxyMode) -> None:
    for low, high in zip("abcdefghij", "klmnopqrst", strict=True):
        made = balancer(mode, low + high, affinity=TIMEOUT)
        assert chosen(made, high) == high
        assert chosen(made, low) == low
        assert chosen(made, low + high) == low


@pytest.mark.parametrize(("mode", "expected"), [(ProxyMode.IPTABLES, True), (ProxyMode.NFTABLES, False)])
def test_d6_f1_the_moment_when_the_timeout_is_over(mode: ProxyMode, expected: bool) -> None:
    """`recent` matches up to --seconds; an element of a set has expired when its time has come."""
    stays = []
    for seed in range(20):
        made = balancer(mode, "abcdefgh", affinity=TIMEOUT, seed=seed)
        stays.append(chosen(made, "abcdefgh") == chosen(made, "abcdefgh", now=TIMEOUT))
    assert all(stays) is expected


def test_d6_a_recent_list_holds_100_clients_and_the_one_seen_longest_ago_makes_room() -> None:
    made = balancer(ProxyMode.IPTABLES, "ab", affinity=1000.0)
    for number in range(RECENT_CLIENTS):
        chosen(made, "a", client=address(number), now=float(number))
    # Client 0 is renewed, so that client 1 is the one to go.
    assert chosen(made, "ab", client=address(0), now=200.0) == "a"
    chosen(made, "a", client=address(500), now=201.0)
    kept = [number for number in range(RECENT_CLIENTS) if chosen_without_trace(made, number) == "a"]
    assert kept == [0, *range(2, RECENT_CLIENTS)]


def chosen_without_trace(made: Balancer, number: int) -> str:
    """Where a client is tied to, "-" where it is to none."""
    lists = made._lists  # type: ignore[attr-defined]
    found = lists.find(address(number)[0], candidates("ab").by_key, 1000.0, 201.0)
    return found.key if found is not None else "-"


def test_f1_a_full_affinity_set_takes_no_other_client_until_elements_expire(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("emu.proxy.modes.nftables.SET_SIZE", 4)
    made = balancer(ProxyMode.NFTABLES, "ab", affinity=TIMEOUT)
    for number in range(4):
        chosen(made, "a", client=address(number), now=float(number))
    # The fifth is not remembered, so it is held to nothing; those who are in the set stay.
    spread = [
        chosen(made, "a", client=address(4), now=5.0),
        chosen(made, "ab", 30, client=address(4), now=5.0),
    ]
    assert set("".join(spread)) == {"a", "b"}
    assert {chosen(made, "ab", client=address(number), now=6.0) for number in (1, 2, 3)} == {"a"}
    # The element of client 0 has expired.
    chosen(made, "a", client=address(5), now=10.0)
    assert chosen(made, "ab", 20, client=address(5), now=11.0) == "a" * 20


# --- userspace ---


def test_g2_userspace_shuffles_then_goes_in_turn() -> None:
    orders = {chosen(balancer(ProxyMode.USERSPACE, "abcd", seed=seed), "abcd", 4) for seed in range(20)}
    assert len(orders) > 5
    assert all(sorted(order) == list("abcd") for order in orders)
    turns = chosen(balancer(ProxyMode.USERSPACE, "abcd"), "abcd", 12)
    assert turns == turns[:4] * 3


def test_g2_userspace_starts_a_new_order_on_each_change_and_only_then() -> None:
    random = Random(7)
    first, second = list("abc"), list("abcd")
    random.shuffle(first)
    random.shuffle(second)
    made = balancer(ProxyMode.USERSPACE, "abc", seed=7)
    assert chosen(made, "abc", 4) == "".join([*first, first[0]])
    made.update(candidates("abc").endpoints, None)
    assert chosen(made, "abc") == first[1]
    made.update(candidates("abcd").endpoints, None)
    assert chosen(made, "abcd", 8) == "".join(second * 2)


def test_g2_userspace_knows_ready_endpoints_only() -> None:
    made = balancer(ProxyMode.USERSPACE, "")
    ready, other = PortEndpoint("a", "a", 80), PortEndpoint("b", "b", 80, ready=False, terminating=True)
    made.update((ready, other), None)
    assert chosen(made, "a", 3) == "aaa"


def test_g4_userspace_forgets_affinity_when_a_dial_fails_and_ties_to_the_next() -> None:
    made = balancer(ProxyMode.USERSPACE, "abc", affinity=100.0)
    order = chosen(balancer(ProxyMode.USERSPACE, "abc"), "abc", 3)
    assert chosen(made, "abc", 2) == order[0] * 2
    made.failed(CLIENT)
    assert chosen(made, "abc", 2) == order[1] * 2


def test_g4_userspace_affinity_map_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emu.proxy.modes.userspace.AFFINITY_CLIENTS", 4)
    made = balancer(ProxyMode.USERSPACE, "ab", affinity=1000.0)
    first = [chosen(made, "ab", client=address(number)) for number in range(5)]
    assert [chosen(made, "ab", client=address(number)) for number in range(1, 5)] == first[1:]
    # Client 0 has made room, and the turn is at the other one after five connections.
    assert chosen(made, "ab", client=address(0)) != first[0]
