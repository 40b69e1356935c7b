"""TCP connections that are odd, slow, or too many; sizes over UDP."""

import asyncio
import errno
import socket
import struct

import dns.flags
import dns.message
import pytest

from emu.coredns import codec, listeners

from .test_kubernetes import COREFILE, D, populate
from .test_wire import PORT, QUESTION, exchange

FRAMED = len(QUESTION).to_bytes(2) + QUESTION


@pytest.fixture
async def served(cluster, start):
    populate(cluster)
    cluster.service("many", clusterIP="None")
    cluster.endpoints("many", [f"127.245.{n // 250}.{n % 250 + 1}" for n in range(5000)])
    return await start(COREFILE)


async def connect(served):
    return await asyncio.open_connection(served.address, PORT)


async def read_reply(reader):
    async with asyncio.timeout(5):
        return await reader.readexactly(int.from_bytes(await reader.readexactly(2)))


async def is_over(reader):
    """Whether the server ends the connection without another octet."""
    try:
        async with asyncio.timeout(5):
            return await reader.read(1) == b""
    except ConnectionResetError:
        return True


def open_connections(served):
    return served.listeners[1]._connections


async def test_rule_46_a_connection_takes_any_number_of_queries(served):
    """More than a wake-up takes, in one piece, answered in order."""
    count = 1000
    reader, writer = await connect(served)
    writer.write(
        b"".join(len(QUESTION).to_bytes(2) + struct.pack("!H", n) + QUESTION[2:] for n in range(count))
    )
    assert [int.from_bytes((await read_reply(reader))[:2]) for _ in range(count)] == list(range(count))
    writer.close()


async def test_rule_46_another_client_gets_its_turn_during_a_long_pipeline(served, monkeypatch):
    responder = served.server.responder(53)
    handle, handled = responder.handle, []

    def counted(packet, client, local, proto):
        handled.append(proto)
        return handle(packet, client, local, proto)

    monkeypatch.setattr(responder, "handle", counted)
    _, writer = await connect(served)
    writer.write(FRAMED * 5000)
    await writer.drain()
    assert await exchange(served, QUESTION, timeout=2) is not None
    assert handled.count("tcp") < 5000
    writer.close()


async def test_rule_46_octet_by_octet(served):
    reader, writer = await connect(served)
    for octet in FRAMED:
        writer.write(bytes((octet,)))
        await writer.drain()
    assert dns.message.from_wire(await read_reply(reader)).answer
    writer.close()


@pytest.mark.parametrize(
    "first", [b"", FRAMED, FRAMED[:7], b"\0\0", b"\0"], ids=["silent", "asked", "cut", "empty", "half"]
)
async def test_rule_46_an_idle_connection_is_closed(served, monkeypatch, first):
    monkeypatch.setattr(listeners, "IDLE_SECONDS", 0.1)
    reader, writer = await connect(served)
    writer.write(first)
    if first == FRAMED:
        await read_reply(reader)
    assert await is_over(reader)
    assert not open_connections(served)
    writer.close()


async def test_rule_46_a_client_that_does_not_read_is_not_answered_without_end(served, monkeypatch):
    """Its replies stay bounded, and it is given up."""
    monkeypatch.setattr(listeners, "IDLE_SECONDS", 0.3)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (served.address, PORT))
        _, writer = await asyncio.open_connection(sock=sock.dup())
    packet = codec.encode_query(1, codec.to_wire(f"many.{D}"), codec.A)
    writer.transport.pause_reading()
    writer.write((len(packet).to_bytes(2) + packet) * 2000)
    async with asyncio.timeout(20):
        while not open_connections(served):  # noqa: ASYNC110  there is nothing to wait on
            await asyncio.sleep(0)
        (connection,) = open_connections(served)
        while connection in open_connections(served):
            transport = connection._transport
            assert transport is None or transport.get_write_buffer_size() < 2 * 65536 + 65537
            await asyncio.sleep(0.01)
    assert await exchange(served, QUESTION) is not None
    writer.transport.abort()


async def test_rule_46_the_longest_idle_connection_makes_room(served, monkeypatch):
    monkeypatch.setattr(listeners, "MAX_CONNECTIONS", 3)
    pairs = []
    for _ in range(3):
        pairs.append(await connect(served))
        pairs[-1][1].write(FRAMED)
        await read_reply(pairs[-1][0])
    pairs[0][1].write(FRAMED)  # the second one is now the longest idle
    await read_reply(pairs[0][0])
    reader, writer = await connect(served)
    writer.write(FRAMED)
    assert dns.message.from_wire(await read_reply(reader)).answer
    assert await is_over(pairs[1][0])
    pairs[0][1].write(FRAMED)
    assert await read_reply(pairs[0][0])
    for _, other in [*pairs, (reader, writer)]:
        other.close()


async def test_without_files_to_spare_it_goes_on_later(served, monkeypatch):
    """The socket stays readable, and must not take all processor time."""
    monkeypatch.setattr(listeners, "_RETRY_SECONDS", 0.05)
    listener = served.listeners[1]
    real, failures = listener.sock, []

    class Exhausted:
        def __getattr__(self, name):
            return getattr(real, name)

        def accept(self):
            if len(failures) < 3:
                failures.append(1)
                raise OSError(errno.EMFILE, "Too many open files")
            return real.accept()

        def fileno(self):
            return real.fileno()

    listener.sock = Exhausted()
    reader, writer = await connect(served)
    writer.write(FRAMED)
    assert dns.message.from_wire(await read_reply(reader)).answer
    assert len(failures) == 3
    writer.close()
    listener.sock = real


@pytest.mark.parametrize("size", [0, 100, 512, 700, 1232, 4096, 65535])
async def test_rule_46_a_reply_over_udp_is_never_above_the_size_of_the_client(served, size):
    packet = codec.encode_query(1, codec.to_wire(f"many.{D}"), codec.A, edns=codec.Edns(size))
    for _ in range(2):
        reply = await exchange(served, packet)
        assert len(reply) <= max(512, size)
        message = dns.message.from_wire(reply)
        assert message.flags & dns.flags.TC
        assert message.payload == size
        assert message.answer


async def test_rule_46_sixty_addresses_fit_1232_octets(served, cluster):
    cluster.service("sixty", clusterIP="None")
    cluster.endpoints("sixty", [f"127.246.0.{n}" for n in range(1, 61)])
    reply = await served.ask(f"sixty.{D}", use_edns=0, payload=1232)
    assert not reply.flags & dns.flags.TC
    assert len(reply.answer[0]) == 60


async def test_rule_46_over_tcp_up_to_64_kib(served):
    reply = await served.ask(f"many.{D}", tcp=True)
    assert reply.flags & dns.flags.TC
    assert len(reply.answer[0]) > 4000
