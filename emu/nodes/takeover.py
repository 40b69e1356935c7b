"""Taking up connections that kube-proxy hands over: by the pod's own server, or by a relay to its program.

A pod's address may be served by a program that is none of this process's servers. Such an endpoint gets the
bytes relayed, from the client's own address.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from emu.nodes.host import Host
from emu.nodes.http import Address
from emu.planes.handover import Handover
from emu.planes.held import reset
from emu.planes.relay import Relays

log = logging.getLogger(__name__)

# As long as Linux tries to connect by default (tcp_syn_retries = 6).
_CONNECT_SECONDS = 127.0


class Takeover:
    """Called with each connection that is handed over to the node."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._relays = Relays()
        self._dials: set[asyncio.Task[None]] = set()

    def __call__(self, sock: socket.socket, handover: Handover, ended: Callable[[], None]) -> None:
        """Take up a connection; `ended` is called when it is over."""
        client = (handover.client, handover.client_port)
        server = self._host.tcp_server(handover.endpoint, handover.port)
        if server is not None:
            dialled = f"{handover.virtual_ip}:{handover.virtual_port}"
            server.take(sock, client, dialled, handover.service, ended)
            return
        task = asyncio.get_running_loop().create_task(self._relay(sock, client, handover, ended))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    def close(self) -> None:
        """Reset what is relayed: nobody copies its bytes any more."""
        for task in self._dials:
            task.cancel()
        self._relays.close()

    async def _relay(
        self, sock: socket.socket, client: Address, handover: Handover, ended: Callable[[], None]
    ) -> None:
        host, to = self._host, (handover.endpoint, handover.port)
        if not host.policies.engine.decide(client[0], *to).allowed:
            host.held.hold(sock, ended)
            return
        try:
            upstream = await host.plane.connect_tcp(client[0], *to, _CONNECT_SECONDS)
        except OSError as error:
            log.debug("nobody answers at %s:%d: %s", *to, error)
            dialled = f"{handover.virtual_ip}:{handover.virtual_port}"
            host.flow_log.refused(client, f"{to[0]}:{to[1]}", dialled, handover.service)
            reset(sock)
            ended()
            return
        except asyncio.CancelledError:
            reset(sock)
            raise
        self._relays.start(sock, upstream, ended)
