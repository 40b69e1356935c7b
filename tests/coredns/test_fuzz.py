"""Bad input over real sockets: mutated packets over UDP, and odd TCP streams.

EMU_FUZZ_PACKETS says how many packets; `make fuzz` takes more than the suite does.
"""

import asyncio
import contextlib
import os
import random
import socket
import struct
import time
from pathlib import Path

import dns.message
import pytest

from emu.coredns import codec
from emu.coredns.kept import MAX_KEPT

from .test_kubernetes import COREFILE, D, populate
from .test_wire import PORT, QUESTION

PACKETS = int(os.environ.get("EMU_FUZZ_PACKETS", "200000"))
STREAMS = 300
BURST = 50
BURSTS_PER_CHECK = 100
MAX_REPLY_SECONDS = 1.0
MAX_GROWTH = 16 << 20
PLUGINS = "ttl 30\n    }\n    loadbalance\n    prometheus"

NAMES = (
    f"web.{D}",
    f"_http._tcp.head.{D}",
    f"alias.{D}",
    f"many.{D}",
    "127-244-1-2.default.pod.cluster.local.",
    "2.1.244.127.in-addr.arpa.",
    "cluster.local.",
    "dns-version.cluster.local.",
)
COOKIE = bytes.fromhex("000a0008") + bytes(8)


def seeds():
    for name in NAMES:
        for qtype in (codec.A, codec.AAAA, codec.SRV, codec.PTR, codec.SOA, codec.TXT, codec.ANY):
            plain = codec.encode_query(0, codec.to_wire(name), qtype)
            yield plain
            wide = codec.encode_query(0, codec.to_wire(name), qtype, edns=codec.Edns(1232, do=True))
            yield wide
            yield wide[:-2] + len(COOKIE).to_bytes(2) + COOKIE


SEEDS = tuple(seeds())
INTERESTING = (0, 1, 0x20, 0x2F, 0x3F, 0x40, 0x41, 0x5A, 0x7F, 0x80, 0xBF, 0xC0, 0xFA, 0xFF)


def mutated(chance, number):
    """A query with some octets changed, cut out, put in or doubled; its id is `number`."""
    packet = bytearray(SEEDS[int(chance.random() * len(SEEDS))])
    for _ in range(int(chance.random() * 5) + 1):
        at = int(chance.random() * len(packet))
        match int(chance.random() * 8):
            case 0 | 1:
                packet[at] = int(chance.random() * 256)
            case 2 | 3:
                packet[at] = INTERESTING[int(chance.random() * len(INTERESTING))]
            case 4:
                packet[at] ^= 0x20
            case 5:
                packet[at : at + 2] = struct.pack("!H", 0xC000 | int(chance.random() * 64))
            case 6:
                packet[at:at] = packet[: int(chance.random() * 40)]
            case _:
                del packet[at : at + int(chance.random() * 8)]
        packet = packet or bytearray(1)
    if chance.random() < 0.05:
        del packet[int(chance.random() * len(packet)) :]
    elif chance.random() < 0.01:
        packet *= 40
    packet[:2] = struct.pack("!H", number)
    return bytes(packet)


@pytest.fixture
async def served(cluster, start):
    populate(cluster)
    cluster.service("many", clusterIP="None")
    cluster.endpoints("many", [f"127.245.0.{n}" for n in range(2, 250)], ports=[{"name": "http", "port": 80}])
    return await start(COREFILE.replace("ttl 30\n    }", PLUGINS))


@pytest.fixture
def failures():
    """What the event loop was told of: an exception that reached it is a defect."""
    found = []
    asyncio.get_event_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def check(served):
    """The next good query is answered, in time."""
    began = time.monotonic()
    async with asyncio.timeout(MAX_REPLY_SECONDS * 5):
        reply = await ask_over_udp(served)
    assert dns.message.from_wire(reply).answer[0][0].address == "127.96.0.20"
    return time.monotonic() - began


async def ask_over_udp(served):
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((served.address, PORT))
        await loop.sock_sendall(sock, QUESTION)
        return await loop.sock_recv(sock, 65535)


def replies(sock):
    with contextlib.suppress(BlockingIOError):
        while True:
            yield sock.recv(65535)


async def test_mutated_packets_over_udp(served, failures):
    chance = random.Random(48)
    slowest, answered, before = 0.0, 0, 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((served.address, PORT))
        for burst in range(PACKETS // BURST):
            sent = {}
            for number in range(BURST):
                sent[number] = packet = mutated(chance, number)
                sock.send(packet)
            await asyncio.sleep(0)  # the server has its turn
            await asyncio.sleep(0)
            for reply in replies(sock):
                answered += 1
                question = sent.pop(int.from_bytes(reply[:2]))  # one reply at most for each
                assert reply[2] & 0x80
                assert not question[2] & 0x80
                if answered % 50 == 0:
                    read = dns.message.from_wire(reply)
                    assert len(reply) <= max(512, len(question), read.payload)
            if burst % BURSTS_PER_CHECK == 0:
                slowest = max(slowest, await check(served))
            if burst == PACKETS // BURST // 2:
                before = resident()
    kept = served.server.responder(53).kept
    assert not failures
    assert answered > PACKETS // 2
    assert slowest < MAX_REPLY_SECONDS
    assert len(kept.by_query) <= MAX_KEPT
    assert resident() - before < MAX_GROWTH


async def odd_stream(served, chance):
    """Frames with good, mutated or no packets, cut anywhere, ended politely or not."""
    reader, writer = await asyncio.open_connection(served.address, PORT)
    stream = b""
    for number in range(int(chance.random() * 30)):
        packet = mutated(chance, number) if chance.random() < 0.8 else QUESTION
        length = len(packet) if chance.random() < 0.95 else int(chance.random() * 65536)
        stream += length.to_bytes(2) + packet
    if chance.random() < 0.3:
        stream = chance.randbytes(int(chance.random() * 70_000))
    with contextlib.suppress(OSError):
        at = 0
        while at < len(stream):
            size = int(chance.random() * chance.choice((3, 100, 70_000))) + 1
            writer.write(stream[at : at + size])
            await writer.drain()
            at += size
        match int(chance.random() * 4):
            case 0:
                writer.transport.abort()
            case 1:
                writer.write_eof()
            case 2:
                await asyncio.wait_for(reader.read(100), 0.01)
    writer.close()


async def test_odd_tcp_streams(served, failures):
    chance = random.Random(46)
    for number in range(STREAMS):
        with contextlib.suppress(TimeoutError):
            await odd_stream(served, chance)
        if number % 20 == 0:
            assert await check(served) < MAX_REPLY_SECONDS
            assert (await served.ask(f"web.{D}", tcp=True)).answer
    async with asyncio.timeout(5):
        while served.listeners[1]._connections:  # noqa: ASYNC110  there is nothing to wait on
            await asyncio.sleep(0.01)
    assert not failures
