"""From requests to verbs: paths, headers, bodies, and answers as Kubernetes gives them."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from emu.api import discovery, openapi, patch, schemas
from emu.api.errors import (
    BadRequestError,
    ExpiredError,
    InternalError,
    MethodNotAllowedError,
    NoSuchPathError,
    StatusError,
    TooLargeError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from emu.api.negotiation import Form, answer_form, media_types, parse_bool
from emu.api.registry import DeleteOptions, Preconditions, Registry, decode, without_nulls
from emu.api.resource import Document, Resource
from emu.api.resources import BY_PATH
from emu.api.store import Item, Matcher, Scope, Watcher
from emu.api.strategic import strategic_merge
from emu.api.tables import partial_metadata, table
from emu.core.selectors import SelectorError, parse_field_selector, parse_label_selector

log = logging.getLogger(__name__)

MAX_BODY = 3 * 1024 * 1024
_OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/version")
_BOOKMARK_SECONDS = 60.0
_WATCH_SECONDS = (1800.0, 3600.0)
_INITIAL_EVENTS_END = "k8s.io/initial-events-end"

_encode = msgspec.json.Encoder().encode


class Route(NamedTuple):
    """What a path names."""

    resource: Resource
    namespace: str
    name: str
    subresource: str


class Answer(NamedTuple):
    """A complete answer."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}


class Api:
    """Handles every request of the API server."""

    def __init__(self, registry: Registry, token: str) -> None:
        self._registry = registry
        self._store = registry.store
        self._authorization = f"Bearer {token}".encode()
        self.ready = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; whatever goes wrong becomes a Status."""
        try:
            answer = await self._dispatch(request)
        except StatusError as error:
            answer = _status_answer(error)
        except Exception as error:
            log.exception("%s %s failed", request.method, request.path_qs)
            answer = _status_answer(InternalError(f"{type(error).__name__}: {error}"))
        if isinstance(answer, web.StreamResponse):
            return answer
        return web.Response(
            body=answer.body,
            status=answer.status,
            headers={
                "Content-Type": answer.content_type,
                "Cache-Control": "no-cache, private",
                **answer.headers,
            },
        )

    async def _dispatch(self, request: web.BaseRequest) -> Answer | web.StreamResponse:
        path = request.path.rstrip("/") or "/"
        if path in _OPEN_PATHS:
            return self._open_path(path)
        authorization = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(authorization, self._authorization):
            raise UnauthorizedError
        route = parse_path(path)
        if route is None:
            if request.method not in ("GET", "HEAD"):
                raise NoSuchPathError
            return self._general_path(request, path)
        return await self._verb(request, route)

    def _open_path(self, path: str) -> Answer:
        if path == "/version":
            return Answer(_encode(discovery.version()))
        if path == "/readyz" and not self.ready:
            return Answer(b"starting", 503, "text/plain; charset=utf-8")
        return Answer(b"ok", 200, "text/plain; charset=utf-8")

    def _general_path(self, request: web.BaseRequest, path: str) -> Answer:
        if path.startswith("/openapi/v3"):
            return _openapi(request, path.removeprefix("/openapi/v3").strip("/"))
        found = discovery.answer(path, request.headers.get("Accept", ""))
        if found is not None:
            document, content_type = found
            return Answer(_encode(document), content_type=content_type, headers={"Vary": "Accept"})
        raise NoSuchPathError

    # --- verbs ---

    async def _verb(self, request: web.BaseRequest, route: Route) -> Answer | web.StreamResponse:
        method = request.method
        if route.subresource and route.subresource not in route.resource.subresources:
            raise NoSuchPathError
        if method in ("GET", "HEAD"):
            if route.name:
                return self._get(request, route)
            if parse_bool(request.query.get("watch", "false")):
                return await self._watch(request, route)
            return self._list(request, route)
        body = await _read_body(request)
        if method == "POST" and route.subresource == "binding":
            return self._bind(request, route, body)
        if method == "POST" and not route.name:
            return self._create(request, route, body)
        if method == "PUT" and route.name:
            return self._replace(request, route, body)
        if method == "PATCH" and route.name:
            return self._patch(request, route, body)
        if method == "DELETE" and not route.subresource:
            return (
                self._delete(request, route, body) if route.name else self._delete_all(request, route, body)
            )
        raise MethodNotAllowedError

    def _get(self, request: web.BaseRequest, route: Route) -> Answer:
        resource = route.resource
        if route.subresource not in ("", "status", "scale"):
            raise MethodNotAllowedError
        item = self._registry.get(resource, route.namespace, route.name)
        if route.subresource == "scale":
            return Answer(_encode(self._registry.scale_of(resource, item)))
        form = answer_form(request.headers.get("Accept", ""))
        if form.table or form.metadata_only:
            return self._shaped(request, resource, item.document(), form)
        return Answer(item.data)

    @staticmethod
    def _shaped(request: web.BaseRequest, resource: Resource, document: Document, form: Form) -> Answer:
        if form.metadata_only:
            return Answer(_encode(partial_metadata(document)))
        return Answer(
            _encode(
                table(
                    resource,
                    [document],
                    now=time.time(),
                    version=form.table,
                    include=request.query.get("includeObject", ""),
                    metadata={"resourceVersion": document["metadata"].get("resourceVersion", "")},
                )
            )
        )

    def _list(self, request: web.BaseRequest, route: Route) -> Answer:
        form = answer_form(request.headers.get("Accept", ""))
        resource, query = route.resource, request.query
        matches = matcher(resource, query)
        items = self._store.items(resource.name, route.namespace)
        if matches is not None:
            items = [item for item in items if matches(item)]
        metadata: dict[str, Any] = {"resourceVersion": str(self._store.version)}
        items = _page(items, query, metadata)
        if form.table:
            shown = table(
                resource,
                (item.document() for item in items),
                now=time.time(),
                version=form.table,
                include=query.get("includeObject", ""),
                metadata=metadata,
            )
            return Answer(_encode(shown))
        if form.metadata_only:
            shown = {
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": [partial_metadata(item.document()) for item in items],
            }
            return Answer(_encode(shown))
        head = b'{"kind":"%bList","apiVersion":"%b","metadata":%b,"items":[' % (
            resource.kind.encode(),
            resource.api_version.encode(),
            _encode(metadata),
        )
        return Answer(head + b",".join([item.data for item in items]) + b"]}")

    def _create(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        resource = route.resource
        if resource.namespaced and not route.namespace:
            raise MethodNotAllowedError
        document = _document(request, body)
        warnings = _check_structure(resource, document, request.query)
        created = self._registry.create(resource, route.namespace, document, dry_run=_dry_run(request.query))
        return _with_warnings(self._written(request, resource, created, 201), warnings)

    def _written(
        self, request: web.BaseRequest, resource: Resource, document: Document, status: int = 200
    ) -> Answer:
        form = answer_form(request.headers.get("Accept", ""))
        if form.table or form.metadata_only:
            return self._shaped(request, resource, document, form)._replace(status=status)
        return Answer(_encode(document), status)

    def _replace(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        document = _document(request, body)
        if route.subresource == "finalize":
            return Answer(_encode(self._registry.finalize(route.name, document)))
        return self._update(request, route, lambda _: document)

    def _update(
        self, request: web.BaseRequest, route: Route, change: Callable[[Document], Document]
    ) -> Answer:
        resource, dry_run = route.resource, _dry_run(request.query)
        if route.subresource == "scale":
            scale = self._registry.set_scale(resource, route.namespace, route.name, change, dry_run=dry_run)
            return Answer(_encode(scale))
        warnings: list[str] = []

        def checked(document: Document) -> Document:
            changed = change(document)
            warnings.extend(_check_structure(resource, changed, request.query))
            return changed

        updated = self._registry.update(
            resource, route.namespace, route.name, checked, subresource=route.subresource, dry_run=dry_run
        )
        return _with_warnings(self._written(request, resource, updated), warnings)

    def _patch(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        return self._update(request, route, _patcher(request, route, body))

    def _bind(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        binding = _document(request, body)
        self._registry.bind(route.namespace, route.name, binding, dry_run=_dry_run(request.query))
        return Answer(_encode({**_SUCCESS, "code": 201}), 201)

    def _delete(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        resource = route.resource
        last, gone = self._registry.delete(
            resource, route.namespace, route.name, _delete_options(request, body)
        )
        if resource.deletion_answers_object or not gone:
            return Answer(_encode(last))
        metadata = last["metadata"]
        details = {
            "name": metadata["name"],
            "group": resource.group,
            "kind": resource.plural,
            "uid": metadata["uid"],
        }
        details = {key: value for key, value in details.items() if value}
        return Answer(_encode({**_SUCCESS, "details": details}))

    def _delete_all(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        resource = route.resource
        options = _delete_options(request, body)
        matches = matcher(resource, request.query)
        deleted = []
        for item in self._store.items(resource.name, route.namespace):
            if matches is None or matches(item):
                last, _ = self._registry.delete(resource, item.key.namespace, item.key.name, options)
                deleted.append(last)
        return Answer(
            _encode(
                {
                    "kind": f"{resource.kind}List",
                    "apiVersion": resource.api_version,
                    "metadata": {"resourceVersion": str(self._store.version)},
                    "items": deleted,
                }
            )
        )

    # --- watch ---

    async def _watch(self, request: web.BaseRequest, route: Route) -> web.StreamResponse:
        resource, query = route.resource, request.query
        form = answer_form(request.headers.get("Accept", ""))
        initial_events = parse_bool(query.get("sendInitialEvents", "false"))
        bookmarks = parse_bool(query.get("allowWatchBookmarks", "false"))
        if initial_events and not (bookmarks and query.get("resourceVersionMatch") == "NotOlderThan"):
            raise BadRequestError(
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan and "
                "allowWatchBookmarks to true"
            )
        since = _version(query.get("resourceVersion", ""))
        matches = matcher(resource, query)
        encoder = _EventEncoder(resource, form, query.get("includeObject", ""))
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        try:
            if initial_events or not since:
                first = self._store.items(resource.name, route.namespace)
                watcher = self._store.watch(_scope(route, query), None, matches)
                lines = [encoder.item("ADDED", item) for item in first if matches is None or matches(item)]
                if initial_events:
                    lines.append(encoder.bookmark(self._store.version, end_of_initial=True))
            else:
                watcher = self._store.watch(_scope(route, query), since, matches)
                lines = []
        except ExpiredError as error:
            await response.prepare(request)
            await response.write(_encode({"type": "ERROR", "object": error.status()}) + b"\n")
            return response
        try:
            await response.prepare(request)
            if lines:
                await response.write(b"".join(lines))
            async for chunk in self._events(watcher, encoder, query, bookmarks=bookmarks):
                await response.write(chunk)
        except (ConnectionError, OSError):
            log.debug("a watcher of %s left", resource.name)
        finally:
            self._store.unwatch(watcher)
        return response

    async def _events(
        self, watcher: Watcher, encoder: _EventEncoder, query: Mapping[str, str], *, bookmarks: bool
    ) -> AsyncIterator[bytes]:
        seconds = _number(query, "timeoutSeconds")
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
                yield encoder.bookmark(self._store.version)


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


_SUCCESS: Document = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


def parse_path(path: str) -> Route | None:
    """What a path names; None when it names no resource. Raises NoSuchPathError for an unknown one."""
    parts = path.split("/")[1:]
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if (
        rest[0] == "namespaces"
        and len(rest) > 2
        and not (len(rest) == 3 and rest[2] in ("status", "finalize"))
    ):
        namespace, rest = rest[1], rest[2:]
    resource = BY_PATH.get((group, version, rest[0]))
    if resource is None or len(rest) > 3 or (namespace and not resource.namespaced) or "" in rest:
        raise NoSuchPathError
    if resource.namespaced and len(rest) > 1 and not namespace:
        raise NoSuchPathError
    name = rest[1] if len(rest) > 1 else ""
    return Route(resource, namespace, name, rest[2] if len(rest) > 2 else "")


async def _read_body(request: web.BaseRequest) -> bytes:
    if (request.content_length or 0) > MAX_BODY:
        raise TooLargeError(MAX_BODY)
    chunks, size = [], 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > MAX_BODY:
            raise TooLargeError(MAX_BODY)
        chunks.append(chunk)
    return b"".join(chunks)


def _content_type(request: web.BaseRequest) -> str:
    found = media_types(request.headers.get("Content-Type", ""))
    return found[0].name if found else "application/json"


def _decode_body(request: web.BaseRequest, body: bytes) -> Any:
    """A body in JSON or YAML. Raises UnsupportedMediaTypeError for anything else."""
    content_type = _content_type(request)
    if content_type in ("application/json", "*/*"):
        return decode(body)
    if content_type == "application/yaml":
        return _decode_yaml(body)
    if content_type == "application/vnd.kubernetes.protobuf":
        raise UnsupportedMediaTypeError(
            "emu does not read protobuf bodies yet, and kubectl 1.32 and newer sends them for this command: "
            "write the object as YAML and use `kubectl apply -f`, or use kubectl 1.31"
        )
    raise UnsupportedMediaTypeError(
        f"the body of the request was in an unknown format {content_type} - accepted media types include: "
        "application/json, application/yaml"
    )


def _decode_yaml(body: bytes) -> Any:
    import yaml

    try:
        return yaml.safe_load(body)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequestError(f"the body is not YAML: {error}") from None


def _document(request: web.BaseRequest, body: bytes) -> Document:
    document = without_nulls(_decode_body(request, body))
    if not isinstance(document, dict):
        raise BadRequestError(f"the body must be an object, not {type(document).__name__}")
    return document


def _patcher(request: web.BaseRequest, route: Route, body: bytes) -> Callable[[Document], Document]:
    content_type = _content_type(request)
    if content_type == patch.JSON:
        operations = decode(body)
        return lambda document: without_nulls(patch.json_patch(document, operations))
    if content_type in (patch.MERGE, patch.STRATEGIC):
        changes = decode(body)
        if not isinstance(changes, dict):
            raise BadRequestError("the patch must be an object")
        if content_type == patch.STRATEGIC:
            node = schemas.root(route.resource) if route.subresource != "scale" else {}
            return lambda document: without_nulls(strategic_merge(document, changes, node))
        return lambda document: without_nulls(patch.merge_patch(document, changes))
    if content_type == patch.APPLY:
        raise UnsupportedMediaTypeError(
            "emu does not serve server-side apply yet: use `kubectl apply` without --server-side"
        )
    raise UnsupportedMediaTypeError(
        f"the body of the request was in an unknown format {content_type} - accepted media types include: "
        f"{patch.JSON}, {patch.MERGE}, {patch.STRATEGIC}"
    )


def _check_structure(resource: Resource, document: Document, query: Mapping[str, str]) -> list[str]:
    """Refuse wrong types, drop unknown fields, and give the warnings that fieldValidation asks for."""
    mode = query.get("fieldValidation") or "Warn"
    if mode not in ("Ignore", "Strict", "Warn"):
        raise BadRequestError(f'invalid fieldValidation "{mode}": one of Ignore, Warn, Strict')
    unknown = [f'unknown field "{path}"' for path in schemas.check(resource, document)]
    if unknown and mode == "Strict":
        raise BadRequestError(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f"strict decoding error: {', '.join(unknown)}"
        )
    return unknown if mode == "Warn" else []


def _with_warnings(answer: Answer, warnings: list[str]) -> Answer:
    """RFC 7234 section 5.5, as kubectl prints them."""
    if not warnings:
        return answer
    texts = [text.replace("\\", "\\\\").replace('"', '\\"') for text in warnings]
    return answer._replace(headers={"Warning": ", ".join(f'299 - "{text}"' for text in texts)})


def _openapi(request: web.BaseRequest, path: str) -> Answer:
    try:
        found = openapi.document(path) if path else openapi.index()
    except KeyError:
        raise NoSuchPathError from None
    headers = {"ETag": f'"{found.etag}"', "Vary": "Accept"}
    if request.query.get("hash") == found.etag:
        headers["Cache-Control"] = "public, max-age=31536000, immutable"
    if request.headers.get("If-None-Match", "").strip('"') == found.etag:
        return Answer(b"", 304, headers=headers)
    return Answer(found.body, headers=headers)


def _delete_options(request: web.BaseRequest, body: bytes) -> DeleteOptions:
    given: Any = without_nulls(_decode_body(request, body)) if body.strip() else {}
    if not isinstance(given, dict):
        raise BadRequestError("DeleteOptions must be an object")
    preconditions = given.get("preconditions") or {}
    grace = given.get("gracePeriodSeconds", _number(request.query, "gracePeriodSeconds"))
    if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
        raise BadRequestError("gracePeriodSeconds: expected an integer")
    policy = given.get("propagationPolicy") or request.query.get("propagationPolicy")
    if given.get("orphanDependents"):
        policy = "Orphan"
    return DeleteOptions(
        grace_period_seconds=grace,
        propagation_policy=policy,
        preconditions=Preconditions(preconditions.get("uid"), preconditions.get("resourceVersion")),
        dry_run=bool(given.get("dryRun")) or _dry_run(request.query),
    )


def _dry_run(query: Mapping[str, str]) -> bool:
    value = query.get("dryRun")
    if value not in (None, "", "All"):
        raise BadRequestError(f'invalid dryRun value "{value}": the only value is "All"')
    return value == "All"


def _number(query: Mapping[str, str], key: str) -> int | None:
    text = query.get(key)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise BadRequestError(f'invalid {key} "{text}": not a number') from None


def _version(text: str) -> int:
    if not text:
        return 0
    try:
        version = int(text)
    except ValueError:
        version = -1
    if version < 0:
        raise BadRequestError(f'invalid resourceVersion "{text}"')
    return version


def matcher(resource: Resource, query: Mapping[str, str]) -> Matcher | None:
    """The label and field selectors of a query as a function; None when there are none."""
    try:
        labels = parse_label_selector(query["labelSelector"]) if query.get("labelSelector") else None
        fields = parse_field_selector(query["fieldSelector"]) if query.get("fieldSelector") else ()
    except SelectorError as error:
        raise BadRequestError(f"unable to parse requirement: {error}") from None
    for requirement in fields:
        if requirement.path not in ("metadata.name", "metadata.namespace", *resource.field_labels):
            raise BadRequestError(f"field label not supported: {requirement.path}")
    if labels is None and not fields:
        return None

    def matches(item: Item) -> bool:
        if labels is not None and not labels.matches(item.labels):
            return False
        for requirement in fields:
            if (item.fields.get(requirement.path, "") == requirement.value) != requirement.equal:
                return False
        return True

    return matches


def _scope(route: Route, query: Mapping[str, str]) -> Scope:
    """The narrowest index that covers a watch."""
    named = {
        requirement.path: requirement.value
        for requirement in parse_field_selector(query.get("fieldSelector", ""))
        if requirement.equal and requirement.value
    }
    name = named.get("metadata.name", "")
    node = "" if name else named.get("spec.nodeName", "")
    return Scope(route.resource.name, route.namespace, name, node)


def _page(items: list[Item], query: Mapping[str, str], metadata: dict[str, Any]) -> list[Item]:
    """The part of a list that `limit` and `continue` ask for; adds to `metadata` what is left."""
    limit = _number(query, "limit") or 0
    if token := query.get("continue"):
        start = _continue_from(token)
        items = [item for item in items if (item.key.namespace, item.key.name) > start]
    if limit <= 0 or len(items) <= limit:
        return items
    last = items[limit - 1].key
    text = _encode({"v": "meta.k8s.io/v1", "start": [last.namespace, last.name]})
    metadata["continue"] = base64.urlsafe_b64encode(text).decode().rstrip("=")
    metadata["remainingItemCount"] = len(items) - limit
    return items[:limit]


def _continue_from(token: str) -> tuple[str, str]:
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        namespace, name = msgspec.json.decode(text)["start"]
    except (binascii.Error, msgspec.DecodeError, KeyError, TypeError, ValueError):
        raise BadRequestError(f"continue key is not valid: {token}") from None
    return str(namespace), str(name)


def _status_answer(error: StatusError) -> Answer:
    return Answer(_encode(error.status()), error.code)
