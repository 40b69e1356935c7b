"""PriorityClass, as data.

Source: `pkg/apis/scheduling/v1/defaults.go`, `pkg/apis/scheduling/validation`.
"""

from __future__ import annotations

from typing import Any

from emu.api.errors import FieldError, forbidden, invalid, not_supported
from emu.api.kinds import cells
from emu.api.resource import Column, Document

COLUMNS = (
    cells.NAME,
    Column("Value", "integer"),
    Column("Global-Default", "boolean"),
    cells.AGE,
    Column("PreemptionPolicy"),
)
_HIGHEST = 1_000_000_000
_SYSTEM_PREFIX = "system-"
_SYSTEM = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def default(document: Document) -> None:
    """Defaults of a PriorityClass."""
    document.setdefault("value", 0)
    document.setdefault("preemptionPolicy", "PreemptLowerPriority")


def validate(document: Document) -> list[FieldError]:
    """Errors of a PriorityClass."""
    name, value = document["metadata"].get("name", ""), document["value"]
    errors: list[FieldError] = []
    if name.startswith(_SYSTEM_PREFIX):
        if _SYSTEM.get(name) != value:
            reserved = (
                f"priority class names with '{_SYSTEM_PREFIX}' prefix are reserved for system use only. "
                f"error: {_why_not_system(name)}"
            )
            errors.append(forbidden("metadata.name", reserved))
    elif value > _HIGHEST:
        highest = f"maximum allowed value of a user defined priority is {_HIGHEST}"
        errors.append(forbidden("value", highest))
    policies = ("PreemptLowerPriority", "Never")
    if document["preemptionPolicy"] not in policies:
        errors.append(not_supported("preemptionPolicy", document["preemptionPolicy"], policies))
    return errors


def _why_not_system(name: str) -> str:
    if name in _SYSTEM:
        return f"value of {name} PriorityClass must be {_SYSTEM[name]}"
    return f"{name} is not a known system priority class"


def validate_update(new: Document, old: Document) -> list[FieldError]:
    """Value and preemption policy are for good."""
    errors: list[FieldError] = []
    if new["value"] != old["value"]:
        errors.append(forbidden("value", "may not be changed in an update."))
    if new["preemptionPolicy"] != old["preemptionPolicy"]:
        errors.append(invalid("preemptionPolicy", new["preemptionPolicy"], "field is immutable"))
    return errors


def row(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get priorityclasses`."""
    return [
        document["metadata"]["name"],
        document.get("value", 0),
        bool(document.get("globalDefault")),
        cells.age(document, now),
        document.get("preemptionPolicy", ""),
    ]
