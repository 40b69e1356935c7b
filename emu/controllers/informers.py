"""One reflector for each kind, shared by all controllers of the process, and indexes over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Generic, TypeVar, cast

import msgspec

from emu.client.reflector import Reflector
from emu.client.rest import Client
from emu.core.objects import Object, ResourceName

T = TypeVar("T", bound=Object)


class Index(Generic[T]):
    """The objects of a reflector by other values than their key."""

    def __init__(self, reflector: Reflector[T], values: Callable[[T], Iterable[Hashable]]) -> None:
        self._values = values
        self._found: dict[Hashable, dict[str, T]] = {}
        reflector.subscribe(self._changed)

    def get(self, value: Hashable) -> Mapping[str, T]:
        """The objects that have a value, by key."""
        return self._found.get(value, {})

    def _changed(self, key: str, before: T | None, now: T | None) -> None:
        old = set(self._values(before)) if before is not None else set()
        new = set(self._values(now)) if now is not None else set()
        for value in old - new:
            found = self._found.get(value, {})
            found.pop(key, None)
            if not found:
                self._found.pop(value, None)
        if now is not None:
            for value in new:
                self._found.setdefault(value, {})[key] = now


class Informers:
    """The reflectors and indexes of the process. All are made before `run`, so none misses a change."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._reflectors: dict[ResourceName, Reflector[Any]] = {}
        self._indexes: dict[tuple[ResourceName, str], Index[Any]] = {}
        self.learning = False
        """Whether what listeners are told now is the answer to a write of this process."""

    def reflector(self, view: type[T]) -> Reflector[T]:
        """The shared reflector of a kind."""
        if view.resource not in self._reflectors:
            self._reflectors[view.resource] = Reflector(self._client, view)
        return self._reflectors[view.resource]

    def view(self, resource: ResourceName, kind: str) -> type[Object]:
        """The view that the process has of a kind; one of the metadata alone where nobody asked for more."""
        if resource in self._reflectors:
            return self._reflectors[resource].view
        namespace = {"resource": resource, "kind": kind}
        return cast(
            "type[Object]", msgspec.defstruct(kind, (), bases=(Object,), namespace=namespace, frozen=True)
        )

    def index(self, view: type[T], name: str, values: Callable[[T], Iterable[Hashable]]) -> Index[T]:
        """The shared index of a kind under a name; the first who asks for it says what it holds."""
        if (view.resource, name) not in self._indexes:
            self._indexes[view.resource, name] = Index(self.reflector(view), values)
        return self._indexes[view.resource, name]

    def by_controller(self, view: type[T]) -> Index[T]:
        """Objects by the uid of the owner that controls them."""
        return self.index(view, "controller", _controller_uid)

    def learn(self, resource: ResourceName, body: bytes) -> None:
        """Take over an object as the API server answered a write, ahead of the watch."""
        reflector = self._reflectors.get(resource)
        if reflector is None:
            return
        self.learning = True
        try:
            reflector.learn(body)
        finally:
            self.learning = False

    async def run(self) -> None:
        """Keep all up to date until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors.values():
                group.create_task(reflector.run())

    async def synced(self) -> None:
        """Return when every kind was listed once."""
        for reflector in self._reflectors.values():
            await reflector.synced.wait()


def _controller_uid(item: Object) -> Iterable[Hashable]:
    owner = item.metadata.controller
    return (owner.uid,) if owner is not None else ()
