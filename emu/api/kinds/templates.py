"""The pod template that workloads share: its defaults, validation and columns, and counts and percentages.

Source: `ValidatePodTemplateSpec` in `pkg/apis/core/validation`, `pkg/apis/apps/validation`.
"""

from __future__ import annotations

import re
from typing import Any

from emu.api.errors import FieldError, forbidden, invalid, not_supported
from emu.api.kinds import cells, pods
from emu.api.kinds.label_selectors import check_label_selector, is_empty, matches
from emu.api.naming import check_labels
from emu.api.resource import Column, Document

CONTAINER_COLUMNS = (Column("Containers", priority=1), Column("Images", priority=1))
SELECTOR_COLUMN = Column("Selector", priority=1)

_PERCENT_RE = re.compile(r"[0-9]+%")
_PERCENT_FORM = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex "
    "used for validation is '[0-9]+%')"
)


def default_template(spec: Document) -> None:
    """Defaults of `spec.template`."""
    pods.default_spec(spec.setdefault("template", {}).setdefault("spec", {}))


def template_labels(spec: Document) -> dict[str, str]:
    """The labels of the template's pods."""
    labels: dict[str, str] = (spec["template"].get("metadata") or {}).get("labels") or {}
    return labels


def check_template(spec: Document, path: str = "spec") -> list[FieldError]:
    """Errors of the template itself."""
    return [
        *check_labels(template_labels(spec), f"{path}.template.labels"),
        *pods.validate_spec(spec["template"]["spec"], f"{path}.template.spec"),
    ]


def check_runs_for_ever(spec: Document, kind: str) -> list[FieldError]:
    """The pods of a workload that never completes are always restarted and have no deadline."""
    errors: list[FieldError] = []
    pod_spec, path = spec["template"]["spec"], "spec.template.spec"
    if pod_spec["restartPolicy"] in ("OnFailure", "Never"):
        errors.append(not_supported(f"{path}.restartPolicy", pod_spec["restartPolicy"], ("Always",)))
    if pod_spec.get("activeDeadlineSeconds") is not None:
        errors.append(
            forbidden(f"{path}.activeDeadlineSeconds", f"activeDeadlineSeconds in {kind} is not Supported")
        )
    return errors


def check_selector(spec: Document, kind: str) -> list[FieldError]:
    """A label selector that is there, has terms, and selects the template's labels."""
    selector = spec["selector"]
    errors = check_label_selector(selector, "spec.selector")
    if is_empty(selector):
        errors.append(invalid("spec.selector", selector, f"empty selector is invalid for {kind}"))
    elif not errors and not matches(selector, template_labels(spec)):
        errors.append(does_not_match(spec))
    return errors


def does_not_match(spec: Document) -> FieldError:
    """The template's labels are not those that the selector selects."""
    return invalid(
        "spec.template.metadata.labels",
        template_labels(spec),
        "`selector` does not match template `labels`",
    )


def check_not_negative(document: Document, path: str, *keys: str) -> list[FieldError]:
    """Counts are zero or more; those that are absent are not looked at."""
    return [
        invalid(f"{path}.{key}", document[key], "must be greater than or equal to 0")
        for key in keys
        if document.get(key) is not None and document[key] < 0
    ]


def check_count_or_percent(value: Any, path: str) -> list[FieldError]:
    """A count that is not negative, or a percentage."""
    if isinstance(value, str):
        return [] if _PERCENT_RE.fullmatch(value) else [invalid(path, value, _PERCENT_FORM)]
    return [invalid(path, value, "must be greater than or equal to 0")] if value < 0 else []


def check_at_most_all(value: Any, path: str) -> list[FieldError]:
    """A percentage that is not more than 100%."""
    if isinstance(value, str) and _PERCENT_RE.fullmatch(value) and int(value[:-1]) > 100:
        return [invalid(path, value, "must not be greater than 100%")]
    return []


def is_zero(value: Any) -> bool:
    """Whether a count or a percentage is nothing."""
    if isinstance(value, str):
        return not value.rstrip("%").strip("0")
    return not value


def check_immutable(new: Document, old: Document, path: str, *keys: str) -> list[FieldError]:
    """Fields that never change."""
    return [
        invalid(f"{path}.{key}", new.get(key), "field is immutable")
        for key in keys
        if new.get(key) != old.get(key)
    ]


def check_selector_update(new: Document, old: Document) -> list[FieldError]:
    """The selector is for good."""
    return check_immutable(new["spec"], old["spec"], "spec", "selector")


def container_cells(pod_spec: Document) -> list[Any]:
    """Names and images of the containers."""
    containers = pod_spec.get("containers") or ()
    return [
        ",".join(container.get("name", "") for container in containers),
        ",".join(container.get("image", "") for container in containers),
    ]


def template_cells(spec: Document) -> list[Any]:
    """Containers, images and the label selector."""
    return [*container_cells(spec["template"]["spec"]), cells.selector(spec.get("selector"))]
