"""What may change in a Pod that exists.

Source: `ValidatePodUpdate` and `ValidatePodStatusUpdate` in `pkg/apis/core/validation`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from emu.api.errors import FieldError, duplicate, forbidden, invalid, required
from emu.api.kinds.ip_fields import check_ip
from emu.api.kinds.scheduling import check_tolerations
from emu.api.naming import check, qualified_name_faults
from emu.api.resource import Document

_MAX_INT32 = (1 << 31) - 1
_CHANGEABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_SYSTEM_CONDITIONS = ("Initialized", "PodScheduled", "Ready")
_NODE_AFFINITY_TERMS = "requiredDuringSchedulingIgnoredDuringExecution"


def validate_update(new: Document, old: Document) -> list[FieldError]:
    """A pod's spec is fixed, but for a few fields."""
    spec, before = new["spec"], old["spec"]
    errors: list[FieldError] = []
    for key in ("containers", "initContainers"):
        after = spec.get(key) or []
        if len(after) != len(before.get(key) or ()):
            return [*errors, forbidden(f"spec.{key}", "pod updates may not add or remove containers")]
        errors += [
            required(f"spec.{key}[{number}].image")
            for number, container in enumerate(after)
            if not container.get("image")
        ]
    wrong, stop = _check_deadline(spec, before)
    errors += wrong
    if stop:
        return errors
    errors += _check_added_tolerations(spec, before)
    errors += _check_removed_gates(spec, before)
    if spec == before:
        return errors
    munged = _munged(spec, before)
    if before.get("schedulingGates"):
        errors += _check_gated(munged, before)
    if munged != before:
        errors.append(forbidden("spec", f"{_CHANGEABLE}\n{_difference(before, munged)}"))
    return errors


def _check_deadline(spec: Document, before: Document) -> tuple[list[FieldError], bool]:
    path = "spec.activeDeadlineSeconds"
    now: Any = spec.get("activeDeadlineSeconds")
    was: Any = before.get("activeDeadlineSeconds")
    if now is None:
        why = "must not update from a positive integer to nil value"
        return ([invalid(path, None, why)] if was is not None else []), False
    if not 0 <= now <= _MAX_INT32:
        return [invalid(path, now, f"must be between 0 and {_MAX_INT32}, inclusive")], True
    if was is not None and was < now:
        return [invalid(path, now, "must be less than or equal to previous value")], True
    return [], False


def _check_added_tolerations(spec: Document, before: Document) -> list[FieldError]:
    path, given = "spec.tolerations", spec.get("tolerations") or []

    def timeless(toleration: Document) -> Document:
        return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}

    there = [timeless(toleration) for toleration in given]
    if any(timeless(toleration) not in there for toleration in before.get("tolerations") or ()):
        return [forbidden(path, "existing toleration can not be modified except its tolerationSeconds")]
    return check_tolerations(given, path)


def _check_removed_gates(spec: Document, before: Document) -> list[FieldError]:
    had = {gate.get("name") for gate in before.get("schedulingGates") or ()}
    return [
        forbidden(
            f"spec.schedulingGates[{number}].name",
            f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'",
        )
        for number, gate in enumerate(spec.get("schedulingGates") or ())
        if gate.get("name") not in had
    ]


def _munged(spec: Document, before: Document) -> Document:
    """The new spec with the old values of all that may change."""
    munged = dict(spec)
    for key in ("containers", "initContainers"):
        if key in spec:
            munged[key] = [
                {**container, "image": was.get("image", "")}
                for container, was in zip(spec[key], before.get(key) or (), strict=True)
            ]
    for key in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        _restore(munged, before, key)
    was = before.get("terminationGracePeriodSeconds", 0)
    if was < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        munged["terminationGracePeriodSeconds"] = was
    return munged


def _restore(spec: Document, before: Document, key: str) -> None:
    if key in before:
        spec[key] = before[key]
    else:
        spec.pop(key, None)


def _check_gated(munged: Document, before: Document) -> list[FieldError]:
    """A pod whose scheduling is held back may still be narrowed to fewer nodes."""
    errors: list[FieldError] = []
    was, now = before.get("nodeSelector") or {}, munged.get("nodeSelector") or {}
    if not was.items() <= now.items():
        why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        errors.append(invalid("spec.nodeSelector", now, why))
    _restore(munged, before, "nodeSelector")
    before_terms, terms = _node_terms(before), _node_terms(munged)
    path = f"spec.affinity.nodeAffinity.{_NODE_AFFINITY_TERMS}.nodeSelectorTerms"
    if before_terms and len(before_terms) != len(terms):
        why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        errors.append(invalid(path, terms, why))
    elif before_terms:
        errors += [
            invalid(f"{path}[{number}]", term, "only additions are allowed (no mutations or deletions)")
            for number, (term, had) in enumerate(zip(terms, before_terms, strict=True))
            if not _only_adds(term, had)
        ]
    affinity = dict(munged.get("affinity") or {})
    _restore(affinity, before.get("affinity") or {}, "nodeAffinity")
    if affinity or "affinity" in before:
        munged["affinity"] = affinity
    else:
        munged.pop("affinity", None)
    return errors


def _node_terms(spec: Document) -> list[Document]:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms: list[Document] = (affinity.get(_NODE_AFFINITY_TERMS) or {}).get("nodeSelectorTerms") or []
    return terms


def _only_adds(term: Document, had: Document) -> bool:
    keys = ("matchExpressions", "matchFields")
    if not any(had.get(key) for key in keys):
        return not any(term.get(key) for key in keys)
    return all((term.get(key) or [])[: len(had.get(key) or ())] == (had.get(key) or []) for key in keys)


def _difference(before: Document, after: Document) -> str:
    """The fields that differ, in the manner of upstream's diff, whose own layout is not stable."""
    lines = ["  core.PodSpec{"]
    same = 0
    for key in sorted({*before, *after}):
        if before.get(key) == after.get(key):
            same += 1
            continue
        name = key[0].upper() + key[1:]
        lines += [
            f"{sign} \t{name}: {msgspec.json.encode(values[key]).decode()},"
            for sign, values in (("-", before), ("+", after))
            if key in values
        ]
    if same:
        lines.append(f"  \t... // {same} identical fields")
    return "\n".join([*lines, "  }", ""])


# --- status ---


def validate_status(document: Document) -> list[FieldError]:
    """Errors of a Pod's status."""
    status = document["status"]
    errors: list[FieldError] = []
    for number, condition in enumerate(status.get("conditions") or ()):
        kind = condition.get("type", "")
        if kind not in _SYSTEM_CONDITIONS:
            # Upstream names this path.
            errors += check(kind, f"metadata.conditions[{number}].Type", qualified_name_faults)
    for key in ("podIPs", "hostIPs"):
        found: list[str] = [entry.get("ip", "") for entry in status.get(key) or ()]
        for number, address in enumerate(found):
            errors += check_ip(address, f"status.{key}[{number}]")
            if address in found[:number]:
                errors.append(duplicate(f"status.{key}[{number}]", {"IP": address}))
    hosts = status.get("hostIPs") or ()
    if hosts and hosts[0].get("ip", "") != status.get("hostIP", ""):
        errors.append(invalid("status.hostIPs[0].ip", hosts[0].get("ip", ""), "must be equal to `hostIP`"))
    return errors
