"""What the store holds: versions of objects, and the changes between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Key(NamedTuple):
    """Identity of an object: its resource (`deployments.apps`), namespace ("" if it has none) and name."""

    resource: str
    namespace: str
    name: str


class Fields(Mapping[str, str]):
    """What field selectors look at. Objects of one resource share the names; each has its own values."""

    __slots__ = ("_places", "_values")

    def __init__(self, places: Mapping[str, int], values: tuple[str, ...]) -> None:
        """`places` says where in `values` each path is."""
        self._places = places
        self._values = values

    def __getitem__(self, path: str) -> str:
        return self._values[self._places[path]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class Item:
    """One version of an object: its JSON text, and what selectors look at. Not to be changed."""

    __slots__ = ("data", "fields", "key", "labels", "version")

    def __init__(
        self, key: Key, version: int, data: bytes, labels: Mapping[str, str], fields: Mapping[str, str]
    ) -> None:
        self.key = key
        self.version = version
        self.data = data
        self.labels = labels
        self.fields = fields

    @property
    def path(self) -> str:
        """`namespace/name`, by which lists are ordered as etcd orders its keys."""
        return f"{self.key.namespace}/{self.key.name}"

    def document(self) -> dict[str, Any]:
        """A fresh decoded copy."""
        document: dict[str, Any] = _decode(self.data)
        return document

    def at_version(self, version: int) -> Item:
        """The same content under another resourceVersion."""
        document = self.document()
        document["metadata"]["resourceVersion"] = str(version)
        return Item(self.key, version, _encode(document), self.labels, self.fields)


class StoreEvent:
    """A change: the item it leads to (for a deletion the object as it was last), and the one before."""

    __slots__ = ("before", "item", "type")

    def __init__(self, kind: str, item: Item, before: Item | None) -> None:
        self.type = kind
        self.item = item
        self.before = before

    def shown(self, kind: str) -> Item:
        """What a watch gets that sees this change as `kind`."""
        if kind == "DELETED" and self.type != "DELETED" and self.before is not None:
            # It left the view of a selector: its last content in that view, at the version of the change.
            return self.before.at_version(self.item.version)
        return self.item
