"""PersistentVolumeClaim and StorageClass, as data: nothing binds a claim.

Source: `pkg/apis/core/v1/defaults.go`, `pkg/apis/core/validation`, `pkg/apis/storage`.
"""

from __future__ import annotations

from typing import Any

from emu.api.errors import FieldError, forbidden, invalid, not_supported, required
from emu.api.kinds import cells
from emu.api.kinds.label_selectors import check_label_selector
from emu.api.kinds.quantities import is_positive
from emu.api.naming import dns_subdomain, qualified_name
from emu.api.resource import Column, Document

CLAIM_COLUMNS = (
    cells.NAME,
    Column("Status"),
    Column("Volume"),
    Column("Capacity"),
    Column("Access Modes"),
    Column("StorageClass"),
    Column("VolumeAttributesClass"),
    cells.AGE,
    Column("VolumeMode", priority=1),
)
STORAGE_CLASS_COLUMNS = (
    cells.NAME,
    Column("Provisioner"),
    Column("ReclaimPolicy"),
    Column("VolumeBindingMode"),
    Column("AllowVolumeExpansion"),
    cells.AGE,
)
_ACCESS_MODES = {
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOnce": "RWO",
    "ReadWriteOncePod": "RWOP",
}
_SHOWN_ORDER = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_ANNOTATIONS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


# --- PersistentVolumeClaim ---


def default_claim(document: Document) -> None:
    """Defaults of a claim. It stays Pending."""
    document.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    document.setdefault("status", {}).setdefault("phase", "Pending")


def validate_claim(document: Document) -> list[FieldError]:
    """Errors of a claim."""
    spec = document["spec"]
    modes = spec.get("accessModes") or []
    errors: list[FieldError] = []
    if not modes:
        errors.append(required("spec.accessModes", "at least 1 access mode is required"))
    if spec.get("selector") is not None:
        errors += check_label_selector(spec["selector"], "spec.selector")
    errors += [
        not_supported("spec.accessModes", mode, _ACCESS_MODES) for mode in modes if mode not in _ACCESS_MODES
    ]
    if "ReadWriteOncePod" in modes and set(modes) & (_ACCESS_MODES.keys() - {"ReadWriteOncePod"}):
        errors.append(
            forbidden("spec.accessModes", "may not use ReadWriteOncePod with other access modes"),
        )
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if size is None:
        errors.append(required("spec.resources[storage]"))
    elif not is_positive(size):
        errors.append(invalid("spec.resources[storage]", size, "must be greater than zero"))
    if spec.get("storageClassName") and (wrong := dns_subdomain(spec["storageClassName"])):
        errors.append(invalid("spec.storageClassName", spec["storageClassName"], wrong))
    if spec["volumeMode"] not in ("Block", "Filesystem"):
        errors.append(not_supported("spec.volumeMode", spec["volumeMode"], ("Block", "Filesystem")))
    return errors


def validate_claim_update(new: Document, old: Document) -> list[FieldError]:
    """The spec is for good, but for the volume of a claim that has none yet."""
    after, before = dict(new["spec"]), dict(old["spec"])
    if not before.get("volumeName"):
        after.pop("volumeName", None)
        before.pop("volumeName", None)
    if after == before:
        return []
    return [
        forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for "
            "bound claims",
        )
    ]


def claim_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get persistentvolumeclaims`."""
    metadata, spec, status = document["metadata"], document["spec"], document.get("status") or {}
    phase = "Terminating" if metadata.get("deletionTimestamp") else status.get("phase", "")
    capacity, modes = "", ""
    if spec.get("volumeName"):
        capacity = (status.get("capacity") or {}).get("storage", "0")
        given = status.get("accessModes") or ()
        modes = ",".join(_ACCESS_MODES[mode] for mode in _SHOWN_ORDER if mode in given)
    annotations = metadata.get("annotations") or {}
    return [
        metadata["name"],
        phase,
        spec.get("volumeName", ""),
        capacity,
        modes,
        annotations.get(_CLASS_ANNOTATION, spec.get("storageClassName", "")),
        spec.get("volumeAttributesClassName") or cells.UNSET,
        cells.age(document, now),
        spec.get("volumeMode") or cells.UNSET,
    ]


# --- StorageClass ---


def default_storage_class(document: Document) -> None:
    """Defaults of storage.k8s.io/v1 StorageClass."""
    document.setdefault("reclaimPolicy", "Delete")
    document.setdefault("volumeBindingMode", "Immediate")


def validate_storage_class(document: Document) -> list[FieldError]:
    """Errors of a StorageClass."""
    errors: list[FieldError] = []
    provisioner = document.get("provisioner", "")
    if not provisioner:
        errors.append(required("provisioner"))
    elif wrong := qualified_name(provisioner.lower()):
        errors.append(invalid("provisioner", provisioner, wrong))
    for key, supported in (
        ("reclaimPolicy", ("Delete", "Retain")),
        ("volumeBindingMode", ("Immediate", "WaitForFirstConsumer")),
    ):
        if document[key] not in supported:
            errors.append(not_supported(key, document[key], supported))
    return errors


def validate_storage_class_update(new: Document, old: Document) -> list[FieldError]:
    """What may not change."""
    errors = [
        forbidden(key, f"updates to {key} are forbidden.")
        for key in ("parameters", "provisioner", "reclaimPolicy")
        if new.get(key) != old.get(key)
    ]
    if new["volumeBindingMode"] != old["volumeBindingMode"]:
        errors.append(invalid("volumeBindingMode", new["volumeBindingMode"], "field is immutable"))
    return errors


def storage_class_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get storageclasses`."""
    metadata = document["metadata"]
    annotations = metadata.get("annotations") or {}
    is_default = any(annotations.get(key) == "true" for key in _DEFAULT_ANNOTATIONS)
    return [
        metadata["name"] + (" (default)" if is_default else ""),
        document.get("provisioner", ""),
        document.get("reclaimPolicy", "Delete"),
        document.get("volumeBindingMode", "Immediate"),
        bool(document.get("allowVolumeExpansion")),
        cells.age(document, now),
    ]
