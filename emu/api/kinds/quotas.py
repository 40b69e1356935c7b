"""ResourceQuota and LimitRange, as data: nothing is counted or limited.

Source: `pkg/apis/core/v1/defaults.go`, `ValidateResourceQuota` and `ValidateLimitRange` in
`pkg/apis/core/validation`.
"""

from __future__ import annotations

from typing import Any

from emu.api.errors import FieldError, duplicate, invalid, not_supported
from emu.api.kinds import cells
from emu.api.kinds.quantities import parse
from emu.api.naming import qualified_name
from emu.api.resource import Column, Document

QUOTA_COLUMNS = (cells.NAME, Column("Request"), Column("Limit"), cells.AGE)

_SCOPES = (
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
)
_LIMIT_TYPES = ("Container", "PersistentVolumeClaim", "Pod")


# --- ResourceQuota ---


def default_quota(document: Document) -> None:
    """A quota has a spec and a status."""
    document.setdefault("spec", {})
    document.setdefault("status", {})


def validate_quota(document: Document) -> list[FieldError]:
    """Errors of a ResourceQuota."""
    spec = document["spec"]
    errors: list[FieldError] = []
    for resource, quantity in (spec.get("hard") or {}).items():
        path = f"spec.hard[{resource}]"
        if wrong := qualified_name(resource):
            errors.append(invalid(path, resource, wrong))
        errors += _check_quantity(quantity, path)
    scopes = spec.get("scopes") or []
    if any(scope not in _SCOPES for scope in scopes):
        errors.append(invalid("spec.scopes", scopes, "unsupported scope"))
    return errors


def _check_quantity(quantity: Any, path: str) -> list[FieldError]:
    number = parse(quantity)
    if number is None or number < 0:
        return [invalid(path, quantity, "must be greater than or equal to 0")]
    return []


def quota_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get resourcequotas`."""
    status = document.get("status") or {}
    used = status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for resource, hard in sorted((status.get("hard") or {}).items()):
        shown = limits if resource.startswith("limits.") else requests
        shown.append(f"{resource}: {used.get(resource, '0')}/{hard}")
    return [document["metadata"]["name"], ", ".join(requests), ", ".join(limits), cells.age(document, now)]


# --- LimitRange ---


def default_limit_range(document: Document) -> None:
    """What a container gets follows from its maximum and minimum, where it is not said."""
    for item in document.setdefault("spec", {}).get("limits") or ():
        if item.get("type") != "Container":
            continue
        limits = {**(item.get("max") or {}), **(item.get("default") or {})}
        requests = {**(item.get("min") or {}), **limits, **(item.get("defaultRequest") or {})}
        if limits:
            item["default"] = limits
        if requests:
            item["defaultRequest"] = requests


def validate_limit_range(document: Document) -> list[FieldError]:
    """Errors of a LimitRange."""
    errors: list[FieldError] = []
    types: set[str] = set()
    for number, item in enumerate(document["spec"].get("limits") or ()):
        path, kind = f"spec.limits[{number}]", item.get("type", "")
        if kind not in _LIMIT_TYPES and "/" not in kind:
            errors.append(not_supported(f"{path}.type", kind, _LIMIT_TYPES))
        if kind in types:
            errors.append(duplicate(f"{path}.type", kind))
        types.add(kind)
        lowest, highest = item.get("min") or {}, item.get("max") or {}
        for resource in sorted(lowest.keys() & highest.keys()):
            low, high = parse(lowest[resource]), parse(highest[resource])
            if low is not None and high is not None and low > high:
                more = f"min value {lowest[resource]} is greater than max value {highest[resource]}"
                errors.append(invalid(f"{path}.min[{resource}]", lowest[resource], more))
    return errors
