"""Kinds with little of their own: Namespace, Node, ConfigMap, Secret, ServiceAccount, Lease."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from emu.api.errors import FieldError, forbidden, invalid, too_long
from emu.api.kinds import cells
from emu.api.resource import Column, Document

_DATA_LIMIT = 1024 * 1024


# --- Namespace ---

NAMESPACE_COLUMNS = (cells.NAME, Column("Status"), cells.AGE)


def namespace_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get namespaces`."""
    return [document["metadata"]["name"], document["status"].get("phase", ""), cells.age(document, now)]


def default_namespace(document: Document) -> None:
    """The label that selectors rely on, the finalizer, and the phase."""
    metadata = document["metadata"]
    metadata.setdefault("labels", {})["kubernetes.io/metadata.name"] = metadata.get("name", "")
    document.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    document.setdefault("status", {}).setdefault("phase", "Active")


def namespace_fields(document: Document) -> Mapping[str, str]:
    """What field selectors see."""
    return {"status.phase": document["status"].get("phase", "")}


# --- Node ---

NODE_COLUMNS = (
    cells.NAME,
    Column("Status"),
    Column("Roles"),
    cells.AGE,
    Column("Version"),
    Column("Internal-IP", priority=1),
    Column("External-IP", priority=1),
    Column("OS-Image", priority=1),
    Column("Kernel-Version", priority=1),
    Column("Container-Runtime", priority=1),
)
_ROLE_PREFIX = "node-role.kubernetes.io/"
_ROLE_LABEL = "kubernetes.io/role"


def node_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get nodes`."""
    metadata, status = document["metadata"], document.get("status") or {}
    info, addresses = status.get("nodeInfo") or {}, status.get("addresses") or ()

    def address(kind: str) -> str:
        return next((a["address"] for a in addresses if a["type"] == kind), cells.NONE)

    return [
        metadata["name"],
        _node_status(document),
        ",".join(_roles(metadata.get("labels") or {})) or cells.NONE,
        cells.age(document, now),
        info.get("kubeletVersion", ""),
        address("InternalIP"),
        address("ExternalIP"),
        info.get("osImage") or cells.UNKNOWN,
        info.get("kernelVersion") or cells.UNKNOWN,
        info.get("containerRuntimeVersion") or cells.UNKNOWN,
    ]


def _node_status(document: Document) -> str:
    conditions = (document.get("status") or {}).get("conditions") or ()
    ready = next((entry.get("status") for entry in conditions if entry["type"] == "Ready"), None)
    text = "Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"
    return f"{text},SchedulingDisabled" if (document.get("spec") or {}).get("unschedulable") else text


def _roles(labels: Mapping[str, str]) -> list[str]:
    roles = {key.removeprefix(_ROLE_PREFIX) for key in labels if key.startswith(_ROLE_PREFIX)}
    return sorted((roles | {labels.get(_ROLE_LABEL, "")}) - {""})


def default_node(document: Document) -> None:
    """A Node has a status from the start: whoever registers it may write it at once."""
    document.setdefault("spec", {})
    document.setdefault("status", {})


def validate_node_update(new: Document, old: Document) -> list[FieldError]:
    """`podCIDR` is set once."""
    before = old["spec"].get("podCIDR")
    if before and new["spec"].get("podCIDR") != before:
        return [forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')]
    return []


def node_fields(document: Document) -> Mapping[str, str]:
    """What field selectors see."""
    return {"spec.unschedulable": str(bool(document["spec"].get("unschedulable"))).lower()}


# --- ConfigMap, Secret, ServiceAccount ---

CONFIG_MAP_COLUMNS = (cells.NAME, Column("Data"), cells.AGE)
SECRET_COLUMNS = (cells.NAME, Column("Type"), Column("Data"), cells.AGE)
SERVICE_ACCOUNT_COLUMNS = (cells.NAME, cells.AGE)
_KEY_RE = re.compile(r"[-._a-zA-Z0-9]+")


def config_map_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get configmaps`."""
    count = len(document.get("data") or ()) + len(document.get("binaryData") or ())
    return [document["metadata"]["name"], count, cells.age(document, now)]


def validate_config_map(document: Document) -> list[FieldError]:
    """Keys are file names; the whole is at most 1 MiB; no key is in both maps."""
    data, binary = document.get("data") or {}, document.get("binaryData") or {}
    errors = _check_keys(data, "data") + _check_keys(binary, "binaryData")
    errors += [
        invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
        for key in data
        if key in binary
    ]
    if sum(len(value) for value in (*data.values(), *binary.values())) > _DATA_LIMIT:
        errors.append(too_long("", _DATA_LIMIT))
    return errors


def validate_immutable_data(new: Document, old: Document) -> list[FieldError]:
    """`immutable: true` is for good, and the data with it."""
    if not old.get("immutable"):
        return []
    errors = []
    if not new.get("immutable"):
        errors.append(forbidden("immutable", "field is immutable when `immutable` is set"))
    errors += [
        forbidden(key, "field is immutable when `immutable` is set")
        for key in ("data", "binaryData")
        if (new.get(key) or {}) != (old.get(key) or {})
    ]
    return errors


def secret_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get secrets`."""
    count = len(document.get("data") or ())
    return [document["metadata"]["name"], document.get("type", ""), count, cells.age(document, now)]


def default_secret(document: Document) -> None:
    """`stringData` is written into `data`; the type is Opaque."""
    document.setdefault("type", "Opaque")
    for key, value in (document.pop("stringData", None) or {}).items():
        document.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()


def validate_secret(document: Document) -> list[FieldError]:
    """Keys are file names, values base64."""
    errors = _check_keys(document.get("data") or {}, "data")
    for key, value in (document.get("data") or {}).items():
        try:
            base64.b64decode(value, validate=True)
        except binascii.Error:
            errors.append(invalid(f"data[{key}]", "<secret contents redacted>", "must be base64"))
    return errors


def service_account_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get serviceaccounts`: since 1.35 without a count of secrets."""
    return [document["metadata"]["name"], cells.age(document, now)]


def _check_keys(data: Mapping[str, str], path: str) -> list[FieldError]:
    return [
        invalid(
            f"{path}[{key}]",
            key,
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  "
            "or "
            "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        )
        for key in data
        if not _KEY_RE.fullmatch(key) or key in (".", "..") or len(key) > 253
    ]


# --- Lease ---

LEASE_COLUMNS = (cells.NAME, Column("Holder"), cells.AGE)


def lease_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get leases`."""
    holder = (document.get("spec") or {}).get("holderIdentity", "")
    return [document["metadata"]["name"], holder, cells.age(document, now)]


def validate_lease(document: Document) -> list[FieldError]:
    """Durations are positive."""
    duration = (document.get("spec") or {}).get("leaseDurationSeconds")
    if duration is not None and duration <= 0:
        return [invalid("spec.leaseDurationSeconds", duration, "must be greater than 0")]
    return []
