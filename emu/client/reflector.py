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

from emu.client.rest import ApiError, ApiUnreachable, Client, ListMeta, ObjectList, selector_params
from emu.core.objects import Object

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
    # Nothing but the version: the rest of a bookmark's metadata may be null.
    metadata: ListMeta


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""


class _RawList(msgspec.Struct):
    metadata: ListMeta
    items: list[msgspec.Raw] = []


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
        self.view = view
        self._path = view.resource.path(namespace)
        self._params = selector_params(label_selector, field_selector)
        self._listeners: list[Listener[T]] = []
        self._version = ""
        self._decode_event = msgspec.json.Decoder(_Event).decode
        self._decode_object = msgspec.json.Decoder(view).decode
        self._decode_list = msgspec.json.Decoder(ObjectList[view]).decode  # type: ignore[valid-type]
        self._learnt: dict[str, int] = {}
        self.items: dict[str, T] = {}
        self.synced = asyncio.Event()

    @property
    def version(self) -> int:
        """The resourceVersion up to which changes are known, 0 while there is none."""
        return int(self._version or 0)

    def subscribe(self, listener: Listener[T]) -> None:
        """Tell `listener` of every later change, and now of what is there already."""
        self._listeners.append(listener)
        for key, item in self.items.items():
            listener(key, None, item)

    def learn(self, body: bytes) -> None:
        """Take over an object from the answer to an own write, so that the writer reads what it wrote.

        The watch will tell the same later; nothing is said twice. An answer that the watch has overtaken is
        ignored: the object may be gone by now.
        """
        item: T = self._decode_object(body)
        version = int(item.metadata.resource_version)
        if not self._version or version <= int(self._version):
            return
        before = self.items.get(item.key)
        if before is not None and int(before.metadata.resource_version) >= version:
            return
        self.items[item.key] = item
        self._learnt[item.key] = version
        self._notify(item.key, before, item)

    async def run(self) -> None:
        """List and watch until cancelled."""
        clock = asyncio.get_running_loop().time
        delay = _FIRST_RETRY_SECONDS
        while True:
            version, began = self._version, clock()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except _ExpiredError:
                self._version = ""
            except ApiError as error:
                if error.code == 410:
                    self._version = ""
                else:
                    log.warning("cannot watch %s: %s", self._path, error)
            except ApiUnreachable as error:
                log.debug("watch of %s ended: %s", self._path, error)
            except msgspec.DecodeError as error:
                log.warning("cannot watch %s: the answer is not an API server's: %s", self._path, error)
            # A server that accepts watches only to end them must not be asked ever faster.
            if self._version not in ("", version) or clock() - began > _LAST_RETRY_SECONDS:
                delay = _FIRST_RETRY_SECONDS
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, _LAST_RETRY_SECONDS)

    async def _list(self) -> None:
        listed = self._decode_collection(await self._client.request("GET", self._path, params=self._params))
        fresh: dict[str, T] = {item.key: item for item in listed.items}
        listed_at = int(listed.metadata.resource_version or 0)
        self._learnt = {key: version for key, version in self._learnt.items() if version > listed_at}
        gone = [key for key in self.items if key not in fresh and key not in self._learnt]
        for key in gone:
            self._notify(key, self.items.pop(key), None)
        for key, item in fresh.items():
            if key in self._learnt:
                continue
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
        try:
            item: T = self._decode_object(event.object)
        except msgspec.ValidationError as error:
            log.error("an object of %s cannot be read and is left as it was: %s", self._path, error)
            return
        key = item.key
        if key in self._learnt:
            version, learnt = int(item.metadata.resource_version), self._learnt[key]
            if version >= learnt:
                del self._learnt[key]
            if version < learnt or (version == learnt and event.type != "DELETED"):
                self._version = item.metadata.resource_version
                return
        if event.type == "DELETED":
            before = self.items.pop(key, None)
            self._version = item.metadata.resource_version
            self._notify(key, before, None)
        else:
            before = self.items.get(key)
            self.items[key] = item
            self._version = item.metadata.resource_version
            self._notify(key, before, item)

    def _decode_collection(self, body: bytes) -> ObjectList[T]:
        """A list, without the objects that cannot be read: one of them must not hide all others."""
        try:
            listed: ObjectList[T] = self._decode_list(body)
        except msgspec.ValidationError:
            raw = msgspec.json.decode(body, type=_RawList)
            items = []
            for document in raw.items:
                try:
                    items.append(self._decode_object(document))
                except msgspec.ValidationError as error:
                    log.error("an object of %s cannot be read and is left out: %s", self._path, error)
            return ObjectList(raw.metadata, items)
        return listed

    def _notify(self, key: str, before: T | None, now: T | None) -> None:
        for listener in self._listeners:
            listener(key, before, now)
