"""What a runtime is: from a container's image, command and arguments it plans what the container does."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from emu.core.objects import Container
from emu.nodes.connections import Serve
from emu.nodes.dialler import Dialler
from emu.nodes.servers import DatagramApp


class Exit(NamedTuple):
    """How a container's process ended."""

    code: int
    message: str = ""
    """What it printed last."""


class TcpPort(NamedTuple):
    """A TCP port that the container listens on."""

    port: int
    serve: Serve
    protocol: str = "TCP"


class UdpPort(NamedTuple):
    """A UDP port that the container listens on."""

    port: int
    app: DatagramApp
    protocol: str = "UDP"


class Plan(NamedTuple):
    """What a container does once started. Without anything set it sleeps until the pod ends."""

    ports: tuple[TcpPort | UdpPort, ...] = ()
    job: Callable[[], Awaitable[Exit]] | None = None
    """Runs and ends the container with its result."""
    exit: Exit | None = None
    """It ends at once, as a program does that is given arguments it does not know."""
    note: str = ""
    """What differs from the real image; goes into an Event on the pod."""
    elsewhere: bool = False
    """Another process of the cluster serves on the pod's address."""
    shutdown_seconds: float = 0.0
    """How long the program goes on serving after SIGTERM."""


class PodIdentity(NamedTuple):
    """Who a container is."""

    name: str
    namespace: str
    hostname: str
    ip: str
    node: str


class Surroundings(NamedTuple):
    """What a container can reach."""

    pod: PodIdentity
    dialler: Dialler
    exit: Callable[[Exit], None]
    """Ends the container, as exit(3) called by its program."""


Runtime = Callable[[Container, Surroundings], Plan]

_SLEEP = re.compile(r"(?:^|[\s;&/])sleep\s+(\d+(?:\.\d+)?)")
_REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")


def pre_stop_seconds(container: Container) -> float:
    """How long a container's preStop hook keeps SIGTERM from it: a hook that sleeps; others take no time."""
    hook = container.lifecycle.pre_stop if container.lifecycle is not None else None
    if hook is None:
        return 0.0
    if hook.sleep is not None:
        return float(hook.sleep.seconds)
    found = _SLEEP.search(" ".join(hook.exec.command)) if hook.exec is not None else None
    return float(found[1]) if found is not None else 0.0


def words(container: Container) -> tuple[list[str], list[str]]:
    """`command` and `args` with $(NAME) replaced from `env`; $$ stands for $, unknown names stay."""
    values = {variable.name: variable.value for variable in container.env}

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return values.get(found[1], found[0])

    return (
        [_REFERENCE.sub(replace, word) for word in container.command],
        [_REFERENCE.sub(replace, word) for word in container.args],
    )
