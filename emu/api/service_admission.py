"""Giving Services their ClusterIPs and node ports at admission.

Source: `pkg/registry/core/service/storage/alloc.go`. Allocation comes before validation, so its errors win.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NoReturn

from emu.api.address_ledger import AddressLedger
from emu.api.allocation import NODE_PORTS, Choose, pick, service_addresses
from emu.api.errors import FieldError, InternalError, InvalidError, invalid
from emu.api.kinds import service_families as families
from emu.api.kinds import services
from emu.api.resource import Document
from emu.api.resources import BY_NAME
from emu.core.addresses import Networks, cidr_bounds, is_ipv4, to_int, to_str

_OUT_OF_PORT_RANGE = (
    "provided port is not in the valid range. "
    f"The range of valid ports is {NODE_PORTS.first}-{NODE_PORTS.last}"
)
_PORT_TAKEN = "provided port is already allocated"


class ServiceAdmission:
    """Knows which addresses and node ports are taken, and gives out free ones."""

    def __init__(
        self, networks: Networks, choose: Choose = random.randrange, ledger: AddressLedger | None = None
    ) -> None:
        """`ledger` is told of every ClusterIP that is given out or released."""
        self._networks = networks
        self._ledger = ledger
        self._band = service_addresses(networks.services)
        self._choose = choose
        self._addresses: dict[int, int] = {}
        self._ports: dict[int, int] = {}

    def admit(self, new: Document, old: Document | None) -> None:
        """Fill in what a Service needs and does not name; refuse what it names and cannot have."""
        spec, before = new["spec"], old["spec"] if old is not None else None
        if before is None and spec.get("clusterIP"):
            spec.setdefault("clusterIPs", [spec["clusterIP"]])
        if spec["type"] != "ExternalName":
            if errors := families.settle(spec, before):
                _refuse(new, errors)
            if before is None or before.get("type") == "ExternalName":
                self._admit_addresses(new)
        if spec["type"] in services.WITH_NODE_PORTS:
            if before is None:
                self._admit_new_node_ports(new)
            else:
                self._admit_changed_node_ports(new, _held_ports(before, health_check=False))
        if services.needs_health_check_port(spec) and not (
            before is not None and services.needs_health_check_port(before)
        ):
            self._admit_health_check(new)

    def committed(self, new: Document | None, old: Document | None) -> None:
        """Release what the old Service held and take what the new one holds."""
        for document, by in ((old, -1), (new, 1)):
            if document is None:
                continue
            for table, values in (
                (self._addresses, _held_addresses(document["spec"])),
                (self._ports, _held_ports(document["spec"])),
            ):
                for value in values:
                    table[value] = table.get(value, 0) + by
                    if table[value] <= 0:
                        del table[value]

        if self._ledger is not None:
            self._tell(self._ledger, new, old)

    @staticmethod
    def _tell(ledger: AddressLedger, new: Document | None, old: Document | None) -> None:
        before = _held_addresses(old["spec"]) if old is not None else set()
        after = _held_addresses(new["spec"]) if new is not None else set()
        for number in before - after:
            ledger.forget(to_str(number))
        if new is not None:
            for number in after - before:
                ledger.record(to_str(number), new)

    @property
    def held(self) -> Iterable[str]:
        """The addresses that are given out."""
        return map(to_str, self._addresses)

    # --- ClusterIP ---

    def _admit_addresses(self, new: Document) -> None:
        spec = new["spec"]
        given = spec.setdefault("clusterIPs", [])
        if given[:1] == [services.HEADLESS]:
            return
        if given:
            self._reserve(new, given[0])
            return
        number = pick(self._band, self._addresses, self._choose)
        if number is None:
            raise InternalError("failed to allocate a serviceIP: range is full")
        given.append(to_str(number))
        spec["clusterIP"] = given[0]

    def _reserve(self, new: Document, address: str) -> None:
        number = to_int(address)
        low, high = cidr_bounds(self._networks.services)
        if not low <= number <= high:
            other = self._networks.counterpart(address)
            hint = f"; {other} would work" if other else ""
            why = f"the provided network does not match the current range {self._networks.services}{hint}"
        elif number not in self._band:
            why = (
                f"the provided IP ({address}) is not in the valid range. The range of valid IPs is "
                f"{self._networks.services}"
            )
        elif number in self._addresses:
            why = "provided IP is already allocated"
        else:
            return
        _refuse(
            new,
            [
                invalid(
                    "spec.clusterIPs", new["spec"]["clusterIPs"], f"failed to allocate IP {address}: {why}"
                )
            ],
        )

    # --- node ports ---

    def _admit_new_node_ports(self, new: Document) -> None:
        """At creation one service port number has one node port, for TCP and UDP alike."""
        spec = new["spec"]
        ports = spec.get("ports") or []
        taken = set(self._ports)
        chosen: dict[int, int] = {}
        for index, port in enumerate(ports):
            given, service_port = port.get("nodePort", 0), port.get("port", 0)
            if not given and not _allocates(spec):
                continue
            if service_port not in chosen:
                wanted = given or _asked_for(service_port, ports)
                chosen[service_port] = port["nodePort"] = (
                    self._take_port(new, index, wanted, taken) if wanted else self._next_port(taken)
                )
            elif given and given != chosen[service_port]:
                self._take_port(new, index, given, taken)
            else:
                port["nodePort"] = chosen[service_port]

    def _admit_changed_node_ports(self, new: Document, own: set[int]) -> None:
        """What the Service holds already it may use for any of its ports."""
        spec = new["spec"]
        taken = set(self._ports)
        taken_here: set[int] = set()
        for index, port in enumerate(spec.get("ports") or ()):
            given = port.get("nodePort", 0)
            if given:
                if given not in own and given not in taken_here:
                    taken_here.add(self._take_port(new, index, given, taken))
            elif _allocates(spec):
                port["nodePort"] = self._next_port(taken)

    @staticmethod
    def _take_port(new: Document, index: int, port: int, taken: set[int]) -> int:
        why = _OUT_OF_PORT_RANGE if port not in NODE_PORTS else _PORT_TAKEN if port in taken else ""
        if why:
            _refuse(new, [invalid(f"spec.ports[{index}].nodePort", port, why)])
        taken.add(port)
        return port

    def _next_port(self, taken: set[int]) -> int:
        port = pick(NODE_PORTS, taken, self._choose)
        if port is None:
            raise InternalError("failed to allocate a nodePort: range is full")
        taken.add(port)
        return port

    def _admit_health_check(self, new: Document) -> None:
        spec = new["spec"]
        taken = set(self._ports) | _held_ports(spec, health_check=False)
        given = spec.get("healthCheckNodePort")
        if not given:
            given = pick(NODE_PORTS, taken, self._choose)
            if given is None:
                raise InternalError("failed to allocate a HealthCheck NodePort 0: range is full")
            spec["healthCheckNodePort"] = given
            return
        why = _OUT_OF_PORT_RANGE if given not in NODE_PORTS else _PORT_TAKEN if given in taken else ""
        if why:
            raise InternalError(f"failed to allocate requested HealthCheck NodePort {given}: {why}")


def _allocates(spec: Document) -> bool:
    """Whether ports without a node port get one."""
    return spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts", True) is not False


def _asked_for(service_port: int, ports: list[Document]) -> int:
    """The node port that any of the entries of one service port names, 0 if none does."""
    return next(
        (port["nodePort"] for port in ports if port.get("port", 0) == service_port and port.get("nodePort")),
        0,
    )


def _refuse(document: Document, errors: list[FieldError]) -> NoReturn:
    name = document["metadata"].get("name", "")
    raise InvalidError(BY_NAME["services"].target(name), errors)


def _held_addresses(spec: Document) -> set[int]:
    return {to_int(address) for address in spec.get("clusterIPs") or () if is_ipv4(address)}


def _held_ports(spec: Document, *, health_check: bool = True) -> set[int]:
    held = {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
    if health_check and spec.get("healthCheckNodePort"):
        held.add(spec["healthCheckNodePort"])
    return held
