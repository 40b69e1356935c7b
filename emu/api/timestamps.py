"""Times in objects: which texts are times, and the form in which they are stored.

Source: apimachinery `apis/meta/v1` Time and MicroTime, and the words of Go's `time.Parse`. One thing is more
lenient: MicroTime takes any number of fractional digits.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.Time"
MICRO_TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"

_DAYS = (
    "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
)
_SECONDS = rf"[0-9]{{4}}-{_DAYS}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
STORED_FORMS = {TIME: f"^{_SECONDS}Z$", MICRO_TIME: rf"^{_SECONDS}\.[0-9]{{6}}Z$"}
"""Patterns of texts that are stored as they are, by the names of their definitions; 29 February is none."""

_LAYOUTS = {TIME: "2006-01-02T15:04:05Z07:00", MICRO_TIME: "2006-01-02T15:04:05.000000Z07:00"}


class _Part(NamedTuple):
    layout: str
    """What Go calls it."""
    form: str
    name: str = ""
    low: int = 0
    high: int = 9999


_PARTS = (
    _Part("2006", "[0-9]{4}"),
    _Part("-", "-"),
    _Part("01", "[0-9]{2}", "month", 1, 12),
    _Part("-", "-"),
    _Part("02", "[0-9]{2}"),
    _Part("T", "T"),
    _Part("15", "[0-9]{2}", "hour", 0, 23),
    _Part(":", ":"),
    _Part("04", "[0-9]{2}", "minute", 0, 59),
    _Part(":", ":"),
    _Part("05", "[0-9]{2}", "second", 0, 59),
    _Part("", r"([.,][0-9]+)?"),
    _Part("Z07:00", "Z|[+-][0-9]{2}:[0-9]{2}"),
)


def fault(text: str, definition: str) -> str:
    """What is wrong with a time in the words of Go, "" if nothing."""
    rest = text
    for part in _PARTS:
        found = re.match(part.form, rest, re.ASCII)
        if found is None:
            layout = _LAYOUTS[definition]
            return f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as "{part.layout}"'
        if part.name and not part.low <= int(found[0]) <= part.high:
            return f'parsing time "{text}": {part.name} out of range'
        rest = rest[found.end() :]
    if rest:
        return f'parsing time "{text}": extra text: "{rest}"'
    return "" if _parsed(text) else f'parsing time "{text}": day out of range'


def stored_form(text: str, definition: str) -> str:
    """A time without fault as it is stored: in UTC, in seconds or microseconds."""
    moment = _parsed(text)
    if moment is None:
        raise ValueError(text)
    form = "%Y-%m-%dT%H:%M:%S" + (".%fZ" if definition == MICRO_TIME else "Z")
    # strftime leaves out the zeros in front of a small year.
    return moment.strftime(form).rjust(len("0001-01-01T00:00:00Z"), "0")


def _parsed(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
