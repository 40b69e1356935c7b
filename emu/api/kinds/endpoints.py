"""Endpoints and EndpointSlice: defaults, validation and columns.

Upstream refuses loopback and link-local addresses here; on a plane whose cluster addresses are loopback
addresses that one rule cannot hold, so it is left out.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from emu.api.errors import FieldError, duplicate, invalid, not_supported, required, too_many
from emu.api.kinds import cells
from emu.api.kinds.pods import PROTOCOLS, check_port
from emu.api.naming import dns_label, dns_subdomain
from emu.api.resource import Column, Document

ENDPOINTS_COLUMNS = (cells.NAME, Column("Endpoints"), cells.AGE)
SLICE_COLUMNS = (cells.NAME, Column("AddressType"), Column("Ports"), Column("Endpoints"), cells.AGE)
_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_MAX_ENDPOINTS = 1000
_MAX_ADDRESSES = 100
_MAX_PORTS = 100


# --- Endpoints ---


def default_endpoints(document: Document) -> None:
    """The protocol of a port is TCP."""
    for subset in document.get("subsets") or ():
        for port in subset.get("ports") or ():
            port.setdefault("protocol", "TCP")


def validate_endpoints(document: Document) -> list[FieldError]:
    """Errors of an Endpoints object."""
    errors: list[FieldError] = []
    for number, subset in enumerate(document.get("subsets") or ()):
        path = f"subsets[{number}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            errors.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
        for key in ("addresses", "notReadyAddresses"):
            for index, address in enumerate(subset.get(key) or ()):
                errors += check_ip(address.get("ip", ""), f"{path}.{key}[{index}].ip")
                if address.get("hostname") and (wrong := dns_label(address["hostname"])):
                    errors.append(invalid(f"{path}.{key}[{index}].hostname", address["hostname"], wrong))
        ports = subset.get("ports") or []
        for index, port in enumerate(ports):
            here = f"{path}.ports[{index}]"
            if len(ports) > 1 and not port.get("name"):
                errors.append(required(f"{here}.name"))
            elif port.get("name") and (wrong := dns_label(port["name"])):
                errors.append(invalid(f"{here}.name", port["name"], wrong))
            errors += check_port(port.get("port", 0), f"{here}.port")
            if port.get("protocol") not in PROTOCOLS:
                errors.append(not_supported(f"{here}.protocol", port.get("protocol"), PROTOCOLS))
    return errors


def endpoints_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get endpoints`."""
    pairs = []
    for subset in document.get("subsets") or ():
        for address in subset.get("addresses") or ():
            ports = subset.get("ports") or ()
            pairs += [f"{address['ip']}:{port['port']}" for port in ports] or [address["ip"]]
    return [document["metadata"]["name"], cells.some(pairs, 3), cells.age(document, now)]


# --- EndpointSlice ---


def default_slice(document: Document) -> None:
    """Ports have a name, "" if none, and a protocol."""
    for port in document.get("ports") or ():
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


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
            if wrong := dns_subdomain(address):
                errors.append(invalid(here, address, wrong))
        elif kind in _ADDRESS_TYPES:
            errors += check_ip(address, here, family=kind)
    for key in ("hostname", "nodeName"):
        rule = dns_label if key == "hostname" else dns_subdomain
        if endpoint.get(key) and (wrong := rule(endpoint[key])):
            errors.append(invalid(f"{path}.{key}", endpoint[key], wrong))
    zones: set[str] = set()
    for index, hint in enumerate((endpoint.get("hints") or {}).get("forZones") or ()):
        if hint.get("name") in zones:
            errors.append(duplicate(f"{path}.hints.forZones[{index}]", hint.get("name")))
        zones.add(hint.get("name", ""))
    return errors


def _validate_slice_ports(ports: list[Document]) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(ports) > _MAX_PORTS:
        errors.append(too_many("ports", len(ports), _MAX_PORTS))
    names: set[str] = set()
    for number, port in enumerate(ports):
        path = f"ports[{number}]"
        name = port.get("name", "")
        if name and (wrong := dns_label(name)):
            errors.append(invalid(f"{path}.name", name, wrong))
        if name in names:
            errors.append(duplicate(f"{path}.name", name))
        names.add(name)
        if port.get("protocol") not in PROTOCOLS:
            errors.append(not_supported(f"{path}.protocol", port.get("protocol"), PROTOCOLS))
        if "port" in port:
            errors += check_port(port["port"], f"{path}.port")
    return errors


def validate_slice_update(new: Document, old: Document) -> list[FieldError]:
    """The address type is for good."""
    if new.get("addressType") != old.get("addressType"):
        return [invalid("addressType", new.get("addressType"), "field is immutable")]
    return []


def slice_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get endpointslices`."""
    ports = [str(port["port"]) if "port" in port else "*" for port in document.get("ports") or ()]
    addresses = [address for entry in document.get("endpoints") or () for address in entry["addresses"]]
    unset = "<unset>"
    return [
        document["metadata"]["name"],
        document["addressType"],
        cells.some(ports, 3) if ports else unset,
        cells.some(addresses, 3) if addresses else unset,
        cells.age(document, now),
    ]


def check_ip(text: str, path: str, family: str = "") -> list[FieldError]:
    """An IP address, of one family if given."""
    try:
        address = ip_address(text)
    except ValueError:
        return [invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    if family == "IPv4" and not isinstance(address, IPv4Address):
        return [invalid(path, text, "must be an IPv4 address")]
    if family == "IPv6" and not isinstance(address, IPv6Address):
        return [invalid(path, text, "must be an IPv6 address")]
    if address.is_unspecified:
        return [invalid(path, text, f"may not be unspecified ({address})")]
    if address.is_multicast:
        return [invalid(path, text, "may not be in the multicast range")]
    return []
