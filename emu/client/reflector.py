"""A local copy of a collection, kept true by list and watch.

The order of client-go's reflector: list, then watch from the list's resourceVersion; after a broken
connection watch again from the last version seen; on 410 Expired list again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from emu.client.rest import ApiError, ApiUnreachable, Client, ObjectList, selector_params
from emu.core.objects import Object, ObjectMeta

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Object)

Listener = Callable[[str, T | None, T | None], None]
"""Called with (key, object before, object now): None before is an addition, None now a deletion."""

_FIRST_RETRY_SECONDS = 0.05
_LAST_RETRY_SECONDS = 2.0


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct):
    metadata: ObjectMeta


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""


class _ExpiredError(Exception):
    pass


class Reflector(Generic[T]):
    """Keeps `items` equal to a collection and tells listeners of each change.

    Listeners run in the event loop, in the order they were added, after `items` has changed. `synced` is set
    once the first list was delivered and stays set: while the API server is away the last known state counts.
    """

    def __init__(
        self,
        client: Client,
        view: type[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        self._client = client
        self._view = view
        self._path = view.resource.path(namespace)
        self._params = selector_params(label_selector, field_selector)
        self._listeners: list[Listener[T]] = []
        self._version = ""
        self._decode_event = msgspec.json.Decoder(_Event).decode
        self._decode_object = msgspec.json.Decoder(view).decode
        self._decode_list = msgspec.json.Decoder(ObjectList[view]).decode  # type: ignore[valid-type]
        self.items: dict[str, T] = {}
        self.synced = asyncio.Event()

    def subscribe(self, listener: Listener[T]) -> None:
        """Tell `listener` of every later change, and now of what is there already."""
        self._listeners.append(listener)
        for key, item in self.items.items():
            listener(key, None, item)

    async def run(self) -> None:
        """List and watch until cancelled."""
        delay = _FIRST_RETRY_SECONDS
        while True:
            try:
                if not self._version:
                    await self._list()
                delay = _FIRST_RETRY_SECONDS
                await self._watch()
            except _ExpiredError:
                self._version = ""
                continue
            except ApiError as error:
                if error.code == 410:
                    self._version = ""
                    continue
                log.warning("cannot watch %s: %s", self._path, error)
            except ApiUnreachable as error:
                log.debug("watch of %s ended: %s", self._path, error)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, _LAST_RETRY_SECONDS)

    async def _list(self) -> None:
        listed: ObjectList[T] = self._decode_list(
            await self._client.request("GET", self._path, params=self._params)
        )
        fresh: dict[str, T] = {item.key: item for item in listed.items}
        gone = [key for key in self.items if key not in fresh]
        for key in gone:
            self._notify(key, self.items.pop(key), None)
        for key, item in fresh.items():
            before = self.items.get(key)
            self.items[key] = item
            if before is None or before.metadata.resource_version != item.metadata.resource_version:
                self._notify(key, before, item)
        self._version = listed.metadata.resource_version
        self.synced.set()

    async def _watch(self) -> None:
        params = {
            **self._params,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
        }
        async with self._client.stream(self._path, params) as lines:
            async for line in lines:
                self._apply(self._decode_event(line))

    def _apply(self, event: _Event) -> None:
        if event.type == "BOOKMARK":
            self._version = msgspec.json.decode(event.object, type=_Bookmark).metadata.resource_version
            return
        if event.type == "ERROR":
            status = msgspec.json.decode(event.object, type=_Status)
            if status.code == 410:
                raise _ExpiredError
            raise ApiError(status.code, "", status.message)
        item: T = self._decode_object(event.object)
        key = item.key
        if event.type == "DELETED":
            before = self.items.pop(key, None)
            self._version = item.metadata.resource_version
            self._notify(key, before, None)
        else:
            before = self.items.get(key)
            self.items[key] = item
            self._version = item.metadata.resource_version
            self._notify(key, before, item)

    def _notify(self, key: str, before: T | None, now: T | None) -> None:
        for listener in self._listeners:
            listener(key, before, now)
