"""From changes to watchers: who sees a change, as what, and in which bytes.

Changes are handed out once per turn of the event loop. Each is encoded once for all watchers that want it
in the same form, and goes straight into their sinks: no task wakes up for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from emu.api.items import Item, StoreEvent

log = logging.getLogger(__name__)

_PENDING_BYTES = 16 << 20

Matcher = Callable[[Item], bool]


class Scope(NamedTuple):
    """What a watch covers: a resource, and optionally one namespace, one name, one node's pods."""

    resource: str
    namespace: str = ""
    name: str = ""
    node: str = ""


class Sink(Protocol):
    """Where the events of a watch go. Neither method may wait."""

    def send(self, data: bytes) -> None:
        """Take encoded events."""

    def cut(self) -> None:
        """Break the connection: its reader missed events."""


class Encoding(Protocol):
    """The form in which a watch gets its events. Equal ones share the bytes, so it must be hashable."""

    def event(self, kind: str, item: Item) -> bytes:
        """An event as a line of a stream."""

    def following(self) -> Encoding:
        """The encoding of the events after one in this encoding."""


class Watcher:
    """A subscription. Until `release` its events are kept, up to a limit; from then on `sink` gets them.

    Its reader sends the `backlog` first, which lies before all of them.
    """

    def __init__(self, scope: Scope, matches: Matcher | None, encoding: Encoding, sink: Sink) -> None:
        self.scope = scope
        self.encoding = encoding
        self.backlog: Iterator[bytes] = iter(())
        self.ended = asyncio.Event()
        """Set when nothing will come any more."""
        self._matches = matches
        self._sink = sink
        self._pending: list[bytes] = []
        self._size = 0
        self._held = True

    def seen_as(self, event: StoreEvent) -> str | None:
        """ADDED, MODIFIED or DELETED in the eyes of this watch; None when it does not concern it."""
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

    def prepend(self, seen: Sequence[tuple[str, StoreEvent]]) -> None:
        """Make a backlog of what is to be seen first, encoded as it is sent."""
        encoding = self.encoding
        if seen:
            self.encoding = encoding.following()
        self.backlog = _encoded(seen, encoding)

    def add(self, data: bytes) -> None:
        """Queue an encoded event until `deliver`."""
        self._pending.append(data)
        self._size += len(data)

    def deliver(self) -> None:
        """Pass on what is queued, or keep it while the watch is not released."""
        if not self._held:
            self._pass_on()
        elif self._size > _PENDING_BYTES:
            self.cut()

    def release(self) -> None:
        """Let events through: what came before them has been sent."""
        self._held = False
        self._pass_on()

    def _pass_on(self) -> None:
        if self._pending and not self.ended.is_set():
            data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
            self._clear()
            self._sink.send(data)

    def _clear(self) -> None:
        self._pending.clear()
        self._size = 0

    def cut(self) -> None:
        """End the watch and break its connection, so that its reader starts again."""
        self.end()
        self._sink.cut()

    def end(self) -> None:
        """Let nothing more through."""
        self._clear()
        self.ended.set()


def _encoded(seen: Sequence[tuple[str, StoreEvent]], encoding: Encoding) -> Iterator[bytes]:
    for kind, event in seen:
        yield encoding.event(kind, event.shown(kind))
        encoding = encoding.following()


class Fanout:
    """The watchers by what they cover, and the changes that they have not been given yet."""

    def __init__(self) -> None:
        self._watchers: dict[Scope, set[Watcher]] = {}
        self._events: list[StoreEvent] = []

    def add(self, watcher: Watcher) -> None:
        """Let a watcher see all changes from now on."""
        self.flush()
        self._watchers.setdefault(watcher.scope, set()).add(watcher)

    def remove(self, watcher: Watcher) -> None:
        """End a subscription."""
        watcher.end()
        watchers = self._watchers.get(watcher.scope)
        if watchers is not None:
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[watcher.scope]

    def end_all(self) -> None:
        """End every subscription."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.end()

    def publish(self, event: StoreEvent) -> None:
        """Give a change to its watchers, in the next turn of the event loop."""
        if self._watchers:
            if not self._events:
                asyncio.get_running_loop().call_soon(self.flush)
            self._events.append(event)

    def flush(self) -> None:
        """Give the changes so far to their watchers now."""
        events, self._events = self._events, []
        touched: dict[Watcher, None] = {}
        for event in events:
            encoded = _EncodedEvent(event)
            for scope in _scopes(event):
                for watcher in self._watchers.get(scope, ()):
                    try:
                        if encoded.give(watcher):
                            touched[watcher] = None
                    except Exception:
                        # An object that one form cannot show must not keep others from their events.
                        log.exception("a watcher of %s is cut off", scope.resource)
                        watcher.cut()
        for watcher in touched:
            watcher.deliver()


class _EncodedEvent:
    """A change in the forms that were asked for so far."""

    def __init__(self, event: StoreEvent) -> None:
        self._event = event
        self._forms: dict[tuple[Encoding, str], bytes] = {}

    def give(self, watcher: Watcher) -> bool:
        """Queue the change for a watcher that it concerns; gives whether it does."""
        kind = watcher.seen_as(self._event)
        if kind is None or watcher.ended.is_set():
            return False
        encoding = watcher.encoding
        data = self._forms.get((encoding, kind))
        if data is None:
            data = self._forms[encoding, kind] = encoding.event(kind, self._event.shown(kind))
        watcher.encoding = encoding.following()
        watcher.add(data)
        return True


def _scopes(event: StoreEvent) -> set[Scope]:
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
    return scopes
