"""Processes that the zygote forks: started, restarted, held, reported, ended."""

import asyncio
import signal
from pathlib import Path

import pytest

from emu.cluster.processes import ProcessGroup, describe_exit


@pytest.fixture
async def group(tmp_path):
    group = ProcessGroup(tmp_path)
    group.start_zygote()
    yield group
    await group.stop()


async def until(condition) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110  what is waited for is another process
            await asyncio.sleep(0.01)


def waiting(tmp_path: Path) -> list[str]:
    """A component that waits for a kubeconfig that never comes."""
    return ["controllers", "--state-dir", str(tmp_path / "state")]


def catches_sigterm(pid: int | None) -> bool:
    """Whether the process is far enough to have its own handler."""
    if pid is None:
        return False
    caught = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt")
    )
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


async def test_a_killed_process_starts_again(group, tmp_path):
    group.add("one", waiting(tmp_path))
    process = group.processes["one"]
    await until(lambda: process.pid is not None)
    first = process.pid
    group.kill("one", hold=False)
    await until(lambda: process.pid not in (None, first))
    assert process.restarts == 1
    assert process.last_code == -signal.SIGKILL


async def test_a_held_process_stays_down_until_resumed(group, tmp_path):
    group.add("one", waiting(tmp_path))
    process = group.processes["one"]
    await until(lambda: process.pid is not None)
    group.kill("one", hold=True)
    await group.wait_exited("one")
    assert process.describe()["held"]
    group.resume("one")
    await until(lambda: process.pid is not None)
    assert process.restarts == 0


async def test_an_error_of_the_users_is_reported_and_not_retried(group, tmp_path):
    failed = []
    group.on_failure = failed.append
    group.add("wrong", ["node", "--config", str(tmp_path / "none.yaml"), "node-1"])
    await until(lambda: failed)
    assert failed[0].last_code == 2
    assert failed[0].held
    assert (
        tmp_path / "wrong.log"
    ).read_text() == f"emu: the configuration file {tmp_path}/none.yaml does not exist\n"


async def test_stop_ends_all_within_the_grace_period(tmp_path):
    group = ProcessGroup(tmp_path)
    group.start_zygote()
    for name in ("one", "two"):
        group.add(name, waiting(tmp_path))
    await until(lambda: all(catches_sigterm(process.pid) for process in group.processes.values()))
    pids = [process.pid for process in group.processes.values()]
    await group.stop()
    assert not any(Path(f"/proc/{pid}/fd").exists() for pid in pids)
    assert [process.last_code for process in group.processes.values()] == [0, 0]


async def test_without_the_zygote_everything_is_reported_as_failed(group, tmp_path):
    failed = []
    group.on_failure = failed.append
    group.add("one", waiting(tmp_path))
    await until(lambda: group.processes["one"].pid is not None)
    pid = group.processes["one"].pid
    group._zygote.kill()
    await until(lambda: failed)
    await until(lambda: not Path(f"/proc/{pid}/fd/0").exists())


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (1, "exit code 1"), (-9, "killed by SIGKILL")]
)
def test_exit_codes_in_words(code, words):
    assert describe_exit(code) == words
