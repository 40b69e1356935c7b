"""PodDisruptionBudget: defaults, validation and columns.

Source: `pkg/apis/policy/validation`.
"""

from __future__ import annotations

from typing import Any

from emu.api.errors import FieldError, invalid, not_supported
from emu.api.kinds import cells, templates
from emu.api.kinds.label_selectors import check_label_selector
from emu.api.resource import Column, Document

COLUMNS = (
    cells.NAME,
    Column("Min Available"),
    Column("Max Unavailable"),
    Column("Allowed Disruptions", "integer"),
    cells.AGE,
)
_COUNTS = ("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods")
_UNHEALTHY_POLICIES = ("AlwaysAllow", "IfHealthyBudget")


def default(document: Document) -> None:
    """A budget that nobody has looked at allows nothing."""
    document.setdefault("spec", {})
    status = document.setdefault("status", {})
    for key in _COUNTS:
        status.setdefault(key, 0)


def validate(document: Document) -> list[FieldError]:
    """Errors of a PodDisruptionBudget."""
    spec = document["spec"]
    errors: list[FieldError] = []
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        errors.append(invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for key in ("minAvailable", "maxUnavailable"):
        if (value := spec.get(key)) is not None:
            errors += templates.check_count_or_percent(value, f"spec.{key}")
            errors += templates.check_at_most_all(value, f"spec.{key}")
    if spec.get("selector") is not None:
        errors += check_label_selector(spec["selector"], "spec.selector")
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in _UNHEALTHY_POLICIES:
        errors.append(not_supported("spec.unhealthyPodEvictionPolicy", policy, _UNHEALTHY_POLICIES))
    return errors


def validate_status(document: Document) -> list[FieldError]:
    """Errors of a budget's status."""
    return templates.check_not_negative(document["status"], "status", *_COUNTS)


def row(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get poddisruptionbudgets`."""
    spec, status = document["spec"], document.get("status") or {}
    return [
        document["metadata"]["name"],
        str(spec.get("minAvailable", "N/A")),
        str(spec.get("maxUnavailable", "N/A")),
        status.get("disruptionsAllowed", 0),
        cells.age(document, now),
    ]
