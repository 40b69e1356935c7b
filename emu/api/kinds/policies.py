"""NetworkPolicy: defaults, validation and columns.

Source: `pkg/apis/networking/v1/defaults.go` and `pkg/apis/networking/validation`.
"""

from __future__ import annotations

from typing import Any

from emu.api.errors import FieldError, forbidden, invalid, not_supported, required
from emu.api.kinds import cells
from emu.api.kinds.ip_fields import Network, check_cidr, parse_cidr
from emu.api.kinds.label_selectors import check_label_selector
from emu.api.kinds.ports import check_port_name, check_port_number
from emu.api.resource import Column, Document

COLUMNS = (cells.NAME, Column("Pod-Selector"), cells.AGE)
_TYPES = ("Ingress", "Egress")
_PROTOCOLS = ("TCP", "UDP", "SCTP")


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
    if port["protocol"] not in _PROTOCOLS:
        errors.append(not_supported(f"{path}.protocol", port["protocol"], _PROTOCOLS))
    number, end = port.get("port"), port.get("endPort")
    end_path = f"{path}.endPort"
    if number is None:
        if end is not None:
            errors.append(invalid(end_path, end, "may not be specified when `port` is not specified"))
        return errors
    if isinstance(number, str):
        if end is not None:
            errors.append(invalid(end_path, end, "may not be specified when `port` is non-numeric"))
        return errors + check_port_name(number, f"{path}.port")
    errors += check_port_number(number, f"{path}.port")
    if end is not None:
        if end < number:
            errors.append(invalid(end_path, end, "must be greater than or equal to `port`"))
        errors += check_port_number(end, end_path)
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
    outer, errors = parse_cidr(text), check_cidr(text, f"{path}.cidr")
    if outer is None:
        return errors
    for number, except_text in enumerate(block.get("except") or ()):
        here = f"{path}.except[{number}]"
        errors += check_cidr(except_text, here)
        inner = parse_cidr(except_text)
        if inner is not None and not _strictly_inside(inner, outer):
            errors.append(invalid(here, except_text, "must be a strict subset of `cidr`"))
    return errors


def _strictly_inside(inner: Network, outer: Network) -> bool:
    return (
        inner.version == outer.version
        and inner.prefixlen > outer.prefixlen
        and inner.network_address in outer
    )
