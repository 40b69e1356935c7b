"""Deployment, ReplicaSet and ReplicationController: defaults, validation and columns.

Source: `pkg/apis/apps/v1/defaults.go`, `pkg/apis/apps/validation` and `pkg/apis/core/validation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emu.api.errors import FieldError, forbidden, invalid, not_supported, required
from emu.api.kinds import cells, templates
from emu.api.kinds.label_selectors import matches
from emu.api.resource import Column, Document

DEPLOYMENT_COLUMNS = (
    cells.NAME,
    Column("Ready"),
    Column("Up-to-date"),
    Column("Available"),
    cells.AGE,
    *templates.CONTAINER_COLUMNS,
    templates.SELECTOR_COLUMN,
)
REPLICA_SET_COLUMNS = (
    cells.NAME,
    Column("Desired", "integer"),
    Column("Current", "integer"),
    Column("Ready", "integer"),
    cells.AGE,
    *templates.CONTAINER_COLUMNS,
    templates.SELECTOR_COLUMN,
)
REPLICATION_CONTROLLER_COLUMNS = REPLICA_SET_COLUMNS


# --- Deployment ---


def default_deployment(document: Document) -> None:
    """Defaults of apps/v1 Deployment."""
    spec = document.setdefault("spec", {})
    templates.default_template(spec)
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
    errors += templates.check_not_negative(spec, "spec", "revisionHistoryLimit", "progressDeadlineSeconds")
    if spec["progressDeadlineSeconds"] <= spec.get("minReadySeconds", 0):
        errors.append(
            invalid(
                "spec.progressDeadlineSeconds",
                spec["progressDeadlineSeconds"],
                "must be greater than minReadySeconds",
            )
        )
    return errors


def _validate_rolling_update(rolling: Document) -> list[FieldError]:
    path = "spec.strategy.rollingUpdate"
    unavailable, surge = rolling["maxUnavailable"], rolling["maxSurge"]
    errors = [
        *templates.check_count_or_percent(unavailable, f"{path}.maxUnavailable"),
        *templates.check_count_or_percent(surge, f"{path}.maxSurge"),
    ]
    if not errors and templates.is_zero(unavailable) and templates.is_zero(surge):
        errors.append(
            invalid(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"),
        )
    return errors + templates.check_at_most_all(unavailable, f"{path}.maxUnavailable")


def deployment_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get deployments`."""
    spec, status = document["spec"], document.get("status") or {}
    return [
        document["metadata"]["name"],
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        cells.age(document, now),
        *templates.template_cells(spec),
    ]


# --- ReplicaSet ---


def default_replica_set(document: Document) -> None:
    """Defaults of apps/v1 ReplicaSet."""
    spec = document.setdefault("spec", {})
    templates.default_template(spec)
    spec.setdefault("replicas", 1)
    document.setdefault("status", {}).setdefault("replicas", 0)


def validate_replica_set(document: Document) -> list[FieldError]:
    """Errors of a ReplicaSet."""
    return _validate_common(document["spec"])


def _validate_common(spec: Document) -> list[FieldError]:
    errors = templates.check_not_negative(spec, "spec", "replicas", "minReadySeconds")
    if spec.get("selector") is None:
        errors.append(required("spec.selector"))
    else:
        errors += templates.check_selector(spec, "deployment")
    return [*errors, *templates.check_template(spec), *templates.check_runs_for_ever(spec, "ReplicaSet")]


def replica_count_fields(document: Document) -> Mapping[str, str]:
    """What field selectors see."""
    return {"status.replicas": str((document.get("status") or {}).get("replicas", 0))}


def replica_set_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get replicasets`."""
    return [*_replica_cells(document, now), *templates.template_cells(document["spec"])]


def _replica_cells(document: Document, now: float) -> list[Any]:
    spec, status = document["spec"], document.get("status") or {}
    return [
        document["metadata"]["name"],
        spec.get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        cells.age(document, now),
    ]


# --- ReplicationController ---


def default_replication_controller(document: Document) -> None:
    """Defaults of a ReplicationController: selector and labels are those of the template."""
    spec = document.setdefault("spec", {})
    templates.default_template(spec)
    labels = templates.template_labels(spec)
    if labels:
        if not spec.get("selector"):
            spec["selector"] = dict(labels)
        metadata = document.setdefault("metadata", {})
        if not metadata.get("labels"):
            metadata["labels"] = dict(labels)
    spec.setdefault("replicas", 1)
    document.setdefault("status", {}).setdefault("replicas", 0)


def validate_replication_controller(document: Document) -> list[FieldError]:
    """Errors of a ReplicationController. Its selector is a plain map of labels."""
    spec = document["spec"]
    errors = templates.check_not_negative(spec, "spec", "minReadySeconds", "replicas")
    if not spec.get("selector"):
        errors.append(required("spec.selector"))
    elif not matches({"matchLabels": spec["selector"]}, templates.template_labels(spec)):
        errors.append(templates.does_not_match(spec))
    return [
        *errors,
        *templates.check_template(spec),
        *templates.check_runs_for_ever(spec, "ReplicationController"),
    ]


def replication_controller_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get replicationcontrollers`."""
    spec = document["spec"]
    return [
        *_replica_cells(document, now),
        *templates.container_cells(spec["template"]["spec"]),
        cells.labels(spec.get("selector")),
    ]
