"""Readiness probes: over real sockets, from the node's address, with Kubernetes' timings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from emu.core.objects import Container, Probe
from emu.nodes.dialler import Dialler

_AGENT = "kube-probe/emu"
_FIRST_RETRY_SECONDS = 0.05


class Result(NamedTuple):
    """The outcome of one probe; the message says what went wrong."""

    success: bool
    message: str = ""


class Readiness:
    """Turns the outcomes of probes into ready or not, by the probe's thresholds. Not ready at first."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._successes = 0
        self._failures = 0
        self.ready = False

    def observe(self, success: bool) -> bool:
        """Count an outcome. Whether `ready` has changed by it."""
        before = self.ready
        if success:
            self._successes += 1
            self._failures = 0
            if self._successes >= self._probe.success_threshold:
                self.ready = True
        else:
            self._failures += 1
            self._successes = 0
            if self._failures >= self._probe.failure_threshold:
                self.ready = False
        return self.ready is not before


class Target(NamedTuple):
    """What a probe dials: `path` is None for a TCP probe."""

    address: str
    port: int
    path: str | None = None
    host: str = ""


def target_of(probe: Probe, container: Container, pod_ip: str) -> Target | str:
    """What to dial, or a sentence that says why it cannot be known."""
    action = probe.http_get or probe.tcp_socket
    if action is None:
        return "only httpGet and tcpSocket probes are available"
    if probe.http_get is not None and probe.http_get.scheme.upper() == "HTTPS":
        return "probes with scheme HTTPS are not available"
    port = action.port
    if isinstance(port, str) and not port.isdigit():
        found = next((item.container_port for item in container.ports if item.name == port), None)
        if found is None:
            return f'container {container.name} has no port named "{port}"'
        port = found
    number = int(port)
    if not 1 <= number <= 65535:
        return f"invalid port number {number}"
    address = action.host or pod_ip
    if probe.http_get is None:
        return Target(address, number)
    path = probe.http_get.path or "/"
    return Target(address, number, path if path.startswith("/") else f"/{path}", f"{address}:{number}")


async def probe_once(target: Target, dialler: Dialler, timeout: float) -> Result:
    """Dial once. HTTP succeeds with a status from 200 to 399, TCP with a connection."""
    try:
        if target.path is None:
            (await dialler.connect(target.address, target.port, timeout)).close()
            return Result(True)
        answer = await dialler.get(target.address, target.port, target.path, target.host, _AGENT, timeout)
    except TimeoutError:
        return Result(False, f"no answer from {target.address}:{target.port} within {timeout:g} s")
    except (OSError, ValueError) as error:
        return Result(False, f"{target.address}:{target.port}: {error}")
    if 200 <= answer.status < 400:
        return Result(True)
    return Result(False, f"HTTP probe failed with statuscode: {answer.status}")


async def watch_readiness(
    probe: Probe,
    target: Target,
    dialler: Dialler,
    on_change: Callable[[bool], None],
    on_failure: Callable[[str], None],
    eager: bool,
) -> None:
    """Probe until cancelled.

    An `eager` watch tries again soon until the first success: its server belongs to another process, which
    may be a moment behind.
    """
    readiness = Readiness(probe)
    soon = _FIRST_RETRY_SECONDS if eager else float(probe.period_seconds)
    await asyncio.sleep(probe.initial_delay_seconds)
    while True:
        result = await probe_once(target, dialler, float(probe.timeout_seconds))
        if readiness.observe(result.success):
            on_change(readiness.ready)
        if result.success:
            soon = float(probe.period_seconds)
        elif soon >= probe.period_seconds:
            on_failure(f"Readiness probe failed: {result.message}")
        await asyncio.sleep(min(soon, probe.period_seconds))
        soon = min(soon * 2, probe.period_seconds)
