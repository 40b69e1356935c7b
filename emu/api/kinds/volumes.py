"""What is wrong with the volumes of a pod, and with the mounts of its containers.

Of the many kinds of volume only those have rules of their own here that a pod without a cloud can use; of the
others there may be one only, like of all. Source: `ValidateVolumes` and `ValidateVolumeMounts` in
`pkg/apis/core/validation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from emu.api.errors import FieldError, duplicate, forbidden, invalid, not_found, not_supported, required
from emu.api.kinds.downward import check_field_ref, check_resource_ref
from emu.api.kinds.quantities import value_of
from emu.api.naming import check, dns_label_faults
from emu.api.resource import Document

_FILE_MODE = "must be a number between 0 and 0777 (octal), both inclusive"
_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_FIELDS_OF_FILES = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")

Volumes = Mapping[str, Document]
"""The volumes that may be mounted, by name."""


def check_volumes(volumes: list[Document], path: str) -> tuple[Volumes, list[FieldError]]:
    """The volumes that are in order, and the errors of the others."""
    errors: list[FieldError] = []
    good: dict[str, Document] = {}
    for number, volume in enumerate(volumes):
        here, name = f"{path}[{number}]", volume.get("name", "")
        found = _check_sources(volume, here)
        found += check(name, f"{here}.name", dns_label_faults) if name else [required(f"{here}.name")]
        if name in good:
            found.append(duplicate(f"{here}.name", name))
        if found:
            errors += found
        else:
            good[name] = volume
    return good, errors


def _check_sources(volume: Document, path: str) -> list[FieldError]:
    kinds = [key for key in _SOURCES if volume.get(key) is not None]
    if not kinds:
        return [required(path, "must specify a volume type")]
    first, *others = kinds
    errors = _SOURCES[first](volume[first], f"{path}.{first}")
    return errors + [
        forbidden(f"{path}.{other}", "may not specify more than 1 volume type") for other in others
    ]


# --- sources ---


def _no_rules(source: Document, path: str) -> list[FieldError]:
    return []


def _needs(*keys: str) -> Callable[[Document, str], list[FieldError]]:
    return lambda source, path: [required(f"{path}.{key}") for key in keys if not source.get(key)]


def _empty_dir(source: Document, path: str) -> list[FieldError]:
    if "sizeLimit" in source and value_of(source["sizeLimit"]) < 0:
        return [forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


def _host_path(source: Document, path: str) -> list[FieldError]:
    if not source.get("path"):
        return [required(f"{path}.path")]
    errors = _check_no_backsteps(source["path"], f"{path}.path")
    kind = source.get("type", "")
    if kind not in _HOST_PATH_TYPES:
        errors.append(not_supported(f"{path}.type", kind, _HOST_PATH_TYPES))
    return errors


def _nfs(source: Document, path: str) -> list[FieldError]:
    errors = _needs("server", "path")(source, path)
    if not source.get("path", "").startswith("/"):
        errors.append(invalid(f"{path}.path", source.get("path", ""), "must be an absolute path"))
    return errors


def _keys_of(name: str) -> Callable[[Document, str], list[FieldError]]:
    """A ConfigMap or a Secret, whose name is in the field `name`, and the keys that are taken from it."""

    def source_errors(source: Document, path: str) -> list[FieldError]:
        errors = _needs(name)(source, path) + _check_mode(source, path, "defaultMode")
        for number, item in enumerate(source.get("items") or ()):
            errors += _check_item(item, f"{path}.items[{number}]")
        return errors

    return source_errors


def _downward(source: Document, path: str) -> list[FieldError]:
    errors = _check_mode(source, path, "defaultMode")
    for item in source.get("items") or ():
        errors += _check_file(item, path)
    return errors


def _projected(source: Document, path: str) -> list[FieldError]:
    errors = _check_mode(source, path, "defaultMode")
    seen: set[str] = set()
    for number, projection in enumerate(source.get("sources") or ()):
        here = f"{path}.sources[{number}]"
        for key in ("secret", "configMap"):
            part = projection.get(key)
            if part is not None:
                errors += _keys_of("name")(part, f"{here}.{key}")
                errors += _check_conflicts(part.get("items") or (), path, part.get("name", ""), seen)
        if (part := projection.get("downwardAPI")) is not None:
            errors += _downward(part, f"{here}.downwardAPI")
            errors += _check_conflicts(part.get("items") or (), path, "", seen)
        if (part := projection.get("serviceAccountToken")) is not None:
            errors += _check_token(part, f"{here}.serviceAccountToken", path)
        if len(projection) > 1:
            errors.append(forbidden(here, "may not specify more than 1 volume type per source"))
    return errors


def _check_conflicts(items: Any, path: str, name: str, seen: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for item in items:
        target = item.get("path", "")
        if target and target in seen:
            errors.append(invalid(path, name or target, "conflicting duplicate paths"))
        seen.add(target)
    return errors


def _check_token(token: Document, path: str, volume_path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seconds = token.get("expirationSeconds", 3600)
    if seconds < 600:
        errors.append(
            invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
        )
    if not token.get("path"):
        return [*errors, required(f"{volume_path}.path")]
    return errors + _check_local_path(token["path"], f"{volume_path}.path")


def _check_item(item: Document, path: str) -> list[FieldError]:
    errors = _needs("key", "path")(item, path)
    errors += _check_local_path(item.get("path", ""), f"{path}.path")
    return errors + _check_mode(item, path, "mode")


def _check_file(item: Document, path: str) -> list[FieldError]:
    errors = _needs("path")(item, path)
    errors += _check_local_path(item.get("path", ""), f"{path}.path")
    field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if field is not None:
        errors += check_field_ref(field, f"{path}.fieldRef", _FIELDS_OF_FILES)
        if resource is not None:
            why = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(invalid(path, "resource", why))
    elif resource is not None:
        errors += check_resource_ref(resource, f"{path}.resourceFieldRef", in_volume=True)
    else:
        errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    return errors + _check_mode(item, path, "mode")


def _check_mode(holder: Document, path: str, key: str) -> list[FieldError]:
    if key in holder and not 0 <= holder[key] <= 0o777:
        return [invalid(f"{path}.{key}", holder[key], _FILE_MODE)]
    return []


def _check_no_backsteps(target: str, path: str) -> list[FieldError]:
    return [invalid(path, target, "must not contain '..'")] if ".." in target.split("/") else []


def _check_descending(target: str, path: str) -> list[FieldError]:
    errors = [invalid(path, target, "must be a relative path")] if target.startswith("/") else []
    return errors + _check_no_backsteps(target, path)


def _check_local_path(target: str, path: str) -> list[FieldError]:
    errors = _check_descending(target, path)
    if target.startswith("..") and not target.startswith("../"):
        errors.append(invalid(path, target, "must not start with '..'"))
    return errors


_SOURCES: Mapping[str, Callable[[Document, str], list[FieldError]]] = {
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "gitRepo": _needs("repository"),
    "gcePersistentDisk": _no_rules,
    "awsElasticBlockStore": _no_rules,
    "secret": _keys_of("secretName"),
    "nfs": _nfs,
    "iscsi": _no_rules,
    "glusterfs": _no_rules,
    "flocker": _no_rules,
    "persistentVolumeClaim": _needs("claimName"),
    "rbd": _no_rules,
    "cinder": _no_rules,
    "cephfs": _no_rules,
    "quobyte": _no_rules,
    "downwardAPI": _downward,
    "fc": _no_rules,
    "flexVolume": _no_rules,
    "configMap": _keys_of("name"),
    "azureFile": _no_rules,
    "vsphereVolume": _no_rules,
    "photonPersistentDisk": _no_rules,
    "portworxVolume": _no_rules,
    "azureDisk": _no_rules,
    "storageos": _no_rules,
    "projected": _projected,
    "scaleIO": _no_rules,
    "csi": _needs("driver"),
    "ephemeral": _needs("volumeClaimTemplate"),
    "image": _no_rules,
}
"""The kinds of volume, in the order in which upstream looks for them."""


# --- mounts ---


def check_mounts(container: Document, volumes: Volumes, path: str) -> list[FieldError]:
    """Errors of a container's `volumeMounts` and `volumeDevices`."""
    mounts, devices = container.get("volumeMounts") or [], container.get("volumeDevices") or []
    here = f"{path}.volumeMounts"
    mounted = {mount.get("name", ""): mount.get("mountPath", "") for mount in mounts}
    attached = {device.get("name", ""): device.get("devicePath", "") for device in devices}
    errors: list[FieldError] = []
    points: set[str] = set()
    for number, mount in enumerate(mounts):
        errors += _check_place(mount, f"{here}[{number}]", "mountPath", volumes, points)
        errors += _check_not_among(mount, f"{here}[{number}]", "mountPath", attached, "volumeDevices")
        errors += _check_mount_options(mount, f"{here}[{number}]", here, _privileged(container))
    points.clear()
    here = f"{path}.volumeDevices"
    for number, device in enumerate(devices):
        errors += _check_place(device, f"{here}[{number}]", "devicePath", volumes, points)
        errors += _check_not_among(device, f"{here}[{number}]", "devicePath", mounted, "volumeMounts")
    return errors


def _privileged(container: Document) -> bool:
    return bool((container.get("securityContext") or {}).get("privileged"))


def _check_place(
    mount: Document, path: str, key: str, volumes: Volumes, points: set[str]
) -> list[FieldError]:
    errors: list[FieldError] = []
    name, point = mount.get("name", ""), mount.get(key, "")
    if not name:
        errors.append(required(f"{path}.name"))
    if name not in volumes:
        errors.append(not_found(f"{path}.name", name))
    elif key == "devicePath" and not {"persistentVolumeClaim", "ephemeral"} & set(volumes[name]):
        why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
        errors.append(invalid(f"{path}.name", name, why))
    if not point:
        errors.append(required(f"{path}.{key}"))
    if point in points:
        errors.append(invalid(f"{path}.{key}", point, "must be unique"))
    points.add(point)
    return errors


def _check_not_among(
    mount: Document, path: str, key: str, others: Mapping[str, str], where: str
) -> list[FieldError]:
    errors: list[FieldError] = []
    name, point = mount.get("name", ""), mount.get(key, "")
    if name in others:
        errors.append(invalid(f"{path}.name", name, f"must not already exist in {where}"))
    if point in others.values():
        errors.append(invalid(f"{path}.{key}", point, f"must not already exist as a path in {where}"))
    return errors


def _check_mount_options(mount: Document, path: str, list_path: str, privileged: bool) -> list[FieldError]:
    """Upstream puts some of these errors at the list, not at its element."""
    errors: list[FieldError] = []
    sub_path, expression = mount.get("subPath"), mount.get("subPathExpr")
    if sub_path:
        errors += _check_descending(sub_path, f"{list_path}.subPath")
    if expression:
        if sub_path:
            why = "subPathExpr and subPath are mutually exclusive"
            errors.append(invalid(f"{path}.subPathExpr", expression, why))
        errors += _check_descending(expression, f"{list_path}.subPathExpr")
    propagation = mount.get("mountPropagation")
    if propagation is not None and propagation not in _PROPAGATIONS:
        errors.append(not_supported(f"{list_path}.mountPropagation", propagation, _PROPAGATIONS))
    if propagation == "Bidirectional" and not privileged:
        why = "Bidirectional mount propagation is available only to privileged containers"
        errors.append(forbidden(f"{list_path}.mountPropagation", why))
    return errors
