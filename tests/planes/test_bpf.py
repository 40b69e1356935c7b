"""Programs mean what the ranges mean, are short enough for the kernel, and are ready fast."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.core.ranges import EVERYONE, NOBODY, Ranges, complement, contains, union
from emu.planes import bpf

LAST = 0xFFFFFFFF
POD_NETWORK = 0x7FF40000

addresses = st.one_of(st.integers(0, 100), st.integers(LAST - 70, LAST), st.integers(0, LAST))
pairs = st.lists(
    st.one_of(
        st.tuples(addresses, st.integers(0, 70)).map(lambda pair: (pair[0], min(LAST, sum(pair)))),
        addresses.map(lambda address: (address, address)),
    ),
    max_size=40,
)


def probes(ranges: Ranges) -> set[int]:
    """Every bound and its neighbours, and the ends."""
    near = {bound + step for pair in ranges for bound in pair for step in (-1, 0, 1)}
    return {address for address in near | {0, 1, 31, 32, LAST} if 0 <= address <= LAST}


def check(ranges: Ranges) -> list[bpf.Instruction]:
    program = bpf.compile_filter(ranges)
    assert program is not None
    assert len(program) <= bpf.MAX_INSTRUCTIONS
    assert all(0 <= jump <= 255 for _, if_true, if_false, _ in program for jump in (if_true, if_false))
    for address in probes(ranges):
        assert bpf.run_filter(program, address) is contains(ranges, address), hex(address)
    return program


@settings(max_examples=300, deadline=None)
@given(pairs, st.booleans())
def test_a_program_means_its_ranges(given_pairs: list[tuple[int, int]], inverted: bool) -> None:
    ranges = union(given_pairs)
    check(complement(ranges) if inverted else ranges)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(100, 2000), st.sampled_from([1 << 12, 1 << 14, 1 << 18, LAST]))
def test_long_programs_mean_their_ranges(seed: int, count: int, spread: int) -> None:
    numbers = random.Random(seed)
    base = 0 if spread == LAST else POD_NETWORK
    sources = union(
        (address, address) for address in (base + numbers.randrange(spread) for _ in range(count))
    )
    check(sources)
    check(complement(sources))


@pytest.mark.parametrize(
    "ranges", [NOBODY, EVERYONE, ((0, 0),), ((LAST, LAST),), ((0, LAST - 1),), ((1, LAST),)]
)
def test_limits(ranges: Ranges) -> None:
    check(ranges)


def scattered(count: int) -> Ranges:
    """Single addresses, no two of which share a block."""
    return tuple((POD_NETWORK + 33 * number, POD_NETWORK + 33 * number) for number in range(count))


def test_two_thousand_scattered_sources_fit() -> None:
    check(scattered(2000))


def test_any_of_ten_thousand_pods_on_a_hundred_nodes_fit() -> None:
    numbers = random.Random(1)
    pods = [POD_NETWORK + 256 * node + last for node in range(1, 101) for last in range(2, 102)]
    chosen = union((pod, pod) for pod in numbers.sample(pods, 5000))
    assert len(check(chosen)) < 2000


def test_what_does_not_fit_is_refused() -> None:
    assert bpf.compile_filter(scattered(3500)) is None
    assert bpf.compile_filter(scattered(1 << 17)) is None


def test_two_thousand_sources_compile_within_four_milliseconds() -> None:
    ranges = scattered(2000)
    times = []
    for _ in range(10):
        began = time.process_time()
        bpf.compile_filter(ranges)
        times.append(time.process_time() - began)
    # The best of several: the machine is shared, and slower ones get some slack.
    assert min(times) < 0.008
