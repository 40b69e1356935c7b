"""StatefulSet, DaemonSet and ControllerRevision: defaults, validation and columns.

Source: `pkg/apis/apps/v1/defaults.go`, `pkg/apis/apps/validation`, `pkg/registry/apps/daemonset/strategy.go`.
"""

from __future__ import annotations

from typing import Any

from emu.api.errors import FieldError, forbidden, invalid, not_supported, required
from emu.api.kinds import cells, claims, templates
from emu.api.kinds.label_selectors import check_label_selector, is_empty, matches
from emu.api.naming import dns_label
from emu.api.resource import Column, Document

STATEFUL_SET_COLUMNS = (cells.NAME, Column("Ready"), cells.AGE, *templates.CONTAINER_COLUMNS)
DAEMON_SET_COLUMNS = (
    cells.NAME,
    Column("Desired", "integer"),
    Column("Current", "integer"),
    Column("Ready", "integer"),
    Column("Up-to-date", "integer"),
    Column("Available", "integer"),
    Column("Node Selector"),
    cells.AGE,
    *templates.CONTAINER_COLUMNS,
    templates.SELECTOR_COLUMN,
)
CONTROLLER_REVISION_COLUMNS = (cells.NAME, Column("Controller"), Column("Revision"), cells.AGE)

_TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


# --- StatefulSet ---


def default_stateful_set(document: Document) -> None:
    """Defaults of apps/v1 StatefulSet."""
    spec = document.setdefault("spec", {})
    templates.default_template(spec)
    spec.setdefault("podManagementPolicy", "OrderedReady")
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        strategy.setdefault("rollingUpdate", {})
    if strategy["type"] == "RollingUpdate" and "rollingUpdate" in strategy:
        strategy["rollingUpdate"].setdefault("partition", 0)
    policy = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    policy.setdefault("whenDeleted", "Retain")
    policy.setdefault("whenScaled", "Retain")
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    for claim in spec.get("volumeClaimTemplates") or ():
        claim["apiVersion"], claim["kind"] = "v1", "PersistentVolumeClaim"
        claims.default_claim(claim)
    status = document.setdefault("status", {})
    status.setdefault("replicas", 0)
    status.setdefault("availableReplicas", 0)


def validate_stateful_set(document: Document) -> list[FieldError]:
    """Errors of a StatefulSet."""
    spec = document["spec"]
    errors: list[FieldError] = []
    if spec["podManagementPolicy"] not in ("OrderedReady", "Parallel"):
        errors.append(
            invalid(
                "spec.podManagementPolicy",
                spec["podManagementPolicy"],
                "must be 'OrderedReady' or 'Parallel'",
            )
        )
    errors += _validate_stateful_strategy(spec["updateStrategy"])
    policy = spec["persistentVolumeClaimRetentionPolicy"]
    errors += [
        not_supported(f"spec.persistentVolumeClaimRetentionPolicy.{key}", policy[key], ("Retain", "Delete"))
        for key in ("whenDeleted", "whenScaled")
        if policy[key] not in ("Retain", "Delete")
    ]
    errors += templates.check_not_negative(
        spec, "spec", "replicas", "minReadySeconds", "revisionHistoryLimit"
    )
    errors += templates.check_not_negative(spec.get("ordinals") or {}, "spec.ordinals", "start")
    if spec.get("serviceName") and (wrong := dns_label(spec["serviceName"])):
        errors.append(invalid("spec.serviceName", spec["serviceName"], wrong))
    if spec.get("selector") is None:
        errors.append(required("spec.selector"))
    else:
        errors += templates.check_selector(spec, "statefulset")
    return [*errors, *templates.check_template(spec), *templates.check_runs_for_ever(spec, "StatefulSet")]


def _validate_stateful_strategy(strategy: Document) -> list[FieldError]:
    path, rolling = "spec.updateStrategy", strategy.get("rollingUpdate")
    if strategy["type"] not in ("OnDelete", "RollingUpdate"):
        return [invalid(path, strategy, "must be 'RollingUpdate' or 'OnDelete'")]
    if rolling is None:
        return []
    if strategy["type"] == "OnDelete":
        only = "only allowed for updateStrategy 'RollingUpdate'"
        return [invalid(f"{path}.rollingUpdate", rolling, only)]
    errors = templates.check_not_negative(rolling, f"{path}.rollingUpdate", "partition")
    if (unavailable := rolling.get("maxUnavailable")) is not None:
        here = f"{path}.rollingUpdate.maxUnavailable"
        errors += templates.check_count_or_percent(unavailable, here)
        if templates.is_zero(unavailable):
            errors.append(invalid(here, unavailable, "cannot be 0"))
        errors += templates.check_at_most_all(unavailable, here)
    return errors


def validate_stateful_set_update(new: Document, old: Document) -> list[FieldError]:
    """Only some fields may change."""
    if _fixed_part(new["spec"]) == _fixed_part(old["spec"]):
        return []
    return [
        forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
            "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
            "'minReadySeconds' are forbidden",
        )
    ]


def _fixed_part(spec: Document) -> Document:
    return {key: value for key, value in spec.items() if key not in _MUTABLE}


def stateful_set_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get statefulsets`."""
    spec, status = document["spec"], document.get("status") or {}
    return [
        document["metadata"]["name"],
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        cells.age(document, now),
        *templates.container_cells(spec["template"]["spec"]),
    ]


# --- DaemonSet ---


def default_daemon_set(document: Document) -> None:
    """Defaults of apps/v1 DaemonSet. The first generation of the template is 1, in an annotation."""
    spec = document.setdefault("spec", {})
    templates.default_template(spec)
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    spec.setdefault("revisionHistoryLimit", 10)
    annotations = document.setdefault("metadata", {}).setdefault("annotations", {})
    annotations.setdefault(_TEMPLATE_GENERATION, "1")
    status = document.setdefault("status", {})
    for key in ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"):
        status.setdefault(key, 0)


def keep_daemon_set(new: Document, old: Document) -> None:
    """The server counts the generations of the template."""
    default_daemon_set(new)
    before = int((old["metadata"].get("annotations") or {}).get(_TEMPLATE_GENERATION, "1"))
    changed = new["spec"]["template"] != old["spec"]["template"]
    new["metadata"]["annotations"][_TEMPLATE_GENERATION] = str(before + changed)


def validate_daemon_set(document: Document) -> list[FieldError]:
    """Errors of a DaemonSet."""
    spec = document["spec"]
    selector = spec.get("selector")
    errors = check_label_selector(selector or {}, "spec.selector")
    if not errors and (selector is None or not matches(selector, templates.template_labels(spec))):
        errors.append(templates.does_not_match(spec))
    if selector is not None and is_empty(selector):
        errors.append(invalid("spec.selector", selector, "empty selector is invalid for daemonset"))
    errors += templates.check_template(spec)
    errors += templates.check_runs_for_ever(spec, "DaemonSet")
    errors += templates.check_not_negative(spec, "spec", "minReadySeconds", "revisionHistoryLimit")
    strategy = spec["updateStrategy"]
    if strategy["type"] == "RollingUpdate":
        errors += _validate_daemon_rolling_update(strategy["rollingUpdate"])
    elif strategy["type"] != "OnDelete":
        supported = ("RollingUpdate", "OnDelete")
        errors.append(not_supported("spec.updateStrategy.type", strategy["type"], supported))
    return errors


def _validate_daemon_rolling_update(rolling: Document) -> list[FieldError]:
    path = "spec.updateStrategy.rollingUpdate"
    unavailable, surge = rolling["maxUnavailable"], rolling["maxSurge"]
    errors = [
        *templates.check_count_or_percent(unavailable, f"{path}.maxUnavailable"),
        *templates.check_at_most_all(unavailable, f"{path}.maxUnavailable"),
        *templates.check_count_or_percent(surge, f"{path}.maxSurge"),
        *templates.check_at_most_all(surge, f"{path}.maxSurge"),
    ]
    some_unavailable, some_surge = not templates.is_zero(unavailable), not templates.is_zero(surge)
    if some_unavailable and some_surge:
        errors.append(
            invalid(f"{path}.maxSurge", surge, "may not be set when maxUnavailable is non-zero"),
        )
    elif not some_unavailable and not some_surge:
        errors.append(required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return errors


def daemon_set_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get daemonsets`."""
    spec, status = document["spec"], document.get("status") or {}
    return [
        document["metadata"]["name"],
        status.get("desiredNumberScheduled", 0),
        status.get("currentNumberScheduled", 0),
        status.get("numberReady", 0),
        status.get("updatedNumberScheduled", 0),
        status.get("numberAvailable", 0),
        cells.labels(spec["template"]["spec"].get("nodeSelector")),
        cells.age(document, now),
        *templates.template_cells(spec),
    ]


# --- ControllerRevision ---


def default_controller_revision(document: Document) -> None:
    """The revision is a number, also where it is left out."""
    document.setdefault("revision", 0)


def validate_controller_revision(document: Document) -> list[FieldError]:
    """Errors of a ControllerRevision."""
    errors: list[FieldError] = []
    if document.get("data") is None:
        errors.append(required("data", "data is mandatory"))
    if document["revision"] < 0:
        errors.append(invalid("revision", document["revision"], "must be greater than or equal to 0"))
    return errors


def validate_controller_revision_update(new: Document, old: Document) -> list[FieldError]:
    """The data is for good."""
    if new.get("data") != old.get("data"):
        return [invalid("data", new.get("data"), "field is immutable")]
    return []


def controller_revision_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get controllerrevisions`."""
    owners = document["metadata"].get("ownerReferences") or ()
    controller = next((owner for owner in owners if owner.get("controller")), None)
    return [
        document["metadata"]["name"],
        _resource_name(controller) if controller else cells.NONE,
        document.get("revision", 0),
        cells.age(document, now),
    ]


def _resource_name(owner: Document) -> str:
    group = owner["apiVersion"].rpartition("/")[0]
    kind = owner["kind"].lower()
    return f"{kind}.{group}/{owner['name']}" if group else f"{kind}/{owner['name']}"
