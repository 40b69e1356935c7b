"""A process that has everything imported and forks emu's components on request.

Forking costs milliseconds where starting Python costs a quarter of a second, and the forked processes share
the memory of what is imported. The supervisor starts it with one end of a socket pair; each message is one
JSON object. When the supervisor goes, so do the zygote and its children.

From the supervisor: `{"start": NAME, "argv": [...], "log": PATH}`, `{"signal": NAME, "number": N}`.
To the supervisor: `{"started": NAME, "pid": N}`, `{"exited": NAME, "pid": N, "code": N}`, where code is as
Popen's returncode: negative is a signal.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from typing import Any, NoReturn

import msgspec

MAX_MESSAGE = 64 * 1024

# Named rather than imported: a component is a process, and the cluster package does not depend on it.
_PRELOADED = (
    "emu.cli.components",
    "emu.api.server",
    "emu.controllers.manager",
    "emu.nodes.agent",
    "emu.coredns.main",
    "emu.proxy.main",
)
_ENTRY_POINT = ("emu.cli", "main")
_GRACE_SECONDS = 5.0

_PR_SET_NAME = 15
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve the supervisor at the inherited file descriptor given as the only argument."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    _set_process_name("emu-zygote")
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_read, False)
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for module in _PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    children = _Children(channel, (wakeup_read, wakeup_write))
    try:
        while children.serve(wakeup_read):
            pass
    finally:
        children.end()


class _Children:
    def __init__(self, channel: socket.socket, inherited: tuple[int, ...]) -> None:
        self._channel = channel
        self._inherited = inherited
        self._names: dict[int, str] = {}

    def serve(self, wakeup: int) -> bool:
        """One turn: a message or an ended child. False when the supervisor is gone."""
        ready, _, _ = select.select([self._channel.fileno(), wakeup], [], [])
        if wakeup in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup, 4096)
            self._reap()
        if self._channel.fileno() in ready:
            data = self._channel.recv(MAX_MESSAGE)
            if not data:
                return False
            message = msgspec.json.decode(data)
            if "start" in message:
                self._start(message)
            else:
                self._signal(message["signal"], message["number"])
        return True

    def end(self) -> None:
        """End all children: first by request, then by force."""
        for pid in self._names:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        while self._names and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.01)
        for pid in self._names:
            os.kill(pid, signal.SIGKILL)

    def _start(self, message: dict[str, Any]) -> None:
        zygote = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(message, zygote)
        self._names[pid] = message["start"]
        self._tell({"started": message["start"], "pid": pid})

    def _become(self, message: dict[str, Any], zygote: int) -> NoReturn:
        """In the child: leave the zygote behind and run the component."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        self._channel.close()
        for descriptor in self._inherited:
            os.close(descriptor)
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != zygote:
            # It died before its death could be signalled.
            os._exit(1)
        _set_process_name(f"emu-{message['start']}")
        log = os.open(message["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        module, function = _ENTRY_POINT
        code = 1
        try:
            code = getattr(importlib.import_module(module), function)(message["argv"])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            # Not sys.exit: the zygote's own handlers and buffers are not this process's to run.
            os._exit(code or 0)

    def _signal(self, name: str, number: int) -> None:
        for pid, child in self._names.items():
            if child == name:
                os.kill(pid, number)

    def _reap(self) -> None:
        while self._names:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            name = self._names.pop(pid)
            self._tell({"exited": name, "pid": pid, "code": os.waitstatus_to_exitcode(status)})

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._channel.send(msgspec.json.encode(message))


def _set_process_name(name: str) -> None:
    """What `ps` and `top` show in their short form."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]))


def _prctl(option: int, argument: Any) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)


if __name__ == "__main__":
    main()
