"""How `kubectl get` writes times, counts and selectors: the shared part of the columns."""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from typing import Any

from emu.api.resource import Column

NAME = Column("Name")
AGE = Column("Age")
NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"


def seconds_since_epoch(timestamp: str) -> float:
    """An RFC 3339 time in UTC, with or without fractions, which do not count."""
    year, month, day = timestamp[:4], timestamp[5:7], timestamp[8:10]
    hour, minute, second = timestamp[11:13], timestamp[14:16], timestamp[17:19]
    fields = (year, month, day, hour, minute, second)
    return calendar.timegm(tuple(int(field) for field in fields))


def duration(seconds: float) -> str:
    """A duration as kubectl abbreviates it: 2 units at most, coarser as it grows."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    whole = max(whole, 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    years = days // 365
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(count: int, unit: str, rest: int, rest_unit: str) -> str:
    return f"{count}{unit}{rest}{rest_unit}" if rest else f"{count}{unit}"


def age(document: Mapping[str, Any], now: float) -> str:
    """Time since creation."""
    return since(document["metadata"].get("creationTimestamp"), now)


def since(timestamp: str | None, now: float) -> str:
    """Time since a timestamp."""
    return duration(now - seconds_since_epoch(timestamp)) if timestamp else UNKNOWN


def labels(pairs: Mapping[str, str] | None) -> str:
    """A map of labels as `a=b,c=d`."""
    return ",".join(f"{key}={value}" for key, value in sorted((pairs or {}).items())) or NONE


def selector(document: Mapping[str, Any] | None) -> str:
    """A label selector as text, in the order of its keys."""
    if document is None:
        return NONE
    terms = [(key, f"{key}={value}") for key, value in (document.get("matchLabels") or {}).items()]
    for requirement in document.get("matchExpressions") or ():
        key, operator = requirement["key"], requirement["operator"]
        match operator:
            case "Exists":
                text = key
            case "DoesNotExist":
                text = f"!{key}"
            case _:
                text = f"{key} {operator.lower()} ({','.join(sorted(requirement.get('values') or ()))})"
        terms.append((key, text))
    return ",".join(text for _, text in sorted(terms, key=lambda term: term[0])) or NONE


def some(items: list[str], limit: int) -> str:
    """At most `limit` items, and how many more there are."""
    if not items:
        return NONE
    more = len(items) - limit
    return ",".join(items[:limit]) + (f" + {more} more..." if more > 0 else "")
