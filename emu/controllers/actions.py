"""What a controller's decision asks for, as values, and the one place that carries it out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from emu.client.events import EventRecorder
from emu.client.rest import JSON, MERGE_PATCH, ApiError, Client
from emu.controllers.informers import Informers
from emu.core.config import ClusterConfig
from emu.core.objects import Object, OwnerReference, ResourceName

_AT_ONCE = 16


class Create(NamedTuple):
    """Create an object from a whole document."""

    resource: ResourceName
    document: Mapping[str, Any]
    subresource: str = ""


class Replace(NamedTuple):
    """Replace an object by a whole document that carries the resourceVersion it was decided on."""

    resource: ResourceName
    document: Mapping[str, Any]


class Patch(NamedTuple):
    """Patch an object: a merge patch unless another content type is given."""

    resource: ResourceName
    namespace: str
    name: str
    patch: Any
    subresource: str = ""
    content_type: str = MERGE_PATCH


class Delete(NamedTuple):
    """Delete an object of this uid, and what it owns by the propagation policy."""

    resource: ResourceName
    namespace: str
    name: str
    uid: str
    propagation: str = "Background"


class Report(NamedTuple):
    """Record an Event about an object."""

    about: Object
    reason: str
    message: str
    warning: bool = False


class Requeue(NamedTuple):
    """Decide again after some seconds, though nothing has changed by then."""

    seconds: float


Action = Create | Replace | Patch | Delete | Report | Requeue


class Context(NamedTuple):
    """What every controller is given."""

    client: Client
    informers: Informers
    config: ClusterConfig
    recorder: Callable[[str], EventRecorder]
    """Makes the recorder of a component by its name."""


async def perform(context: Context, recorder: EventRecorder, actions: Iterable[Action]) -> float | None:
    """Carry out actions in order, equal neighbours at once; the seconds of the shortest Requeue.

    Raises the ApiError or ApiUnreachable of the first write that failed, after those next to it have ended;
    what comes later is left undone. Deleting what is gone already is no failure.
    """
    after: float | None = None
    burst: list[Action] = []
    for action in actions:
        if isinstance(action, Requeue):
            after = action.seconds if after is None else min(after, action.seconds)
            continue
        if isinstance(action, Report):
            await _burst(context, burst)
            burst = []
            write = recorder.warning if action.warning else recorder.normal
            write(action.about, action.reason, action.message)
            continue
        if burst and (type(action) is not type(burst[0]) or len(burst) == _AT_ONCE):
            await _burst(context, burst)
            burst = []
        burst.append(action)
    await _burst(context, burst)
    return after


async def _burst(context: Context, actions: Sequence[Action]) -> None:
    if len(actions) == 1:
        await _write(context, actions[0])
        return
    outcomes = await asyncio.gather(*(_write(context, action) for action in actions), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def _write(context: Context, action: Action) -> None:
    client = context.client
    match action:
        case Create(resource, document, subresource):
            metadata = document.get("metadata", {})
            name = metadata.get("name", "") if subresource else ""
            path = resource.path(metadata.get("namespace", ""), name, subresource)
            body = await client.request("POST", path, body=document)
        case Replace(resource, document):
            metadata = document["metadata"]
            path = resource.path(metadata.get("namespace", ""), metadata["name"])
            body = await client.request("PUT", path, body=document)
        case Patch(resource, namespace, name, patch, subresource, content_type):
            path = resource.path(namespace, name, subresource)
            body = await client.request("PATCH", path, body=patch, content_type=content_type)
        case Delete(resource, namespace, name, uid, propagation):
            options = {
                "kind": "DeleteOptions",
                "apiVersion": "v1",
                "preconditions": {"uid": uid},
                "propagationPolicy": propagation,
            }
            try:
                path = resource.path(namespace, name)
                await client.request("DELETE", path, body=options, content_type=JSON)
            except ApiError as error:
                if not error.not_found and error.code != 409:
                    raise
            return
        case _:
            raise TypeError(f"{action} is no write")
    if not isinstance(action, Create | Patch) or action.subresource in ("", "status"):
        context.informers.learn(resource, body)


def owner_reference(owner: Object) -> dict[str, Any]:
    """The reference of an object that controls another."""
    return {
        "apiVersion": owner.resource.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def adopt(item: Object, owner: Object) -> Patch:
    """Make `owner` the controller of an object that has none."""
    return set_owners(item, item.metadata.owner_references, owner_reference(owner))


def release(item: Object, owner: Object) -> Patch:
    """Let go of an object that does not match its owner's selector any more."""
    return set_owners(item, [r for r in item.metadata.owner_references if r.uid != owner.metadata.uid])


def set_owners(item: Object, references: Iterable[OwnerReference], *more: dict[str, Any]) -> Patch:
    """Give an object these owners, if it is still the version that was seen."""
    metadata = {
        "uid": item.metadata.uid,
        "resourceVersion": item.metadata.resource_version,
        "ownerReferences": [*map(plain, references), *more],
    }
    return Patch(item.resource, item.namespace, item.name, {"metadata": metadata})


def plain(view: msgspec.Struct) -> Any:
    """A view as a plain JSON document, without what has its default value."""
    return msgspec.json.decode(msgspec.json.encode(view))
