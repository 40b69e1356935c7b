"""The table of datagram flows, with a clock of its own."""

from __future__ import annotations

import socket
from typing import cast

import pytest

from emu.core.endpoints import PortEndpoint
from emu.proxy.conntrack import Flow, FlowTable
from emu.proxy.modes.base import Balancer
from emu.proxy.tables import Address

VIP = Address("10.96.0.1", 53, "UDP")
OTHER = Address("10.96.0.2", 53, "UDP")


def flow(number: int, address: Address = VIP) -> Flow:
    endpoint = PortEndpoint("10.244.1.2:53", "10.244.1.2", 53)
    no_socket = cast("socket.socket", None)
    return Flow(address, ("10.244.2.2", number), endpoint, cast("Balancer", None), no_socket, no_socket)


@pytest.mark.parametrize(
    ("datagrams", "seconds"),
    [
        ([], 30),
        ([(1, "sent"), (5, "sent")], 30),
        # Replied, and over before it is 2 s old.
        ([(0.1, "answered"), (1.9, "sent"), (2, "answered")], 30),
        # The age counts when a datagram comes, not when the flow expires.
        ([(0.1, "answered")], 30),
        ([(0.1, "answered"), (2.1, "sent")], 120),
        ([(0.1, "answered"), (2.1, "answered")], 120),
        # The first reply finds a flow that has seen none, however old it is.
        ([(3, "answered")], 30),
        ([(3, "answered"), (3, "sent")], 120),
        ([(3, "answered"), (3.1, "answered")], 120),
        # A stream stays one.
        ([(0.1, "answered"), (2.1, "sent"), (100, "sent")], 120),
    ],
)
def test_h2_timeouts(datagrams: list[tuple[float, str]], seconds: float) -> None:
    table, found = FlowTable(10), flow(1)
    table.add(found, 0.0)
    last = 0.0
    for last, kind in datagrams:
        assert table.expired(last) == []
        getattr(table, kind)(found, last)
    assert table.next_deadline() == pytest.approx(last + seconds)
    assert table.expired(last + seconds - 0.001) == []
    assert table.expired(last + seconds) == [found]


def test_g5_the_userspace_mode_has_one_timeout_and_no_streams() -> None:
    table, found = FlowTable(10), flow(1)
    table.add(found, 0.0, cached=3.0)
    for now in (1, 3, 5):
        table.sent(found, now)
        table.answered(found, now)
    assert table.expired(7.9) == []
    assert table.expired(8) == [found]


def test_flows_of_several_timeouts_expire_each_in_its_time() -> None:
    table = FlowTable(10)
    stream, short, cached = flow(1), flow(2), flow(3)
    for number, item in enumerate((stream, short)):
        table.add(item, number)
    table.add(cached, 2, cached=0.25)
    table.answered(stream, 3)
    table.sent(stream, 4)
    assert table.next_deadline() == 2.25
    assert table.expired(3) == [cached]
    assert table.remove(cached)
    assert table.next_deadline() == 31
    assert set(table.expired(124)) == {stream, short}


def test_a_full_table_gives_up_what_is_idle_longest_and_no_stream() -> None:
    table = FlowTable(3)
    stream, first, second = flow(1), flow(2), flow(3)
    for item in (stream, first, second):
        assert not table.full
        table.add(item, 0)
    assert table.full
    table.answered(stream, 1)
    table.sent(stream, 3)
    table.sent(first, 4)
    for expected in (second, first):
        assert table.expendable() is expected
        table.remove(expected)
    assert table.expendable() is None


def test_flows_are_found_by_virtual_address() -> None:
    table = FlowTable(10)
    mine, other = flow(1), flow(1, OTHER)
    at = table.at(VIP)
    table.add(mine, 0)
    table.add(other, 0)
    assert at == {("10.244.2.2", 1): mine}
    assert table.among({OTHER, Address("10.96.0.3", 53, "UDP")}) == [other]
    assert table.remove(mine)
    assert not table.remove(mine)
    table.add(again := flow(1), 1)
    assert table.at(VIP) is at
    assert list(at.values()) == [again]
    assert len(table) == 2
