"""Which addresses DNS answers on, kept true to the DNS pods and to the policies.

Every address of a DNS pod, at its containerPorts `dns` and `dns-tcp`; the ClusterIP of `kube-dns`; 127.0.0.1.
UDP and TCP of an address always use the same kind of port: both the wanted one, or both the fallback.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

from emu.core.config import ClusterConfig
from emu.core.objects import Object, ObjectMeta, Pod, Service
from emu.core.ranges import EVERYONE, Ranges, union
from emu.coredns.chain import Endpoint
from emu.coredns.corefile import DEFAULT_PORT
from emu.coredns.http import HttpListener
from emu.coredns.listeners import TcpListener, UdpListener
from emu.coredns.responder import Responder
from emu.planes.base import Plane

log = logging.getLogger(__name__)

LOCAL_ADDRESS = "127.0.0.1"
KUBE_DNS = Service(metadata=ObjectMeta(name="kube-dns", namespace="kube-system"))
REMEDY = "sysctl net.ipv4.ip_unprivileged_port_start=0"
_RETRY_SECONDS = 1.0

Sources = Callable[[str, int, str], Ranges]
Warn = Callable[[Object, str], None]


class Place(NamedTuple):
    """An address to answer on, and at which ports; `server_port` chooses the server blocks."""

    address: str
    udp: int
    tcp: int
    fallback: int
    server_port: int = DEFAULT_PORT
    pod: str = ""
    """`namespace/name` of the pod whose address it is."""


class Bound(NamedTuple):
    """A Place that is served, at the ports that could be had."""

    udp: UdpListener
    tcp: TcpListener


class Bindings:
    """Opens and closes the sockets of the server."""

    def __init__(
        self,
        plane: Plane,
        config: ClusterConfig,
        responder: Callable[[int], Responder],
        pages: Callable[[], list[Endpoint]],
        warn: Warn,
    ) -> None:
        self._plane = plane
        self._config = config
        self._responder = responder
        self._pages = pages
        self._warn = warn
        self._sources: Sources | None = None
        self._pods: dict[str, Pod] = {}
        self._ports: tuple[int, ...] = ()
        self._bound: dict[Place, Bound] = {}
        self._http: dict[tuple[str, int], HttpListener] = {}
        self._told: set[Place | tuple[str, int]] = set()
        self._retry: asyncio.TimerHandle | None = None

    @property
    def addresses(self) -> frozenset[str]:
        """All addresses that DNS is answered on."""
        return frozenset(place.address for place in self._bound)

    @property
    def pods(self) -> tuple[str, ...]:
        """The addresses of the DNS pods."""
        return tuple(sorted(pod.ip for pod in self._pods.values()))

    def set_pods(self, pods: Iterable[Pod]) -> None:
        """The DNS pods have changed."""
        self._pods = {pod.key: pod for pod in pods if pod.ip and not pod.finished}
        self.apply()

    def set_ports(self, ports: tuple[int, ...]) -> None:
        """The Corefile has changed: the ports of its server blocks besides the default one."""
        self._ports = ports
        self.apply()

    def set_sources(self, sources: Sources | None) -> None:
        """Policies have changed: who may reach (address, port, protocol) of a pod; None means everyone."""
        self._sources = sources
        self._restrict()

    def apply(self) -> None:
        """Make what is bound what is wanted. What cannot be bound now is tried again each second."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        places = self._places()
        for place in self._bound.keys() - places:
            bound = self._bound.pop(place)
            bound.udp.close()
            bound.tcp.close()
        failed = sum(not self._bind(place) for place in sorted(places - self._bound.keys()))
        pages = {(pod.ip, page.port) for pod in self._pods.values() for page in self._pages()}
        for key in self._http.keys() - pages:
            self._http.pop(key).close()
        failed += sum(not self._bind_http(*key) for key in sorted(pages - self._http.keys()))
        self._restrict()
        if failed:
            self._retry = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self.apply)

    def close(self) -> None:
        """Close everything."""
        if self._retry is not None:
            self._retry.cancel()
        for bound in self._bound.values():
            bound.udp.close()
            bound.tcp.close()
        for listener in self._http.values():
            listener.close()
        self._bound.clear()
        self._http.clear()

    def _places(self) -> set[Place]:
        config = self._config
        fixed, fallback = config.fixed_ports, config.ports.dns_fallback
        places = {
            Place(LOCAL_ADDRESS, fixed.dns, fixed.dns, fixed.dns_fallback),
            Place(config.ranges.dns_service, DEFAULT_PORT, DEFAULT_PORT, fallback),
        }
        for pod in self._pods.values():
            udp, tcp = pod_ports(pod)
            places.add(Place(pod.ip, udp, tcp, fallback, pod=pod.key))
            places |= {Place(pod.ip, port, port, port, port, pod.key) for port in self._ports}
        return places

    def _bind(self, place: Place) -> bool:
        try:
            self._bound[place] = self._open(place, place.udp, place.tcp)
        except OSError as error:
            if place.fallback in (place.udp, place.tcp):
                self._tell(place, f"{place.address}:{place.udp} cannot be bound ({error.strerror})")
                return False
            try:
                self._bound[place] = self._open(place, place.fallback, place.fallback)
            except OSError as second:
                self._tell(
                    place,
                    f"neither {place.address}:{place.udp} ({error.strerror}) nor the fallback port "
                    f"{place.fallback} ({second.strerror}) can be bound",
                )
                return False
            cause = (
                "needs a privilege"
                if isinstance(error, PermissionError)
                else f"is not to be had ({error.strerror})"
            )
            self._tell(
                place,
                f"{place.address}:{place.udp} {cause}: DNS answers at port {place.fallback} there; "
                f"remedy: {REMEDY if isinstance(error, PermissionError) else 'stop what uses the port'}",
            )
        else:
            log.info("DNS answers at %s:%d", place.address, place.udp)
        return True

    def _open(self, place: Place, udp_port: int, tcp_port: int) -> Bound:
        udp = self._plane.listen_udp(place.address, udp_port, self._allowed(place, "UDP"))
        try:
            tcp = self._plane.listen_tcp(place.address, tcp_port, self._allowed(place, "TCP"))
        except OSError:
            udp.close()
            raise
        responder = self._responder(place.server_port)
        return Bound(UdpListener(udp, responder), TcpListener(tcp, responder))

    def _bind_http(self, address: str, port: int) -> bool:
        try:
            sock = self._plane.listen_tcp(address, port, self._pod_sources(address, port, "TCP"))
        except OSError as error:
            if (address, port) not in self._told:
                self._told.add((address, port))
                log.warning("%s:%d cannot be bound (%s)", address, port, error.strerror)
            return False
        self._http[address, port] = HttpListener(sock, self._pages)
        return True

    def _tell(self, place: Place, message: str) -> None:
        """Log and record once what is wrong with a place."""
        if place in self._told:
            return
        self._told.add(place)
        log.warning("%s", message)
        self._warn(self._pods.get(place.pod, KUBE_DNS), message)

    # --- policies ---

    def _restrict(self) -> None:
        for place, bound in self._bound.items():
            for listener, protocol in ((bound.udp, "UDP"), (bound.tcp, "TCP")):
                self._restrict_one(listener, self._allowed(place, protocol))
        for (address, port), http in self._http.items():
            self._restrict_one(http, self._pod_sources(address, port, "TCP"))

    def _restrict_one(self, listener: UdpListener | TcpListener | HttpListener, allowed: Ranges) -> None:
        enforced = self._plane.restrict(listener.sock, allowed)
        listener.allowed = None if enforced or allowed == EVERYONE else allowed

    def _pod_sources(self, address: str, port: int, protocol: str) -> Ranges:
        return EVERYONE if self._sources is None else self._sources(address, port, protocol)

    def _allowed(self, place: Place, protocol: str) -> Ranges:
        if self._sources is None:
            return EVERYONE
        if place.pod or place.address == LOCAL_ADDRESS:
            # 127.0.0.1 is outside the cluster: only a pod's own egress may forbid it.
            port = place.udp if protocol == "UDP" else place.tcp
            return self._pod_sources(place.address, port, protocol)
        # A virtual IP drops only those whom every pod behind it denies.
        if not self._pods:
            return EVERYONE
        return union(
            pair
            for pod in self._pods.values()
            for pair in self._pod_sources(pod.ip, pod_ports(pod)[protocol == "TCP"], protocol)
        )


def pod_ports(pod: Pod) -> tuple[int, int]:
    """The UDP and TCP ports of a DNS pod: its containerPorts named `dns` and `dns-tcp`, else 53."""
    named = {port.name: port.container_port for item in pod.spec.containers for port in item.ports}
    return named.get("dns", DEFAULT_PORT), named.get("dns-tcp", DEFAULT_PORT)
