"""Which image runs as what. The first row whose pattern fits the image's repository counts."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from emu.core.objects import Container
from emu.nodes.connections import serve_http
from emu.nodes.runtimes.agnhost import NetExec, agnhost, udp_commands
from emu.nodes.runtimes.base import Plan, Runtime, Surroundings, TcpPort, UdpPort
from emu.nodes.runtimes.web import http_echo, nginx, whoami


def sleep(container: Container, surroundings: Surroundings) -> Plan:
    """A container without servers, from which one connects to others."""
    return Plan()


def elsewhere(container: Container, surroundings: Surroundings) -> Plan:
    """A system component: its own process binds the pod's address."""
    return Plan(elsewhere=True)


def any_image(container: Container, surroundings: Surroundings) -> Plan:
    """An image that emu does not know: its declared ports answer like agnhost netexec."""
    app = serve_http(NetExec(surroundings))
    ports: list[TcpPort | UdpPort] = []
    for port in container.ports:
        if port.protocol == "TCP":
            ports.append(TcpPort(port.container_port, app))
        elif port.protocol == "UDP":
            ports.append(UdpPort(port.container_port, udp_commands(surroundings.pod.hostname)))
    if not ports:
        return Plan(
            note=f'image "{container.image}" is not known and declares no ports: the container sleeps'
        )
    served = ", ".join(f"{port.port}/{port.protocol}" for port in ports)
    return Plan(
        ports=tuple(ports),
        note=f'image "{container.image}" is not known: a built-in server answers on {served} '
        "as agnhost netexec does",
    )


TABLE: tuple[tuple[str, Runtime], ...] = (
    ("*/agnhost", agnhost),
    ("*/coredns", elsewhere),
    ("*/nginx-unprivileged", nginx(8080)),
    ("*/nginx", nginx(80)),
    ("*/http-echo", http_echo),
    ("*/whoami", whoami),
    ("*/pause", sleep),
    ("*/busybox", sleep),
    ("*/alpine", sleep),
    ("*/curl", sleep),
    ("*/netshoot", sleep),
    ("*/jessie-dnsutils", sleep),
    ("*/debian", sleep),
    ("*/ubuntu", sleep),
    ("*", any_image),
)
"""(pattern for the image's repository without tag and digest, runtime)."""


def repository(image: str) -> str:
    """An image reference without tag and digest, with Docker's defaults filled in."""
    name = re.sub(r":[^/:]*$", "", image.partition("@")[0])
    first, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    return name if "." in first or ":" in first or first == "localhost" else f"docker.io/{name}"


def runtime_of(image: str) -> Runtime:
    """The runtime of an image."""
    name = repository(image)
    return next(runtime for pattern, runtime in TABLE if fnmatchcase(name, pattern))
