"""The proxy takes connections in batches while there are many of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from emu.proxy.pace import MUCH, Pace


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The scheduling policies that were set."""
    found: list[int] = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda pid, policy, param: found.append(policy))
    return found


def run(pace: Pace, began: float, seconds: float, rate: float) -> float:
    """Connections at some rate, one for each turn."""
    now = began
    while now < began + seconds:
        pace.accepted(1, now)
        now += 1 / rate
    return now


def test_batches_while_there_are_many_connections(policies: list[int]) -> None:
    pace = Pace()
    now = run(pace, 1000.0, 1.0, MUCH / 2)
    assert policies == []
    now = run(pace, now, 1.0, MUCH * 2)
    assert pace.in_batches
    assert policies == [os.SCHED_BATCH]
    now = run(pace, now, 1.0, MUCH / 2)
    assert policies == [os.SCHED_BATCH, os.SCHED_OTHER]
    assert not pace.in_batches


def test_the_first_connection_after_a_pause_ends_them(policies: list[int]) -> None:
    pace = Pace()
    now = run(pace, 1000.0, 1.0, MUCH * 2)
    pace.accepted(1, now + 60)
    assert policies == [os.SCHED_BATCH, os.SCHED_OTHER]


def test_a_kernel_that_forbids_it_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def forbid(*_: object) -> None:
        nonlocal asked
        asked += 1
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", forbid)
    run(Pace(), 1000.0, 1.0, MUCH * 2)
    assert asked == 1


def test_the_kernel_permits_it() -> None:
    before = os.sched_getscheduler(0)
    try:
        os.sched_setscheduler(0, before, os.sched_param(0))
    except OSError:
        pytest.skip("policies must not be set here")
    pace = Pace()
    run(pace, 1000.0, 0.5, MUCH * 2)
    assert os.sched_getscheduler(0) == os.SCHED_BATCH
    run(pace, 2000.0, 0.5, MUCH / 2)
    assert os.sched_getscheduler(0) == before
