"""Times as the API writes them (RFC 3339, UTC) and as numbers."""

from __future__ import annotations

from datetime import datetime


def seconds_since(text: str | None, now: float) -> float:
    """Seconds from a time of the API (metav1.Time or MicroTime) to `now`; 0.0 for none and for nonsense."""
    if not text:
        return 0.0
    try:
        return now - datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
