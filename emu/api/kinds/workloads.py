"""Deployment and ReplicaSet: defaults, validation and columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from emu.api.errors import FieldError, forbidden, invalid, not_supported, required
from emu.api.kinds import cells, pods
from emu.api.kinds.label_selectors import check_label_selector, is_empty, matches
from emu.api.naming import check_labels
from emu.api.resource import Column, Document

DEPLOYMENT_COLUMNS = (
    cells.NAME,
    Column("Ready"),
    Column("Up-to-date"),
    Column("Available"),
    cells.AGE,
    Column("Containers", priority=1),
    Column("Images", priority=1),
    Column("Selector", priority=1),
)
REPLICA_SET_COLUMNS = (
    cells.NAME,
    Column("Desired", "integer"),
    Column("Current", "integer"),
    Column("Ready", "integer"),
    cells.AGE,
    Column("Containers", priority=1),
    Column("Images", priority=1),
    Column("Selector", priority=1),
)
_PERCENT_RE = re.compile(r"[0-9]+%")


def default_deployment(document: Document) -> None:
    """Defaults of apps/v1 Deployment."""
    spec = document.setdefault("spec", {})
    _default_template(spec)
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    document.setdefault("status", {})


def default_replica_set(document: Document) -> None:
    """Defaults of apps/v1 ReplicaSet."""
    spec = document.setdefault("spec", {})
    _default_template(spec)
    spec.setdefault("replicas", 1)
    document.setdefault("status", {}).setdefault("replicas", 0)


def _default_template(spec: Document) -> None:
    pods.default_spec(spec.setdefault("template", {}).setdefault("spec", {}))


def validate_deployment(document: Document) -> list[FieldError]:
    """Errors of a Deployment."""
    spec = document["spec"]
    errors = _validate_common(spec)
    strategy = spec["strategy"]
    if strategy["type"] == "RollingUpdate":
        errors += _validate_rolling_update(strategy["rollingUpdate"])
    elif strategy["type"] != "Recreate":
        errors.append(not_supported("spec.strategy.type", strategy["type"], ("Recreate", "RollingUpdate")))
    elif strategy.get("rollingUpdate") is not None:
        errors.append(
            forbidden(
                "spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'"
            )
        )
    for key in ("revisionHistoryLimit", "progressDeadlineSeconds"):
        errors += _not_negative(spec, key)
    if spec["progressDeadlineSeconds"] <= spec.get("minReadySeconds", 0):
        errors.append(
            invalid(
                "spec.progressDeadlineSeconds",
                spec["progressDeadlineSeconds"],
                "must be greater than minReadySeconds",
            )
        )
    return errors


def validate_replica_set(document: Document) -> list[FieldError]:
    """Errors of a ReplicaSet."""
    return _validate_common(document["spec"])


def _validate_common(spec: Document) -> list[FieldError]:
    errors = _not_negative(spec, "replicas") + _not_negative(spec, "minReadySeconds")
    selector = spec.get("selector")
    template = spec["template"]
    labels = (template.get("metadata") or {}).get("labels") or {}
    if selector is None:
        errors.append(required("spec.selector"))
    else:
        found = check_label_selector(selector, "spec.selector")
        errors += found
        if is_empty(selector):
            errors.append(invalid("spec.selector", selector, "empty selector is invalid for deployment"))
        elif not found and not matches(selector, labels):
            errors.append(
                invalid(
                    "spec.template.metadata.labels", labels, "`selector` does not match template `labels`"
                )
            )
    errors += check_labels(labels, "spec.template.labels")
    errors += pods.validate_spec(template["spec"], "spec.template.spec")
    if template["spec"]["restartPolicy"] in ("OnFailure", "Never"):
        errors.append(
            not_supported("spec.template.spec.restartPolicy", template["spec"]["restartPolicy"], ("Always",))
        )
    return errors


def _not_negative(spec: Document, key: str) -> list[FieldError]:
    value = spec.get(key, 0)
    if value < 0:
        return [invalid(f"spec.{key}", value, "must be greater than or equal to 0")]
    return []


def _validate_rolling_update(rolling: Document) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("maxUnavailable", "maxSurge"):
        path, value = f"spec.strategy.rollingUpdate.{key}", rolling[key]
        if isinstance(value, str):
            if not _PERCENT_RE.fullmatch(value):
                errors.append(
                    invalid(
                        path,
                        value,
                        "a valid percent string must be a numeric string followed by an ending '%' (e.g. "
                        "'1%',  or '93%', regex used for validation is '[0-9]+%')",
                    )
                )
            elif key == "maxUnavailable" and int(value[:-1]) > 100:
                errors.append(invalid(path, value, "must not be greater than 100%"))
        elif value < 0:
            errors.append(invalid(path, value, "must be greater than or equal to 0"))
    if not errors and all(
        str(rolling[key]).rstrip("%").strip("0") == "" for key in ("maxUnavailable", "maxSurge")
    ):
        errors.append(
            invalid(
                "spec.strategy.rollingUpdate.maxUnavailable",
                rolling["maxUnavailable"],
                "may not be 0 when `maxSurge` is 0",
            )
        )
    return errors


def validate_selector_update(new: Document, old: Document) -> list[FieldError]:
    """The selector is for good."""
    if new["spec"].get("selector") != old["spec"].get("selector"):
        return [invalid("spec.selector", new["spec"].get("selector"), "field is immutable")]
    return []


def replica_set_fields(document: Document) -> Mapping[str, str]:
    """What field selectors see."""
    return {"status.replicas": str((document.get("status") or {}).get("replicas", 0))}


def deployment_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get deployments`."""
    spec, status = document["spec"], document.get("status") or {}
    return [
        document["metadata"]["name"],
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        str(status.get("updatedReplicas", 0)),
        str(status.get("availableReplicas", 0)),
        cells.age(document, now),
        *_template_cells(spec),
    ]


def replica_set_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get replicasets`."""
    spec, status = document["spec"], document.get("status") or {}
    return [
        document["metadata"]["name"],
        spec.get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        cells.age(document, now),
        *_template_cells(spec),
    ]


def _template_cells(spec: Document) -> list[Any]:
    containers = spec["template"]["spec"].get("containers") or ()
    return [
        ",".join(container["name"] for container in containers),
        ",".join(container.get("image", "") for container in containers),
        cells.selector(spec.get("selector")),
    ]
