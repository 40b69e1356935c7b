"""The garbage collector: what belongs to an owner that is gone goes too, in the background.

An object is deleted when all of its owners, told by uid, are gone. An owner that is deleted with propagation
Foreground stays until what it owns is gone; with Orphan, until what it owns is let go. Old Events are deleted
here as well.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from emu.client.rest import ApiError, ApiUnreachable
from emu.controllers.actions import Action, Context, Delete, Patch, perform, release
from emu.controllers.timestamps import seconds_since
from emu.controllers.workqueue import WorkQueue
from emu.core.objects import (
    Deployment,
    Endpoints,
    EndpointSlice,
    Event,
    Node,
    Object,
    OwnerReference,
    Pod,
    ReplicaSet,
    Service,
)

log = logging.getLogger(__name__)

KINDS: tuple[type[Object], ...] = (
    Deployment,
    ReplicaSet,
    Pod,
    Service,
    EndpointSlice,
    Endpoints,
    Node,
)
FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
EVENT_TTL_SECONDS = 3600.0
_EVENT_SWEEP_SECONDS = 600.0


def owner_kind(reference: OwnerReference) -> type[Object] | None:
    """The kind that a reference means, None when it is none that is looked after here."""
    return next(
        (
            kind
            for kind in KINDS
            if kind.kind == reference.kind and kind.resource.api_version == reference.api_version
        ),
        None,
    )


def orphaned(item: Object, living: Iterable[str]) -> bool:
    """Whether an object has owners and all of them are gone. Owners of other kinds count as living."""
    references = item.metadata.owner_references
    if not references or item.metadata.deletion_timestamp is not None:
        return False
    alive = set(living)
    return all(owner_kind(reference) and reference.uid not in alive for reference in references)


def finalize(owner: Object, owned: Iterable[Object]) -> list[Action]:
    """The next step for an owner that waits to be deleted, by its finalizer of the garbage collector.

    The finalizer goes in a step of its own, when nothing is owned any more.
    """
    finalizers = owner.metadata.finalizers
    finalizer = ORPHAN if ORPHAN in finalizers else FOREGROUND
    if owner.metadata.deletion_timestamp is None or finalizer not in finalizers:
        return []
    owned = list(owned)
    if not owned:
        return [_without_finalizer(owner, finalizer)]
    if finalizer == ORPHAN:
        return [release(item, owner) for item in owned]
    return [
        Delete(item.resource, item.namespace, item.name, item.metadata.uid, "Foreground")
        for item in owned
        if item.metadata.deletion_timestamp is None
    ]


def _without_finalizer(owner: Object, finalizer: str) -> Patch:
    left = [item for item in owner.metadata.finalizers if item != finalizer]
    metadata = {"resourceVersion": owner.metadata.resource_version, "finalizers": left}
    return Patch(owner.resource, owner.namespace, owner.name, {"metadata": metadata})


def expired(events: Iterable[tuple[str, str, str]], now: float) -> list[str]:
    """Keys of the Events, given as (key, lastTimestamp, creationTimestamp), that are older than an hour."""
    return [key for key, last, created in events if seconds_since(last or created, now) > EVENT_TTL_SECONDS]


class GarbageCollector:
    """Follows owners and what they own."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._recorder = context.recorder("garbage-collector-controller")
        self._kinds = {kind.kind: kind for kind in KINDS}
        self._reflectors = {kind.kind: context.informers.reflector(kind) for kind in KINDS}
        self._uids: set[str] = set()
        self._owned = {
            kind.kind: context.informers.index(
                kind, "owners", lambda item: [owner.uid for owner in item.metadata.owner_references]
            )
            for kind in KINDS
        }
        self._queue = WorkQueue("garbage-collector", self._sync, workers=8)
        for kind in KINDS:
            self._follow(kind)

    def _follow(self, kind: type[Object]) -> None:
        def changed(key: str, before: Object | None, now: Object | None) -> None:
            if now is not None:
                self._uids.add(now.metadata.uid)
                if now.metadata.owner_references:
                    self._check(kind.kind, key, now)
                if now.metadata.deletion_timestamp is not None and now.metadata.finalizers:
                    self._queue.add(f"{kind.kind}:{key}")
            if before is not None and (
                now is None or now.metadata.owner_references != before.metadata.owner_references
            ):
                self._dependent_gone(before)
            if before is not None and (now is None or now.metadata.uid != before.metadata.uid):
                self._uids.discard(before.metadata.uid)
                self._owner_gone(before.metadata.uid)

        self._reflectors[kind.kind].subscribe(changed)

    def _check(self, kind: str, key: str, item: Object) -> None:
        if any(owner.uid not in self._uids for owner in item.metadata.owner_references):
            self._queue.add(f"{kind}:{key}")

    def _owner_gone(self, uid: str) -> None:
        for kind, index in self._owned.items():
            for key in index.get(uid):
                self._queue.add(f"{kind}:{key}")

    def _dependent_gone(self, item: Object) -> None:
        for reference in item.metadata.owner_references:
            owner = owner_kind(reference)
            if owner is not None:
                name = f"{item.namespace}/{reference.name}" if owner.resource.namespaced else reference.name
                self._queue.add(f"{owner.kind}:{name}")

    async def run(self) -> None:
        """Work until cancelled."""
        await self._context.informers.synced()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run())
            group.create_task(self._sweep_events())

    async def _sync(self, key: str) -> float | None:
        kind, _, name = key.partition(":")
        item = self._reflectors[kind].items.get(name)
        if item is None:
            return None
        if item.metadata.deletion_timestamp is not None and item.metadata.finalizers:
            owned = [
                dependent
                for index in self._owned.values()
                for dependent in index.get(item.metadata.uid).values()
            ]
            return await perform(self._context, self._recorder, finalize(item, owned))
        if not orphaned(item, self._uids):
            return None
        # The owner may be newer than what this process has seen: only the API server knows.
        for reference in item.metadata.owner_references:
            if await self._lives(item.namespace, reference):
                return None
        metadata = item.metadata
        delete = Delete(item.resource, metadata.namespace, metadata.name, metadata.uid)
        await perform(self._context, self._recorder, [delete])
        return None

    async def _lives(self, namespace: str, reference: OwnerReference) -> bool:
        kind = owner_kind(reference)
        if kind is None:
            return True
        try:
            owner = await self._context.client.get(kind, namespace, reference.name)
        except ApiError as error:
            if error.not_found:
                return False
            raise
        return owner.metadata.uid == reference.uid

    async def _sweep_events(self) -> None:
        """Delete old Events from time to time; nobody waits for it."""
        while True:
            await asyncio.sleep(_EVENT_SWEEP_SECONDS)
            try:
                events = await self._context.client.list(Event)
                old = expired(
                    ((e.key, e.last_timestamp or "", e.metadata.creation_timestamp) for e in events),
                    time.time(),
                )
                by_key = {event.key: event for event in events}
                await perform(
                    self._context,
                    self._recorder,
                    [
                        Delete(Event.resource, e.namespace, e.name, e.metadata.uid)
                        for e in (by_key[key] for key in old)
                    ],
                )
            except (ApiError, ApiUnreachable) as error:
                log.debug("old Events stay for now: %s", error)
