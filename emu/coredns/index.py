"""What DNS answers are made of: Services, EndpointSlices, Namespaces and pods, indexed for lookup.

Pure: fed with objects, asked by keys of lower-case octet strings and packed addresses. A change touches only
the entries of the Service that it concerns, and tells which Services' answers may have changed.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple, TypeVar

from emu.core.names import dashed
from emu.core.objects import EndpointSlice, Namespace, Pod, Service
from emu.coredns.codec import AAAA, MAX_LABEL, A, join_labels

_K = TypeVar("_K")
Key = tuple[bytes, bytes]
"""(namespace, Service)."""
ByType = dict[int, list[bytes]]
"""Packed addresses by A and AAAA."""
Listener = Callable[[tuple[Key, ...] | None], None]
"""Told of each change: the Services that have changed, themselves or by their endpoints; None when the names
of all Services are concerned."""


def packed_address(text: str) -> bytes | None:
    """The octets of an IPv4 or IPv6 address, None for anything else, zone identifiers included."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return None


def by_type(addresses: Iterable[bytes]) -> ByType:
    """Packed addresses by A and AAAA, each once."""
    four: list[bytes] = []
    six: list[bytes] = []
    for packed in dict.fromkeys(addresses):
        (four if len(packed) == 4 else six).append(packed)
    return {A: four, AAAA: six}


class Port(NamedTuple):
    """A port with its name and protocol in lower case."""

    number: int
    name: bytes
    protocol: bytes


class Target(NamedTuple):
    """A ready address of an endpoint, with the ports of its EndpointSlice."""

    packed: bytes
    ports: tuple[Port, ...]
    name: bytes
    """The label below the Service: the endpoint's hostname, or its dashed address."""
    pod_name: bytes
    """The same where pods are to give their names to endpoints that have no hostname."""

    def label(self, pod_names: bool) -> bytes:
        """The label below the Service, by one of the two ways."""
        return self.pod_name if pod_names else self.name


class Endpoints:
    """The ready endpoints of a Service over all its EndpointSlices, as often as these list them."""

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self.targets = targets
        self.by_type = by_type(target.packed for target in targets)
        self._named: dict[bool, dict[bytes, list[Target]]] = {}

    def named(self, pod_names: bool) -> dict[bytes, list[Target]]:
        """The endpoints by their labels; several may share one."""
        found = self._named.get(pod_names)
        if found is None:
            found = self._named[pod_names] = {}
            for target in self.targets:
                found.setdefault(target.label(pod_names), []).append(target)
        return found


class ServiceEntry(NamedTuple):
    """A Service as DNS sees it."""

    key: Key
    headless: bool
    external_name: str
    by_type: ByType
    """Its virtual IPs."""
    ports: tuple[Port, ...]
    labels: dict[str, str]

    @property
    def packed(self) -> list[bytes]:
        """All its virtual IPs, packed."""
        return self.by_type[A] + self.by_type[AAAA]


NO_ENDPOINTS = Endpoints(())


class Index:
    """All that the kubernetes plugin looks up."""

    def __init__(self) -> None:
        self.namespaces: dict[bytes, dict[str, str]] = {}
        """Labels of each namespace."""
        self.services: dict[Key, ServiceEntry] = {}
        self.by_name: dict[bytes, ServiceEntry] = {}
        """The Services by their names below the zone, in wire form without the root: 3web7default3svc."""
        self.by_cluster_ip: dict[bytes, Key] = {}
        self.synced = False
        self.pods_synced = False
        """Whether all pods are in; only `pods verified` and `autopath` wait for that."""
        self.serial = int(time.time())
        """Unix time of the last change: the SOA's serial."""
        self._slices: dict[Key, dict[str, tuple[Target, ...]]] = {}
        self._endpoints: dict[Key, Endpoints] = {}
        self._by_address: dict[bytes, dict[Key, int]] = {}
        self._pods: dict[bytes, dict[bytes, int]] = {}
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` after each change that may alter an answer."""
        self._listeners.append(listener)

    def set_synced(self) -> None:
        """Services, EndpointSlices and Namespaces are in: what is not there does not exist."""
        self.synced = True
        self._changed(None)

    def set_pods_synced(self) -> None:
        """All pods are in."""
        self.pods_synced = True
        self._changed(None)

    def endpoints(self, key: Key) -> Endpoints:
        """The ready endpoints of a Service."""
        found = self._endpoints.get(key)
        if found is None:
            slices = self._slices.get(key)
            if slices is None:
                return NO_ENDPOINTS
            found = Endpoints(tuple(target for targets in slices.values() for target in targets))
            self._endpoints[key] = found
        return found

    def services_at(self, packed: bytes) -> Iterable[Key]:
        """The Services that have a ready endpoint with this address."""
        return self._by_address.get(packed, ())

    def pod_namespaces(self, packed: bytes) -> Collection[bytes]:
        """The namespaces in which a pod has this address; of pods that were fed."""
        return self._pods.get(packed, ())

    def set_namespace(self, _key: str, before: Namespace | None, now: Namespace | None) -> None:
        """A Namespace came, changed or went."""
        either = now or before
        assert either is not None, "a change has an object before or after it"
        name = either.name.encode()
        labels = None if now is None else now.metadata.labels
        if self.namespaces.get(name) == labels:
            return
        if labels is None:
            del self.namespaces[name]
        else:
            self.namespaces[name] = labels
        self._changed(None)

    def set_service(self, _key: str, before: Service | None, now: Service | None) -> None:
        """A Service came, changed or went."""
        either = now or before
        assert either is not None, "a change has an object before or after it"
        key = (either.namespace.encode(), either.name.encode())
        entry = None if now is None else _service_entry(key, now)
        old = self.services.get(key)
        if old == entry:
            return
        name = join_labels([key[1], key[0], b"svc"])[:-1]
        if old is not None:
            del self.services[key], self.by_name[name]
            for packed in old.packed:
                if self.by_cluster_ip.get(packed) == key:
                    del self.by_cluster_ip[packed]
        if entry is not None:
            self.services[key] = self.by_name[name] = entry
            for packed in entry.packed:
                self.by_cluster_ip[packed] = key
        self._changed((key,))

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
            self._endpoints.pop(new_key, None)
            for target in targets:
                counts = self._by_address.setdefault(target.packed, {})
                counts[new_key] = counts.get(new_key, 0) + 1
        self._changed(tuple({key for key in (old_key, new_key) if key is not None}))

    def set_pod(self, _key: str, before: Pod | None, now: Pod | None) -> None:
        """A Pod came, changed or went."""
        old = _pod_place(before)
        new = _pod_place(now)
        if old == new:
            return
        if old is not None:
            _decrement(self._pods, *old)
        if new is not None:
            counts = self._pods.setdefault(new[0], {})
            counts[new[1]] = counts.get(new[1], 0) + 1
        self._changed(())

    def _remove_slice(self, key: Key, name: str, targets: tuple[Target, ...]) -> None:
        slices = self._slices[key]
        del slices[name]
        if not slices:
            del self._slices[key]
        self._endpoints.pop(key, None)
        for target in targets:
            _decrement(self._by_address, target.packed, key)

    def _changed(self, services: tuple[Key, ...] | None) -> None:
        self.serial = int(time.time())
        for listener in self._listeners:
            listener(services)


def _decrement(table: dict[bytes, dict[_K, int]], address: bytes, key: _K) -> None:
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


def _pod_place(pod: Pod | None) -> tuple[bytes, bytes] | None:
    """Address and namespace; pods that have ended or are about to are no longer known by their address."""
    packed = None if pod is None or pod.finished or pod.terminating else packed_address(pod.ip)
    return None if pod is None or packed is None else (packed, pod.namespace.encode())


def _service_entry(key: Key, service: Service) -> ServiceEntry:
    spec = service.spec
    external = spec.external_name if spec.type == "ExternalName" else ""
    addresses = (spec.cluster_ips or (spec.cluster_ip,)) if service.has_cluster_ip else ()
    return ServiceEntry(
        key,
        service.headless,
        external,
        by_type(packed for address in addresses if (packed := packed_address(address)) is not None),
        tuple(
            Port(port.port, port.name.lower().encode(), port.protocol.lower().encode()) for port in spec.ports
        ),
        service.metadata.labels,
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
        hostname = _label(endpoint.hostname)
        reference = endpoint.target_ref
        pod_name = _label(reference.name) if reference is not None and reference.kind == "Pod" else b""
        for address in endpoint.addresses:
            packed = packed_address(address)
            if packed is None:
                continue
            name = hostname or dashed(address).lower().encode()
            yield Target(packed, ports, name, hostname or pod_name or name)


def _label(text: str | None) -> bytes:
    """A name as a label in lower case; none at all where it would be no single label."""
    label = (text or "").lower().encode()
    return label if len(label) <= MAX_LABEL and b"." not in label else b""
