"""The garbage collector: what belongs to an owner that is gone goes too, in the background.

An object is deleted when all of its owners, told by uid, are gone; while one of them lives, references to the
others are taken out. An owner that is deleted with propagation Foreground stays until what blocks its
deletion is gone; with Orphan, until what it owns is let go. All kinds that the API server serves take part,
but Events: those are deleted here when they are old.

Source: `pkg/controller/garbagecollector`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from emu.client.discovery import Kind
from emu.client.rest import ApiError, ApiUnreachable
from emu.controllers.actions import Action, Context, Delete, Patch, perform, release, set_owners
from emu.controllers.timestamps import seconds_since
from emu.controllers.workqueue import WorkQueue
from emu.core.objects import Event, Object, OwnerReference

log = logging.getLogger(__name__)

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
EVENT_TTL_SECONDS = 3600.0
_EVENT_SWEEP_SECONDS = 600.0


class GroupKind(NamedTuple):
    """A kind whatever its version."""

    group: str
    kind: str


def group_kind(reference: OwnerReference) -> GroupKind:
    """The kind that a reference means."""
    group, _, _ = reference.api_version.rpartition("/")
    return GroupKind(group, reference.kind)


def followed(kinds: Mapping[tuple[str, str], Kind]) -> dict[GroupKind, Kind]:
    """Of the kinds served, by (apiVersion, kind), those that take part, each in its first version."""
    found: dict[GroupKind, Kind] = {}
    for kind in kinds.values():
        if {"list", "watch", "delete", "patch"} <= kind.verbs and kind.name != Event.kind:
            found.setdefault(GroupKind(kind.resource.group, kind.name), kind)
    return found


def absent(item: Object, living: Iterable[str], known: Iterable[GroupKind]) -> list[OwnerReference]:
    """Which owners of an object are gone. Owners of kinds that are not served count as living."""
    alive, served = set(living), set(known)
    return [
        reference
        for reference in item.metadata.owner_references
        if group_kind(reference) in served and reference.uid not in alive
    ]


def collect(item: Object, gone: Iterable[OwnerReference]) -> list[Action]:
    """What becomes of an object some of whose owners are gone."""
    uids = {reference.uid for reference in gone}
    if not uids or item.metadata.deletion_timestamp is not None:
        return []
    left = [reference for reference in item.metadata.owner_references if reference.uid not in uids]
    if left:
        return [set_owners(item, left)]
    return [Delete(item.resource, item.namespace, item.name, item.metadata.uid)]


def finalize(owner: Object, owned: Iterable[Object]) -> list[Action]:
    """The next step for an owner that waits to be deleted, by its finalizer of the garbage collector.

    The finalizer goes in a step of its own, when nothing is owned any more.
    """
    finalizers = owner.metadata.finalizers
    finalizer = ORPHAN if ORPHAN in finalizers else FOREGROUND
    if owner.metadata.deletion_timestamp is None or finalizer not in finalizers:
        return []
    owned = list(owned)
    if finalizer == ORPHAN:
        return [release(item, owner) for item in owned] or [_without_finalizer(owner, finalizer)]
    blocking = [item for item in owned if _blocks(item, owner)]
    if not blocking:
        return [_without_finalizer(owner, finalizer)]
    return [
        Delete(item.resource, item.namespace, item.name, item.metadata.uid, "Foreground")
        for item in blocking
        if item.metadata.deletion_timestamp is None
    ]


def _blocks(item: Object, owner: Object) -> bool:
    return any(
        reference.uid == owner.metadata.uid and reference.block_owner_deletion
        for reference in item.metadata.owner_references
    )


def _without_finalizer(owner: Object, finalizer: str) -> Patch:
    left = [item for item in owner.metadata.finalizers if item != finalizer]
    metadata = {"resourceVersion": owner.metadata.resource_version, "finalizers": left}
    return Patch(owner.resource, owner.namespace, owner.name, {"metadata": metadata})


def expired(events: Iterable[tuple[str, str, str]], now: float) -> list[str]:
    """Keys of the Events, given as (key, lastTimestamp, creationTimestamp), that are older than an hour."""
    return [key for key, last, created in events if seconds_since(last or created, now) > EVENT_TTL_SECONDS]


class GarbageCollector:
    """Follows owners and what they own."""

    def __init__(self, context: Context, kinds: Mapping[tuple[str, str], Kind]) -> None:
        """`kinds` are those that are served. Made after all other controllers, whose reflectors it shares."""
        self._context = context
        self._recorder = context.recorder("garbage-collector-controller")
        informers = context.informers
        self._views: dict[GroupKind, type[Object]] = {
            found: informers.view(kind.resource, kind.name) for found, kind in followed(kinds).items()
        }
        self._reflectors = {found: informers.reflector(view) for found, view in self._views.items()}
        self._uids: set[str] = set()
        self._owned = {
            found: informers.index(
                view, "owners", lambda item: [owner.uid for owner in item.metadata.owner_references]
            )
            for found, view in self._views.items()
        }
        self._queue = WorkQueue("garbage-collector", self._sync, workers=8)
        for found in self._views:
            self._follow(found)

    def _follow(self, kind: GroupKind) -> None:
        def changed(key: str, before: Object | None, now: Object | None) -> None:
            if now is not None:
                self._uids.add(now.metadata.uid)
                if now.metadata.owner_references:
                    self._check(kind, key, now)
                if now.metadata.deletion_timestamp is not None and now.metadata.finalizers:
                    self._add(kind, key)
            if before is not None and (
                now is None or now.metadata.owner_references != before.metadata.owner_references
            ):
                self._dependent_gone(before)
            if before is not None and (now is None or now.metadata.uid != before.metadata.uid):
                self._uids.discard(before.metadata.uid)
                self._owner_gone(before.metadata.uid)

        self._reflectors[kind].subscribe(changed)

    def _add(self, kind: GroupKind, key: str) -> None:
        self._queue.add(f"{kind.group}|{kind.kind}|{key}")

    def _check(self, kind: GroupKind, key: str, item: Object) -> None:
        if any(owner.uid not in self._uids for owner in item.metadata.owner_references):
            self._add(kind, key)

    def _owner_gone(self, uid: str) -> None:
        for kind, index in self._owned.items():
            for key in index.get(uid):
                self._add(kind, key)

    def _dependent_gone(self, item: Object) -> None:
        for reference in item.metadata.owner_references:
            kind = group_kind(reference)
            view = self._views.get(kind)
            if view is not None:
                namespaced = view.resource.namespaced
                self._add(kind, f"{item.namespace}/{reference.name}" if namespaced else reference.name)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._context.informers.synced()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run())
            group.create_task(self._sweep_events())

    async def _sync(self, key: str) -> float | None:
        group, kind, name = key.split("|", 2)
        item = self._reflectors[GroupKind(group, kind)].items.get(name)
        if item is None:
            return None
        if item.metadata.deletion_timestamp is not None and item.metadata.finalizers:
            owned = [
                dependent
                for index in self._owned.values()
                for dependent in index.get(item.metadata.uid).values()
            ]
            return await perform(self._context, self._recorder, finalize(item, owned))
        # An owner may be newer than what this process has seen: only the API server knows.
        gone = [
            reference
            for reference in absent(item, self._uids, self._views)
            if not await self._lives(item.namespace, reference)
        ]
        return await perform(self._context, self._recorder, collect(item, gone))

    async def _lives(self, namespace: str, reference: OwnerReference) -> bool:
        view = self._views[group_kind(reference)]
        try:
            owner = await self._context.client.get(view, namespace, reference.name)
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
