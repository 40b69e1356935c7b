"""Watches: changes of a collection as a stream of events, plain, as Tables, or as metadata only."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import msgspec
from aiohttp import HttpVersion11, web

from emu.api.errors import ExpiredError, InvalidError, Target
from emu.api.lists import check_reached, check_watch_options
from emu.api.negotiation import Form, answer_form, parse_bool
from emu.api.queries import matcher, number, scope, version_error, version_of
from emu.api.resource import Document, Resource
from emu.api.routes import Route
from emu.api.store import Item, Store, Watcher
from emu.api.tables import included, partial_metadata, table

log = logging.getLogger(__name__)

_BOOKMARK_SECONDS = 60.0
_LAST_BOOKMARK_SECONDS = 2.0
"""How long before its timeout a watch gets a last bookmark, so that its client resumes from close to now."""
_WATCH_SECONDS = (1800.0, 3600.0)
_INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_PIECE_BYTES = 256 << 10
_QUEUED_BYTES = 16 << 20
"""What may wait in a connection for a client that does not read; then it is cut off."""

_encode = msgspec.json.Encoder().encode


async def serve_watch(store: Store, request: web.BaseRequest, route: Route) -> web.StreamResponse:
    """Stream the changes of a collection until the client leaves or the watch times out.

    Raises InvalidError for options that do not go together and TooLargeVersionError for a list of a version
    that is not reached; a version that is no longer retained is an ERROR event of the stream.
    """
    options = _Options.of(store, route.resource, request.query)
    form = answer_form(request.headers.get("Accept", ""))
    encoding = event_encoding(
        route.resource, form, included(request.query) if form.table else "", with_columns=bool(form.table)
    )
    matches = matcher(route.resource, request.query)
    connection = _Connection(request)
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
    )
    try:
        watcher = store.watch(scope(route, request.query), options.since, matches, encoding, connection)
    except ExpiredError as error:
        await response.prepare(request)
        await response.write(_encode({"type": "ERROR", "object": error.status()}) + b"\n")
        return response
    try:
        bookmark = encoding.bookmark(store.version, end_of_initial=True)
        await response.prepare(request)
        for piece in _pieces(watcher.backlog):
            await response.write(piece)
        if options.end_of_initial:
            await response.write(bookmark)
        watcher.release()
        await _until_over(store, watcher, connection, encoding, options)
    except (ConnectionError, OSError):
        log.debug("a watcher of %s left", route.resource.name)
    finally:
        store.unwatch(watcher)
    return response


class _Options(NamedTuple):
    """What the query of a watch asks for."""

    since: int | None
    """The version to start after; None to start with what is there."""
    bookmarks: bool
    end_of_initial: bool
    """Whether a bookmark tells where what was there ends and changes begin."""
    deadline: float
    """When the watch times out, in seconds of the monotonic clock."""

    @classmethod
    def of(cls, store: Store, resource: Resource, query: Mapping[str, str]) -> _Options:
        check_watch_options(query)
        text = query.get("resourceVersion", "")
        wrong = version_error(text)
        if wrong:
            raise InvalidError(Target(resource.group, resource.plural, resource.plural), [wrong])
        version = version_of(text)
        bookmarks = parse_bool(query.get("allowWatchBookmarks", "false"))
        since: int | None = version or None
        initial = False
        if "sendInitialEvents" in query:
            check_reached(store, version)
            initial = parse_bool(query["sendInitialEvents"])
            since = None if initial else (version or store.version)
        seconds = number(query, "timeoutSeconds") or random.uniform(*_WATCH_SECONDS)
        return cls(since, bookmarks, initial and bookmarks, time.monotonic() + seconds)


async def _until_over(
    store: Store, watcher: Watcher, connection: _Connection, encoding: EventEncoding, options: _Options
) -> None:
    """Return when the watch times out or is ended; events pass by on their own meanwhile."""
    while True:
        now = time.monotonic()
        bookmark = min(now + _BOOKMARK_SECONDS, options.deadline - _LAST_BOOKMARK_SECONDS)
        due = bookmark if options.bookmarks and bookmark > now else options.deadline
        try:
            async with asyncio.timeout(due - now):
                await watcher.ended.wait()
            return
        except TimeoutError:
            if due == options.deadline:
                store.progress()
                return
            # Whatever the bookmark promises has been sent before it.
            connection.send(encoding.bookmark(store.progress()))


class _Connection:
    """A watcher's connection, written to without waiting. A client that does not read is cut off."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._transport = request.transport
        self._chunked = request.version >= HttpVersion11
        self._peer = request.remote

    def send(self, data: bytes) -> None:
        """Pass bytes on, as a chunk of the response where it has chunks."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > _QUEUED_BYTES:
            log.warning("the watcher at %s reads too slowly and is cut off", self._peer)
            self.cut()
            return
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def cut(self) -> None:
        """Drop the connection with all that it holds."""
        if self._transport is not None:
            self._transport.abort()


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines together, in pieces that are worth a write and leave the event loop to others in between."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        piece.append(line)
        size += len(line)
        if size >= _PIECE_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
    if piece:
        yield b"".join(piece)


class EventEncoding:
    """The form that a watch asked for. Get it from `event_encoding`, which gives equal ones as one."""

    def __init__(self, resource: Resource, form: Form, include: str, *, with_columns: bool) -> None:
        self._resource = resource
        self._form = form
        self._include = include
        self._with_columns = with_columns

    def following(self) -> EventEncoding:
        """The form of the events after the first: only that one has the columns of a Table."""
        if not self._with_columns:
            return self
        return event_encoding(self._resource, self._form, self._include, with_columns=False)

    def event(self, kind: str, item: Item) -> bytes:
        """An event as a line."""
        if self._form.table:
            shown: Document = table(
                self._resource,
                [self._resource.show(item.document())],
                now=time.time(),
                version=self._form.table,
                include=self._include,
                metadata={"resourceVersion": str(item.version)},
                with_columns=self._with_columns,
            )
            return _encode({"type": kind, "object": shown}) + b"\n"
        if self._form.metadata_only:
            return _encode({"type": kind, "object": partial_metadata(item.document())}) + b"\n"
        data = item.data
        if self._resource.view is not None:
            data = _encode(self._resource.show(item.document()))
        return b'{"type":"%b","object":%b}\n' % (kind.encode(), data)

    def bookmark(self, version: int, *, end_of_initial: bool = False) -> bytes:
        """A bookmark as a line."""
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


@lru_cache(maxsize=1024)
def event_encoding(resource: Resource, form: Form, include: str, *, with_columns: bool) -> EventEncoding:
    """The encoding of a form, the same object for the same form."""
    return EventEncoding(resource, form, include, with_columns=with_columns)
