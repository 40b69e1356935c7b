"""`emu up`: one cluster from its first process to its last."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emu.client.applying import import_manifests
from emu.client.changes import report
from emu.client.manifests import Manifest
from emu.cluster import statedir
from emu.cluster.config import resolved_file, write_resolved
from emu.cluster.control import serve_control
from emu.cluster.process import raise_descriptor_limit
from emu.cluster.processes import Process, ProcessGroup
from emu.cluster.readiness import Readiness
from emu.core.config import MAX_SLOT, ClusterConfig
from emu.core.errors import UserError
from emu.core.settings import Settings, StateDir
from emu.planes.loopback import LoopbackPlane
from emu.telemetry.logs import setup_logging

log = logging.getLogger(__name__)

READY_TIMEOUT_SECONDS = 60.0

OnReady = Callable[[float, list[str]], None]
"""Takes the seconds from start until all was Ready, and lines on what of the manifests had to change."""


class Supervisor:
    """Runs a cluster in the foreground of its own process."""

    def __init__(
        self,
        settings: Settings,
        manifests: list[Manifest],
        on_ready: OnReady,
        claimed: socket.socket | None = None,
    ) -> None:
        """`on_ready` is called once, when all is Ready.

        `claimed` is the claim on the slot when it was made already.
        """
        self._claimed = claimed
        self._settings = settings
        self._manifests = manifests
        self._on_ready = on_ready
        self._group = ProcessGroup(settings.state.logs)
        self._readiness = Readiness(settings)
        self._stop = asyncio.Event()
        self._failure: str | None = None
        self._changes: list[str] = []
        self._ready = False

    async def run(self) -> None:
        """Start, wait until Ready, and serve until asked to stop. Raises UserError when it cannot start."""
        started = time.monotonic()
        statedir.prepare(self._settings.state, [node.name for node in self._settings.config.nodes])
        lock = statedir.StateDirLock(self._settings.state)
        lock.acquire()
        try:
            with self._claimed or claim(self._settings.config):
                check_ports(self._settings.config)
                statedir.record_networks(self._settings)
                await self._serve(started)
        finally:
            lock.release()

    async def _serve(self, started: float) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        self._group.on_failure = self._failed
        _clear_run(self._settings.state)
        # It may name an earlier server, and the components wait for the one that is about to start.
        self._settings.state.kubeconfig.unlink(missing_ok=True)
        write_resolved(self._settings)
        self._group.start_zygote()
        control = await serve_control(self._settings.state, self._command)
        try:
            for name, argv in processes(self._settings):
                self._group.add(name, argv)
            if await self._until_ready():
                self._ready = True
                self._on_ready(time.monotonic() - started, self._changes)
                await self._stop.wait()
        finally:
            control.close()
            await self._group.stop()
            _clear_run(self._settings.state)
        if self._failure is not None:
            raise UserError(self._failure)

    async def _until_ready(self) -> bool:
        """Whether all became Ready, rather than that a stop was asked for."""
        work = asyncio.create_task(self._start_up())
        stop = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait(
                (work, stop), timeout=READY_TIMEOUT_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if work in done:
                work.result()
                return True
            if not done:
                what = ", ".join(self._readiness.missing)
                raise UserError(
                    f"the cluster is not Ready after {READY_TIMEOUT_SECONDS:.0f} s: still missing {what}; "
                    f"see the logs in {self._settings.state.logs}"
                )
            return False
        finally:
            for task in (work, stop):
                task.cancel()
            await asyncio.gather(work, stop, return_exceptions=True)

    async def _start_up(self) -> None:
        async with self._readiness:
            if self._manifests:
                await self._readiness.nodes()
                networks = self._settings.config.ranges
                imported = await import_manifests(self._readiness.client, networks, self._manifests)
                imported.require()
                self._changes = report(imported.changes)
            await self._readiness.everything()

    def _failed(self, process: Process) -> None:
        """A component ended for a reason that starting it again would not mend."""
        sentence = last_line(self._settings.state.logs / f"{process.name}.log") or "it gave no reason"
        self._failure = f"{process.name} cannot run: {sentence.removeprefix('emu: ')}"
        self._stop.set()

    async def _command(self, command: dict[str, Any]) -> dict[str, Any]:
        match command:
            case {"command": "status"}:
                return {
                    "ready": self._ready,
                    "missing": self._readiness.missing,
                    "processes": [process.describe() for process in self._group.processes.values()],
                }
            case {"command": "stop"}:
                self._stop.set()
            case {"command": "kill", "name": str(name), "hold": bool(hold)}:
                self._process(name)
                self._group.kill(name, hold=hold)
                await self._group.wait_exited(name)
            case {"command": "start", "name": str(name)}:
                self._process(name)
                self._group.resume(name)
            case _:
                raise UserError(f"the supervisor knows no command {command.get('command')!r}")
        return {}

    def _process(self, name: str) -> Process:
        if name not in self._group.processes:
            known = ", ".join(self._group.processes)
            raise UserError(f'this cluster has no process "{name}"; it has {known}')
        return self._group.processes[name]


def run_supervisor(
    settings: Settings,
    manifests: list[Manifest],
    on_ready: OnReady,
    claimed: socket.socket | None = None,
) -> None:
    """Run a cluster until SIGINT, SIGTERM or `emu down`. Raises UserError when it cannot start."""
    setup_logging("supervisor", settings.config.log_level, settings.config.log_format)

    raise_descriptor_limit()

    async def run() -> None:
        await Supervisor(settings, manifests, on_ready, claimed).run()

    asyncio.run(run())


def processes(settings: Settings) -> list[tuple[str, list[str]]]:
    """Name and arguments of each process of a cluster, in the order of their start."""
    common = _common_arguments(settings)
    components = {name: (name, [name, *common]) for name in ("apiserver", "controllers", "coredns", "proxy")}
    return [
        components["apiserver"],
        components["controllers"],
        *node_processes(settings),
        components["coredns"],
        components["proxy"],
    ]


def node_processes(settings: Settings) -> list[tuple[str, list[str]]]:
    """Name and arguments of each node's process."""
    common = _common_arguments(settings)
    return [(node.name, ["node", node.name, *common]) for node in settings.config.nodes]


def _common_arguments(settings: Settings) -> list[str]:
    return ["--state-dir", str(settings.state.root), "--config", str(resolved_file(settings.state))]


def claim_free_slot() -> tuple[int, socket.socket]:
    """Claim the first slot from 1 that no other cluster has. The claim holds while the socket is open."""
    for slot in range(1, MAX_SLOT + 1):
        with contextlib.suppress(UserError):
            return slot, claim(ClusterConfig(slot=slot))
    raise UserError(f"all {MAX_SLOT} slots are taken by running clusters: stop one with `emu down`")


def claim(config: ClusterConfig) -> socket.socket:
    """Claim a cluster's addresses against other clusters of this machine, whoever runs them.

    The claim holds while the socket is open. Raises UserError when another cluster has it.
    """
    network = config.ranges.nodes.partition("/")[0]
    try:
        # The network's own address: no node ever has it.
        return LoopbackPlane().listen_tcp(network, config.ports.apiserver)
    except OSError:
        raise UserError(
            f"another cluster uses the node network {config.ranges.nodes} (slot {config.slot}): "
            "choose another slot with `--slot N`, or let emu choose with `--slot auto`"
        ) from None


def check_ports(config: ClusterConfig) -> None:
    """Raise UserError when a fixed port on 127.0.0.1, without which a cluster cannot run, is taken."""
    ports = config.fixed_ports
    for key, port in (
        ("apiserver", ports.apiserver),
        ("gateway", ports.gateway),
        ("proxyMetrics", ports.proxy_metrics),
    ):
        try:
            LoopbackPlane().listen_tcp("127.0.0.1", port).close()
        except OSError as error:
            raise UserError(
                f"port {port} of 127.0.0.1 cannot be used ({error.strerror}): end what uses it, "
                f"set ports.{key} in emu.yaml, or choose another slot with `--slot auto`"
            ) from None


def last_line(file: Path) -> str:
    """The last line that is not empty, "" when there is none."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.strip()), "")


def _clear_run(state: StateDir) -> None:
    """Remove sockets and process files that this or an earlier run left."""
    for entry in state.run.iterdir() if state.run.exists() else ():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
