"""ServiceCIDR and IPAddress: the ranges that Services have addresses of, and each address that is given out.

Source: `pkg/apis/networking/validation` and `pkg/registry/core/service/ipallocator`.
"""

from __future__ import annotations

from typing import Any

from emu.api.errors import FieldError, invalid, required
from emu.api.kinds import cells
from emu.api.kinds.ip_fields import check_cidr, parse_cidr, parse_ip
from emu.api.naming import check, dns_subdomain_faults, path_segment_faults
from emu.api.resource import Column, Document

ADDRESS_COLUMNS = (cells.NAME, Column("ParentRef"), cells.AGE)
CIDR_COLUMNS = (cells.NAME, Column("CIDRs"), cells.AGE)
_IMMUTABLE = "field is immutable"


# --- IPAddress ---


def address_name(name: str) -> str:
    """What is wrong with the name of an IPAddress, which is the address in canonical form."""
    address = parse_ip(name)
    if address is None:
        return "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
    return "" if str(address) == name else f'must be in canonical form ("{address}")'


def address_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get ipaddresses`."""
    parent = document["spec"].get("parentRef") or {}
    kind = ".".join(filter(None, (parent.get("resource"), parent.get("group"))))
    shown = "/".join(filter(None, (kind, parent.get("namespace"), parent.get("name"))))
    return [document["metadata"]["name"], shown or cells.NONE, cells.age(document, now)]


def default(document: Document) -> None:
    """Both kinds have a spec."""
    document.setdefault("spec", {})


def validate_address(document: Document) -> list[FieldError]:
    """Errors of an IPAddress."""
    path, parent = "spec.parentRef", document["spec"].get("parentRef")
    if parent is None:
        return [required(path)]
    errors: list[FieldError] = []
    if parent.get("group"):
        errors += check(parent["group"], f"{path}.group", dns_subdomain_faults)
    for key in ("resource", "name"):
        value = parent.get(key, "")
        errors += check(value, f"{path}.{key}", path_segment_faults) if value else [required(f"{path}.{key}")]
    if parent.get("namespace"):
        errors += check(parent["namespace"], f"{path}.namespace", path_segment_faults)
    return errors


def validate_address_update(new: Document, old: Document) -> list[FieldError]:
    """Whose the address is stays as it is."""
    parent = new["spec"].get("parentRef") or {}
    if parent == old["spec"].get("parentRef"):
        return []
    # Upstream shows its internal form.
    shown = {key.capitalize(): parent.get(key, "") for key in ("group", "resource", "namespace", "name")}
    return [invalid("spec.parentRef", shown, _IMMUTABLE)]


# --- ServiceCIDR ---


def cidr_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get servicecidrs`."""
    cidrs = ",".join(document["spec"].get("cidrs") or ())
    return [document["metadata"]["name"], cidrs, cells.age(document, now)]


def validate_cidr(document: Document) -> list[FieldError]:
    """Errors of a ServiceCIDR."""
    path, spec = "spec.cidrs", document["spec"]
    cidrs = spec.get("cidrs") or []
    if not cidrs:
        return [required(path, "at least one CIDR required")]
    shown = {"CIDRs": cidrs}
    if len(cidrs) > 2:
        return [invalid(path, shown, "may only hold up to 2 values")]
    families = {network.version for cidr in cidrs if (network := parse_cidr(cidr)) is not None}
    if len(cidrs) == 2 and len(families) < 2:
        why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        return [invalid(path, shown, why)]
    errors: list[FieldError] = []
    for number, cidr in enumerate(cidrs):
        here, network = f"{path}[{number}]", parse_cidr(cidr)
        wrong = check_cidr(cidr, here)
        if not wrong and str(network) != cidr:
            wrong = [invalid(here, cidr, f'must be in canonical form ("{network}")')]
        errors += wrong
    return errors


def validate_cidr_update(new: Document, old: Document) -> list[FieldError]:
    """The ranges stay as they are."""
    cidrs = new["spec"].get("cidrs")
    return [] if cidrs == old["spec"].get("cidrs") else [invalid("spec.cidrs", cidrs, _IMMUTABLE)]
