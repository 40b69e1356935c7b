"""What DNS answers are made of: Services, EndpointSlices, Namespaces and pods, indexed for lookup.

Pure: fed with objects, asked by keys of lower-case octet strings. A change touches only the entries of the
Service that it concerns, and tells whether any answer may have changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import NamedTuple, TypeVar

from emu.core.names import dashed
from emu.core.objects import EndpointSlice, Namespace, Pod, Service

_K = TypeVar("_K")
Key = tuple[bytes, bytes]
"""(namespace, Service)."""


class Port(NamedTuple):
    """A port with its name and protocol in lower case."""

    number: int
    name: bytes
    protocol: bytes


class Target(NamedTuple):
    """A ready address of an endpoint, with the ports of its EndpointSlice."""

    address: str
    packed: bytes
    ports: tuple[Port, ...]
    hostname: bytes
    pod: bytes

    def label(self, pod_names: bool) -> bytes:
        """The label below the Service: hostname, or pod name where asked for, or dashed address."""
        if self.hostname:
            return self.hostname
        if pod_names and 0 < len(self.pod) < 64:
            return self.pod
        return dashed(self.address).encode()


class ServiceEntry(NamedTuple):
    """A Service as DNS sees it."""

    key: Key
    headless: bool
    external_name: str
    addresses: tuple[str, ...]
    packed: tuple[bytes, ...]
    ports: tuple[Port, ...]
    labels: tuple[tuple[str, str], ...]


class Index:
    """All that the kubernetes plugin looks up."""

    def __init__(self) -> None:
        self.namespaces: set[bytes] = set()
        self.services: dict[Key, ServiceEntry] = {}
        self.by_cluster_ip: dict[str, Key] = {}
        self.synced = False
        self.serial = int(time.time())
        """Unix time of the last change: the SOA's serial."""
        self._slices: dict[Key, dict[str, tuple[Target, ...]]] = {}
        self._targets: dict[Key, tuple[Target, ...]] = {}
        self._by_address: dict[str, dict[Key, int]] = {}
        self._pods: dict[str, dict[bytes, int]] = {}
        self._listeners: list[Callable[[], None]] = []

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change that may alter an answer."""
        self._listeners.append(listener)

    def set_synced(self) -> None:
        """Everything is in: what is not there does not exist."""
        self.synced = True
        self._changed()

    def targets(self, key: Key) -> tuple[Target, ...]:
        """The ready endpoint addresses of a Service, over all its EndpointSlices."""
        found = self._targets.get(key)
        if found is None:
            slices = self._slices.get(key)
            if slices is None:
                return ()
            found = tuple(dict.fromkeys(target for targets in slices.values() for target in targets))
            self._targets[key] = found
        return found

    def services_at(self, address: str) -> Iterable[Key]:
        """The Services that have a ready endpoint with this address."""
        return self._by_address.get(address, ())

    def has_pod(self, address: str, namespace: bytes) -> bool:
        """Whether a pod of that address lives in a namespace; true only for pods that were fed."""
        return namespace in self._pods.get(address, ())

    def set_namespace(self, _key: str, before: Namespace | None, now: Namespace | None) -> None:
        """A Namespace came, changed or went."""
        if before is None and now is not None:
            self.namespaces.add(now.name.encode())
        elif now is None and before is not None:
            self.namespaces.discard(before.name.encode())
        else:
            return
        self._changed()

    def set_service(self, _key: str, before: Service | None, now: Service | None) -> None:
        """A Service came, changed or went."""
        either = now or before
        assert either is not None, "a change has an object before or after it"
        key = (either.namespace.encode(), either.name.encode())
        entry = None if now is None else _service_entry(key, now)
        old = self.services.get(key)
        if old == entry:
            return
        if old is not None:
            for address in old.addresses:
                if self.by_cluster_ip.get(address) == key:
                    del self.by_cluster_ip[address]
        if entry is None:
            self.services.pop(key, None)
        else:
            self.services[key] = entry
            for address in entry.addresses:
                self.by_cluster_ip[address] = key
        self._changed()

    def set_slice(self, name: str, before: EndpointSlice | None, now: EndpointSlice | None) -> None:
        """An EndpointSlice came, changed or went."""
        old_key = _service_key(before)
        new_key = _service_key(now)
        targets = () if now is None or new_key is None else tuple(_targets(now))
        old = self._slices.get(old_key, {}).get(name) if old_key else None
        if old_key == new_key and old == targets:
            return
        if old_key is not None and old is not None:
            self._remove_slice(old_key, name, old)
        if new_key is not None:
            self._slices.setdefault(new_key, {})[name] = targets
            self._targets.pop(new_key, None)
            for target in targets:
                counts = self._by_address.setdefault(target.address, {})
                counts[new_key] = counts.get(new_key, 0) + 1
        self._changed()

    def set_pod(self, _key: str, before: Pod | None, now: Pod | None) -> None:
        """A Pod came, changed or went; only `pods verified` needs them."""
        old = _pod_place(before)
        new = _pod_place(now)
        if old == new:
            return
        if old is not None:
            _decrement(self._pods, *old)
        if new is not None:
            counts = self._pods.setdefault(new[0], {})
            counts[new[1]] = counts.get(new[1], 0) + 1
        self._changed()

    def _remove_slice(self, key: Key, name: str, targets: tuple[Target, ...]) -> None:
        slices = self._slices[key]
        del slices[name]
        if not slices:
            del self._slices[key]
        self._targets.pop(key, None)
        for target in targets:
            _decrement(self._by_address, target.address, key)

    def _changed(self) -> None:
        self.serial = int(time.time())
        for listener in self._listeners:
            listener()


def _decrement(table: dict[str, dict[_K, int]], address: str, key: _K) -> None:
    counts = table[address]
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
        if not counts:
            del table[address]


def _service_key(item: EndpointSlice | None) -> Key | None:
    if item is None or not item.service_key:
        return None
    namespace, name = item.service_key.split("/", 1)
    return namespace.encode(), name.encode()


def _pod_place(pod: Pod | None) -> tuple[str, bytes] | None:
    if pod is None or not pod.ip or pod.finished:
        return None
    return pod.ip, pod.namespace.encode()


def _service_entry(key: Key, service: Service) -> ServiceEntry:
    spec = service.spec
    external = spec.external_name if spec.type == "ExternalName" else ""
    addresses: tuple[str, ...] = ()
    if service.has_cluster_ip:
        addresses = tuple(address for address in (spec.cluster_ips or (spec.cluster_ip,)) if address)
    return ServiceEntry(
        key,
        service.headless and not external,
        external,
        addresses,
        tuple(ip_address(address).packed for address in addresses),
        tuple(
            Port(port.port, port.name.lower().encode(), port.protocol.lower().encode()) for port in spec.ports
        ),
        tuple(sorted(service.metadata.labels.items())),
    )


def _targets(item: EndpointSlice) -> Iterable[Target]:
    if item.address_type not in ("IPv4", "IPv6"):
        return
    ports = tuple(
        Port(port.port, port.name.lower().encode(), port.protocol.lower().encode())
        for port in item.ports
        if port.port is not None
    )
    for endpoint in item.endpoints:
        if not endpoint.ready:
            continue
        pod = endpoint.target_ref.name if endpoint.target_ref and endpoint.target_ref.kind == "Pod" else ""
        for address in endpoint.addresses:
            yield Target(
                address,
                ip_address(address).packed,
                ports,
                (endpoint.hostname or "").lower().encode(),
                pod.lower().encode(),
            )
