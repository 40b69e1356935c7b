"""The guarantees of the work queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from emu.client.rest import ApiError, ApiUnreachable
from emu.controllers.workqueue import WorkQueue, retry_delay


@asynccontextmanager
async def running(queue: WorkQueue) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run())
    try:
        async with asyncio.timeout(5):
            yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_key_waits_once() -> None:
    seen: list[str] = []
    done = asyncio.Event()

    async def process(key: str) -> None:
        seen.append(key)
        if key == "end":
            done.set()

    queue = WorkQueue("test", process)
    for key in ("a", "b", "a", "end"):
        queue.add(key)
    async with running(queue):
        await done.wait()
    assert seen == ["a", "b", "end"]


async def test_a_key_is_never_worked_on_twice_at_a_time_and_once_more_afterwards() -> None:
    active = 0
    rounds = 0
    gate = asyncio.Event()
    started = asyncio.Event()
    done = asyncio.Event()

    async def process(key: str) -> None:
        nonlocal active, rounds
        active += 1
        rounds += 1
        assert active == 1
        started.set()
        await gate.wait()
        active -= 1
        if rounds == 2:
            done.set()

    queue = WorkQueue("test", process, workers=4)
    async with running(queue):
        queue.add("a")
        await started.wait()
        queue.add("a")
        queue.add("a")
        gate.set()
        await done.wait()
    assert rounds == 2


@pytest.mark.parametrize(
    "failure",
    [
        lambda: ApiError(409, "Conflict", "changed"),
        lambda: ApiUnreachable("gone"),
        lambda: ValueError("fault"),
    ],
    ids=["conflict", "unreachable", "fault"],
)
async def test_what_fails_comes_back_and_holds_nobody_up(failure: Callable[[], Exception]) -> None:
    seen: list[str] = []
    done = asyncio.Event()

    async def process(key: str) -> None:
        seen.append(key)
        if key == "a" and seen.count("a") < 3:
            raise failure()
        if key == "a":
            done.set()

    queue = WorkQueue("test", process)
    queue.add("a")
    queue.add("b")
    async with running(queue):
        await done.wait()
    assert seen == ["a", "b", "a", "a"]


async def test_of_two_delays_the_earlier_counts() -> None:
    done = asyncio.Event()

    async def process(key: str) -> None:
        done.set()

    queue = WorkQueue("test", process)
    async with running(queue):
        queue.add_after("a", 60)
        queue.add_after("a", 0.001)
        await done.wait()


async def test_a_result_asks_for_another_time() -> None:
    count = 0
    done = asyncio.Event()

    async def process(key: str) -> float | None:
        nonlocal count
        count += 1
        if count == 2:
            done.set()
            return None
        return 0.001

    processing: Callable[[str], Awaitable[float | None]] = process
    queue = WorkQueue("test", processing)
    async with running(queue):
        queue.add("a")
        await done.wait()


def test_delays_double_up_to_a_bound() -> None:
    assert [retry_delay(n) for n in (1, 2, 3, 30)] == [0.005, 0.01, 0.02, 10.0]
