"""HAProxy of the system's packages, one thread, TCP mode, on free ports of 127.0.0.1."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_ADDRESS = "127.0.0.1"
_START_SECONDS = 5.0
_HEAD = """\
global
    nbthread 1
    maxconn 4096
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
"""


def available() -> bool:
    return shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin") is not None


class Running(NamedTuple):
    pid: int
    addresses: dict[str, tuple[str, int]]
    """Where it listens for each server."""


@contextlib.contextmanager
def running(servers: Mapping[str, tuple[str, int]]) -> Iterator[Running]:
    """HAProxy in front of servers by name, for the time of a block."""
    addresses = {
        name: (_ADDRESS, port) for name, port in zip(servers, _free_ports(len(servers)), strict=True)
    }
    sections = [
        f"listen {name}\n    bind {_ADDRESS}:{addresses[name][1]}\n    server pod {ip}:{port}\n"
        for name, (ip, port) in servers.items()
    ]
    program = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    assert program is not None
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "haproxy.cfg"
        file.write_text(_HEAD + "".join(sections))
        # -db: in the foreground, as one process.
        process = subprocess.Popen([program, "-db", "-q", "-f", str(file)])
        try:
            for address in addresses.values():
                _await_listener(address, process)
            yield Running(process.pid, addresses)
        finally:
            process.terminate()
            process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        return [
            stack.enter_context(socket.create_server((_ADDRESS, 0))).getsockname()[1] for _ in range(count)
        ]


def _await_listener(address: tuple[str, int], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(address, 1.0).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
