"""ClusterNetworkPolicy: validation and columns.

Source: the CustomResourceDefinition of sig-network-policy-api v0.2.0, experimental channel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

from emu.api import schemas
from emu.api.errors import FieldError, invalid
from emu.api.kinds import cells, custom_resources
from emu.api.kinds.label_selectors import check_label_selector
from emu.api.resource import Column, Document

COLUMNS = (cells.NAME, Column("Tier"), Column("Priority"), Column("Age", "date"))
DEFINITION = "io.k8s.networking.policy.v1alpha2.ClusterNetworkPolicy"

_WITHOUT_NAMED_PORTS = ("networks", "nodes", "domainNames")


def validate(document: Document) -> list[FieldError]:
    """Errors of a ClusterNetworkPolicy: those of its schema, and only then those of its rules."""
    errors = list(custom_resources.check(document, schemas.types()[DEFINITION]))
    return errors or list(_check_spec(document["spec"]))


def _check_spec(spec: Document) -> Iterator[FieldError]:
    yield from _check_selectors(spec["subject"], "spec.subject")
    for number, rule in enumerate(spec.get("ingress") or ()):
        path = f"spec.ingress[{number}]"
        for index, peer in enumerate(rule["from"]):
            yield from _check_selectors(peer, f"{path}.from[{index}]")
        yield from _check_protocols(rule, path)
    for number, rule in enumerate(spec.get("egress") or ()):
        path = f"spec.egress[{number}]"
        for index, peer in enumerate(rule["to"]):
            yield from _check_selectors(peer, f"{path}.to[{index}]")
            for place, network in enumerate(peer.get("networks") or ()):
                if not _is_network(network):
                    here = f"{path}.to[{index}].networks[{place}]"
                    yield invalid(here, network, "Invalid CIDR format provided")
        yield from _check_protocols(rule, path)
        yield from _check_egress_rule(rule, path)


def _broken(path: str, message: str) -> FieldError:
    """A rule in CEL does not hold for an object, which is too large to be shown."""
    return FieldError(path, "FieldValueInvalid", f"Invalid value: {message}")


def _check_egress_rule(rule: Document, path: str) -> Iterator[FieldError]:
    named = any("destinationNamedPort" in protocol for protocol in rule.get("protocols") or ())
    if named and any(key in peer for peer in rule["to"] for key in _WITHOUT_NAMED_PORTS):
        yield _broken(
            path,
            "networks/nodes/domainNames peer cannot be set with namedPorts since there are no namedPorts for "
            "networks/nodes/domainNames",
        )
    if rule["action"] != "Accept" and any("domainNames" in peer for peer in rule["to"]):
        yield _broken(path, "domainNames may only be used with Accept action")


def _check_protocols(rule: Document, path: str) -> Iterator[FieldError]:
    for number, protocol in enumerate(rule.get("protocols") or ()):
        for key in ("tcp", "udp", "sctp"):
            ports = ((protocol.get(key) or {}).get("destinationPort") or {}).get("range")
            if ports and ports["start"] >= ports["end"]:
                here = f"{path}.protocols[{number}].{key}.destinationPort.range"
                yield _broken(here, "Start port must be less than End port")


def _check_selectors(peer: Document, path: str) -> Iterator[FieldError]:
    """The schema takes any operator; a selector that cannot be evaluated is refused here."""
    for key in ("namespaces", "nodes"):
        if key in peer:
            yield from check_label_selector(peer[key], f"{path}.{key}")
    for key in ("namespaceSelector", "podSelector"):
        if key in peer.get("pods", {}):
            yield from check_label_selector(peer["pods"][key], f"{path}.pods.{key}")


def _is_network(text: str) -> bool:
    address, slash, length = text.partition("/")
    if not slash or "%" in address or not re.fullmatch("0|[1-9][0-9]*", length):
        return False
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def row(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get clusternetworkpolicies`."""
    spec = document["spec"]
    return [
        document["metadata"]["name"],
        spec.get("tier", ""),
        str(spec.get("priority", "")),
        cells.age(document, now),
    ]
