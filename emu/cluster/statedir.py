"""The state directory of a cluster: made, locked by the one supervisor that uses it, and removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path

import msgspec

from emu.core.addresses import Networks
from emu.core.errors import UserError
from emu.core.settings import Settings, StateDir

_NETWORKS_FILE = "networks.json"
_OWN_ENTRIES = ("kubeconfig", "pki", "run", "logs", "lock", _NETWORKS_FILE)

# A Unix socket's path has at most 107 octets on Linux (103 on macOS); the longest one here is a node's.
_MAX_SOCKET_PATH = 103
_LONGEST_SOCKET = "node-.sock"


class StateDirLock:
    """Held by the supervisor of a state directory for as long as it lives; the kernel releases it."""

    def __init__(self, state: StateDir) -> None:
        self._path = state.root / "lock"
        self._file: int | None = None
        self._state = state

    def acquire(self) -> None:
        """Take the lock and note this process's id. Raises UserError when another cluster runs here."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unusable(self._state.root, error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode().strip()
            os.close(descriptor)
            raise UserError(
                f"a cluster is running in {self._state.root} already (process {owner}): stop it with "
                "`emu down`, or start another beside it with `--state-dir DIR --slot auto`"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._file = descriptor

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._file is not None:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            os.close(self._file)
            self._file = None


def prepare(state: StateDir, node_names: list[str]) -> None:
    """Make the directories of a cluster. Raises UserError when they cannot be made or used."""
    longest = max(len(name) for name in node_names)
    if len(str(state.run)) + 1 + len(_LONGEST_SOCKET) + longest > _MAX_SOCKET_PATH:
        raise UserError(
            f"the state directory {state.root} has too long a path for Unix sockets: choose a shorter one "
            "with --state-dir"
        )
    try:
        for directory in (state.root, state.pki, state.run, state.logs):
            directory.mkdir(parents=True, exist_ok=True)
        state.root.chmod(0o700)
        probe = state.run / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unusable(state.root, error) from None


class _Recorded(msgspec.Struct, frozen=True):
    slot: int
    networks: Networks


def recorded_slot(state: StateDir) -> int | None:
    """The slot whose addresses the objects in a state directory have, None when there are none."""
    recorded = _recorded(state)
    return None if recorded is None else recorded.slot


def record_networks(settings: Settings) -> None:
    """Tie a state directory to the addresses that its objects have from now on.

    Raises UserError when it is tied to others: a cluster's nodes, pods and Services cannot move.
    """
    config, state = settings
    present = _Recorded(config.slot, config.ranges)
    recorded = _recorded(state)
    if recorded is None:
        (state.root / _NETWORKS_FILE).write_bytes(msgspec.json.encode(present))
    elif recorded.networks != present.networks:
        raise UserError(
            f"the cluster in {state.root} was made with the addresses of slot {recorded.slot} (Services in "
            f"{recorded.networks.services}): start it with `--slot {recorded.slot}`, "
            "or remove it with `emu reset`"
        )


def _recorded(state: StateDir) -> _Recorded | None:
    file = state.root / _NETWORKS_FILE
    try:
        data = file.read_bytes()
    except OSError:
        # Nothing is recorded; where the directory cannot be used, `prepare` says so.
        return None
    try:
        return msgspec.json.decode(data, type=_Recorded)
    except msgspec.DecodeError as error:
        raise UserError(f"{file} is damaged ({error}): remove the cluster with `emu reset`") from None


def running_pid(state: StateDir) -> int | None:
    """The supervisor's process id when a cluster runs in this directory, else None."""
    try:
        descriptor = os.open(state.root / "lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(descriptor, 32) or b"0")
    finally:
        os.close(descriptor)
    return None


def reset(state: StateDir) -> bool:
    """Remove what emu keeps in a state directory, and the directory when nothing else is in it.

    False when there was nothing. Raises UserError while a cluster runs there.
    """
    if not state.root.exists():
        return False
    if (pid := running_pid(state)) is not None:
        raise UserError(
            f"a cluster is running in {state.root} (process {pid}): stop it first with `emu down`"
        )
    own = [state.root / entry for entry in _OWN_ENTRIES] + sorted(state.root.glob(f"{state.store.name}*"))
    there = [path for path in own if path.exists()]
    for path in there:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    with contextlib.suppress(OSError):
        state.root.rmdir()
    return bool(there)


def _unusable(root: Path, error: OSError) -> UserError:
    return UserError(
        f"the state directory {root} cannot be used ({error.strerror}): "
        "choose one that you may write to with --state-dir or EMU_STATE_DIR"
    )
