"""Pods and namespaces, indexed by label as bit sets.

A set of pods is a Python integer whose bit N stands for the pod in slot N: intersecting two sets of ten
thousand pods costs less than a microsecond. Only pods that policies can see are kept: those that have an
address of their own, so neither pods on the host's network nor finished ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import compress
from typing import TypeVar

import msgspec

from emu.core.addresses import to_int
from emu.core.objects import Namespace, Pod
from emu.core.ranges import Ranges, union
from emu.core.selectors import LabelSelector, Requirement

NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"

_BIT_VALUES = bytes.maketrans(b"01", b"\x00\x01")
_REMEMBERED_RANGES = 256

_Key = TypeVar("_Key", bound="str | tuple[str, str]")

Profile = tuple[str, frozenset[tuple[str, str]], tuple[tuple[str, int, str], ...]]
"""What selectors and ports see of a pod: equal for the replicas of a Deployment."""


class PodEntry:
    """What policies read of one pod."""

    __slots__ = ("address", "host_ip", "key", "labels", "namespace", "node", "ports", "profile", "slot")

    def __init__(self, pod: Pod, address: int) -> None:
        self.slot = -1
        self.key = pod.key
        self.namespace = pod.namespace
        self.labels: Mapping[str, str] = pod.metadata.labels
        self.address = address
        self.node = pod.spec.node_name
        self.host_ip = pod.status.host_ip
        sidecars = [item for item in pod.spec.init_containers if item.restart_policy == "Always"]
        self.ports = tuple(
            (port.name, port.container_port, port.protocol)
            for container in (*pod.spec.containers, *sidecars)
            for port in container.ports
            if port.name
        )
        self.profile: Profile = (self.namespace, frozenset(self.labels.items()), self.ports)

    def serves(self, name: str, port: int, protocol: str) -> bool:
        """Whether the pod calls this port of this protocol so."""
        return (name, port, protocol) in self.ports

    def same(self, other: PodEntry) -> bool:
        """Whether policies see no difference."""
        return (
            self.address == other.address
            and self.node == other.node
            and self.host_ip == other.host_ip
            and self.profile == other.profile
        )


def visible_address(pod: Pod) -> int | None:
    """The address by which policies know a pod, None when they do not see it."""
    if pod.spec.host_network or pod.finished or not pod.ip:
        return None
    try:
        return to_int(pod.ip)
    except ValueError:
        return None


class NamespaceIndex:
    """Labels of namespaces. Each has `kubernetes.io/metadata.name`, also before its object was seen."""

    def __init__(self) -> None:
        self._labels: dict[str, dict[str, str]] = {}
        self.version = 0

    def set(self, namespace: Namespace) -> bool:
        """Add or replace. Whether anything changed that policies see."""
        labels = {**namespace.metadata.labels, NAMESPACE_NAME_LABEL: namespace.name}
        if self.labels(namespace.name) == labels:
            self._labels[namespace.name] = labels
            return False
        self._labels[namespace.name] = labels
        self.version += 1
        return True

    def remove(self, name: str) -> bool:
        """Forget a namespace's labels. Whether it had other ones than its name."""
        labels = self._labels.pop(name, None)
        if labels is None or labels == {NAMESPACE_NAME_LABEL: name}:
            return False
        self.version += 1
        return True

    def labels(self, name: str) -> Mapping[str, str]:
        """The labels of a namespace."""
        return self._labels.get(name) or {NAMESPACE_NAME_LABEL: name}


class PodIndex:
    """The pods that policies see: by key, by address, and by label as bit sets."""

    def __init__(self) -> None:
        self.namespaces = NamespaceIndex()
        self.version = 0
        self.everything = 0
        self._versions: dict[str, int] = {}
        self._by_key: dict[str, PodEntry] = {}
        self._by_address: dict[int, list[PodEntry]] = {}
        self._owners = 0
        self._addresses: list[int] = []
        self._free: list[int] = []
        self._by_label: dict[tuple[str, str], int] = {}
        self._by_label_key: dict[str, int] = {}
        self._by_namespace: dict[str, int] = {}
        self._ranges: dict[int, Ranges] = {}

    def set(self, pod: Pod) -> bool:
        """Add or replace a pod; one without an address of its own is removed. Whether anything changed."""
        address = visible_address(pod)
        if address is None:
            return self.remove(pod.key)
        entry = PodEntry(pod, address)
        before = self._by_key.get(entry.key)
        if before is not None:
            if before.same(entry):
                return False
            self._unlink(before, keep_place=before.address == address)
            entry.slot = before.slot
        else:
            entry.slot = self._take_slot()
        self._link(entry, before)
        return True

    def remove(self, key: str) -> bool:
        """Forget a pod. Whether it was there."""
        entry = self._by_key.pop(key, None)
        if entry is None:
            return False
        self._unlink(entry, keep_place=False)
        self._free.append(entry.slot)
        return True

    def at(self, address: int) -> PodEntry | None:
        """The pod that has an address: of several, as while one is being replaced, the latest to get it."""
        entries = self._by_address.get(address)
        return entries[-1] if entries else None

    def version_of(self, namespace: str) -> int:
        """Rises with each change of a pod of the namespace."""
        return self._versions.get(namespace, 0)

    def in_namespace(self, namespace: str) -> int:
        """The pods of a namespace."""
        return self._by_namespace.get(namespace, 0)

    def in_namespaces(self, selector: LabelSelector) -> int:
        """The pods of all namespaces that a selector selects."""
        bits = 0
        for name, members in self._by_namespace.items():
            if selector.matches(self.namespaces.labels(name)):
                bits |= members
        return bits

    def select(self, candidates: int, selector: LabelSelector) -> int:
        """Those of the candidates whose labels a selector matches."""
        for label in selector.match_labels.items():
            candidates &= self._by_label.get(label, 0)
        for requirement in selector.match_expressions:
            if not candidates:
                break
            candidates = self._require(candidates, requirement)
        return candidates

    def ranges(self, bits: int) -> Ranges:
        """The addresses of a set of pods, without those that another pod has taken over."""
        bits &= self._owners
        found = self._ranges.get(bits)
        if found is None:
            if len(self._ranges) >= _REMEMBERED_RANGES:
                self._ranges.clear()
            present = bin(bits)[:1:-1].encode().translate(_BIT_VALUES)
            found = union((address, address) for address in compress(self._addresses, present))
            self._ranges[bits] = found
        return found

    def _require(self, candidates: int, requirement: Requirement) -> int:
        match requirement.operator:
            case "In":
                return candidates & self._with_any(requirement.key, requirement.values)
            case "NotIn":
                return candidates & ~self._with_any(requirement.key, requirement.values)
            case "Exists":
                return candidates & self._by_label_key.get(requirement.key, 0)
            case "DoesNotExist":
                return candidates & ~self._by_label_key.get(requirement.key, 0)
        return 0

    def _with_any(self, key: str, values: Iterable[str]) -> int:
        bits = 0
        for value in values:
            bits |= self._by_label.get((key, value), 0)
        return bits

    def _take_slot(self) -> int:
        if self._free:
            return self._free.pop()
        self._addresses.append(0)
        return len(self._addresses) - 1

    def _link(self, entry: PodEntry, before: PodEntry | None) -> None:
        bit = 1 << entry.slot
        for label in entry.labels.items():
            self._by_label[label] = self._by_label.get(label, 0) | bit
            self._by_label_key[label[0]] = self._by_label_key.get(label[0], 0) | bit
        self._by_namespace[entry.namespace] = self._by_namespace.get(entry.namespace, 0) | bit
        self.everything |= bit
        self._by_key[entry.key] = entry
        holders = self._by_address.setdefault(entry.address, [])
        if before is not None and before in holders:
            holders[holders.index(before)] = entry
        else:
            if holders:
                self._owners &= ~(1 << holders[-1].slot)
            holders.append(entry)
            self._owners |= bit
            self._addresses[entry.slot] = entry.address
            self._ranges.clear()
        self._touch(entry.namespace)

    def _unlink(self, entry: PodEntry, *, keep_place: bool) -> None:
        bit = 1 << entry.slot
        for label in entry.labels.items():
            _discard(self._by_label, label, bit)
            _discard(self._by_label_key, label[0], bit)
        _discard(self._by_namespace, entry.namespace, bit)
        self.everything &= ~bit
        if not keep_place:
            holders = self._by_address[entry.address]
            holders.remove(entry)
            self._owners &= ~bit
            if holders:
                self._owners |= 1 << holders[-1].slot
            else:
                del self._by_address[entry.address]
            self._ranges.clear()
        self._touch(entry.namespace)

    def _touch(self, namespace: str) -> None:
        self.version += 1
        # The rising total rather than a count of its own, so that a namespace that comes back never repeats.
        self._versions[namespace] = self.version


def _discard(sets: dict[_Key, int], key: _Key, bit: int) -> None:
    rest = sets[key] & ~bit
    if rest:
        sets[key] = rest
    else:
        del sets[key]


class PodSelection:
    """The pods that a pair of selectors selects, kept until a pod or namespace in its scope changes.

    `scope` is the name of one namespace, or a selector of namespaces.
    """

    __slots__ = ("_bits", "_index", "_version", "pods", "scope")

    def __init__(self, index: PodIndex, scope: str | LabelSelector, pods: LabelSelector) -> None:
        self._index = index
        self.scope = scope
        self.pods = pods
        self._bits = 0
        self._version = (-1, -1)

    @property
    def signature(self) -> tuple[str | bytes, bytes]:
        """Equal for what selects the same pods."""
        scope = self.scope if isinstance(self.scope, str) else msgspec.json.encode(self.scope, order="sorted")
        return scope, msgspec.json.encode(self.pods, order="sorted")

    def bits(self) -> int:
        """The selected pods as a bit set."""
        index = self._index
        if isinstance(self.scope, str):
            version = (index.version_of(self.scope), 0)
            if version != self._version:
                self._version = version
                self._bits = index.select(index.in_namespace(self.scope), self.pods)
        else:
            version = (index.version, index.namespaces.version)
            if version != self._version:
                self._version = version
                self._bits = index.select(index.in_namespaces(self.scope), self.pods)
        return self._bits

    def matches(self, pod: PodEntry) -> bool:
        """Whether one pod is selected."""
        if isinstance(self.scope, str):
            if pod.namespace != self.scope:
                return False
        elif not self.scope.matches(self._index.namespaces.labels(pod.namespace)):
            return False
        return self.pods.matches(pod.labels)
