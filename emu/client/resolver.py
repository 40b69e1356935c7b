"""A pod's stub resolver: what glibc does with the resolv.conf that the kubelet writes.

`nameserver` is the cluster's DNS Service, `search` the pod's three domains, `options ndots:5`; each try
takes 5 seconds and there are two. Queries come from the address that is given, so policies judge them as
that pod's.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import struct
from typing import NamedTuple, Protocol

from dnslib import QTYPE, RCODE, DNSError, DNSQuestion, DNSRecord
from dnslib.label import DNSLabelError

from emu.core.config import ClusterConfig
from emu.core.names import candidates, search_path
from emu.core.resolv_conf import ResolvConf

TIMEOUT_SECONDS = 5.0
ATTEMPTS = 2
DNS_PORT = 53
_MAX_DATAGRAM = 65535
_NXDOMAIN = 3

Server = tuple[str, int]


class ResolveError(Exception):
    """A name has no address, or nobody said so. The message names the name and the server."""


class SourcePlane(Protocol):
    """The part of a plane that a resolver needs: sockets from a given source."""

    async def connect_tcp(self, source: str, address: str, port: int, timeout: float | None) -> socket.socket:
        """A TCP connection from `source`."""

    def connect_udp(self, source: str, address: str, port: int) -> socket.socket:
        """A UDP socket from `source`, connected to its peer."""


class Answer(NamedTuple):
    """One record of an answer section; `data` is written as in zone files."""

    name: str
    type: str
    ttl: int
    data: str


class Resolver:
    """Resolves names as a pod of the cluster would. It keeps no state and may be shared."""

    def __init__(
        self,
        plane: SourcePlane,
        config: ClusterConfig,
        *,
        servers: tuple[Server, ...] = (),
        timeout: float = TIMEOUT_SECONDS,
        attempts: int = ATTEMPTS,
    ) -> None:
        """Ask `servers` (address, port) in order, or the cluster's DNS Service where none are given."""
        self._plane = plane
        self._zone = config.cluster_domain.rstrip(".")
        self._service = service = config.ranges.dns_service
        # The DNS server answers at the second port where the first cannot be bound, and the kernel refuses.
        self._servers = servers or ((service, DNS_PORT), (service, config.ports.dns_fallback))
        self._timeout = timeout
        self._attempts = attempts

    async def resolve(
        self,
        name: str,
        *,
        source: str,
        namespace: str = "default",
        conf: ResolvConf | None = None,
        servers: tuple[Server, ...] = (),
    ) -> list[str]:
        """The IPv4 addresses of a name as a pod of `namespace` with the address `source` sees it.

        Walks the search path until a name has an address. The path is that of `conf` where it is
        given, and so are the servers unless the first of them is the cluster's. Raises ResolveError.
        """
        if conf is None:
            tried = candidates(name, search_path(namespace, self._zone))
        else:
            tried = candidates(name, conf.search, conf.ndots)
            if conf.nameservers and conf.nameservers[0] != self._service:
                servers = servers or tuple((address, DNS_PORT) for address in conf.nameservers)
        for absolute in tried:
            reply = await self._ask(absolute, "A", source, servers)
            addresses = [str(record.rdata) for record in reply.rr if record.rtype == QTYPE.A]
            if addresses:
                return addresses
            if reply.header.rcode not in (0, _NXDOMAIN):
                raise ResolveError(f"cannot resolve {name}: {_rcode(reply)} for {absolute}")
        raise ResolveError(f"cannot resolve {name}: there is no address at {' or '.join(tried)}")

    async def query(
        self, name: str, qtype: str, *, source: str, servers: tuple[Server, ...] = ()
    ) -> list[Answer]:
        """The answer section for one absolute name; no search path. Empty where there is no such record.

        Raises ResolveError for response codes other than NOERROR and NXDOMAIN, and for silence.
        """
        reply = await self._ask(name, qtype, source, servers)
        if reply.header.rcode not in (0, _NXDOMAIN):
            raise ResolveError(f"cannot resolve {name}: {_rcode(reply)}")
        return [
            Answer(str(record.rname), str(QTYPE.get(record.rtype)), record.ttl, str(record.rdata))
            for record in reply.rr
        ]

    async def _ask(self, name: str, qtype: str, source: str, servers: tuple[Server, ...]) -> DNSRecord:
        try:
            question = DNSRecord(q=DNSQuestion(name, getattr(QTYPE, qtype.upper())))
            packet = question.pack()
        except (DNSError, DNSLabelError, UnicodeError) as error:
            raise ResolveError(f"{name} of type {qtype} cannot be asked for: {error}") from None
        servers = servers or self._servers
        silent: list[Server] = []
        refused: list[Server] = []
        for _ in range(self._attempts):
            for address, port in servers:
                try:
                    async with asyncio.timeout(self._timeout):
                        return await self._exchange(packet, source, address, port)
                except TimeoutError:
                    silent.append((address, port))
                    # The other port of a server that is there and drops us would be silence again.
                    break
                except OSError as error:
                    if error.errno not in (errno.ECONNREFUSED, errno.ECONNRESET):
                        raise ResolveError(f"cannot resolve {name}: {address}:{port}: {error}") from None
                    refused.append((address, port))
        if silent:
            where = ", ".join(f"{address}:{port}" for address, port in dict.fromkeys(silent))
            raise ResolveError(f"cannot resolve {name}: the query to {where} timed out")
        where = ", ".join(f"{address}:{port}" for address, port in dict.fromkeys(refused))
        raise ResolveError(f"cannot resolve {name}: no DNS server answers at {where}")

    async def _exchange(self, packet: bytes, source: str, address: str, port: int) -> DNSRecord:
        packet = struct.pack("!H", secrets.randbits(16)) + packet[2:]
        loop = asyncio.get_running_loop()
        with self._plane.connect_udp(source, address, port) as sock:
            await loop.sock_sendall(sock, packet)
            while True:
                reply = _parse(await loop.sock_recv(sock, _MAX_DATAGRAM), packet)
                if reply is not None:
                    break
        if not reply.header.tc:
            return reply
        return await self._over_tcp(packet, source, address, port) or reply

    async def _over_tcp(self, packet: bytes, source: str, address: str, port: int) -> DNSRecord | None:
        sock = await self._plane.connect_tcp(source, address, port, self._timeout)
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            writer.write(struct.pack("!H", len(packet)) + packet)
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            return _parse(await reader.readexactly(length), packet)
        except EOFError:
            return None
        finally:
            writer.close()


def _parse(data: bytes, packet: bytes) -> DNSRecord | None:
    """A reply to the packet; None for anything else, which a stub resolver ignores."""
    if data[:2] != packet[:2] or len(data) < 12 or not data[2] & 0x80:
        return None
    try:
        return DNSRecord.parse(data)
    except (DNSError, DNSLabelError, UnicodeError, RecursionError):
        return None


def _rcode(reply: DNSRecord) -> str:
    return str(RCODE.get(reply.header.rcode))
