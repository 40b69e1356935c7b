"""HorizontalPodAutoscaler of autoscaling/v1: another form of what is stored as autoscaling/v2.

v1 has a field for the CPU utilization only. Everything else goes through annotations, as in Kubernetes.
Source: `pkg/apis/autoscaling/v1/conversion.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from emu.api import schemas
from emu.api.kinds import autoscalers
from emu.api.resource import Document

_PREFIX = "autoscaling.alpha.kubernetes.io/"
_METRICS = f"{_PREFIX}metrics"
_CURRENT_METRICS = f"{_PREFIX}current-metrics"
_CONDITIONS = f"{_PREFIX}conditions"
_BEHAVIOR = f"{_PREFIX}behavior"
_ANNOTATIONS = (_METRICS, _CURRENT_METRICS, _CONDITIONS, _BEHAVIOR)
_DEFINITIONS = "io.k8s.api.autoscaling.v2."
_KEYS = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}


def shown(document: Document) -> Document:
    """An autoscaling/v2 object in the form of autoscaling/v1."""
    spec, status = dict(document.get("spec") or {}), dict(document.get("status") or {})
    extra: dict[str, Any] = {}
    percent, others = _split(spec.pop("metrics", None) or [], "target")
    if percent is not None:
        spec["targetCPUUtilizationPercentage"] = percent
    if others:
        extra[_METRICS] = others
    if behavior := spec.pop("behavior", None):
        extra[_BEHAVIOR] = _renamed(behavior, lambda key: key[:1].upper() + key[1:])
    percent, others = _split(status.pop("currentMetrics", None) or [], "current")
    if percent is not None:
        status["currentCPUUtilizationPercentage"] = percent
    if others:
        extra[_CURRENT_METRICS] = others
    if conditions := status.pop("conditions", None):
        extra[_CONDITIONS] = conditions
    metadata = dict(document.get("metadata") or {})
    if extra:
        encoded = {key: msgspec.json.encode(value).decode() for key, value in extra.items()}
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **encoded}
    return {**document, "metadata": metadata, "spec": spec, "status": status}


def stored(document: Document) -> Document:
    """An autoscaling/v1 object in the form of autoscaling/v2."""
    spec, status = dict(document.get("spec") or {}), dict(document.get("status") or {})
    metadata = dict(document.get("metadata") or {})
    given = metadata.get("annotations") or {}
    if any(key in given for key in _ANNOTATIONS):
        metadata["annotations"] = {key: value for key, value in given.items() if key not in _ANNOTATIONS}
    metrics = _entries(given, _METRICS, "MetricSpec", lambda entry: _to_v2(entry, "target"))
    percent = spec.pop("targetCPUUtilizationPercentage", None)
    if metrics := metrics + _cpu(percent, "target"):
        spec["metrics"] = metrics
    behavior = _renamed(_decoded(given.get(_BEHAVIOR)), lambda key: key[:1].lower() + key[1:])
    if schemas.fits(f"{_DEFINITIONS}HorizontalPodAutoscalerBehavior", behavior):
        spec["behavior"] = behavior
    metrics = _entries(given, _CURRENT_METRICS, "MetricStatus", lambda entry: _to_v2(entry, "current"))
    percent = status.pop("currentCPUUtilizationPercentage", None)
    if metrics := metrics + _cpu(percent, "current"):
        status["currentMetrics"] = metrics
    if conditions := _entries(given, _CONDITIONS, "HorizontalPodAutoscalerCondition", dict):
        status["conditions"] = conditions
    return {**document, "metadata": metadata, "spec": spec, "status": status}


def row(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get horizontalpodautoscalers.v1.autoscaling`."""
    return autoscalers.row(stored(document), now)


def _decoded(text: str | None) -> Any:
    """The value in an annotation, None for what is no JSON: it says nothing, as in Kubernetes."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None


def _renamed(value: Any, rename: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {rename(key): _renamed(item, rename) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, rename) for item in value]
    return value


def _split(metrics: list[Document], what: str) -> tuple[int | None, list[Document]]:
    """The CPU utilization, and the other metrics in the words of v1. `what` is target or current."""
    percent: int | None = None
    others = []
    for metric in metrics:
        source = metric.get("resource") or {}
        utilization = (source.get(what) or {}).get("averageUtilization")
        if metric.get("type") == "Resource" and source.get("name") == "cpu" and utilization is not None:
            percent = utilization if percent is None else percent
        else:
            others.append(_to_v1(metric, what))
    return percent, others


def _entries(
    annotations: Mapping[str, str], key: str, definition: str, convert: Callable[[Document], Document]
) -> list[Document]:
    """The list in an annotation in the words of v2; [] if an entry has another form than `definition`."""
    given = _decoded(annotations.get(key))
    if not isinstance(given, list) or not all(isinstance(entry, dict) for entry in given):
        return []
    entries = [convert(entry) for entry in given]
    return entries if all(schemas.fits(_DEFINITIONS + definition, entry) for entry in entries) else []


def _cpu(percent: int | None, what: str) -> list[Document]:
    """The CPU utilization as a metric."""
    if percent is None:
        return []
    value: Document = {"averageUtilization": percent}
    if what == "target":
        value["type"] = "Utilization"
    return [{"type": "Resource", "resource": {"name": "cpu", what: value}}]


def _names(kind: str, what: str) -> dict[str, str]:
    """What v1 calls the values of a metric, by their names in v2."""
    return {
        "averageUtilization": f"{what}AverageUtilization",
        "averageValue": "averageValue" if kind == "Object" else f"{what}AverageValue",
        "value": f"{what}Value",
    }


def _to_v1(metric: Document, what: str) -> Document:
    kind = metric.get("type", "")
    key = _KEYS.get(kind, "")
    source = metric.get(key) or {}
    result = {name: source[name] for name in ("name", "container") if name in source}
    if "describedObject" in source:
        result["target"] = source["describedObject"]
    if "metric" in source:
        selector = "metricSelector" if kind == "External" else "selector"
        result["metricName"] = source["metric"].get("name", "")
        if "selector" in source["metric"]:
            result[selector] = source["metric"]["selector"]
    values = source.get(what) or {}
    result |= {name: values[v2] for v2, name in _names(kind, what).items() if v2 in values}
    return {"type": kind, key: result} if key else {"type": kind}


def _to_v2(metric: Document, what: str) -> Document:
    kind = str(metric.get("type", ""))
    key = _KEYS.get(kind, "")
    source = metric.get(key)
    if not isinstance(source, dict):
        return {"type": kind}
    result: Document = {name: source[name] for name in ("name", "container") if name in source}
    if "target" in source:
        result["describedObject"] = source["target"]
    if "metricName" in source:
        result["metric"] = {"name": source["metricName"]}
        selector = source.get("metricSelector") or source.get("selector")
        if selector:
            result["metric"]["selector"] = selector
    values = {v2: source[name] for v2, name in _names(kind, what).items() if name in source}
    if what == "target":
        values["type"] = (
            "Utilization"
            if "averageUtilization" in values
            else "AverageValue"
            if "averageValue" in values
            else "Value"
        )
    return {"type": kind, key: {**result, what: values}}
