"""Durations as Go writes them."""

from __future__ import annotations

import pytest

from emu.core.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("250ms", 0.25),
        ("1m0.5s", 60.5),
        ("1h2m3s4ms5us6ns", 3723.004005006),
        ("2µs", 2e-6),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("0s", 0.0),
    ],
)
def test_parts_add_up(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "30", "30 s", "-1s", "+1s", "s", ".s", "1d", "1s2", "soon"])
def test_what_has_no_unit_or_a_sign_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(text)
