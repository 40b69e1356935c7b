"""What the steps of an import work on: one object, all the others, and the cluster that takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from emu.client.changes import Change, Reason
from emu.client.manifests import Manifest
from emu.client.scrubbing import Document, mapping, mappings
from emu.core.addresses import Networks
from emu.core.objects import ResourceName

ObjectKey = tuple[str, str]
"""Namespace and name."""

_SET_BY_SERVERS = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "selfLink")


class Target(NamedTuple):
    """What of the cluster that takes the objects matters to an import."""

    kinds: Mapping[tuple[str, str], ResourceName]
    """Where each (apiVersion, kind) is served."""
    networks: Networks
    nodes: frozenset[str]
    namespaces: frozenset[str]
    services: tuple[Document, ...] = ()
    """The Services that are there already."""
    default_namespace: str = "default"


class Draft:
    """A copy of one object, on its way; notes what became of it."""

    def __init__(self, manifest: Manifest) -> None:
        # The way through JSON takes apart what YAML aliases share.
        self.document: Document = msgspec.json.decode(msgspec.json.encode(manifest.document))
        self.manifest = manifest._replace(document=self.document)
        self.kind: str = self.document["kind"]
        self.api_version: str = self.document["apiVersion"]
        self.metadata: Document = self.document["metadata"]
        self.name: str = self.metadata.get("name") or ""
        self.namespace: str = self.metadata.get("namespace") or "default"
        self.uid = self.metadata.get("uid")
        self.dumped = any(self.metadata.get(field) for field in _SET_BY_SERVERS)
        """Whether a server wrote it: `kubectl get -o yaml`, rather than a person or emu's snapshot."""
        self.values_were_given = self.dumped or manifest.of_snapshot
        """Whether its addresses and node ports were given out by a cluster, rather than chosen."""
        self.changes: list[Change] = []
        self.left_out: Reason | None = None

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return self.namespace, self.name

    @property
    def title(self) -> str:
        """The name, after its namespace when the object names one."""
        name = self.name or f"{self.metadata.get('generateName', '')}..."
        return f"{self.metadata['namespace']}/{name}" if self.metadata.get("namespace") else name

    @property
    def spec(self) -> Document:
        """`spec`, or an empty mapping that nobody keeps when it is missing or wrong."""
        return mapping(self.document.get("spec"))

    def namespaced(self, target: Target) -> bool:
        """Whether the target serves its kind in namespaces."""
        resource = target.kinds.get((self.api_version, self.kind))
        return resource is not None and resource.namespaced

    def change(self, reason: Reason, detail: str = "") -> None:
        """Note a change; one that leaves the object out ends its way."""
        kind = f"{self.kind} ({self.api_version})" if reason is Reason.UNSERVED else self.kind
        self.changes.append(Change(reason, kind, self.title, detail))
        if reason.leaves_out:
            # What was changed before does not matter any more.
            self.changes = self.changes[-1:]
            self.left_out = reason


class World:
    """All objects of an import and the target, and what has been promised to whom."""

    def __init__(self, drafts: Iterable[Draft], target: Target) -> None:
        self.target = target
        self.by_uid: dict[str, Draft] = {}
        self.by_key: dict[tuple[str, ObjectKey], Draft] = {}
        for draft in drafts:
            if isinstance(draft.uid, str):
                self.by_uid[draft.uid] = draft
            self.by_key[draft.kind, draft.key] = draft
        self.with_selector = {service_key(service) for service in target.services if _selects(service)}
        self.with_selector |= {
            key
            for (kind, key), draft in self.by_key.items()
            if kind == "Service" and _selects(draft.document)
        }
        self.addresses: dict[str, ObjectKey] = {}
        self.ports: dict[int, ObjectKey] = {}
        for service in target.services:
            self._take(service, service_key(service))
        self._claim(target)

    def _claim(self, target: Target) -> None:
        """Addresses that fit as they are belong to those that name them, before any is moved."""
        for (kind, key), draft in self.by_key.items():
            if kind == "Service":
                for address in cluster_ips(draft.document):
                    if fits(target.networks, address):
                        self.addresses.setdefault(address, key)

    def _take(self, service: Document, key: ObjectKey) -> None:
        for address in cluster_ips(service):
            self.addresses[address] = key
        for port in node_ports(service):
            self.ports[port] = key

    def owner(self, draft: Draft, reference: Document) -> Draft | None:
        """The object of this import that an ownerReference is about."""
        uid = reference.get("uid")
        if uid and uid in self.by_uid:
            return self.by_uid[uid]
        kind, name = str(reference.get("kind")), str(reference.get("name"))
        return self.by_key.get((kind, (draft.namespace, name)))


def service_key(service: Document) -> ObjectKey:
    """Namespace and name of a Service of the target."""
    return service["metadata"].get("namespace", "default"), service["metadata"]["name"]


def cluster_ips(service: Document) -> list[str]:
    """The addresses that a Service names, the first one first, without None and doubles."""
    spec = mapping(service.get("spec"))
    several = spec.get("clusterIPs")
    named = [spec.get("clusterIP"), *(several if isinstance(several, list) else ())]
    return list(dict.fromkeys(a for a in named if isinstance(a, str) and a not in ("", "None")))


def node_ports(service: Document) -> list[int]:
    """The node ports that a Service names, that for health checks included."""
    spec = mapping(service.get("spec"))
    ports = [port.get("nodePort") for port in mappings(spec.get("ports"))]
    return [port for port in (*ports, spec.get("healthCheckNodePort")) if isinstance(port, int) and port]


def fits(networks: Networks, address: str) -> bool:
    """Whether an address is one that the Service network can give."""
    try:
        return networks.counterpart(address) == address
    except ValueError:
        return False


def _selects(service: Document) -> bool:
    return bool(mapping(service.get("spec")).get("selector"))
