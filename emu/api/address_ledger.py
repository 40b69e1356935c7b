"""An IPAddress object for each ClusterIP that is given out, and the ServiceCIDR that they are from.

The objects follow the Services within the same step of the server; what a crash between the two writes leaves
is put right at the next start. Source: `pkg/registry/core/service/ipallocator`, KEP-1880.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from emu.api.registry import now_text
from emu.api.resource import Document
from emu.api.store import Key, Store

ADDRESSES = "ipaddresses.networking.k8s.io"
RANGES = "servicecidrs.networking.k8s.io"
DEFAULT_RANGE = "kubernetes"
_API_VERSION = "networking.k8s.io/v1"
_MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
_ALLOCATOR = "ipallocator.k8s.io"
_LABELS = {"ipaddress.kubernetes.io/ip-family": "IPv4", _MANAGED_BY: _ALLOCATOR}
_PROTECTION = "networking.k8s.io/service-cidr-finalizer"


class AddressLedger:
    """Keeps the IPAddress objects of a store in step with its Services."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def record(self, address: str, service: Document) -> None:
        """A Service has got an address, or had it when the server started."""
        key = Key(ADDRESSES, "", address)
        metadata = service["metadata"]
        parent = {"resource": "services", "namespace": metadata["namespace"], "name": metadata["name"]}
        item = self._store.get(key)
        if item is not None and item.document()["spec"].get("parentRef") == parent:
            return
        self._store.put(key, _object("IPAddress", address, {"labels": _LABELS}, {"parentRef": parent}))

    def forget(self, address: str) -> None:
        """An address is free again."""
        key = Key(ADDRESSES, "", address)
        if self._store.get(key) is not None:
            self._store.delete(key)

    def start(self, cidr: str, held: Iterable[str]) -> None:
        """Write the range of this start, and remove what was given out and is not `held` any more."""
        kept = set(held)
        for given in self._store.items(ADDRESSES):
            if given.labels.get(_MANAGED_BY) == _ALLOCATOR and given.key.name not in kept:
                self._store.delete(given.key)
        key = Key(RANGES, "", DEFAULT_RANGE)
        item = self._store.get(key)
        if item is not None and item.document()["spec"].get("cidrs") == [cidr]:
            return
        document = _object("ServiceCIDR", DEFAULT_RANGE, {"finalizers": [_PROTECTION]}, {"cidrs": [cidr]})
        ready = {
            "type": "Ready",
            "status": "True",
            "lastTransitionTime": now_text(),
            "reason": "",
            "message": "Kubernetes default Service CIDR is ready",
        }
        self._store.put(key, {**document, "status": {"conditions": [ready]}})


def _object(kind: str, name: str, metadata: Document, spec: Document) -> Document:
    return {
        "apiVersion": _API_VERSION,
        "kind": kind,
        "metadata": {
            "name": name,
            "uid": str(uuid.uuid4()),
            "creationTimestamp": now_text(),
            **metadata,
        },
        "spec": spec,
    }
