"""Endpoints and EndpointSlice: defaults, validation and columns.

Sources: `pkg/apis/core/validation` and `pkg/apis/discovery/validation`. Upstream refuses loopback addresses
here; on a plane whose cluster addresses are loopback addresses that one rule cannot hold.
"""

from __future__ import annotations

from typing import Any

from emu.api.errors import FieldError, duplicate, invalid, not_supported, required, too_many
from emu.api.kinds import cells
from emu.api.kinds.ip_fields import check_endpoint_ip, check_ip, parse_ip
from emu.api.kinds.ports import PROTOCOLS, check_port_number, check_protocol
from emu.api.naming import (
    Rule,
    check,
    dns_label_faults,
    dns_subdomain_faults,
    label_value_faults,
    qualified_name_faults,
)
from emu.api.resource import Column, Document

ENDPOINTS_COLUMNS = (cells.NAME, Column("Endpoints"), cells.AGE)
SLICE_COLUMNS = (cells.NAME, Column("AddressType"), Column("Ports"), Column("Endpoints"), cells.AGE)
_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_MAX_ENDPOINTS = 1000
_MAX_ADDRESSES = 100
_MAX_PORTS = 20_000
_MAX_HINTS = 8


# --- Endpoints ---


def default_endpoints(document: Document) -> None:
    """The protocol of a port is TCP."""
    for subset in document.get("subsets") or ():
        for port in subset.get("ports") or ():
            port["protocol"] = port.get("protocol") or "TCP"


def validate_endpoints(document: Document) -> list[FieldError]:
    """Errors of an Endpoints object."""
    errors: list[FieldError] = []
    for number, subset in enumerate(document.get("subsets") or ()):
        path = f"subsets[{number}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            errors.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
        for key in ("addresses", "notReadyAddresses"):
            for index, address in enumerate(subset.get(key) or ()):
                errors += _validate_address(address, f"{path}.{key}[{index}]")
        ports = subset.get("ports") or []
        for index, port in enumerate(ports):
            errors += _validate_port(port, f"{path}.ports[{index}]", named=len(ports) > 1)
    return errors


def _validate_address(address: Document, path: str) -> list[FieldError]:
    text = address.get("ip", "")
    errors = check_ip(text, f"{path}.ip")
    if address.get("hostname"):
        errors += check(address["hostname"], f"{path}.hostname", dns_label_faults)
    if "nodeName" in address:
        errors += check(address["nodeName"], f"{path}.nodeName", dns_subdomain_faults)
    return errors + check_endpoint_ip(text, f"{path}.ip")


def _validate_port(port: Document, path: str, *, named: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if port.get("name"):
        errors += check(port["name"], f"{path}.name", dns_label_faults)
    elif named:
        errors.append(required(f"{path}.name"))
    errors += check_port_number(port.get("port", 0), f"{path}.port")
    errors += check_protocol(port.get("protocol"), f"{path}.protocol")
    if "appProtocol" in port:
        errors += check(port["appProtocol"], f"{path}.appProtocol", qualified_name_faults)
    return errors


def endpoints_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get endpoints`."""
    pairs: list[str] = []
    for subset in document.get("subsets") or ():
        addresses = [address["ip"] for address in subset.get("addresses") or ()]
        ports = [port["port"] for port in subset.get("ports") or ()]
        pairs += [_host_port(ip, port) for port in ports for ip in addresses] if ports else addresses
    return [document["metadata"]["name"], cells.some(pairs, 3), cells.age(document, now)]


def _host_port(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


# --- EndpointSlice ---


def default_slice(document: Document) -> None:
    """Ports have a name, "" if none, and a protocol; what only v1beta1 could write is dropped."""
    for endpoint in document.get("endpoints") or ():
        endpoint.pop("deprecatedTopology", None)
    for port in document.get("ports") or ():
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def keep_slice(new: Document, old: Document) -> None:
    """A slice has no spec: its generation counts the changes of all but its metadata."""
    default_slice(new)
    if any(new.get(key) != old.get(key) for key in ("addressType", "endpoints", "ports")):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def validate_slice(document: Document) -> list[FieldError]:
    """Errors of an EndpointSlice."""
    errors: list[FieldError] = []
    kind = document.get("addressType")
    if not kind:
        errors.append(required("addressType"))
    elif kind not in _ADDRESS_TYPES:
        errors.append(not_supported("addressType", kind, _ADDRESS_TYPES))
    found = document.get("endpoints") or []
    if len(found) > _MAX_ENDPOINTS:
        errors.append(too_many("endpoints", len(found), _MAX_ENDPOINTS))
    else:
        for number, endpoint in enumerate(found):
            errors += _validate_endpoint(endpoint, kind, f"endpoints[{number}]")
    return errors + _validate_slice_ports(document.get("ports") or [])


def _validate_endpoint(endpoint: Document, kind: str | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    addresses = endpoint.get("addresses") or []
    if not addresses:
        errors.append(required(f"{path}.addresses", "must contain at least 1 address"))
    elif len(addresses) > _MAX_ADDRESSES:
        errors.append(too_many(f"{path}.addresses", len(addresses), _MAX_ADDRESSES))
    for index, address in enumerate(addresses):
        here = f"{path}.addresses[{index}]"
        if kind == "FQDN":
            errors += _validate_domain_name(address, here)
        elif kind in _ADDRESS_TYPES:
            errors += _validate_slice_address(address, here, kind)
    if "nodeName" in endpoint:
        errors += check(endpoint["nodeName"], f"{path}.nodeName", dns_subdomain_faults)
    if "hostname" in endpoint:
        errors += check(endpoint["hostname"], f"{path}.hostname", dns_label_faults)
    hints = endpoint.get("hints") or {}
    for key, rule in (("forZones", label_value_faults), ("forNodes", dns_subdomain_faults)):
        errors += _validate_hints(hints.get(key) or [], f"{path}.hints.{key}", rule)
    return errors


def _validate_slice_address(address: str, path: str, kind: str | None) -> list[FieldError]:
    if errors := check_ip(address, path):
        return errors
    found = parse_ip(address)
    if found is not None and f"IPv{found.version}" != kind:
        errors.append(invalid(path, address, f"must be an {kind} address"))
    return errors + check_endpoint_ip(address, path)


def _validate_domain_name(name: str, path: str) -> list[FieldError]:
    """A domain name of two labels or more, with or without the dot at its end."""
    if not name:
        return [required(path)]
    bare = name.removesuffix(".")
    if faults := dns_subdomain_faults(bare):
        return [invalid(path, bare, ",".join(faults))]
    labels = bare.split(".")
    if len(labels) < 2:
        return [invalid(path, bare, "should be a domain with at least two segments separated by dots")]
    for label in labels:
        if faults := dns_label_faults(label):
            return [invalid(path, label, ",".join(faults))]
    return []


def _validate_hints(hints: list[Document], path: str, rule: Rule) -> list[FieldError]:
    if len(hints) > _MAX_HINTS:
        return [too_many(path, len(hints), _MAX_HINTS)]
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, hint in enumerate(hints):
        here, name = f"{path}[{index}].name", hint.get("name", "")
        if name in names:
            errors.append(duplicate(here, name))
        names.add(name)
        errors += check(name, here, rule)
    return errors


def _validate_slice_ports(ports: list[Document]) -> list[FieldError]:
    if len(ports) > _MAX_PORTS:
        return [too_many("ports", len(ports), _MAX_PORTS)]
    errors: list[FieldError] = []
    names: set[str] = set()
    for number, port in enumerate(ports):
        path, name = f"ports[{number}]", port.get("name", "")
        if name:
            errors += check(name, f"{path}.name", dns_label_faults)
        if name in names:
            errors.append(duplicate(f"{path}.name", name))
        names.add(name)
        if port["protocol"] not in PROTOCOLS:
            errors.append(not_supported(f"{path}.protocol", port["protocol"], PROTOCOLS))
        if "port" in port:
            errors += check_port_number(port["port"], f"{path}.port")
        if "appProtocol" in port:
            errors += check(port["appProtocol"], f"{path}.appProtocol", qualified_name_faults)
    return errors


def validate_slice_update(new: Document, old: Document) -> list[FieldError]:
    """The address type is for good."""
    if new.get("addressType") != old.get("addressType"):
        return [invalid("addressType", new.get("addressType"), "field is immutable")]
    return []


def slice_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get endpointslices`."""
    ports = [str(port.get("port", port.get("name", "*"))) for port in document.get("ports") or ()]
    addresses = [address for entry in document.get("endpoints") or () for address in entry["addresses"]]
    return [
        document["metadata"]["name"],
        document["addressType"],
        (cells.some(ports, 3) if ports else "") or cells.UNSET,
        cells.some(addresses, 3) if addresses else cells.UNSET,
        cells.age(document, now),
    ]
