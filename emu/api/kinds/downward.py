"""What is wrong with a reference to a field of the pod itself (the downward API).

Source: `validateObjectFieldSelector` and `validateContainerResourceFieldSelector` in
`pkg/apis/core/validation`; the labels of `pkg/apis/core/pods`.
"""

from __future__ import annotations

from collections.abc import Sequence

from emu.api.errors import FieldError, invalid, not_supported, required
from emu.api.kinds.quantities import canonical, value_of
from emu.api.naming import check, qualified_name_faults
from emu.api.resource import Document

_KNOWN = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_HUGE_PAGES = ("limits.hugepages-", "requests.hugepages-")
_SIZES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")


def check_field_ref(reference: Document, path: str, allowed: Sequence[str]) -> list[FieldError]:
    """Errors of a `fieldRef` that may name the fields in `allowed`, or one label or annotation."""
    version, field = reference.get("apiVersion", ""), reference.get("fieldPath", "")
    for key, value in (("apiVersion", version), ("fieldPath", field)):
        if not value:
            return [required(f"{path}.{key}")]
    name, bracket, subscript = field.removesuffix("']").partition("['")
    subscripted = bool(bracket) and field.endswith("']")
    wrong = ""
    if version != "v1":
        wrong = f"unsupported pod version: {version}"
    elif subscripted and name not in ("metadata.annotations", "metadata.labels"):
        wrong = f"field label does not support subscript: {field}"
    elif not subscripted and field not in _KNOWN:
        wrong = f"field label not supported: {field}"
    if wrong:
        return [invalid(f"{path}.fieldPath", field, f"error converting fieldPath: {wrong}")]
    if subscripted:
        key = subscript.lower() if name == "metadata.annotations" else subscript
        return check(key, path, qualified_name_faults)
    if field not in allowed:
        return [not_supported(f"{path}.fieldPath", field, allowed)]
    return []


def check_resource_ref(reference: Document, path: str, *, in_volume: bool = False) -> list[FieldError]:
    """Errors of a `resourceFieldRef`; a volume has to say of which container."""
    errors: list[FieldError] = []
    name = reference.get("resource", "")
    if in_volume and not reference.get("containerName"):
        errors.append(required(f"{path}.containerName"))
    elif not name:
        errors.append(required(f"{path}.resource"))
    elif name not in _RESOURCES and not name.startswith(_HUGE_PAGES):
        errors.append(not_supported(f"{path}.resource", name, _RESOURCES))
    return errors + _check_divisor(name, reference.get("divisor", "0"), f"{path}.divisor")


def _check_divisor(name: str, divisor: str | int, path: str) -> list[FieldError]:
    if value_of(divisor) == 0:
        return []
    given = canonical(divisor)
    if name.endswith(".cpu"):
        if given in ("1", "1m"):
            return []
        return [invalid(path, name, "only divisor's values 1m and 1 are supported with the cpu resource")]
    what = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}.get(name.partition(".")[2])
    if what is None and name.startswith(_HUGE_PAGES):
        what = "hugepages"
    if what is None or given in _SIZES:
        return []
    return [
        invalid(
            path, name, f"only divisor's values {', '.join(_SIZES)} are supported with the {what} resource"
        )
    ]
