"""The loopback plane on real sockets: sources are true, and restrictions drop what they should."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emu.core.addresses import to_int
from emu.core.ranges import EVERYONE, NOBODY, Ranges, complement, union
from emu.planes.loopback import LoopbackPlane

SERVER, FRIEND, STRANGER = "127.203.0.2", "127.203.0.3", "127.203.0.4"
# As long as a dropped packet is waited for; an accepted one needs well under a millisecond.
DROPPED_SECONDS = 0.15

plane = LoopbackPlane()
needs_filters = pytest.mark.skipif(not plane.can_filter(), reason="the kernel refuses SO_ATTACH_FILTER here")


def only(*sources: str) -> Ranges:
    return union((to_int(source), to_int(source)) for source in sources)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with plane.listen_tcp(SERVER, 0) as sock:
        yield sock


@pytest.fixture
def datagrams() -> Iterator[socket.socket]:
    with plane.listen_udp(SERVER, 0) as sock:
        yield sock


def test_a_burst_of_datagrams_finds_room(datagrams: socket.socket):
    # Each takes up a kilobyte or less of the kernel's memory, however short it is.
    fits = min(datagrams.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 1024, 2000)
    if fits < 500:
        pytest.skip("net.core.rmem_max is too small")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(datagrams.getsockname())
        for number in range(fits):
            sock.send(str(number).encode())
    assert [int(datagrams.recv(10)) for _ in range(fits)] == list(range(fits))


async def connects(listener: socket.socket, source: str) -> bool:
    address, port = listener.getsockname()
    try:
        (await plane.connect_tcp(source, address, port, DROPPED_SECONDS)).close()
    except TimeoutError:
        return False
    return True


async def arrives(datagrams: socket.socket, source: str) -> bool:
    """Whether a datagram gets there; sending one that is dropped is no error."""
    loop = asyncio.get_running_loop()
    with plane.connect_udp(source, *datagrams.getsockname()) as sock:
        await loop.sock_sendall(sock, b"?")
        try:
            async with asyncio.timeout(DROPPED_SECONDS):
                _, peer = await loop.sock_recvfrom(datagrams, 10)
        except TimeoutError:
            return False
    assert peer[0] == source
    return True


async def test_connections_and_datagrams_come_from_their_source(
    listener: socket.socket, datagrams: socket.socket
) -> None:
    loop = asyncio.get_running_loop()
    with await plane.connect_tcp(FRIEND, *listener.getsockname(), 5) as client:
        accepted, peer = await loop.sock_accept(listener)
        accepted.close()
        assert peer == client.getsockname()
        assert peer[0] == FRIEND
    assert await arrives(datagrams, FRIEND)


async def test_a_closed_port_refuses() -> None:
    with plane.listen_tcp(SERVER, 0) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await plane.connect_tcp(FRIEND, SERVER, port, 5)


def test_a_restarted_listener_gets_its_port_again(listener: socket.socket) -> None:
    address, port = listener.getsockname()
    with socket.create_connection((address, port), source_address=(FRIEND, 0)), listener:
        accepted, _ = listener.accept()
        # Closed first on this side, so that it stays in TIME_WAIT here.
        accepted.close()
    plane.listen_tcp(address, port).close()


@needs_filters
async def test_a_restricted_listener_drops_the_others(listener: socket.socket) -> None:
    assert plane.restrict(listener, only(FRIEND))
    assert await connects(listener, FRIEND)
    assert not await connects(listener, STRANGER)


@needs_filters
async def test_a_restricted_datagram_socket_drops_the_others(datagrams: socket.socket) -> None:
    assert plane.restrict(datagrams, only(FRIEND))
    assert await arrives(datagrams, FRIEND)
    assert not await arrives(datagrams, STRANGER)


@needs_filters
async def test_a_restriction_is_replaced_and_lifted(listener: socket.socket) -> None:
    assert plane.restrict(listener, NOBODY)
    assert not await connects(listener, FRIEND)
    assert plane.restrict(listener, complement(only(FRIEND)))
    assert await connects(listener, STRANGER)
    assert not await connects(listener, FRIEND)
    assert plane.restrict(listener, EVERYONE)
    assert await connects(listener, FRIEND)
    assert plane.restrict(listener, EVERYONE)


@needs_filters
async def test_a_listener_may_be_born_restricted() -> None:
    with (
        plane.listen_tcp(SERVER, 0, only(FRIEND)) as listener,
        plane.listen_udp(SERVER, 0, NOBODY) as datagrams,
    ):
        assert not await connects(listener, STRANGER)
        assert await connects(listener, FRIEND)
        assert not await arrives(datagrams, FRIEND)


@needs_filters
async def test_nothing_slips_through_while_a_restriction_is_replaced(datagrams: socket.socket) -> None:
    sets = [only(FRIEND), complement(only(STRANGER))]
    plane.restrict(datagrams, sets[0])
    with (
        plane.connect_udp(FRIEND, *datagrams.getsockname()) as friend,
        plane.connect_udp(STRANGER, *datagrams.getsockname()) as stranger,
    ):
        for turn in range(300):
            friend.send(b"friend")
            stranger.send(b"stranger")
            plane.restrict(datagrams, sets[turn % 2])
            assert datagrams.recv(100) == b"friend"
            with pytest.raises(BlockingIOError):
                datagrams.recv(100)


@needs_filters
async def test_established_connections_outlive_a_restriction(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with await plane.connect_tcp(FRIEND, *listener.getsockname(), 5) as client:
        accepted, _ = await loop.sock_accept(listener)
        with accepted:
            assert plane.restrict(listener, NOBODY)
            await loop.sock_sendall(client, b"still here")
            async with asyncio.timeout(5):
                assert await loop.sock_recv(accepted, 100) == b"still here"
    assert not await connects(listener, FRIEND)


@needs_filters
async def test_a_set_that_does_not_fit_leaves_no_restriction_behind(listener: socket.socket) -> None:
    assert plane.restrict(listener, NOBODY)
    base = to_int("127.203.128.0")
    too_many = tuple((base + 33 * number, base + 33 * number) for number in range(5000))
    assert not plane.restrict(listener, too_many)
    assert await connects(listener, STRANGER)


def test_can_bind_tells_taken_ports(listener: socket.socket) -> None:
    address, port = listener.getsockname()
    assert not plane.can_bind(address, port)
    assert plane.can_bind("127.203.0.9", port)


def as_another_user(question: Callable[[], bool]) -> bool:
    """What a process without privileges finds; it is forked, for it may not read this interpreter's files."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writing, b"1" if question() else b"0")
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    assert answer, "the child died"
    return answer == b"1"


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@needs_root
@pytest.mark.parametrize("listen", [plane.listen_tcp, plane.listen_udp], ids=["TCP", "UDP"])
def test_another_user_is_told_whether_a_socket_was_restricted(
    listen: Callable[[str, int], socket.socket],
) -> None:
    """Kernels differ in what they grant; what counts is that `restrict` says what is the case."""

    def is_told_the_truth() -> bool:
        with listen(SERVER, 0) as sock, socket.socket(socket.AF_INET, sock.type) as client:
            restricted = plane.restrict(sock, NOBODY)
            client.settimeout(DROPPED_SECONDS)
            client.bind((FRIEND, 0))
            try:
                client.connect(sock.getsockname())
                client.send(b"?")
                sock.settimeout(DROPPED_SECONDS)
                dropped = False
                if sock.type == socket.SOCK_DGRAM:
                    sock.recv(10)
            except TimeoutError:
                dropped = True
            lifted = plane.restrict(sock, EVERYONE)
            return restricted is dropped and lifted

    assert as_another_user(is_told_the_truth)


@needs_root
def test_another_user_is_told_whether_the_kernel_filters() -> None:
    def is_told_the_truth() -> bool:
        with plane.listen_tcp(SERVER, 0) as sock:
            return plane.can_filter() is plane.restrict(sock, NOBODY)

    assert as_another_user(is_told_the_truth)


@needs_root
def test_another_user_is_told_whether_low_ports_are_granted() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    assert as_another_user(lambda: plane.can_bind("127.203.0.9", 53)) is (first <= 53)
