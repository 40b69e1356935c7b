"""HTTP/1.x as pods' built-in servers speak it, without any I/O: bytes in, bytes out (RFC 9112).

Requests are parsed by httptools (llhttp). A session answers them in order, pipelined ones too, and stops at
the first answer that must be awaited until its caller resumes it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

import httptools

MAX_HEAD = 64 * 1024
MAX_BODY = 1024 * 1024
ENOUGH = 64 * 1024
"""Octets of answers to pipelined requests after which the client has to take these first."""

TEXT = "text/plain; charset=utf-8"

Address = tuple[str, int]


class Request:
    """A complete request. `target` is as received; `client` is the other end of the connection."""

    __slots__ = ("body", "client", "headers", "keep_alive", "method", "target", "version")

    def __init__(
        self,
        method: str,
        target: str,
        version: str,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        client: Address,
        keep_alive: bool = False,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.body = body
        self.client = client
        self.keep_alive = keep_alive

    @property
    def path(self) -> str:
        """The path, percent-decoded, of an origin-form or absolute-form target."""
        path = self.target.partition("?")[0]
        if not path.startswith("/"):
            path = "/" + path.partition("://")[2].partition("/")[2]
        return unquote(path) if "%" in path else path

    def header(self, name: str) -> str | None:
        """The first value of a header, or None."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == wanted), None)

    def form(self) -> dict[str, str]:
        """First values of a URL-encoded body and, after them, of the query; those of the body count first."""
        values = {key: found[0] for key, found in parse_qs(self.query, keep_blank_values=True).items()}
        if (self.header("content-type") or "").startswith("application/x-www-form-urlencoded"):
            body = parse_qs(self.body.decode("utf-8", "replace"), keep_blank_values=True)
            values.update({key: found[0] for key, found in body.items()})
        return values

    @property
    def query(self) -> str:
        """What follows the question mark, as received."""
        return self.target.partition("?")[2]


class Response(NamedTuple):
    """An answer. With `stream`, the chunks follow `body` and `length` is the length of all."""

    body: bytes = b""
    status: int = 200
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False
    stream: Iterator[bytes] | None = None
    length: int = 0


HttpApp = Callable[[Request], "Response | Awaitable[Response]"]
"""What a server answers. Simple answers are returned at once; only those that must wait are awaited."""


def text(body: str, status: int = 200) -> Response:
    """A plain text answer."""
    return Response(body.encode(), status)


class HttpSession:
    """One connection's requests and answers."""

    def __init__(self, app: HttpApp, client: Address) -> None:
        self._app = app
        self._client = client
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._requests: deque[Request] = deque()
        self._head_size = 0
        self._body_size = 0
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._failed: Response | None = None
        self._continue = False
        self.waiting: Awaitable[Response] | None = None
        """The answer to await before `resume`."""
        self._waiting_request: Request | None = None
        self.stream: Iterator[bytes] | None = None
        """Chunks to send before `resume`."""
        self.fresh = True
        """Nothing has come in yet."""
        self.draining = False
        """Let the answer to a request that is under way be the last."""
        self.finished = False
        """Close the connection once everything is sent."""
        self.failed = False
        """It ended because of a bad request: the client may still be sending."""

    def receive(self, data: bytes) -> bytes:
        """What to send after `data` has come in."""
        parser = self._parser
        if parser is None or self.finished:
            return b""
        self.fresh = False
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No built-in server changes protocols: the request is answered as HTTP and the connection ends.
            if self._requests:
                self._requests[-1].keep_alive = False
        except httptools.HttpParserError:
            if self._failed is None:
                self._failed = text("400 Bad Request", 400)
        if self._body_size == 0:
            self._head_size += len(data) if not self._requests else 0
            if self._head_size > MAX_HEAD and self._failed is None:
                self._failed = text("431 Request Header Fields Too Large", 431)
        return self._answer()

    def resume(self, response: Response | None = None) -> bytes:
        """Go on after `waiting` has given `response`, or after the chunks of `stream` were sent."""
        self.stream = None
        out = b""
        if self.waiting is not None:
            assert response is not None
            assert self._waiting_request is not None
            self.waiting = None
            out = self._encode(self._waiting_request, response)
            self._waiting_request = None
        return out + self._answer()

    @property
    def idle(self) -> bool:
        """Whether the client has no request under way."""
        return not (self._target or self._requests or self.waiting is not None or self.stream is not None)

    def close(self) -> None:
        """Forget the parser, which refers back to this session."""
        self._parser = None
        self._requests.clear()

    # --- called by the parser ---

    def on_url(self, url: bytes) -> None:
        """Part of the request target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._head_size = 0
        for name, value in self._headers:
            if len(name) == 6 and name.lower() == b"expect" and value.lower() == b"100-continue":
                self._continue = True

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        self._body_size += len(body)
        if self._body_size > MAX_BODY:
            self._body.clear()
            if self._failed is None:
                self._failed = text(f"413 Request Entity Too Large: at most {MAX_BODY} bytes", 413)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._failed is not None:
            return
        parser = self._parser
        assert parser is not None
        self._requests.append(
            Request(
                parser.get_method().decode("latin-1"),
                self._target.decode("latin-1"),
                parser.get_http_version(),
                self._headers,
                b"".join(self._body) if self._body else b"",
                self._client,
                parser.should_keep_alive(),
            )
        )
        self._target = b""
        self._headers = []
        self._continue = False
        if self._body:
            self._body = []
            self._body_size = 0

    # --- answering ---

    def _answer(self) -> bytes:
        requests = self._requests
        out = b""
        while requests and self.waiting is None and self.stream is None and not self.finished:
            request = requests.popleft()
            response = self._app(request)
            if isinstance(response, Response):
                out += self._encode(request, response)
                if len(out) >= ENOUGH and requests and self.stream is None:
                    self.stream = iter(())
            else:
                self.waiting = response
                self._waiting_request = request
        if self.finished or self.waiting is not None or self.stream is not None:
            return out
        if self._failed is not None:
            request = Request("GET", "", "1.1", [], b"", self._client)
            out += self._encode(request, self._failed)
            self.failed = True
        elif self._continue:
            self._continue = False
            out += b"HTTP/1.1 100 Continue\r\n\r\n"
        return out

    def _encode(self, request: Request, response: Response) -> bytes:
        keep_alive = request.keep_alive and not response.close and not self.draining
        stream = response.stream
        length = len(response.body) if stream is None else response.length
        head = _head(response.status, response.content_type, length, response.headers)
        if not keep_alive:
            self.finished = True
            head += b"Connection: close\r\n"
        elif request.version == "1.0":
            head += b"Connection: keep-alive\r\n"
        if request.method == "HEAD" or response.status in (204, 304):
            return head + b"\r\n"
        self.stream = stream
        return head + b"\r\n" + response.body


class _Date:
    """The Date header, made once a second."""

    second = 0
    line = b""


def _head(status: int, content_type: str, length: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    now = int(time.time())
    if now != _Date.second:
        _Date.second = now
        _Date.line = b"Date: " + formatdate(now, usegmt=True).encode() + b"\r\n"
    head = _status_line(status) + _Date.line + b"Content-Length: %d\r\n" % length
    if content_type:
        head += b"Content-Type: " + content_type.encode("latin-1") + b"\r\n"
    for name, value in headers:
        line = f"{name}: {value}".replace("\r", " ").replace("\n", " ")
        head += line.encode("latin-1", "replace") + b"\r\n"
    return head


_status_lines: dict[int, bytes] = {}


def _status_line(status: int) -> bytes:
    line = _status_lines.get(status)
    if line is None:
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = f"status code {status}"
        line = _status_lines[status] = f"HTTP/1.1 {status} {phrase}\r\n".encode()
    return line
