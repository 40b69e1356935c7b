from typing import Any

import pytest

from emu.api import schemas
from emu.api.errors import BadRequestError
from emu.api.resources import BY_NAME
from emu.api.timestamps import MICRO_TIME, TIME, fault, stored_form

LAYOUT = "2006-01-02T15:04:05Z07:00"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("2026-01-31T10:20:30Z", ""),
        ("2026-01-31T10:20:30.25+02:00", ""),
        ("", f'parsing time "" as "{LAYOUT}": cannot parse "" as "2006"'),
        ("abc", f'parsing time "abc" as "{LAYOUT}": cannot parse "abc" as "2006"'),
        ("2026/01", f'parsing time "2026/01" as "{LAYOUT}": cannot parse "/01" as "-"'),
        (
            "2026-01-31 10:20:30",
            f'parsing time "2026-01-31 10:20:30" as "{LAYOUT}": cannot parse " 10:20:30" as "T"',
        ),
        (
            "2026-01-31T10:20:30",
            f'parsing time "2026-01-31T10:20:30" as "{LAYOUT}": cannot parse "" as "Z07:00"',
        ),
        ("2026-13-01T10:20:30Z", 'parsing time "2026-13-01T10:20:30Z": month out of range'),
        ("2026-02-30T10:20:30Z", 'parsing time "2026-02-30T10:20:30Z": day out of range'),
        ("2026-02-01T24:20:30Z", 'parsing time "2026-02-01T24:20:30Z": hour out of range'),
        ("2026-02-01T10:20:30Zz", 'parsing time "2026-02-01T10:20:30Zz": extra text: "z"'),
        ("0000-01-01T00:00:00Z", 'parsing time "0000-01-01T00:00:00Z": day out of range'),
    ],
)
def test_what_is_a_time(text: str, wrong: str):
    assert fault(text, TIME) == wrong


@pytest.mark.parametrize(
    ("text", "definition", "stored"),
    [
        ("2026-01-31T10:20:30.25+02:00", TIME, "2026-01-31T08:20:30Z"),
        ("2026-01-31T10:20:30.25Z", MICRO_TIME, "2026-01-31T10:20:30.250000Z"),
        ("2026-01-31T10:20:30Z", MICRO_TIME, "2026-01-31T10:20:30.000000Z"),
        ("0001-01-01T00:00:00Z", TIME, "0001-01-01T00:00:00Z"),
    ],
)
def test_times_are_stored_in_utc(text: str, definition: str, stored: str):
    assert stored_form(text, definition) == stored


def event(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x"}, **fields}


def test_times_of_objects_are_written_in_one_form():
    document = event(lastTimestamp="2026-01-31T10:20:30+02:00", eventTime="2026-01-31T10:20:30Z")
    assert schemas.check(BY_NAME["events"], document) == []
    assert document["lastTimestamp"] == "2026-01-31T08:20:30Z"
    assert document["eventTime"] == "2026-01-31T10:20:30.000000Z"


def test_leap_days_are_days():
    document = event(lastTimestamp="2024-02-29T10:20:30Z")
    assert schemas.check(BY_NAME["events"], document) == []
    assert document["lastTimestamp"] == "2024-02-29T10:20:30Z"
    with pytest.raises(BadRequestError, match="day out of range"):
        schemas.check(BY_NAME["events"], event(lastTimestamp="2026-02-29T10:20:30Z"))


@pytest.mark.parametrize("fields", [{"lastTimestamp": "abc"}, {"series": {"lastObservedTime": "2026-02-30"}}])
def test_what_is_no_time_is_refused(fields: dict[str, Any]):
    with pytest.raises(BadRequestError, match=r"cannot be handled as a Event: parsing time"):
        schemas.check(BY_NAME["events"], event(**fields))
