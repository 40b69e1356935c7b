"""Events: core/v1 as they are stored, and events.k8s.io/v1 as another form of the same objects.

Source: `pkg/apis/core/validation/events.go`, `pkg/apis/events/v1/conversion.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emu.api.errors import FieldError, invalid, required
from emu.api.kinds import cells
from emu.api.naming import qualified_name
from emu.api.resource import Column, Document

COLUMNS = (
    Column("Last Seen"),
    Column("Type"),
    Column("Reason"),
    Column("Object"),
    Column("Subobject", priority=1),
    Column("Source", priority=1),
    Column("Message"),
    Column("First Seen", priority=1),
    Column("Count", priority=1),
    Column("Name", priority=1),
)
_OBJECT_FIELDS = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
FIELD_LABELS = (
    *(f"involvedObject.{key}" for key in _OBJECT_FIELDS),
    "reason",
    "reportingComponent",
    "source",
    "type",
)
NEW_STYLE_FIELD_LABELS = (
    *(f"regarding.{key}" for key in _OBJECT_FIELDS),
    "reason",
    "reportingController",
    "type",
)
# The fields that events.k8s.io names otherwise.
_NEW_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_CORE_NAMES = {new: core for core, new in _NEW_NAMES.items()}
_LIMITS = {"reportingInstance": 128, "action": 128, "reason": 128}
_MESSAGE_LIMIT = 1024


# --- the two forms ---


def to_new_style(document: Document) -> Document:
    """A core/v1 Event in the form of events.k8s.io/v1."""
    return {_NEW_NAMES.get(key, key): value for key, value in document.items()}


def to_core(document: Document) -> Document:
    """An events.k8s.io/v1 Event in the form of core/v1."""
    return {_CORE_NAMES.get(key, key): value for key, value in document.items()}


# --- validation ---


def validate(document: Document) -> list[FieldError]:
    """Errors of an Event in the form of core/v1."""
    about = document.get("involvedObject") or {}
    namespace, about_namespace = document["metadata"].get("namespace"), about.get("namespace") or ""
    if not document.get("eventTime"):
        fits = namespace == (about_namespace or "default")
        return [] if fits else [_wrong_namespace(about_namespace)]
    errors: list[FieldError] = []
    if not about_namespace and namespace not in ("default", "kube-system"):
        errors.append(_wrong_namespace(about_namespace))
    controller = document.get("reportingComponent", "")
    if not controller:
        errors.append(required("reportingController"))
    if wrong := qualified_name(controller):
        errors.append(invalid("reportingController", controller, wrong))
    for key, limit in _LIMITS.items():
        if not document.get(key):
            errors.append(required(key))
        elif len(document[key].encode()) > limit:
            errors.append(invalid(key, "", f"can have at most {limit} characters"))
    if len(document.get("message", "").encode()) > _MESSAGE_LIMIT:
        errors.append(invalid("message", "", f"can have at most {_MESSAGE_LIMIT} characters"))
    return errors


def _wrong_namespace(namespace: str) -> FieldError:
    return invalid("involvedObject.namespace", namespace, "does not match event.namespace")


def validate_new_style(document: Document) -> list[FieldError]:
    """What a create through events.k8s.io/v1 has to fulfil beyond `validate`; the paths are the core ones."""
    core = to_core(document)
    errors = _check_series(core)
    if not core.get("eventTime"):
        errors.append(required("eventTime"))
    if core.get("type") not in ("Normal", "Warning"):
        errors.append(invalid("type", "", f"has invalid value: {core.get('type', '')}"))
    errors += [
        invalid(key, "", "needs to be unset") for key in ("firstTimestamp", "lastTimestamp") if core.get(key)
    ]
    if core.get("count"):
        errors.append(invalid("count", "", "needs to be unset"))
    source = core.get("source") or {}
    if source.get("component") or source.get("host"):
        errors.append(invalid("source", "", "needs to be unset"))
    return errors


def validate_new_style_update(new: Document, old: Document) -> list[FieldError]:
    """Of an Event of events.k8s.io/v1, only the series changes."""
    after, before = to_core(new), to_core(old)
    errors = _check_series(after) if after.get("series") != before.get("series") else []
    for key, path in (
        ("involvedObject", "involvedObject"),
        ("reason", "reason"),
        ("message", "message"),
        ("source", "source"),
        ("firstTimestamp", "firstTimestamp"),
        ("lastTimestamp", "lastTimestamp"),
        ("count", "count"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ):
        if (after.get(key) or None) != (before.get(key) or None):
            errors.append(invalid(path, after.get(key), "field is immutable"))
    return errors


def _check_series(core: Document) -> list[FieldError]:
    series = core.get("series")
    if series is None:
        return []
    errors: list[FieldError] = []
    if series.get("count", 0) < 2:
        errors.append(invalid("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        errors.append(required("series.lastObservedTime"))
    return errors


# --- selectors and columns ---


def fields(document: Document) -> Mapping[str, str]:
    """What field selectors see, by the names of both forms."""
    about = document.get("involvedObject") or {}
    controller = document.get("reportingComponent", "")
    found = {
        "reason": document.get("reason", ""),
        "reportingComponent": controller,
        "reportingController": controller,
        "source": (document.get("source") or {}).get("component") or controller,
        "type": document.get("type", ""),
    }
    for key in _OBJECT_FIELDS:
        found[f"involvedObject.{key}"] = found[f"regarding.{key}"] = str(about.get(key, ""))
    return found


def row(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get events`."""
    about, source = document.get("involvedObject") or {}, document.get("source") or {}
    series = document.get("series") or {}
    first = document.get("firstTimestamp") or document.get("eventTime")
    last = series.get("lastObservedTime") or document.get("lastTimestamp") or first
    component = source.get("component") or document.get("reportingComponent", "")
    instance = source.get("host") or document.get("reportingInstance", "")
    kind, name = about.get("kind", "").lower(), about.get("name", "")
    return [
        cells.since(last, now),
        document.get("type", ""),
        document.get("reason", ""),
        f"{kind}/{name}" if name else kind,
        about.get("fieldPath", ""),
        f"{component}, {instance}" if instance else component,
        document.get("message", "").strip(),
        cells.since(first, now),
        series.get("count") or document.get("count") or 1,
        document["metadata"]["name"],
    ]


def new_style_row(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get events.events.k8s.io`."""
    return row(to_core(document), now)
