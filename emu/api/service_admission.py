"""Giving Services their ClusterIPs and node ports at admission.

Source: `pkg/registry/core/service/storage/alloc.go`. Allocation comes before validation, so its errors win.
"""

from __future__ import annotations

import random
from typing import NoReturn

from emu.api.allocation import NODE_PORTS, Choose, pick, service_addresses
from emu.api.errors import FieldError, InternalError, InvalidError, invalid
from emu.api.kinds import services
from emu.api.resource import Document
from emu.api.resources import BY_NAME
from emu.core.addresses import Networks, is_ipv4, to_int, to_str

_OUT_OF_PORT_RANGE = (
    "provided port is not in the valid range. "
    f"The range of valid ports is {NODE_PORTS.first}-{NODE_PORTS.last}"
)
_PORT_TAKEN = "provided port is already allocated"


class ServiceAdmission:
    """Knows which addresses and node ports are taken, and gives out free ones."""

    def __init__(self, networks: Networks, choose: Choose = random.randrange) -> None:
        self._networks = networks
        self._band = service_addresses(networks.services)
        self._choose = choose
        self._addresses: dict[int, int] = {}
        self._ports: dict[int, int] = {}

    def admit(self, new: Document, old: Document | None) -> None:
        """Fill in what a Service needs and does not name; refuse what it names and cannot have."""
        spec = new["spec"]
        if spec.get("type") != "ExternalName":
            self._admit_address(new, old)
        self._admit_node_ports(new, old)
        self._admit_health_check(new, old)

    def committed(self, new: Document | None, old: Document | None) -> None:
        """Release what the old Service held and take what the new one holds."""
        for document, by in ((old, -1), (new, 1)):
            if document is None:
                continue
            for table, values in (
                (self._addresses, _held_addresses(document)),
                (self._ports, _held_ports(document)),
            ):
                for value in values:
                    table[value] = table.get(value, 0) + by
                    if table[value] <= 0:
                        del table[value]

    # --- ClusterIP ---

    def _admit_address(self, new: Document, old: Document | None) -> None:
        spec = new["spec"]
        given = spec.get("clusterIP", "")
        if given == "None":
            spec.setdefault("clusterIPs", ["None"])
            return
        if not given and spec.get("clusterIPs"):
            given = spec["clusterIP"] = spec["clusterIPs"][0]
            if given == "None":
                return
        if old is not None and old["spec"].get("clusterIP") and old["spec"].get("type") != "ExternalName":
            # It may not change any more; validation compares.
            return
        if not given:
            number = pick(self._band, self._addresses, self._choose)
            if number is None:
                raise InternalError("failed to allocate a serviceIP: range is full")
            given = spec["clusterIP"] = to_str(number)
        elif is_ipv4(given):
            self._reserve(new, given)
        spec.setdefault("clusterIPs", [given])

    def _reserve(self, new: Document, address: str) -> None:
        number = to_int(address)
        if number not in self._band:
            other = self._networks.counterpart(address)
            hint = f"; {other} would work" if other else ""
            why = f"the provided network does not match the current range {self._networks.services}{hint}"
        elif number in self._addresses:
            why = "provided IP is already allocated"
        else:
            return
        _refuse(
            new,
            invalid(
                "spec.clusterIPs",
                new["spec"].get("clusterIPs") or [address],
                f"failed to allocate IP {address}: {why}",
            ),
        )

    # --- node ports ---

    def _admit_node_ports(self, new: Document, old: Document | None) -> None:
        spec = new["spec"]
        if spec.get("type") not in ("NodePort", "LoadBalancer"):
            return
        own = _held_ports(old) if old is not None else set()
        allocate = spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts", True) is not False
        # One service port number has one node port, for TCP and UDP alike.
        by_service_port: dict[int, int] = {}
        taken = set(self._ports) - own
        for number, port in enumerate(spec.get("ports") or ()):
            node_port, service_port = port.get("nodePort") or 0, port.get("port", 0)
            if not node_port:
                continue
            if by_service_port.get(service_port) == node_port:
                continue
            if node_port not in NODE_PORTS:
                _refuse(new, invalid(f"spec.ports[{number}].nodePort", node_port, _OUT_OF_PORT_RANGE))
            if node_port in taken:
                _refuse(new, invalid(f"spec.ports[{number}].nodePort", node_port, _PORT_TAKEN))
            by_service_port.setdefault(service_port, node_port)
            taken.add(node_port)
        for port in spec.get("ports") or ():
            if port.get("nodePort") or not allocate:
                continue
            chosen = by_service_port.get(port.get("port", 0)) or pick(NODE_PORTS, taken | own, self._choose)
            if chosen is None:
                raise InternalError("failed to allocate a nodePort: range is full")
            by_service_port[port.get("port", 0)] = port["nodePort"] = chosen
            taken.add(chosen)

    def _admit_health_check(self, new: Document, old: Document | None) -> None:
        spec = new["spec"]
        if not services.needs_health_check_port(spec):
            return
        taken = set(self._ports) | _held_ports(new, health_check=False)
        given = spec.get("healthCheckNodePort")
        if old is not None and old["spec"].get("healthCheckNodePort"):
            return
        if not given:
            given = pick(NODE_PORTS, taken, self._choose)
            if given is None:
                raise InternalError("failed to allocate a HealthCheck NodePort: range is full")
            spec["healthCheckNodePort"] = given
            return
        why = _OUT_OF_PORT_RANGE if given not in NODE_PORTS else _PORT_TAKEN if given in taken else ""
        if why:
            raise InternalError(f"failed to allocate requested HealthCheck NodePort {given}: {why}")


def _refuse(document: Document, error: FieldError) -> NoReturn:
    name = document["metadata"].get("name", "")
    raise InvalidError(BY_NAME["services"].target(name), [error])


def _held_addresses(document: Document) -> set[int]:
    spec = document["spec"]
    if spec.get("type") == "ExternalName":
        return set()
    return {to_int(address) for address in spec.get("clusterIPs") or () if is_ipv4(address)}


def _held_ports(document: Document, *, health_check: bool = True) -> set[int]:
    spec = document["spec"]
    held = {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
    if health_check and spec.get("healthCheckNodePort"):
        held.add(spec["healthCheckNodePort"])
    return held
