"""agnhost, the image of Kubernetes' own end-to-end tests: netexec, serve-hostname, connect and pause.

Endpoints, flags and answers follow its documentation (test/images/agnhost/README.md upstream).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from urllib.parse import parse_qs

import msgspec

from emu.core.objects import Container
from emu.nodes.connections import serve_greeting, serve_http
from emu.nodes.dialler import ResolutionError
from emu.nodes.http import Address, HttpApp, Request, Response, text
from emu.nodes.runtimes.arguments import ArgumentError, Arguments, Duration, Value, parse, parse_duration
from emu.nodes.runtimes.base import Exit, Plan, Surroundings, TcpPort, UdpPort, words
from emu.nodes.servers import DatagramApp

_DIAL_SECONDS = 5.0
_MAX_TRIES = 10_000

_NETEXEC_FLAGS: dict[str, Value] = {
    "http-port": 8080,
    "udp-port": 8081,
    "sctp-port": -1,
    "http-override": "",
    "delay-shutdown": 0,
    "tls-cert-file": "",
    "tls-private-key-file": "",
    "udp-listen-addresses": "",
}
_SERVE_HOSTNAME_FLAGS: dict[str, Value] = {
    "tcp": False,
    "udp": False,
    "http": True,
    "close": False,
    "port": 9376,
}
_CONNECT_FLAGS: dict[str, Value] = {
    "timeout": Duration(0),
    "protocol": "tcp",
    "udp-data": "hostname",
    "sctp-data": "hostname",
}


def agnhost(container: Container, surroundings: Surroundings) -> Plan:
    """The runtime of the image. Its entry point is `/agnhost`, its default argument `pause`."""
    command, args = words(container)
    if command:
        if command[0].rpartition("/")[2] != "agnhost":
            return Plan(note=f"the program {command[0]} is not available: the container sleeps")
        args = command[1:] + args
    subcommand, rest = (args[0], args[1:]) if args else ("pause", [])
    plan = _SUBCOMMANDS.get(subcommand)
    if plan is None:
        return Plan(note=f"agnhost {subcommand} is not available: the container sleeps")
    try:
        return plan(rest, surroundings)
    except ArgumentError as error:
        return Plan(exit=Exit(1, f"Error: {error}"))


def _netexec(args: list[str], surroundings: Surroundings) -> Plan:
    given = parse(args, _NETEXEC_FLAGS)
    if given.positional:
        raise ArgumentError(f'unknown command "{given.positional[0]}" for "agnhost netexec"')
    notes = []
    if given.text("tls-cert-file"):
        notes.append("agnhost netexec serves HTTP without TLS: --tls-cert-file is not available")
    if given.number("sctp-port") != -1:
        notes.append("agnhost netexec does not serve SCTP")
    udp_port = given.number("udp-port")
    app: HttpApp = NetExec(surroundings, healthy=udp_port != -1)
    if override := given.text("http-override"):
        app = _overridden(app, override)
    ports: list[TcpPort | UdpPort] = [TcpPort(given.number("http-port"), serve_http(app))]
    if udp_port != -1:
        ports.append(UdpPort(udp_port, udp_commands(surroundings.pod.hostname)))
    return Plan(
        ports=tuple(ports), note="; ".join(notes), shutdown_seconds=float(given.number("delay-shutdown"))
    )


def _serve_hostname(args: list[str], surroundings: Surroundings) -> Plan:
    given = parse(args, _SERVE_HOSTNAME_FLAGS)
    port = given.number("port")
    greeting = surroundings.pod.hostname.encode()
    if given.flags["http"] and (given.flags["tcp"] or given.flags["udp"]):
        raise ArgumentError("Can't server TCP/UDP mode and HTTP mode at the same time")
    if given.flags["http"]:
        answer = Response(greeting, close=bool(given.flags["close"]))
        return Plan(ports=(TcpPort(port, serve_http(lambda _: answer)),))
    ports: list[TcpPort | UdpPort] = []
    if given.flags["tcp"]:
        ports.append(TcpPort(port, serve_greeting(greeting)))
    if given.flags["udp"]:
        ports.append(UdpPort(port, lambda _data, _client: greeting))
    return Plan(ports=tuple(ports))


def _pause(args: list[str], surroundings: Surroundings) -> Plan:
    return Plan()


def _connect(args: list[str], surroundings: Surroundings) -> Plan:
    given = parse(args, _CONNECT_FLAGS)
    if len(given.positional) != 1:
        raise ArgumentError(f"accepts 1 arg(s), received {len(given.positional)}")
    return Plan(job=lambda: connect(given, surroundings))


async def connect(given: Arguments, surroundings: Surroundings) -> Exit:
    """Try one connection; on failure the message starts with TIMEOUT, REFUSED, DNS, UNKNOWN or OTHER."""
    host, colon, port_text = given.positional[0].rpartition(":")
    if not colon or not port_text.isdigit():
        return Exit(1, f"UNKNOWN: address {given.positional[0]}: missing port in address")
    protocol = given.text("protocol")
    dialler = surroundings.dialler
    # Without a limit of its own the program waits as long as the kernel does.
    timeout = given.seconds("timeout") or None
    try:
        address = await dialler.resolve(host)
        if protocol in ("", "tcp"):
            (await dialler.connect(address, int(port_text), timeout)).close()
        elif protocol == "udp":
            message = given.text("udp-data").encode() + b"\n"
            await dialler.exchange(address, int(port_text), message, timeout or 3600)
        else:
            return Exit(1, f"Unsupported protocol {protocol}")
    except ResolutionError as error:
        return Exit(1, f"DNS: {error}")
    except TimeoutError:
        return Exit(1, "TIMEOUT")
    except ConnectionRefusedError:
        return Exit(1, "REFUSED")
    except OSError as error:
        return Exit(1, f"OTHER: {error.strerror or error}")
    return Exit(0)


_SUBCOMMANDS: dict[str, Callable[[list[str], Surroundings], Plan]] = {
    "netexec": _netexec,
    "serve-hostname": _serve_hostname,
    "pause": _pause,
    "connect": _connect,
}


def udp_commands(hostname: str) -> DatagramApp:
    """netexec's UDP server: `hostname`, `echo TEXT`, `clientip`; other datagrams get no reply."""
    name = hostname.encode()

    def reply(data: bytes, client: Address) -> bytes | None:
        command = data.strip().lower()
        if command == b"hostname":
            return name
        if command == b"clientip":
            return f"{client[0]}:{client[1]}".encode()
        if command.startswith(b"echo "):
            return command[5:]
        return None

    return reply


class NetExec:
    """netexec's HTTP server."""

    def __init__(self, surroundings: Surroundings, healthy: bool = True) -> None:
        self._surroundings = surroundings
        self.hostname = text(surroundings.pod.hostname)
        # Upstream's health is that of its UDP server: without one /healthz says 412.
        self.health = Response(status=200 if healthy else 412, content_type="")

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        """Answer a request; unknown paths get the time, as upstream."""
        route = _ROUTES.get(request.path)
        return text(f"NOW: {datetime.now(UTC)}") if route is None else route(self, request)

    async def dial(self, request: Request) -> Response:
        """Requests from this pod to others, and what came of them as JSON."""
        query = {key: found[0] for key, found in parse_qs(request.query).items()}
        host, port_text = query.get("host", ""), query.get("port", "")
        what, protocol = query.get("request", ""), query.get("protocol", "").lower()
        try:
            tries = int(query.get("tries") or 1)
        except ValueError:
            return text(f"tries parameter is invalid. {query['tries']}\n", 400)
        if not what:
            return text("request parameter not specified.\n", 400)
        if protocol not in ("", "http", "udp"):
            return text(f"unsupported protocol. {protocol}\n", 400)
        try:
            address = await self._surroundings.dialler.resolve(host)
            port = int(port_text)
            if not 1 <= port <= 65535:
                raise ValueError(f"invalid port {port_text}")
        except (ResolutionError, ValueError) as error:
            return text(f"host and/or port param are invalid. {error}\n", 400)
        responses, errors = [], []
        dial = self._dial_udp if protocol == "udp" else self._dial_http
        for _ in range(min(tries, _MAX_TRIES)):
            try:
                responses.append(await dial(address, port, what))
            except (OSError, ValueError) as error:
                errors.append(_go_error(error, protocol or "http", address, port, what))
        output = {key: value for key, value in (("errors", errors), ("responses", responses)) if value}
        return Response(msgspec.json.encode(output))

    async def _dial_http(self, address: str, port: int, what: str) -> str:
        answer = await self._surroundings.dialler.get(
            address, port, f"/{what}", f"{address}:{port}", "Go-http-client/1.1", _DIAL_SECONDS
        )
        return answer.body.decode("utf-8", "replace")

    async def _dial_udp(self, address: str, port: int, what: str) -> str:
        reply = await self._surroundings.dialler.exchange(address, port, what.encode(), _DIAL_SECONDS)
        return reply.decode("utf-8", "replace")

    def exit(self, request: Request) -> Response | Awaitable[Response]:
        """End the container as the request says."""
        form = request.form()
        try:
            wait = parse_duration(form.get("wait") or "0")
        except ValueError:
            return text(f"argument 'wait' must be a valid golang duration or empty, got \"{form['wait']}\"\n")
        try:
            code = int(form.get("code") or 0)
        except ValueError:
            return text(f"argument 'code' must be an integer [0-127] or empty, got \"{form['code']}\"\n")
        return self.end(code, wait)

    async def end(self, code: int, wait: float) -> Response:
        """End the container after `wait` seconds. Does not return."""
        await asyncio.sleep(wait)
        self._surroundings.exit(Exit(code))
        # The process is gone before it could answer: the connection is reset with it.
        never: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        return await never


def _overridden(app: HttpApp, override: str) -> HttpApp:
    target = override if override.startswith("/") else f"/{override}"

    def answer(request: Request) -> Response | Awaitable[Response]:
        return app(Request("GET", target, request.version, [], b"", request.client))

    return answer


def _echo(request: Request) -> Response:
    form = request.form()
    code = form.get("code", "")
    if not code:
        return text(form.get("msg", ""))
    if not code.isdigit() or not 200 <= int(code) <= 999:
        return text(f"argument 'code' must be an integer or empty, got \"{code}\"\n")
    return text(form.get("msg", ""), int(code))


def _header(request: Request) -> Response:
    key = request.form().get("key")
    if key:
        return text(request.header(key) or "")
    values: dict[str, list[str]] = {}
    for name, value in request.headers:
        if name.lower() != b"host":
            values.setdefault(name.decode("latin-1").title(), []).append(value.decode("latin-1"))
    return Response(msgspec.json.encode(values, order="sorted"))


def _redirect(request: Request) -> Response:
    form = request.form()
    code = form.get("code") or "302"
    if not code.isdigit() or not 300 <= int(code) <= 399:
        return text(f"argument 'code' must be an integer or empty, got \"{code}\"\n")
    return Response(b"", int(code), headers=(("Location", form.get("location", "")),))


def _unavailable(reason: str) -> Response:
    return Response(msgspec.json.encode({"error": f"{reason}: it is a built-in server of emu"}), 501)


def _go_error(error: Exception, protocol: str, address: str, port: int, what: str) -> str:
    """The sentence that Go's client would have put into `errors`."""
    if protocol == "udp":
        reason = "i/o timeout" if isinstance(error, TimeoutError) else _reason(error)
        return f"reading from udp connection failed. err:'read udp {address}:{port}: {reason}'"
    start = f'Get "http://{address}:{port}/{what}": '
    if isinstance(error, TimeoutError):
        return start + "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    if isinstance(error, ConnectionResetError):
        return start + f"read tcp {address}:{port}: connection reset by peer"
    if isinstance(error, OSError):
        return start + f"dial tcp {address}:{port}: connect: {_reason(error)}"
    return start + str(error)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno).lower()
    return str(error)


# One table for all pods: a table of bound methods in each would be most of a pod's memory.
_ROUTES: dict[str, Callable[[NetExec, Request], Response | Awaitable[Response]]] = {
    "/hostname": lambda server, _: server.hostname,
    "/hostName": lambda server, _: server.hostname,
    "/clientip": lambda _, request: text(f"{request.client[0]}:{request.client[1]}"),
    "/healthz": lambda server, _: server.health,
    "/echo": lambda _, request: _echo(request),
    "/header": lambda _, request: _header(request),
    "/redirect": lambda _, request: _redirect(request),
    "/dial": NetExec.dial,
    "/exit": NetExec.exit,
    "/shutdown": lambda server, _: server.end(0, 0.0),
    "/shell": lambda _server, _request: _unavailable("there is no shell in this pod"),
    "/upload": lambda _server, _request: _unavailable("files cannot be uploaded to this pod"),
}
