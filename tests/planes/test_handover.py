"""Accepted connections pass from the proxy to the node, and the news of their end comes back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from emu.planes import handover
from emu.planes.handover import Handover, HandoverReceiver, HandoverSender

VIP = ("127.203.2.1", 80)
CLIENT = "127.203.2.9"


async def until(condition: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + 5
    while not condition():
        assert loop.time() < end, "the condition did not come true in time"
        await asyncio.sleep(0.001)


class Node:
    """A receiver that keeps what it gets."""

    def __init__(self, path: Path) -> None:
        self.taken: list[tuple[socket.socket, Handover, Callable[[], None]]] = []
        self.receiver = HandoverReceiver(path, self._take)

    def _take(self, sock: socket.socket, what: Handover, ended: Callable[[], None]) -> None:
        self.taken.append((sock, what, ended))

    def end_all(self) -> None:
        while self.taken:
            sock, _, ended = self.taken.pop()
            sock.close()
            ended()

    def close(self) -> None:
        self.receiver.stop()
        for sock, _, _ in self.taken:
            sock.close()


class Proxy:
    """A sender, and connections to hand over."""

    def __init__(self, path: Path, listener: socket.socket) -> None:
        self.listener = listener
        self.ended: list[int] = []
        self.sender = HandoverSender(path, self.ended.append)
        self.clients: list[socket.socket] = []
        self.sent = 0

    def accept(self) -> socket.socket:
        client = socket.create_connection(self.listener.getsockname(), 5, source_address=(CLIENT, 0))
        self.clients.append(client)
        return self.listener.accept()[0]

    def send(self, sock: socket.socket) -> int | None:
        """The account of the connection; None when it is the caller's still."""
        account = self.sent + 1
        if not self.sender.send(
            sock.fileno(), sock.getpeername(), "127.203.2.2", 8080, VIP, "default/web:http", account
        ):
            return None
        self.sent = account
        sock.detach()
        self.sender.flush()
        return account

    def close(self) -> None:
        self.sender.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.sock"


@pytest.fixture
async def node(path: Path) -> AsyncIterator[Node]:
    node = Node(path)
    node.receiver.start()
    yield node
    node.close()


@pytest.fixture
async def proxy(path: Path) -> AsyncIterator[Proxy]:
    with socket.create_server((VIP[0], 0), backlog=1000) as listener:
        proxy = Proxy(path, listener)
        yield proxy
        proxy.close()


async def test_a_connection_changes_hands_with_all_that_is_known_of_it(node: Node, proxy: Proxy) -> None:
    sock = proxy.accept()
    number = proxy.send(sock)
    assert number is not None
    await until(lambda: len(node.taken) == 1)
    taken, what, ended = node.taken[0]
    assert what == Handover(
        number, *proxy.clients[0].getsockname(), "127.203.2.2", 8080, *VIP, "default/web:http"
    )
    assert taken.getpeername() == proxy.clients[0].getsockname()
    assert taken.getblocking() is False
    assert os.get_inheritable(taken.fileno()) is False
    taken.send(b"from the pod")
    assert proxy.clients[0].recv(100) == b"from the pod"
    assert proxy.ended == []
    ended()
    await until(lambda: proxy.ended == [number])


async def test_only_the_owner_may_hand_over(node: Node, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_no_node_leaves_the_connection_with_the_caller(proxy: Proxy) -> None:
    sock = proxy.accept()
    assert proxy.send(sock) is None
    sock.send(b"still open")
    assert proxy.clients[0].recv(100) == b"still open"
    sock.close()
    assert proxy.ended == []


async def test_many_connections_and_all_their_ends(node: Node, proxy: Proxy) -> None:
    numbers = set()
    for _ in range(400):
        number = proxy.send(proxy.accept())
        assert number is not None
        numbers.add(number)
    await until(lambda: len(node.taken) == 400)
    assert {what.number for _, what, _ in node.taken} == numbers
    node.end_all()
    await until(lambda: len(proxy.ended) == 400)
    assert set(proxy.ended) == numbers


async def test_ends_are_told_in_bounded_messages(
    node: Node, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "_MAX_ENDED_IN_MESSAGE", 7)
    for _ in range(40):
        proxy.send(proxy.accept())
    await until(lambda: len(node.taken) == 40)
    node.end_all()
    await until(lambda: sorted(proxy.ended) == list(range(1, 41)))


def connect_only(path: Path) -> socket.socket:
    """A node that listens and never takes anything."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen(1)
    return listener


async def test_a_full_channel_queues_and_then_delivers_in_order(
    path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "_MAX_QUEUED", 20)
    with connect_only(path) as listener:
        refused = None
        for _ in range(1000):
            sock = proxy.accept()
            if proxy.send(sock) is None:
                refused = sock
                break
        assert refused is not None, "the queue has no end"
        refused.send(b"yours")
        assert proxy.clients[-1].recv(10) == b"yours"
        refused.close()
        accepted = len(proxy.clients) - 1
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(5)
            received = []
            while len(received) < accepted:
                await asyncio.sleep(0)
                data, fds, _, _ = socket.recv_fds(peer, 1 << 16, 64)
                received += [message.number for message in handover._decode_handovers(data)]
                for fd in fds:
                    os.close(fd)
                if len(received) % 50 == 0 or len(received) > accepted - 30:
                    # Let the queue move on before the blocking read that waits for it.
                    await asyncio.sleep(0.002)
            assert received == list(range(1, accepted + 1))


async def test_a_node_that_dies_ends_what_it_had_and_what_waited(
    path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "_MAX_QUEUED", 20)
    with connect_only(path) as listener:
        sent = 0
        while True:
            sock = proxy.accept()
            if proxy.send(sock) is None:
                sock.close()
                break
            sent += 1
        listener.accept()[0].close()
        path.unlink()
    await until(lambda: len(proxy.ended) == sent)
    with pytest.raises(ConnectionResetError):
        proxy.clients[sent - 1].recv(10)
    # Nobody is there now; the next one is the caller's again.
    sock = proxy.accept()
    assert proxy.send(sock) is None
    sock.close()


async def test_a_restarted_node_gets_the_next_connection(path: Path, proxy: Proxy) -> None:
    first, second = Node(path), Node(path)
    first.receiver.start()
    assert proxy.send(proxy.accept()) == 1
    await until(lambda: len(first.taken) == 1)
    first.close()
    second.receiver.start()
    # The sender has not read yet that the first one is gone.
    assert proxy.send(proxy.accept()) == 2
    await until(lambda: len(second.taken) == 1)
    assert proxy.ended == [1]
    second.end_all()
    await until(lambda: proxy.ended == [1, 2])
    second.close()


async def test_connections_outlive_the_proxy_and_the_node_serves_the_next_one(
    node: Node, proxy: Proxy, path: Path
) -> None:
    proxy.send(proxy.accept())
    await until(lambda: len(node.taken) == 1)
    proxy.sender.close()
    assert proxy.ended == [1]
    taken, _, ended = node.taken[0]
    taken.send(b"still here")
    assert proxy.clients[0].recv(100) == b"still here"
    ended()
    other = Proxy(path, proxy.listener)
    assert other.send(other.accept()) == 1
    await until(lambda: len(node.taken) == 2)
    other.close()


async def test_a_killed_nodes_socket_file_is_replaced_and_removed_at_the_end(path: Path) -> None:
    connect_only(path).close()
    assert path.exists()
    node = Node(path)
    node.receiver.start()
    node.close()
    assert not path.exists()


async def test_on_ended_may_close_the_channel(node: Node, proxy: Proxy) -> None:
    for _ in range(3):
        proxy.send(proxy.accept())
    await until(lambda: len(node.taken) == 3)
    ended: list[int] = []

    def close_then_note(number: int) -> None:
        ended.append(number)
        proxy.sender.close()

    proxy.sender._on_ended = close_then_note
    node.end_all()
    await until(lambda: sorted(ended) == [1, 2, 3])


async def test_a_deep_state_directory_is_no_hindrance(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    node = Node(deep / "node.sock")
    node.receiver.start()
    with socket.create_server((VIP[0], 0)) as listener:
        proxy = Proxy(deep / "node.sock", listener)
        assert proxy.send(proxy.accept()) == 1
        await until(lambda: len(node.taken) == 1)
        proxy.close()
    node.close()
    assert not (deep / "node.sock").exists()


@pytest.fixture
def node_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    program = Path(__file__).with_name("taking_node.py")
    with subprocess.Popen(
        [sys.executable, str(program), str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield process
        process.kill()


async def test_a_node_that_is_killed_resets_what_was_on_its_way_and_nothing_leaks(
    node_process: subprocess.Popen[str], proxy: Proxy
) -> None:
    assert node_process.stdout is not None
    assert proxy.send(proxy.accept()) == 1
    assert node_process.stdout.readline() == "1\n"
    before = open_descriptors()
    node_process.send_signal(signal.SIGSTOP)
    for number in range(2, 12):
        assert proxy.send(proxy.accept()) == number
    for client in proxy.clients:
        client.send(b"a request")
    node_process.kill()
    await until(lambda: sorted(proxy.ended) == list(range(1, 12)))
    for client in proxy.clients:
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    # Ten clients more, and the channel is gone.
    assert open_descriptors() == before + 10 - 1


async def test_connections_that_wait_are_reset_when_the_proxy_ends(path: Path, proxy: Proxy) -> None:
    before = open_descriptors()
    with connect_only(path):
        sock = proxy.accept()
        assert proxy.sender.send(sock.detach(), (CLIENT, 1), "127.203.2.2", 8080, VIP, "default/web:http", 7)
        proxy.sender.close()
    assert proxy.ended == [7]
    with pytest.raises(ConnectionResetError):
        proxy.clients[0].recv(10)
    assert open_descriptors() == before + 1


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_connection_that_cannot_be_taken_up_costs_none_of_those_that_came_with_it(
    path: Path, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[int] = []

    def take(sock: socket.socket, what: Handover, ended: Callable[[], None]) -> None:
        if what.number == 1:
            raise RuntimeError("a fault of the server")
        taken.append(what.number)
        sock.close()
        ended()

    receiver = HandoverReceiver(path, take)
    receiver.start()
    for number in (1, 2, 3):
        sock = proxy.accept()
        proxy.sender.send(sock.detach(), (CLIENT, 1), "127.203.2.2", 8080, VIP, "default/web:http", number)
    proxy.sender.flush()
    await until(lambda: sorted(proxy.ended) == [1, 2, 3])
    assert taken == [2, 3]
    assert "a fault of the server" in caplog.text
    with pytest.raises(ConnectionResetError):
        proxy.clients[0].recv(1)
    receiver.stop()


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    fillers = [os.open("/dev/null", os.O_RDONLY)]
    while fillers[-1] < highest:
        fillers.append(os.open("/dev/null", os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(fillers) + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)


async def test_a_channel_that_finds_no_descriptor_leaves_the_socket_to_the_caller(
    node: Node, proxy: Proxy
) -> None:
    with proxy.accept() as sock:
        with no_more_descriptors():
            assert proxy.send(sock) is None
        assert proxy.send(sock) == 1


async def test_a_connection_lost_for_want_of_descriptors_is_told_as_ended(
    node: Node, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    assert proxy.send(proxy.accept()) == 1
    await until(lambda: len(node.taken) == 1)
    sock = proxy.accept()
    other = proxy.accept()
    with no_more_descriptors():
        # Sending frees one descriptor of this process; another one takes its place.
        assert proxy.send(sock) == 2
        await asyncio.sleep(0)
        with other.dup():
            await until(lambda: proxy.ended == [2])
    other.close()
    assert "out of file descriptors" in caplog.text
