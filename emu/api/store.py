"""Objects and their history: a map in memory over a durable journal.

The number of a change is the resourceVersion of its object. The newest changes are retained, in the journal
too: a watch can resume from any of their versions, and a list can be given as it was at any of them, across
a restart as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from sys import intern
from typing import Any

import msgspec

from emu.api.errors import ExpiredError
from emu.api.fanout import Encoding, Fanout, Matcher, Scope, Sink, Watcher
from emu.api.items import Fields, Item, Key, StoreEvent
from emu.api.journal import Journal

__all__ = ["Item", "Key", "Matcher", "Scope", "Store", "Watcher"]

RETAINED_EVENTS = 10_000
RETAINED_BYTES = 32 << 20
_COMPACT_EVERY = 500
_SHARED_LABELS = 4096

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

FieldsOf = Callable[[dict[str, Any]], Mapping[str, str]]


class Store:
    """The map and its journal. All methods are synchronous; use within one thread."""

    def __init__(
        self, path: Path | None, *, retained: int = RETAINED_EVENTS, retained_bytes: int = RETAINED_BYTES
    ) -> None:
        """`path` None keeps the journal in memory. Raises StateError when the file cannot be used.

        `retained` and `retained_bytes` bound the history; its newest change is always there.
        """
        self._retained = retained
        self._retained_bytes = retained_bytes
        self._objects: dict[str, dict[str, dict[str, Item]]] = {}
        self._events: deque[StoreEvent] = deque()
        self._event_bytes = 0
        self._garbage: list[int] = []
        self._fanout = Fanout()
        self._describe = _Describer()
        self.version = 0
        self._horizon = 0
        self._journal = Journal(path)

    def register(self, resource: str, fields: FieldsOf) -> None:
        """Name a resource before `load`; `fields` gives what its field selectors may look at."""
        self._describe.register(resource, fields)
        self._objects[resource] = {}

    def load(self) -> None:
        """Read the journal. Objects of resources that are not registered are left where they are."""
        self.version = self._horizon = self._journal.horizon()
        for version, kind, key, data in self._journal.rows():
            self.version = max(self.version, version)
            if key.resource in self._objects:
                self._apply(kind, self._describe.item(key, version, data, _decode(data)))

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    # --- reading ---

    def get(self, key: Key) -> Item | None:
        """The current version of an object."""
        names = self._objects[key.resource].get(key.namespace)
        return names.get(key.name) if names else None

    def items(self, resource: str, namespace: str = "") -> list[Item]:
        """All objects of a resource, in one namespace or in all, ordered by their paths."""
        objects = self._objects[resource]
        if namespace:
            names = objects.get(namespace, {})
            return [names[name] for name in sorted(names)]
        found: list[Item] = []
        for inhabited in sorted(objects, key=_with_slash):
            names = objects[inhabited]
            found += [names[name] for name in sorted(names)]
        return found

    def items_at(self, version: int, resource: str, namespace: str = "") -> list[Item]:
        """`items` as they were at a version. Raises ExpiredError when that is no longer retained."""
        if version < self._horizon:
            raise ExpiredError("The resourceVersion for the provided list is too old.")
        then: dict[Key, Item | None] = {}
        for event in reversed(self._events):
            if event.item.version <= version:
                break
            key = event.item.key
            if key.resource == resource and (not namespace or key.namespace == namespace):
                then[key] = event.before
        items = self.items(resource, namespace)
        if not then:
            return items
        unchanged = [item for item in items if item.key not in then]
        return sorted([*unchanged, *filter(None, then.values())], key=lambda item: item.path)

    def inhabited(self, resource: str, namespace: str) -> bool:
        """Whether a namespace has objects of a resource."""
        return namespace in self._objects[resource]

    # --- writing ---

    def put(self, key: Key, document: dict[str, Any]) -> Item:
        """Create or replace an object; sets its resourceVersion."""
        return self._write("ADDED" if self.get(key) is None else "MODIFIED", key, document)

    def delete(self, key: Key, document: dict[str, Any] | None = None) -> Item:
        """Remove an object. `document` is what its watchers see last; without it the stored one."""
        if document is None:
            document = self._objects[key.resource][key.namespace][key.name].document()
        return self._write("DELETED", key, document)

    def _write(self, kind: str, key: Key, document: dict[str, Any]) -> Item:
        version = self.version + 1
        document["metadata"]["resourceVersion"] = str(version)
        data = _encode(document)
        item = self._describe.item(key, version, data, document)
        self._journal.append(version, kind, key, data)
        self.version = version
        self._fanout.publish(self._apply(kind, item))
        if len(self._garbage) >= _COMPACT_EVERY and self._journal.forget(self._garbage, self._horizon):
            self._garbage.clear()
        return item

    def _apply(self, kind: str, item: Item) -> StoreEvent:
        key = item.key
        objects = self._objects[key.resource]
        if kind == "DELETED":
            names = objects.get(key.namespace, {})
            before = names.pop(key.name, None)
            if not names:
                objects.pop(key.namespace, None)
        else:
            names = objects.setdefault(key.namespace, {})
            before = names.get(key.name)
            names[key.name] = item
        event = StoreEvent(kind, item, before)
        if item.version <= self._horizon:
            self._supersede(event)
            return event
        self._events.append(event)
        self._event_bytes += len(item.data)
        while len(self._events) > self._retained or (
            self._event_bytes > self._retained_bytes and len(self._events) > 1
        ):
            forgotten = self._events.popleft()
            self._event_bytes -= len(forgotten.item.data)
            self._horizon = forgotten.item.version
            self._supersede(forgotten)
        return event

    def _supersede(self, event: StoreEvent) -> None:
        """An event is no longer retained: what it replaced, and a deletion itself, need no row."""
        if event.before is not None:
            self._garbage.append(event.before.version)
        if event.type == "DELETED":
            self._garbage.append(event.item.version)

    # --- watching ---

    def watch(
        self,
        scope: Scope,
        since: int | None,
        matches: Matcher | None,
        encoding: Encoding,
        sink: Sink,
    ) -> Watcher:
        """Subscribe to the changes after version `since`; None: what is there now as ADDED, then changes.

        Raises ExpiredError when that version is no longer retained, or not reached yet.
        """
        watcher = Watcher(scope, matches, encoding, sink)
        if since is None:
            earlier: Iterable[StoreEvent] = (
                StoreEvent("ADDED", item, None) for item in self.items(scope.resource, scope.namespace)
            )
        elif since > self.version:
            # A version of another journal: its reader has to list again.
            raise ExpiredError(f"too large resource version: {since} (current: {self.version})")
        elif since < self._horizon:
            raise ExpiredError(f"too old resource version: {since} ({self._horizon})")
        else:
            earlier = self._since(since, scope.resource)
        self._fanout.add(watcher)
        watcher.prepend([(kind, event) for event in earlier if (kind := watcher.seen_as(event))])
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        """End a subscription."""
        self._fanout.remove(watcher)

    def end_watches(self) -> None:
        """Cut off every subscription, as the server stops."""
        self._fanout.end_all()

    def progress(self) -> int:
        """The version up to which every watcher has been given all that concerns it."""
        self._fanout.flush()
        return self.version

    def _since(self, version: int, resource: str) -> Iterable[StoreEvent]:
        newer: list[StoreEvent] = []
        for event in reversed(self._events):
            if event.item.version <= version:
                break
            if event.item.key.resource == resource:
                newer.append(event)
        return reversed(newer)


class _Describer:
    """Makes items, sharing what many of them have in common."""

    def __init__(self) -> None:
        self._fields: dict[str, FieldsOf] = {}
        self._places: dict[tuple[str, ...], Mapping[str, int]] = {}
        self._labels: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}

    def register(self, resource: str, fields: FieldsOf) -> None:
        self._fields[resource] = fields

    def item(self, key: Key, version: int, data: bytes, document: dict[str, Any]) -> Item:
        fields = {
            "metadata.name": key.name,
            "metadata.namespace": key.namespace,
            **self._fields[key.resource](document),
        }
        paths = tuple(fields)
        places = self._places.get(paths)
        if places is None:
            places = self._places[paths] = {path: place for place, path in enumerate(paths)}
        values = Fields(places, tuple(map(intern, fields.values())))
        return Item(key, version, data, self._shared(document["metadata"].get("labels") or {}), values)

    def _shared(self, labels: dict[str, str]) -> Mapping[str, str]:
        same = tuple(labels.items())
        shared = self._labels.get(same)
        if shared is None:
            if len(self._labels) >= _SHARED_LABELS:
                # Forgetting costs memory for those that come, never correctness.
                self._labels.clear()
            shared = self._labels[same] = dict(labels)
        return shared


def _with_slash(namespace: str) -> str:
    return f"{namespace}/"
