"""HorizontalPodAutoscaler of autoscaling/v2, as data: defaults, validation and columns.

Source: `pkg/apis/autoscaling/v2/defaults.go`, `pkg/apis/autoscaling/validation`.
"""

from __future__ import annotations

from typing import Any

from emu.api.errors import FieldError, forbidden, invalid, not_supported, required
from emu.api.kinds import cells
from emu.api.kinds.quantities import is_positive
from emu.api.naming import check_reference
from emu.api.resource import Column, Document

COLUMNS = (
    cells.NAME,
    Column("Reference"),
    Column("Targets"),
    Column("MinPods"),
    Column("MaxPods"),
    Column("Replicas"),
    cells.AGE,
)
DEFAULT_UTILIZATION = 80
_SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_TARGET_TYPES = ("Utilization", "Value", "AverageValue")
_MAX_PERIOD = 1800
_MAX_WINDOW = 3600
_SHOWN_METRICS = 2


# --- defaults ---


def default(document: Document) -> None:
    """Defaults of autoscaling/v2: 80% of the CPU that the pods request."""
    spec = document.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": DEFAULT_UTILIZATION}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = spec.get("behavior")
    if behavior is not None:
        percent = {"type": "Percent", "value": 100, "periodSeconds": 15}
        up = behavior.setdefault("scaleUp", {})
        up.setdefault("stabilizationWindowSeconds", 0)
        up.setdefault("policies", [{"type": "Pods", "value": 4, "periodSeconds": 15}, dict(percent)])
        down = behavior.setdefault("scaleDown", {})
        down.setdefault("policies", [dict(percent)])
        for rules in (up, down):
            rules.setdefault("selectPolicy", "Max")
    status = document.setdefault("status", {})
    status.setdefault("desiredReplicas", 0)


# --- validation ---


def validate(document: Document) -> list[FieldError]:
    """Errors of a HorizontalPodAutoscaler."""
    spec = document["spec"]
    low, high = spec["minReplicas"], spec.get("maxReplicas", 0)
    errors: list[FieldError] = []
    if low < 1:
        errors.append(invalid("spec.minReplicas", low, "must be greater than or equal to 1"))
    if high < 1:
        errors.append(invalid("spec.maxReplicas", high, "must be greater than 0"))
    if high < low:
        errors.append(invalid("spec.maxReplicas", high, "must be greater than or equal to `minReplicas`"))
    errors += check_reference(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef")
    for number, metric in enumerate(spec["metrics"]):
        errors += _check_metric(metric, f"spec.metrics[{number}]")
    for key in ("scaleUp", "scaleDown"):
        if rules := (spec.get("behavior") or {}).get(key):
            errors += _check_rules(rules, f"spec.behavior.{key}")
    return errors


def _check_metric(metric: Document, path: str) -> list[FieldError]:
    kind = metric.get("type", "")
    if not kind:
        return [required(f"{path}.type", "must specify a metric source type")]
    if kind not in _SOURCES:
        return [not_supported(f"{path}.type", kind, sorted(_SOURCES))]
    expected = _SOURCES[kind]
    present = [key for key in _SOURCES.values() if metric.get(key) is not None]
    errors: list[FieldError] = []
    if expected in present:
        errors += _check_source(metric[expected], expected, f"{path}.{expected}")
    else:
        errors.append(required(f"{path}.{expected}", "must populate information for the given metric source"))
    errors += [
        forbidden(f"{path}.{key}", "must populate the given metric source only")
        for key in present
        if key != expected
    ]
    return errors


def _check_source(source: Document, key: str, path: str) -> list[FieldError]:
    target, here = source.get("target") or {}, f"{path}.target"
    errors: list[FieldError] = []
    if key == "object":
        errors += check_reference(source.get("describedObject") or {}, f"{path}.describedObject")
    if key in ("resource", "containerResource"):
        if not source.get("name"):
            errors.append(required(f"{path}.name", "must specify a resource name"))
        if key == "containerResource" and not source.get("container"):
            errors.append(required(f"{path}.container", "must specify a container"))
    elif not (source.get("metric") or {}).get("name"):
        errors.append(required(f"{path}.metric.name", "must specify a metric name"))
    return [*errors, *_check_target(target, here), *_check_what_is_aimed_at(target, key, here)]


def _check_target(target: Document, path: str) -> list[FieldError]:
    kind = target.get("type", "")
    errors: list[FieldError] = []
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric target type"))
    if kind not in _TARGET_TYPES:
        errors.append(invalid(f"{path}.type", kind, "must be either Utilization, Value, or AverageValue"))
    errors += [
        invalid(f"{path}.{key}", target[key], "must be positive")
        for key in ("value", "averageValue")
        if target.get(key) is not None and not is_positive(target[key])
    ]
    utilization = target.get("averageUtilization")
    if utilization is not None and utilization < 1:
        errors.append(invalid(f"{path}.averageUtilization", utilization, "must be greater than 0"))
    return errors


def _check_what_is_aimed_at(target: Document, key: str, path: str) -> list[FieldError]:
    value, average = target.get("value") is not None, target.get("averageValue") is not None
    utilization = target.get("averageUtilization") is not None
    match key:
        case "resource" | "containerResource":
            if not utilization and not average:
                either = "must set either a target raw value or a target utilization"
                return [required(f"{path}.averageUtilization", either)]
            if utilization and average:
                both = "may not set both a target raw value and a target utilization"
                return [forbidden(f"{path}.averageValue", both)]
        case "external":
            if not value and not average:
                either = "must set either a target value for metric or a per-pod target"
                return [required(f"{path}.averageValue", either)]
            if value and average:
                both = "may not set both a target value for metric and a per-pod target"
                return [forbidden(f"{path}.value", both)]
        case "object" if not value and not average:
            return [required(f"{path}.averageValue", "must set either a target value or averageValue")]
        case "pods" if not average:
            return [required(f"{path}.averageValue", "must specify a positive target averageValue")]
    return []


def _check_rules(rules: Document, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    window = rules.get("stabilizationWindowSeconds", 0)
    if window < 0:
        not_less = "must be greater than or equal to zero"
        errors.append(invalid(f"{path}.stabilizationWindowSeconds", window, not_less))
    if window > _MAX_WINDOW:
        not_more = f"must be less than or equal to {_MAX_WINDOW}"
        errors.append(invalid(f"{path}.stabilizationWindowSeconds", window, not_more))
    if rules["selectPolicy"] not in ("Disabled", "Max", "Min"):
        supported = ("Disabled", "Max", "Min")
        errors.append(not_supported(f"{path}.selectPolicy", rules["selectPolicy"], supported))
    if not rules["policies"]:
        errors.append(required(f"{path}.policies", "must specify at least one Policy"))
    for number, policy in enumerate(rules["policies"]):
        errors += _check_policy(policy, f"{path}.policies[{number}]")
    return errors


def _check_policy(policy: Document, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if policy.get("type") not in ("Percent", "Pods"):
        errors.append(not_supported(f"{path}.type", policy.get("type", ""), ("Percent", "Pods")))
    errors += [
        invalid(f"{path}.{key}", policy.get(key, 0), "must be greater than zero")
        for key in ("value", "periodSeconds")
        if policy.get(key, 0) <= 0
    ]
    if policy.get("periodSeconds", 0) > _MAX_PERIOD:
        longest = f"must be less than or equal to {_MAX_PERIOD}"
        errors.append(invalid(f"{path}.periodSeconds", policy["periodSeconds"], longest))
    return errors


def validate_status(document: Document) -> list[FieldError]:
    """Errors of an autoscaler's status."""
    return [
        invalid(f"status.{key}", document["status"][key], "must be greater than or equal to 0")
        for key in ("currentReplicas", "desiredReplicas")
        if document["status"].get(key, 0) < 0
    ]


# --- columns ---


def row(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get horizontalpodautoscalers`."""
    spec, status = document["spec"], document.get("status") or {}
    target = spec.get("scaleTargetRef") or {}
    return [
        document["metadata"]["name"],
        f"{target.get('kind', '')}/{target.get('name', '')}",
        _targets(spec.get("metrics") or [], status.get("currentMetrics") or []),
        str(spec.get("minReplicas", cells.UNSET)),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        cells.age(document, now),
    ]


def _targets(metrics: list[Document], current: list[Document]) -> str:
    if not metrics:
        return cells.NONE
    shown = [
        _target(metric, current[number] if number < len(current) else {})
        for number, metric in enumerate(metrics)
    ]
    more = len(shown) - _SHOWN_METRICS
    return ", ".join(shown[:_SHOWN_METRICS]) + (f" + {more} more..." if more > 0 else "")


def _target(metric: Document, state: Document) -> str:
    """What is measured and what is aimed at."""
    key = _SOURCES.get(metric.get("type", ""), "")
    if not key:
        return "<unknown type>"
    source = metric.get(key) or {}
    target, current = source.get("target") or {}, (state.get(key) or {}).get("current") or {}
    prefix = f"{source.get('name', '')}: " if key in ("resource", "containerResource") else ""
    if prefix and target.get("averageValue") is None:
        measured, aim = current.get("averageUtilization"), target.get("averageUtilization")
        shown = cells.UNKNOWN if measured is None else f"{measured}%"
        return f"{prefix}{shown}/{'<auto>' if aim is None else f'{aim}%'}"
    average = target.get("averageValue") is not None
    value = "averageValue" if average else "value"
    suffix = " (avg)" if average and key in ("external", "object") else ""
    return f"{prefix}{current.get(value, cells.UNKNOWN)}/{target.get(value, '0')}{suffix}"
