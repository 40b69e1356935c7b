"""Starting whole clusters from a program: what the tour, the test kit and the benchmarks use."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from emu.cluster.config import component_environment, running_settings
from emu.cluster.control import send_command
from emu.core.errors import UserError
from emu.core.settings import Settings, StateDir


class LaunchedCluster:
    """A running cluster, started by `launch`."""

    def __init__(self, state: StateDir) -> None:
        self.settings: Settings = running_settings(state.root)

    def kill(self, name: str, *, hold: bool = False) -> None:
        """End a process with SIGKILL; `hold` keeps it down until `start`."""
        self._command({"command": "kill", "name": name, "hold": hold})

    def start(self, name: str) -> None:
        """Start a process that is held down."""
        self._command({"command": "start", "name": name})

    def status(self) -> dict[str, Any]:
        """What `emu status --output json` shows."""
        return self._command({"command": "status"})

    def _command(self, message: dict[str, Any]) -> dict[str, Any]:
        return send_command(self.settings.state, message)


@contextlib.contextmanager
def launch(
    arguments: Sequence[str] = (), *, slot: str = "auto", state_dir: Path | None = None
) -> Iterator[LaunchedCluster]:
    """A cluster for the time of a block, all of its processes ended after it.

    `arguments` are further ones of `emu up`. Its files are in a new temporary directory unless `state_dir` is
    given. Raises UserError with the sentence of `emu up` when it cannot start.
    """
    with contextlib.ExitStack() as stack:
        if state_dir is None:
            # Directly below the system's own: a Unix socket's path has about a hundred octets.
            state_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="emu-")))
        state = StateDir(state_dir)
        _emu("up", "--detach", "--slot", slot, "--state-dir", str(state.root), *arguments)
        stack.callback(_emu, "down", "--state-dir", str(state.root))
        yield LaunchedCluster(state)


def _emu(*arguments: str) -> str:
    """Run the `emu` command. Raises UserError with its last line when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "emu", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=component_environment(os.environ),
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [
            f"emu {arguments[0]} failed with exit code {done.returncode}"
        ]
        raise UserError(lines[-1].removeprefix("emu: "))
    return done.stdout
