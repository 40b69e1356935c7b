"""Watches: changes of a collection as a stream of events, plain, as Tables, or as metadata only."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from aiohttp import web

from emu.api.errors import BadRequestError, ExpiredError
from emu.api.negotiation import Form, answer_form, parse_bool
from emu.api.queries import matcher, number, scope, version_of
from emu.api.resource import Document, Resource
from emu.api.routes import Route
from emu.api.store import Item, Store, Watcher
from emu.api.tables import partial_metadata, table

log = logging.getLogger(__name__)

_BOOKMARK_SECONDS = 60.0
_WATCH_SECONDS = (1800.0, 3600.0)
_INITIAL_EVENTS_END = "k8s.io/initial-events-end"

_encode = msgspec.json.Encoder().encode


async def serve_watch(store: Store, request: web.BaseRequest, route: Route) -> web.StreamResponse:
    """Stream the changes of a collection until the client leaves or the watch times out."""
    resource, query = route.resource, request.query
    form = answer_form(request.headers.get("Accept", ""))
    initial_events = parse_bool(query.get("sendInitialEvents", "false"))
    bookmarks = parse_bool(query.get("allowWatchBookmarks", "false"))
    if initial_events and not (bookmarks and query.get("resourceVersionMatch") == "NotOlderThan"):
        raise BadRequestError(
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan and "
            "allowWatchBookmarks to true"
        )
    since = version_of(query.get("resourceVersion", ""))
    matches = matcher(resource, query)
    encoder = _EventEncoder(resource, form, query.get("includeObject", ""))
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
    )
    try:
        if initial_events or not since:
            first = store.items(resource.name, route.namespace)
            watcher = store.watch(scope(route, query), None, matches)
            lines = [encoder.item("ADDED", item) for item in first if matches is None or matches(item)]
            if initial_events:
                lines.append(encoder.bookmark(store.version, end_of_initial=True))
        else:
            watcher = store.watch(scope(route, query), since, matches)
            lines = []
    except ExpiredError as error:
        await response.prepare(request)
        await response.write(_encode({"type": "ERROR", "object": error.status()}) + b"\n")
        return response
    try:
        await response.prepare(request)
        if lines:
            await response.write(b"".join(lines))
        async for chunk in _events(store, watcher, encoder, query, bookmarks=bookmarks):
            await response.write(chunk)
    except (ConnectionError, OSError):
        log.debug("a watcher of %s left", resource.name)
    finally:
        store.unwatch(watcher)
    return response


async def _events(
    store: Store, watcher: Watcher, encoder: _EventEncoder, query: Mapping[str, str], *, bookmarks: bool
) -> AsyncIterator[bytes]:
    seconds = number(query, "timeoutSeconds")
    deadline = time.monotonic() + (seconds or random.uniform(*_WATCH_SECONDS))
    while not watcher.cut:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            break
        # Read before waiting: a bookmark must not promise more than was sent.
        events = await watcher.take(min(remaining, _BOOKMARK_SECONDS))
        if events:
            yield b"".join([encoder.event(kind, event) for kind, event in events])
        elif bookmarks and not watcher.cut:
            yield encoder.bookmark(store.version)


class _EventEncoder:
    """Events in the form that one watch asked for; the plain form is shared by all watches."""

    def __init__(self, resource: Resource, form: Form, include: str) -> None:
        self._resource = resource
        self._form = form
        self._include = include
        self._first = True

    def event(self, kind: str, event: Any) -> bytes:
        line: bytes
        if self._form.table or self._form.metadata_only:
            return self.item(kind, event.item)
        line = event.line(kind)
        return line

    def item(self, kind: str, item: Item) -> bytes:
        if self._form.table:
            shown: Document = table(
                self._resource,
                [item.document()],
                now=time.time(),
                version=self._form.table,
                include=self._include,
                metadata={"resourceVersion": str(item.version)},
                with_columns=self._first,
            )
            self._first = False
            return _encode({"type": kind, "object": shown}) + b"\n"
        if self._form.metadata_only:
            return _encode({"type": kind, "object": partial_metadata(item.document())}) + b"\n"
        return b'{"type":"%b","object":%b}\n' % (kind.encode(), item.data)

    def bookmark(self, version: int, *, end_of_initial: bool = False) -> bytes:
        metadata: Document = {"resourceVersion": str(version), "creationTimestamp": None}
        if end_of_initial:
            metadata["annotations"] = {_INITIAL_EVENTS_END: "true"}
        if self._form.table:
            shown = table(
                self._resource, [], now=0, version=self._form.table, metadata=metadata, with_columns=False
            )
            # A Table has no metadata of an object: kubectl reads the bookmark from its row.
            shown["rows"] = [{"cells": [], "object": {**partial_metadata({"metadata": metadata})}}]
            return _encode({"type": "BOOKMARK", "object": shown}) + b"\n"
        document = {
            "kind": self._resource.kind,
            "apiVersion": self._resource.api_version,
            "metadata": metadata,
        }
        if self._form.metadata_only:
            document = partial_metadata(document)
        return _encode({"type": "BOOKMARK", "object": document}) + b"\n"
