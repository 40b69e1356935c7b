"""Keeping processes running: started through the zygote, restarted with back-off, stopped in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from emu.cluster.config import component_environment
from emu.cluster.zygote import MAX_MESSAGE

log = logging.getLogger(__name__)

_FIRST_BACK_OFF_SECONDS = 0.1
_LAST_BACK_OFF_SECONDS = 30.0
_STEADY_SECONDS = 10.0
_STOP_SECONDS = 8.0
EXIT_USER_ERROR = 2


class Process:
    """One supervised process, by name. `held` ones are not restarted."""

    def __init__(self, name: str, argv: list[str]) -> None:
        self.name = name
        self.argv = argv
        self.pid: int | None = None
        self.started_at = 0.0
        self.restarts = 0
        self.last_code: int | None = None
        self.held = False
        self.back_off = _FIRST_BACK_OFF_SECONDS

    def describe(self) -> dict[str, Any]:
        """What `emu status` shows."""
        return {
            "name": self.name,
            "pid": self.pid,
            "restarts": self.restarts,
            "held": self.held,
            "lastExitCode": self.last_code,
            "uptimeSeconds": round(time.monotonic() - self.started_at, 1) if self.pid else None,
        }


class ProcessGroup:
    """A set of processes that run until `stop`. Use within one event loop."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self.processes: dict[str, Process] = {}
        self._channel: socket.socket | None = None
        self._outgoing: deque[bytes] = deque()
        self._zygote: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_failure: Callable[[Process], None] = lambda process: None

    def start_zygote(self) -> None:
        """Start the zygote, which imports in the background while the caller goes on."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, (self._logs / "zygote.log").open("ab") as output:
            self._zygote = subprocess.Popen(
                [sys.executable, "-m", "emu.cluster.zygote", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=component_environment(),
            )
        ours.setblocking(False)
        self._channel = ours
        asyncio.get_running_loop().add_reader(ours, self._receive)

    def add(self, name: str, argv: list[str]) -> None:
        """Start a process under a name: `emu` with these arguments."""
        process = Process(name, argv)
        self.processes[name] = process
        self._start(process)

    def kill(self, name: str, *, hold: bool, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process; `hold` keeps it down until `resume`."""
        process = self.processes[name]
        process.held = hold
        if process.pid is not None:
            self._send({"signal": name, "number": int(number)})

    def resume(self, name: str) -> None:
        """Let a held process run again."""
        process = self.processes[name]
        process.held = False
        process.back_off = _FIRST_BACK_OFF_SECONDS
        if process.pid is None:
            self._start(process)

    async def wait_exited(self, name: str) -> None:
        """Wait until a process is not running."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.processes[name].pid is None)

    async def stop(self) -> None:
        """Stop all: SIGTERM, then SIGKILL after a grace period. Returns when none is left."""
        if self._stopping:
            return
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        if self._channel is not None:
            for process in self.processes.values():
                if process.pid is not None:
                    self._send({"signal": process.name, "number": int(signal.SIGTERM)})
            try:
                async with asyncio.timeout(_STOP_SECONDS), self._changed:
                    await self._changed.wait_for(self._none_left)
            except TimeoutError:
                for process in self.processes.values():
                    if process.pid is not None:
                        log.warning("%s did not stop in time and is killed", process.name)
                        self._send({"signal": process.name, "number": int(signal.SIGKILL)})
            asyncio.get_running_loop().remove_reader(self._channel)
            asyncio.get_running_loop().remove_writer(self._channel)
            self._channel.close()
            self._channel = None
        if self._zygote is not None:
            await asyncio.to_thread(self._zygote.wait)

    def _none_left(self) -> bool:
        return all(process.pid is None for process in self.processes.values())

    def _start(self, process: Process) -> None:
        process.started_at = time.monotonic()
        self._send(
            {"start": process.name, "argv": process.argv, "log": str(self._logs / f"{process.name}.log")}
        )

    def _send(self, message: dict[str, Any]) -> None:
        assert self._channel is not None, "the zygote is not started"
        self._outgoing.append(msgspec.json.encode(message))
        self._flush()

    def _flush(self) -> None:
        """Send what the channel takes; the rest when the zygote has read some of it."""
        if self._channel is None:
            return
        loop = asyncio.get_running_loop()
        while self._outgoing:
            try:
                self._channel.send(self._outgoing[0])
            except BlockingIOError:
                loop.add_writer(self._channel, self._flush)
                return
            self._outgoing.popleft()
        loop.remove_writer(self._channel)

    def _receive(self) -> None:
        assert self._channel is not None
        try:
            data = self._channel.recv(MAX_MESSAGE)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._zygote_died()
            return
        message = msgspec.json.decode(data)
        if "started" in message:
            self.processes[message["started"]].pid = message["pid"]
        else:
            self._exited(self.processes[message["exited"]], message["code"])
        self._background(self._notify())

    def _zygote_died(self) -> None:
        log.error("the zygote process ended, and all components with it; see %s", self._logs / "zygote.log")
        for process in self.processes.values():
            process.pid = None
            process.last_code = process.last_code if process.last_code is not None else 1
            process.held = True
            self.on_failure(process)
        self._background(self._notify())

    def _exited(self, process: Process, code: int) -> None:
        process.pid = None
        process.last_code = code
        if self._stopping or process.held:
            return
        if code == EXIT_USER_ERROR:
            process.held = True
            self.on_failure(process)
            return
        if time.monotonic() - process.started_at > _STEADY_SECONDS:
            process.back_off = _FIRST_BACK_OFF_SECONDS
        log.warning(
            "%s ended (%s); it starts again in %.1f s", process.name, describe_exit(code), process.back_off
        )
        self._background(self._restart(process))

    async def _restart(self, process: Process) -> None:
        await asyncio.sleep(process.back_off)
        process.back_off = min(process.back_off * 2, _LAST_BACK_OFF_SECONDS)
        if not process.held and process.pid is None:
            process.restarts += 1
            self._start(process)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def describe_exit(code: int) -> str:
    """An exit code in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
