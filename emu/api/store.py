"""Objects and their history: a map in memory over a journal in SQLite.

Every write is one row of the journal and is committed before it is acknowledged, so it outlives the process
(not the power supply). The row's number is the object's resourceVersion. The newest events are retained, in
the journal too, so that a watch can resume from any of their versions, across a restart as well.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from emu.api.errors import ExpiredError, StateError

RETAINED_EVENTS = 10_000
_COMPACT_EVERY = 500
_WATCHER_EVENTS = 20_000
_WATCHER_BYTES = 64 << 20

_encode = msgspec.json.Encoder().encode


class Key(NamedTuple):
    """Identity of an object: its resource (`deployments.apps`), namespace ("" if it has none) and name."""

    resource: str
    namespace: str
    name: str


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

    def document(self) -> dict[str, Any]:
        """A fresh decoded copy."""
        document: dict[str, Any] = msgspec.json.decode(self.data)
        return document


class StoreEvent:
    """A change: the item it leads to (for a deletion the object as it was last), and the one before."""

    __slots__ = ("_lines", "before", "item", "type")

    def __init__(self, kind: str, item: Item, before: Item | None) -> None:
        self.type = kind
        self.item = item
        self.before = before
        self._lines: dict[str, bytes] = {}

    def line(self, kind: str) -> bytes:
        """The event as a line of a watch stream, encoded once for all watchers."""
        line = self._lines.get(kind)
        if line is None:
            line = b'{"type":"%b","object":%b}\n' % (kind.encode(), self.item.data)
            self._lines[kind] = line
        return line


class Scope(NamedTuple):
    """What a watch covers: a resource, and optionally one namespace, one name, one node's pods."""

    resource: str
    namespace: str = ""
    name: str = ""
    node: str = ""


Matcher = Callable[[Item], bool]


class Watcher:
    """A subscription. `take` gives (type, event) pairs; `cut` is set when the reader was too slow."""

    def __init__(self, scope: Scope, matches: Matcher | None) -> None:
        self.scope = scope
        self._matches = matches
        self._pending: deque[tuple[str, StoreEvent]] = deque()
        self._size = 0
        self._wakeup = asyncio.Event()
        self.cut = False

    def offer(self, event: StoreEvent) -> None:
        """Queue an event if it concerns this watch, as what it is in the eyes of its selectors."""
        kind = self._seen_as(event)
        if kind is None or self.cut:
            return
        self._pending.append((kind, event))
        self._size += len(event.item.data)
        if len(self._pending) > _WATCHER_EVENTS or self._size > _WATCHER_BYTES:
            self.end()
        self._wakeup.set()

    def _seen_as(self, event: StoreEvent) -> str | None:
        scope, key = self.scope, event.item.key
        if (scope.namespace and key.namespace != scope.namespace) or (scope.name and key.name != scope.name):
            return None
        if self._matches is None:
            return event.type
        was = event.before is not None and self._matches(event.before)
        now = event.type != "DELETED" and self._matches(event.item)
        if now:
            return "MODIFIED" if was else "ADDED"
        return "DELETED" if was else None

    def end(self) -> None:
        """Cut the reader off."""
        self._pending.clear()
        self.cut = True
        self._wakeup.set()

    async def take(self, timeout: float | None = None) -> list[tuple[str, StoreEvent]]:
        """All queued events, waiting for the first. Empty after `timeout` seconds or when cut off."""
        if not self._pending and not self.cut:
            self._wakeup.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._wakeup.wait()
            except TimeoutError:
                return []
        taken = list(self._pending)
        self._pending.clear()
        self._size = 0
        return taken


class Store:
    """The map and its journal. All methods are synchronous; use within one thread."""

    def __init__(self, path: Path | None, *, retained: int = RETAINED_EVENTS) -> None:
        """`path` None keeps the journal in memory. Raises StateError when the file cannot be used."""
        self._retained = retained
        self._objects: dict[str, dict[tuple[str, str], Item]] = {}
        self._events: deque[StoreEvent] = deque()
        self._garbage: list[int] = []
        self._watchers: dict[Scope, set[Watcher]] = {}
        self._inspect: dict[str, Callable[[dict[str, Any]], Mapping[str, str]]] = {}
        self.version = 0
        self._horizon = 0
        try:
            self._journal = sqlite3.connect(path or ":memory:", isolation_level=None)
            # One process owns the journal: the second one to open it is told so at once.
            self._journal.execute("PRAGMA busy_timeout=0")
            self._journal.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._journal.execute("PRAGMA journal_mode=WAL")
            self._journal.execute("PRAGMA synchronous=OFF")
            self._journal.executescript(
                "CREATE TABLE IF NOT EXISTS journal (version INTEGER PRIMARY KEY, type TEXT NOT NULL,"
                " resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL);"
                "CREATE TABLE IF NOT EXISTS horizon (one INTEGER PRIMARY KEY CHECK (one = 1),"
                " version INTEGER);"
            )
        except sqlite3.Error as error:
            raise StateError(
                f"the journal {path} cannot be opened ({error}): stop the API server that uses it, or clear "
                "the state directory with `emu reset`"
            ) from None

    def register(self, resource: str, fields: Callable[[dict[str, Any]], Mapping[str, str]]) -> None:
        """Name a resource before `load`; `fields` gives what its field selectors may look at."""
        self._inspect[resource] = fields
        self._objects[resource] = {}

    def load(self) -> None:
        """Read the journal. Objects of resources that are not registered are left where they are."""
        row = self._journal.execute("SELECT version FROM horizon").fetchone()
        self._horizon = row[0] if row else 0
        rows = self._journal.execute(
            "SELECT version, type, resource, namespace, name, data FROM journal ORDER BY version"
        )
        for version, kind, resource, namespace, name, data in rows:
            self.version = version
            if resource in self._objects:
                key = Key(resource, namespace, name)
                self._apply(kind, self._item(key, version, data, msgspec.json.decode(data)))

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    # --- reading ---

    def get(self, key: Key) -> Item | None:
        """The current version of an object."""
        return self._objects[key.resource].get((key.namespace, key.name))

    def items(self, resource: str, namespace: str = "") -> list[Item]:
        """All objects of a resource, in one namespace or in all, ordered by namespace and name."""
        objects = self._objects[resource]
        if namespace:
            return [objects[at] for at in sorted(at for at in objects if at[0] == namespace)]
        return [objects[at] for at in sorted(objects)]

    # --- writing ---

    def put(self, key: Key, document: dict[str, Any]) -> Item:
        """Create or replace an object; sets its resourceVersion."""
        kind = "MODIFIED" if (key.namespace, key.name) in self._objects[key.resource] else "ADDED"
        return self._write(kind, key, document)

    def delete(self, key: Key, document: dict[str, Any] | None = None) -> Item:
        """Remove an object. `document` is what its watchers see last; without it the stored one."""
        before = self._objects[key.resource][key.namespace, key.name]
        return self._write("DELETED", key, before.document() if document is None else document)

    def _write(self, kind: str, key: Key, document: dict[str, Any]) -> Item:
        version = self.version + 1
        document["metadata"]["resourceVersion"] = str(version)
        data = _encode(document)
        self._journal.execute("INSERT INTO journal VALUES (?,?,?,?,?,?)", (version, kind, *key, data))
        self.version = version
        item = self._item(key, version, data, document)
        self._publish(self._apply(kind, item))
        if len(self._garbage) >= _COMPACT_EVERY:
            self._compact()
        return item

    def _item(self, key: Key, version: int, data: bytes, document: dict[str, Any]) -> Item:
        labels = document["metadata"].get("labels") or {}
        fields = {
            "metadata.name": key.name,
            "metadata.namespace": key.namespace,
            **self._inspect[key.resource](document),
        }
        return Item(key, version, data, dict(labels), fields)

    def _apply(self, kind: str, item: Item) -> StoreEvent:
        objects = self._objects[item.key.resource]
        at = (item.key.namespace, item.key.name)
        if kind == "DELETED":
            before = objects.pop(at, None)
        else:
            before = objects.get(at)
            objects[at] = item
        event = StoreEvent(kind, item, before)
        if item.version <= self._horizon:
            self._supersede(event)
            return event
        self._events.append(event)
        while len(self._events) > self._retained:
            forgotten = self._events.popleft()
            self._horizon = forgotten.item.version
            self._supersede(forgotten)
        return event

    def _supersede(self, event: StoreEvent) -> None:
        """An event is no longer retained: what it replaced, and a deletion itself, need no row."""
        if event.before is not None:
            self._garbage.append(event.before.version)
            event.before = None
        if event.type == "DELETED":
            self._garbage.append(event.item.version)

    def _compact(self) -> None:
        self._journal.execute("BEGIN")
        self._journal.executemany("DELETE FROM journal WHERE version=?", ((v,) for v in self._garbage))
        self._journal.execute("INSERT OR REPLACE INTO horizon VALUES (1, ?)", (self._horizon,))
        self._journal.execute("COMMIT")
        self._garbage.clear()

    # --- watching ---

    def watch(self, scope: Scope, since: int | None, matches: Matcher | None = None) -> Watcher:
        """Subscribe to changes after version `since` (None: from now on).

        Raises ExpiredError when that version is no longer retained, or not reached yet.
        """
        watcher = Watcher(scope, matches)
        if since is not None and since > self.version:
            # A version of another journal: its reader has to list again.
            raise ExpiredError(f"too large resource version: {since} (current: {self.version})")
        if since is not None and since < self.version:
            if since < self._horizon:
                raise ExpiredError(f"too old resource version: {since} ({self._horizon})")
            for event in self._since(since):
                if event.item.key.resource == scope.resource:
                    watcher.offer(event)
        self._watchers.setdefault(scope, set()).add(watcher)
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        """End a subscription."""
        watchers = self._watchers.get(watcher.scope)
        if watchers is not None:
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[watcher.scope]

    def end_watches(self) -> None:
        """Cut off every subscription, as the server stops."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.end()

    def _since(self, version: int) -> Iterable[StoreEvent]:
        newer: list[StoreEvent] = []
        for event in reversed(self._events):
            if event.item.version <= version:
                break
            newer.append(event)
        return reversed(newer)

    def _publish(self, event: StoreEvent) -> None:
        if not self._watchers:
            return
        resource, namespace, name = event.item.key
        scopes = {
            Scope(resource),
            Scope(resource, namespace),
            Scope(resource, namespace, name),
            Scope(resource, "", name),
        }
        for item in (event.item, event.before):
            node = item.fields.get("spec.nodeName") if item is not None else None
            if node:
                scopes |= {Scope(resource, "", "", node), Scope(resource, namespace, "", node)}
        for scope in scopes:
            for watcher in self._watchers.get(scope, ()):
                watcher.offer(event)
