"""Connections that the gateway makes for a pod or for the outside, as that client's own would go.

A destination that is a Service's address needs no socket there: the endpoint is chosen by the mode in force
and dialled itself.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from emu.client.resolver import ResolveError, Resolver
from emu.client.rest import ApiError, ApiUnreachable, Client
from emu.core.addresses import is_ipv4
from emu.core.config import ProxyMode
from emu.core.endpoints import PortEndpoint
from emu.core.objects import Pod
from emu.planes.base import Plane
from emu.proxy.modes.userspace import DIAL_TIMEOUTS
from emu.proxy.proxy import Proxy
from emu.proxy.tables import LOCALHOST, Address, Frontend
from emu.telemetry.flows import FlowRecord, Path, Verdict

DIAL_SECONDS = 5.0


class DialError(Exception):
    """No connection. `status` is what an HTTP proxy answers; the message is for the user."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Identity(NamedTuple):
    """Who the gateway acts for: a source address, and the namespace whose search path counts."""

    address: str = LOCALHOST
    namespace: str = "default"


class Dialled(NamedTuple):
    """A connection, and what to call once when it is over."""

    sock: socket.socket
    ended: Callable[[], None] = lambda: None


class Pods:
    """Where pods are, asked of the API server; the last answer counts while that is away."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[tuple[str, str], str] = {}

    async def identity(self, user: str) -> Identity:
        """The identity that a user name `namespace.pod` or `pod` stands for. Raises DialError."""
        if not user:
            return Identity()
        namespace, dot, name = user.partition(".")
        candidates = [(namespace, name)] if dot else []
        candidates.append(("default", user))
        for candidate in candidates:
            address = await self._address(*candidate)
            if address:
                return Identity(address, candidate[0])
        shown = "/".join(candidates[0])
        raise DialError(
            403, f'there is no running pod {shown}: the proxy user is "namespace.pod", or "pod" in default'
        )

    async def _address(self, namespace: str, name: str) -> str:
        try:
            pod = await self._client.get(Pod, namespace, name)
        except ApiError as error:
            if not error.not_found:
                raise DialError(502, f"cannot look pod {namespace}/{name} up: {error}") from None
            self._known.pop((namespace, name), None)
            return ""
        except ApiUnreachable:
            return self._known.get((namespace, name), "")
        address = "" if pod.finished else pod.ip
        self._known[namespace, name] = address
        return address


class Dialer:
    """Connects on behalf of an identity."""

    def __init__(self, plane: Plane, proxy: Proxy, resolver: Resolver, seconds: float = DIAL_SECONDS) -> None:
        """A connection that is dropped on its way fails after `seconds`."""
        self._plane = plane
        self._proxy = proxy
        self._resolver = resolver
        self._seconds = seconds

    async def dial(self, identity: Identity, host: str, port: int) -> Dialled:
        """A connection to a host by name or address. Raises DialError."""
        last: DialError | None = None
        for address in await self._addresses(identity, host):
            try:
                return await self._dial_address(identity, address, port)
            except DialError as error:
                last = error
        raise last or DialError(502, f"{host} has no IPv4 address")

    async def _addresses(self, identity: Identity, host: str) -> list[str]:
        if is_ipv4(host):
            return [host]
        if host == "localhost":
            return [LOCALHOST if identity.address == LOCALHOST else identity.address]
        try:
            return await self._resolver.resolve(host, source=identity.address, namespace=identity.namespace)
        except ResolveError as error:
            raise DialError(502, str(error)) from None

    async def _dial_address(self, identity: Identity, ip: str, port: int) -> Dialled:
        dialled, address, frontends = f"{ip}:{port}", Address(ip, port, "TCP"), self._proxy.tables.frontends
        frontend = frontends.get(address)
        if frontend is None or not self._proxy.planner.knows(frontend):
            endpoint = PortEndpoint(dialled, ip, port)
            source = identity.address
            return Dialled(await self._connect(identity, source, endpoint, dialled, "", self._seconds))
        # The userspace mode tries one endpoint after the other, the others are content with one.
        userspace = self._proxy.configuration.mode is ProxyMode.USERSPACE
        last: DialError | None = None
        for seconds in DIAL_TIMEOUTS if userspace else (self._seconds,):
            # Each attempt is decided on what is true by then; the Service may be gone.
            if (frontend := frontends.get(address)) is None:
                break
            try:
                return await self._dial_endpoint(identity, frontend, dialled, seconds)
            except DialError as error:
                last = error
        raise last or DialError(502, f"connection to {dialled} failed")

    async def _dial_endpoint(
        self, identity: Identity, frontend: Frontend, dialled: str, seconds: float
    ) -> Dialled:
        # A port such as Linux gives to a client: there are schedulers that look at it.
        name, client = frontend.port.name, (identity.address, random.randrange(32768, 61000))
        verdict, plan, reason, chosen, source = self._proxy.planner.decide(frontend, client, time.monotonic())
        if chosen is None:
            if verdict is Verdict.DROPPED:
                await self._dropped(identity, dialled, None, name, reason, seconds)
            self._record(identity, dialled, None, name, Verdict.REFUSED, reason)
            raise DialError(502, f"connection to {dialled} refused: {reason}")
        try:
            sock = await self._connect(identity, source or identity.address, chosen, dialled, name, seconds)
        except DialError:
            plan.balancer.failed(client)
            raise
        plan.balancer.begun(chosen, client, time.monotonic())
        return Dialled(sock, lambda: plan.balancer.ended(chosen, client, time.monotonic()))

    async def _connect(
        self,
        identity: Identity,
        source: str,
        endpoint: PortEndpoint,
        dialled: str,
        service: str,
        seconds: float,
    ) -> socket.socket:
        denied = self._proxy.judge.denial(identity.address, source, endpoint, "TCP")
        if denied is not None:
            await self._dropped(identity, dialled, endpoint, service, denied.reason, seconds)
        try:
            sock = await self._plane.connect_tcp(source, endpoint.address, endpoint.port, seconds)
        except TimeoutError:
            reason = f"{endpoint.key} did not answer within {seconds:g} s"
            self._record(identity, dialled, endpoint, service, Verdict.DROPPED, reason)
            raise DialError(504, f"connection to {dialled} timed out: {reason}") from None
        except OSError as error:
            reason = f"{endpoint.key}: {os.strerror(error.errno or 0)}"
            self._record(identity, dialled, endpoint, service, Verdict.REFUSED, reason)
            raise DialError(502, f"connection to {dialled} failed: {reason}") from None
        self._record(identity, dialled, endpoint, service, Verdict.FORWARDED, "")
        return sock

    async def _dropped(
        self,
        identity: Identity,
        dialled: str,
        endpoint: PortEndpoint | None,
        service: str,
        reason: str,
        seconds: float,
    ) -> NoReturn:
        """What a client of a dropped connection sees: nothing, until its patience ends."""
        self._record(identity, dialled, endpoint, service, Verdict.DROPPED, reason)
        await asyncio.sleep(seconds)
        raise DialError(504, f"connection to {dialled} timed out: {reason}")

    def _record(
        self,
        identity: Identity,
        dialled: str,
        endpoint: PortEndpoint | None,
        service: str,
        verdict: Verdict,
        reason: str,
    ) -> None:
        record = FlowRecord(
            source=identity.address,
            destination=dialled,
            endpoint=endpoint.key if endpoint and service else "",
            service=service,
            path=Path.GATEWAY,
            verdict=verdict,
            reason=reason,
        )
        self._proxy.flows.add(lambda: record)
