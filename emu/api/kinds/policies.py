"""NetworkPolicy: defaults, validation and columns.

Source: `pkg/apis/networking/v1/defaults.go` and `pkg/apis/networking/validation`.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from emu.api.errors import FieldError, forbidden, invalid, not_supported, required
from emu.api.kinds import cells
from emu.api.kinds.label_selectors import check_label_selector
from emu.api.kinds.pods import PROTOCOLS, check_port
from emu.api.naming import port_name
from emu.api.resource import Column, Document

COLUMNS = (cells.NAME, Column("Pod-Selector"), cells.AGE)
_TYPES = ("Egress", "Ingress")


def row(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get networkpolicies`."""
    selector = cells.selector(document["spec"].get("podSelector"))
    return [document["metadata"]["name"], selector, cells.age(document, now)]


def default(document: Document) -> None:
    """Ports are TCP; the types follow from the sections: Egress only if it has a rule."""
    spec = document.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    for key in ("ingress", "egress"):
        for rule in spec.get(key) or ():
            for port in rule.get("ports") or ():
                port.setdefault("protocol", "TCP")


def validate(document: Document) -> list[FieldError]:
    """Errors of a NetworkPolicy."""
    spec = document["spec"]
    errors = check_label_selector(spec["podSelector"], "spec.podSelector")
    for section, peers in (("ingress", "from"), ("egress", "to")):
        for number, rule in enumerate(spec.get(section) or ()):
            path = f"spec.{section}[{number}]"
            for index, port in enumerate(rule.get("ports") or ()):
                errors += _validate_port(port, f"{path}.ports[{index}]")
            for index, peer in enumerate(rule.get(peers) or ()):
                errors += _validate_peer(peer, f"{path}.{peers}[{index}]")
    types = spec["policyTypes"]
    if len(types) > 2:
        errors.append(invalid("spec.policyTypes", types, "may not specify more than two policyTypes"))
    else:
        errors += [
            not_supported(f"spec.policyTypes[{number}]", kind, _TYPES)
            for number, kind in enumerate(types)
            if kind not in _TYPES
        ]
    return errors


def _validate_port(port: Document, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if port["protocol"] not in PROTOCOLS:
        errors.append(not_supported(f"{path}.protocol", port["protocol"], PROTOCOLS))
    number, end = port.get("port"), port.get("endPort")
    if number is None:
        if end is not None:
            errors.append(required(f"{path}.port", "must be specified when `endPort` is specified"))
        return errors
    if isinstance(number, str):
        if end is not None:
            errors.append(invalid(f"{path}.endPort", end, "may not be specified when `port` is non-numeric"))
        if wrong := port_name(number):
            errors.append(invalid(f"{path}.port", number, wrong))
        return errors
    wrong_number = check_port(number, f"{path}.port")
    errors += wrong_number
    if end is not None:
        if not wrong_number and end < number:
            errors.append(invalid(f"{path}.endPort", end, "must be greater than or equal to `port`"))
        errors += check_port(end, f"{path}.endPort")
    return errors


def _validate_peer(peer: Document, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    selectors = [key for key in ("podSelector", "namespaceSelector") if peer.get(key) is not None]
    for key in selectors:
        errors += check_label_selector(peer[key], f"{path}.{key}")
    block = peer.get("ipBlock")
    if block is not None:
        errors += _validate_block(block, f"{path}.ipBlock")
        if selectors:
            errors.append(forbidden(path, "may not specify both ipBlock and another peer"))
    elif not selectors:
        errors.append(required(path, "must specify a peer"))
    return errors


def _validate_block(block: Document, path: str) -> list[FieldError]:
    text = block.get("cidr", "")
    if not text:
        return [required(f"{path}.cidr")]
    outer, errors = _network(text, f"{path}.cidr")
    for number, except_text in enumerate(block.get("except") or ()):
        here = f"{path}.except[{number}]"
        inner, found = _network(except_text, here)
        errors += found
        if outer is None or inner is None:
            continue
        inside = isinstance(outer, type(inner)) and inner != outer and inner.subnet_of(outer)  # type: ignore[arg-type]
        if not inside:
            errors.append(invalid(here, except_text, f"must be a strict subset of `{path}.cidr`"))
    return errors


def _network(text: str, path: str) -> tuple[IPv4Network | IPv6Network | None, list[FieldError]]:
    """A CIDR in the strict form that 1.36 asks for: no host bits, no leading zeros."""
    try:
        if "/" not in text:
            raise ValueError(text)
        network = ip_network(text, strict=False)
    except ValueError:
        return None, [invalid(path, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")]
    try:
        ip_network(text)
    except ValueError:
        return network, [
            invalid(
                path,
                text,
                f"must not have bits set beyond the prefix length (e.g. {network})",
            )
        ]
    return network, []
