"""Small web servers: nginx with its default site, hashicorp/http-echo, traefik/whoami."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator

import msgspec

from emu.core.objects import Container
from emu.nodes.connections import serve_http
from emu.nodes.http import Request, Response, text
from emu.nodes.runtimes.arguments import ArgumentError, Value, parse, parse_duration
from emu.nodes.runtimes.base import Exit, Plan, Runtime, Surroundings, TcpPort, words

_HTML = "text/html"
_WELCOME = b"""<!DOCTYPE html>
<html>
<head><title>Welcome to nginx!</title></head>
<body><h1>Welcome to nginx!</h1><p>emu serves this page in place of nginx's own.</p></body>
</html>
"""
_NOT_FOUND = b"""<html>
<head><title>404 Not Found</title></head>
<body><center><h1>404 Not Found</h1></center><hr><center>nginx</center></body>
</html>
"""
_WHOAMI_FLAGS: dict[str, Value] = {
    "port": "",
    "name": "",
    "verbose": False,
    "cert": "",
    "key": "",
    "cacert": "",
    "allowed-origins": "*",
}
_HTTP_ECHO_FLAGS: dict[str, Value] = {"listen": ":5678", "text": "", "version": False}
_UNITS = {"": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}
_BLOCK = 1 << 18


def nginx(default_port: int) -> Runtime:
    """The default site of nginx, on the declared TCP ports, else on `default_port`."""
    server = (("Server", "nginx"),)
    welcome = Response(_WELCOME, 200, _HTML, server)
    missing = Response(_NOT_FOUND, 404, _HTML, server)

    def answer(request: Request) -> Response:
        return welcome if request.path in ("/", "/index.html") else missing

    def plan(container: Container, surroundings: Surroundings) -> Plan:
        declared = [port.container_port for port in container.ports if port.protocol == "TCP"]
        return Plan(ports=tuple(TcpPort(port, serve_http(answer)) for port in declared or [default_port]))

    return plan


def http_echo(container: Container, surroundings: Surroundings) -> Plan:
    """hashicorp/http-echo: one text for every path, and /health."""
    command, args = words(container)
    try:
        given = parse(command[1:] + args, _HTTP_ECHO_FLAGS)
        port = _port(given.text("listen"))
    except ArgumentError as error:
        return Plan(exit=Exit(2, str(error)))
    environment = {variable.name: variable.value for variable in container.env}
    message = given.text("text") or environment.get("ECHO_TEXT", "")
    if not message:
        return Plan(exit=Exit(127, "Missing -text option OR ENV var TEXT is empty!"))
    if given.positional:
        return Plan(exit=Exit(127, "Too many arguments!"))
    headers = (("X-App-Name", "http-echo"),)
    echo = Response(f"{message}\n".encode(), headers=headers)
    health = Response(b'{"status":"ok"}\n', headers=headers)

    def answer(request: Request) -> Response:
        return health if request.path == "/health" else echo

    return Plan(ports=(TcpPort(port, serve_http(answer)),))


def whoami(container: Container, surroundings: Surroundings) -> Plan:
    """traefik/whoami: tells the request as the server saw it."""
    command, args = words(container)
    environment = {variable.name: variable.value for variable in container.env}
    try:
        given = parse(command[1:] + args, _WHOAMI_FLAGS)
        port = _port(given.text("port") or environment.get("WHOAMI_PORT_NUMBER", "80"))
    except ArgumentError as error:
        return Plan(exit=Exit(2, str(error)))
    name = given.text("name") or environment.get("WHOAMI_NAME", "")
    return Plan(ports=(TcpPort(port, serve_http(_WhoAmI(name, surroundings))),))


class _WhoAmI:
    def __init__(self, name: str, surroundings: Surroundings) -> None:
        self._pod = surroundings.pod
        self._name = name
        self._health = 200

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        path = request.path
        if path == "/health":
            return self._healthy(request)
        if path == "/api":
            return self._api(request)
        if path == "/data":
            return _data(request)
        if path == "/bench":
            return text("1")
        if "wait=" in request.query:
            return self._later(request)
        return self._tell(request)

    def _tell(self, request: Request) -> Response:
        host = request.header("host") or ""
        lines = [f"Name: {self._name}"] if self._name else []
        lines += [
            f"Hostname: {self._pod.hostname}",
            f"IP: {self._pod.ip}",
            f"RemoteAddr: {request.client[0]}:{request.client[1]}",
            f"{request.method} {request.target} HTTP/1.1\r",
            f"Host: {host}\r",
        ]
        headers = sorted(
            (name.decode("latin-1").title(), value.decode("latin-1")) for name, value in request.headers
        )
        # Go writes User-Agent right after Host, and the others by name.
        headers.sort(key=lambda header: header[0] != "User-Agent")
        lines += [f"{name}: {value}\r" for name, value in headers if name != "Host"]
        return text("\n".join([*lines, "\r\n"]))

    async def _later(self, request: Request) -> Response:
        try:
            wait = parse_duration(request.form().get("wait", "0"))
        except ValueError:
            wait = 0.0
        await asyncio.sleep(max(wait, 0.0))
        return self._tell(request)

    def _api(self, request: Request) -> Response:
        headers: dict[str, list[str]] = {}
        for name, value in request.headers:
            if name.lower() != b"host":
                headers.setdefault(name.decode("latin-1").title(), []).append(value.decode("latin-1"))
        document = {
            "hostname": self._pod.hostname,
            "ip": [self._pod.ip],
            "headers": dict(sorted(headers.items())),
            "url": request.target,
            "host": request.header("host") or "",
            "method": request.method,
            **({"name": self._name} if self._name else {}),
            "remoteAddr": f"{request.client[0]}:{request.client[1]}",
        }
        return Response(msgspec.json.encode(document) + b"\n", content_type="application/json")

    def _healthy(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(status=self._health, content_type="")
        try:
            status = msgspec.json.decode(request.body, type=int)
        except msgspec.DecodeError as error:
            return text(f"{error}\n", 400)
        if not 200 <= status <= 599:
            return text(f"{status} is not a status code that a server may answer with\n", 400)
        self._health = status
        return Response(content_type="")


def _data(request: Request) -> Response:
    form = request.form()
    try:
        size = max(int(form.get("size", "1")), 0)
    except ValueError:
        size = 1
    length = size * _UNITS.get(form.get("unit", "").lower(), 1)
    return Response(stream=_blocks(length), length=length)


def _blocks(length: int) -> Iterator[bytes]:
    block = (b"|" + bytes(range(ord("A"), ord("Z") + 1)) + b"-") * (_BLOCK // 28)
    while length > 0:
        yield block if length >= len(block) else block[:length]
        length -= len(block)


def _port(listen: str) -> int:
    port = listen.rpartition(":")[2]
    if not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ArgumentError(f"listen tcp: address {listen}: invalid port")
    return int(port)
