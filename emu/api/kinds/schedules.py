"""Cron schedules, checked with the words of the parser that Kubernetes uses.

Source: `github.com/robfig/cron/v3`, `ParseStandard`: five fields, or a descriptor such as `@hourly`, behind
an optional `TZ=` or `CRON_TZ=`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from zoneinfo import ZoneInfo

_DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_EVERY = "@every "
_DURATION_RE = re.compile(r"[+-]?(?:0|(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


class _Field(NamedTuple):
    low: int
    high: int
    names: Mapping[str, int] = {}


_FIELDS = (
    _Field(0, 59),
    _Field(0, 23),
    _Field(1, 31),
    _Field(1, 12, {name: number for number, name in enumerate(_MONTHS, start=1)}),
    _Field(0, 6, {name: number for number, name in enumerate(_DAYS)}),
)


class ScheduleError(Exception):
    """A schedule that cannot be understood, with the parser's words."""


def check_schedule(text: str) -> str:
    """What is wrong with a schedule, "" if nothing."""
    try:
        _parse(text)
    except ScheduleError as error:
        return str(error)
    return ""


def is_time_zone(name: str) -> bool:
    """Whether a time zone of that name exists."""
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return False
    return True


def _parse(text: str) -> None:
    if not text:
        raise ScheduleError("empty spec string")
    if text.startswith(("TZ=", "CRON_TZ=")):
        prefix, _, text = text.partition(" ")
        zone = prefix.partition("=")[2]
        if zone and not is_time_zone(zone):
            raise ScheduleError(f"provided bad location {zone}: unknown time zone {zone}")
        text = text.strip()
    if text.startswith("@"):
        _parse_descriptor(text)
        return
    parts = text.split()
    if len(parts) != len(_FIELDS):
        shown = f"[{' '.join(parts)}]"
        raise ScheduleError(f"expected exactly {len(_FIELDS)} fields, found {len(parts)}: {shown}")
    for part, field in zip(parts, _FIELDS, strict=True):
        for expression in part.split(","):
            if expression:
                _parse_range(expression, field)


def _parse_descriptor(text: str) -> None:
    if text.startswith(_EVERY):
        length = text.removeprefix(_EVERY)
        if not _DURATION_RE.fullmatch(length):
            raise ScheduleError(f'failed to parse duration {text}: time: invalid duration "{length}"')
    elif text not in _DESCRIPTORS:
        raise ScheduleError(f"unrecognized descriptor: {text}")


def _parse_range(expression: str, field: _Field) -> None:
    spread, *steps = expression.split("/")
    bounds = spread.split("-")
    if bounds[0] in ("*", "?"):
        start, end = field.low, field.high
    elif len(bounds) > 2:
        raise ScheduleError(f"too many hyphens: {expression}")
    else:
        start = _number(bounds[0], field.names)
        end = _number(bounds[-1], field.names)
    if len(steps) > 1:
        raise ScheduleError(f"too many slashes: {expression}")
    step = _number(steps[0], {}) if steps else 1
    if steps and len(bounds) == 1:
        end = field.high
    if start < field.low:
        raise ScheduleError(f"beginning of range ({start}) below minimum ({field.low}): {expression}")
    if end > field.high:
        raise ScheduleError(f"end of range ({end}) above maximum ({field.high}): {expression}")
    if start > end:
        raise ScheduleError(f"beginning of range ({start}) beyond end of range ({end}): {expression}")
    if step == 0:
        raise ScheduleError(f"step of range should be a positive number: {expression}")


def _number(text: str, names: Mapping[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII):
        raise ScheduleError(
            f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax'
        )
    number = int(text)
    if number < 0:
        raise ScheduleError(f"negative number ({number}) not allowed: {text}")
    return number
