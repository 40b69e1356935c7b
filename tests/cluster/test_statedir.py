"""The state directory: one cluster at a time, clear words when it cannot be used."""

import os
from pathlib import Path

import pytest

from emu.cluster import statedir
from emu.core.config import ClusterConfig
from emu.core.errors import UserError
from emu.core.settings import Settings, StateDir


@pytest.fixture
def state(tmp_path) -> StateDir:
    state = StateDir(tmp_path / "s")
    statedir.prepare(state, ["node-1"])
    return state


def test_second_cluster_is_refused_and_names_the_first(state):
    first = statedir.StateDirLock(state)
    first.acquire()
    assert statedir.running_pid(state) == os.getpid()
    with pytest.raises(UserError, match=rf"running in .* already \(process {os.getpid()}\).*emu down"):
        statedir.StateDirLock(state).acquire()
    first.release()
    assert statedir.running_pid(state) is None
    again = statedir.StateDirLock(state)
    again.acquire()
    again.release()


def test_unusable_directory_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be used .*--state-dir"):
        statedir.prepare(StateDir(tmp_path / "file" / "s"), ["node-1"])


def test_a_path_too_long_for_sockets_is_refused(tmp_path):
    with pytest.raises(UserError, match="too long a path"):
        statedir.prepare(StateDir(tmp_path / ("x" * 100)), ["node-1"])


def test_reset_removes_only_what_emu_made(state):
    (state.root / "mine").write_text("keep")
    (state.root / "state.db").write_text("")
    (state.root / "state.db-wal").write_text("")
    assert statedir.reset(state)
    assert [path.name for path in state.root.iterdir()] == ["mine"]
    assert not statedir.reset(StateDir(Path("/nonexistent/emu")))


def test_reset_refuses_while_a_cluster_runs(state):
    lock = statedir.StateDirLock(state)
    lock.acquire()
    with pytest.raises(UserError, match="stop it first"):
        statedir.reset(state)
    lock.release()


def test_a_state_directory_keeps_its_addresses(state):
    assert statedir.recorded_slot(state) is None
    for _ in range(2):
        statedir.record_networks(Settings(ClusterConfig(slot=3), state))
    assert statedir.recorded_slot(state) == 3
    with pytest.raises(UserError, match=r"addresses of slot 3 .* `--slot 3`, or remove it with `emu reset`"):
        statedir.record_networks(Settings(ClusterConfig(slot=4), state))
    statedir.reset(state)
    assert statedir.recorded_slot(state) is None


def test_a_damaged_record_is_named(state):
    (state.root / "networks.json").write_text("{")
    with pytest.raises(UserError, match=r"networks.json is damaged .*emu reset"):
        statedir.recorded_slot(state)
