"""The gateway: an HTTP forward proxy into the cluster, for programs that have no pod's address.

Absolute-form requests and CONNECT (RFC 9110, 9112). The user name of Proxy-Authorization (Basic) names the
pod to act as. Every request opens a connection of its own, so that each is balanced and judged.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import socket
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from emu.proxy.dialer import Dialer, DialError, Identity, Pods

log = logging.getLogger(__name__)

_LIMIT = 64 * 1024
_CHUNK = 256 * 1024
_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "upgrade",
    )
)

Headers = list[tuple[str, str]]


class _Head(NamedTuple):
    """The start line's three parts and the header fields of a message."""

    start: tuple[str, str, str]
    headers: Headers

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def tokens(self, name: str) -> set[str]:
        return {token.strip().lower() for value in self.values(name) for token in value.split(",")}


class _BadMessageError(Exception):
    pass


class Gateway:
    """Serves one listening socket."""

    def __init__(self, dialer: Dialer, pods: Pods) -> None:
        self._dialer = dialer
        self._pods = pods
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> None:
        """Accept connections of a bound socket."""
        self._server = await asyncio.start_server(self._serve, sock=sock, limit=_LIMIT)

    async def stop(self) -> None:
        """Stop listening and break what is going on."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, _BadMessageError) as error:
            log.debug("gateway: %s", error)
        except asyncio.CancelledError:
            log.debug("gateway: stopped")
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request. Whether another may follow on the connection."""
        try:
            head = await _read_head(reader)
        except _BadMessageError as error:
            await _answer(writer, 400, str(error))
            return False
        if head is None:
            return False
        try:
            host, port, target = _destination(head)
            identity = await self._identity(head)
            upstream = await self._dialer.dial(identity, host, port)
        except DialError as error:
            await _answer(writer, error.status, str(error))
            return False
        up_reader, up_writer = await asyncio.open_connection(sock=upstream.sock, limit=_LIMIT)
        try:
            if head.start[0] == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _tunnel(reader, writer, up_reader, up_writer)
                return False
            return await _exchange(head, target, reader, writer, up_reader, up_writer)
        finally:
            up_writer.close()
            upstream.ended()

    async def _identity(self, head: _Head) -> Identity:
        values = head.values("proxy-authorization")
        if not values:
            return Identity()
        scheme, _, credentials = values[0].partition(" ")
        try:
            if scheme.lower() != "basic":
                raise ValueError(scheme)
            user = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[0]
        except (ValueError, binascii.Error):
            raise DialError(
                407, "Proxy-Authorization is not Basic: give the pod as the proxy's user name"
            ) from None
        return await self._pods.identity(unquote(user))


def _destination(head: _Head) -> tuple[str, int, str]:
    """Host, port and origin-form target of a request."""
    method, target, _ = head.start
    try:
        if method == "CONNECT":
            parts = urlsplit(f"//{target}")
            if not parts.hostname or parts.port is None:
                raise ValueError(target)
            return parts.hostname, parts.port, ""
        parts = urlsplit(target)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(target)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return parts.hostname, parts.port or 80, path
    except ValueError:
        raise DialError(
            400,
            f"{method} {target}: this is a proxy; use it as in curl -x http://127.0.0.1:3128 http://name/",
        ) from None


async def _read_head(reader: asyncio.StreamReader) -> _Head | None:
    try:
        data = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise
    except asyncio.LimitOverrunError:
        raise _BadMessageError("the header of the message is longer than 64 KiB") from None
    lines = data.decode("latin-1").split("\r\n")
    start = lines[0].split(" ", 2)
    if len(start) == 2:
        start.append("")
    headers: Headers = []
    for line in lines[1:-2]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise _BadMessageError(f"{line!r} is not a header field")
        headers.append((name, value.strip()))
    if len(start) != 3:
        raise _BadMessageError(f"{lines[0]!r} is not HTTP")
    return _Head((start[0], start[1], start[2]), headers)


def _forwarded(head: _Head, start: str, connection: str) -> bytes:
    """The message's head for the next hop."""
    dropped = _HOP_BY_HOP | head.tokens("connection")
    lines = [start]
    lines += [f"{name}: {value}" for name, value in head.headers if name.lower() not in dropped]
    if connection == "upgrade":
        lines += ["Connection: Upgrade", *(f"Upgrade: {value}" for value in head.values("upgrade"))]
    else:
        lines.append(f"Connection: {connection}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _exchange(
    head: _Head,
    target: str,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    up_reader: asyncio.StreamReader,
    up_writer: asyncio.StreamWriter,
) -> bool:
    method, _, version = head.start
    upgrade = "upgrade" in head.tokens("connection") and bool(head.values("upgrade"))
    up_writer.write(_forwarded(head, f"{method} {target} {version}", "upgrade" if upgrade else "close"))
    body = asyncio.create_task(_copy_body(head, reader, up_writer, ends_with_connection=False))
    try:
        while True:
            answer = await _read_head(up_reader)
            if answer is None:
                await _answer(writer, 502, "the server closed the connection without an answer")
                return False
            if not answer.start[1].isdigit():
                raise _BadMessageError(f"{answer.start[1]!r} is not a status code")
            status = int(answer.start[1])
            if status >= 200 or status == HTTPStatus.SWITCHING_PROTOCOLS:
                break
            writer.write(_forwarded(answer, " ".join(answer.start), "keep-alive"))
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            writer.write(_forwarded(answer, " ".join(answer.start), "upgrade"))
            await _tunnel(reader, writer, up_reader, up_writer)
            return False
        bodiless = method == "HEAD" or status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        sized = bodiless or bool(answer.values("content-length") or answer.values("transfer-encoding"))
        keep = sized and version == "HTTP/1.1" and "close" not in head.tokens("connection")
        keep = keep and "close" not in head.tokens("proxy-connection") and body.done()
        writer.write(_forwarded(answer, " ".join(answer.start), "keep-alive" if keep else "close"))
        if not bodiless:
            await _copy_body(answer, up_reader, writer, ends_with_connection=True)
        await writer.drain()
        return keep
    finally:
        body.cancel()
        with contextlib.suppress(
            asyncio.CancelledError, OSError, asyncio.IncompleteReadError, _BadMessageError
        ):
            await body


async def _copy_body(
    head: _Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, ends_with_connection: bool
) -> None:
    """Copy a message's body as it is framed (RFC 9112, section 6)."""
    lengths = head.values("content-length")
    if "chunked" in head.tokens("transfer-encoding"):
        while True:
            line = await reader.readuntil(b"\n")
            writer.write(line)
            try:
                size = int(line.split(b";")[0].strip(), 16)
            except ValueError:
                raise _BadMessageError(f"{line!r} is not the size of a chunk") from None
            if size == 0:
                break
            await _copy(reader, writer, size + 2)
        while (line := await reader.readuntil(b"\n")) != b"\r\n":
            writer.write(line)
        writer.write(line)
        await writer.drain()
    elif lengths:
        if not lengths[0].isdigit():
            raise _BadMessageError(f"Content-Length {lengths[0]!r} is not a number")
        await _copy(reader, writer, int(lengths[0]))
    elif ends_with_connection:
        await _copy(reader, writer, None)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int | None) -> None:
    """Copy `size` bytes, or all until the end of the stream."""
    while size is None or size > 0:
        data = await reader.read(_CHUNK if size is None else min(size, _CHUNK))
        if not data:
            if size is not None:
                raise asyncio.IncompleteReadError(b"", size)
            return
        writer.write(data)
        await writer.drain()
        if size is not None:
            size -= len(data)


async def _tunnel(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    up_reader: asyncio.StreamReader,
    up_writer: asyncio.StreamWriter,
) -> None:
    async def one_way(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        await _copy(source, sink, None)
        if sink.can_write_eof():
            sink.write_eof()

    await asyncio.gather(one_way(reader, up_writer), one_way(up_reader, writer))


async def _answer(writer: asyncio.StreamWriter, status: int, message: str) -> None:
    """An answer of the gateway's own, after which it closes the connection."""
    body = f"emu gateway: {message}\n".encode()
    challenge = 'Proxy-Authenticate: Basic realm="namespace.pod"\r\n' if status == 407 else ""
    writer.write(
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{challenge}"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        + body
    )
    await writer.drain()
