"""From requests to verbs: paths, headers, bodies, and answers as Kubernetes gives them."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from emu.api import discovery, openapi
from emu.api.bodies import check_structure, delete_options, document_of, patcher, read_body
from emu.api.errors import (
    InternalError,
    MethodNotAllowedError,
    NoSuchPathError,
    NotServedError,
    StatusError,
    UnauthorizedError,
)
from emu.api.negotiation import Form, answer_form, parse_bool
from emu.api.queries import dry_run, matcher, page
from emu.api.registry import Registry
from emu.api.resource import Document, Resource
from emu.api.routes import Route, parse_path
from emu.api.tables import partial_metadata, table
from emu.api.watches import serve_watch

log = logging.getLogger(__name__)

_OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/version")

_encode = msgspec.json.Encoder().encode


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
        if route.subresource in route.resource.unserved_subresources:
            raise NotServedError(route.resource.plural, route.subresource)
        if route.subresource and route.subresource not in route.resource.subresources:
            raise NoSuchPathError
        if method in ("GET", "HEAD"):
            if route.name:
                return self._get(request, route)
            if parse_bool(request.query.get("watch", "false")):
                return await serve_watch(self._store, request, route)
            return self._list(request, route)
        body = await read_body(request)
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
        items = page(items, query, metadata)
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
        document = document_of(request, body)
        warnings = check_structure(resource, document, request.query)
        created = self._registry.create(resource, route.namespace, document, dry_run=dry_run(request.query))
        return _with_warnings(self._written(request, resource, created, 201), warnings)

    def _written(
        self, request: web.BaseRequest, resource: Resource, document: Document, status: int = 200
    ) -> Answer:
        form = answer_form(request.headers.get("Accept", ""))
        if form.table or form.metadata_only:
            return self._shaped(request, resource, document, form)._replace(status=status)
        return Answer(_encode(document), status)

    def _replace(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        document = document_of(request, body)
        if route.subresource == "finalize":
            return Answer(_encode(self._registry.finalize(route.name, document)))
        return self._update(request, route, lambda _: document)

    def _update(
        self, request: web.BaseRequest, route: Route, change: Callable[[Document], Document]
    ) -> Answer:
        resource, only_tried = route.resource, dry_run(request.query)
        if route.subresource == "scale":
            scale = self._registry.set_scale(
                resource, route.namespace, route.name, change, dry_run=only_tried
            )
            return Answer(_encode(scale))
        warnings: list[str] = []

        def checked(document: Document) -> Document:
            changed = change(document)
            warnings.extend(check_structure(resource, changed, request.query))
            return changed

        updated = self._registry.update(
            resource, route.namespace, route.name, checked, subresource=route.subresource, dry_run=only_tried
        )
        return _with_warnings(self._written(request, resource, updated), warnings)

    def _patch(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        return self._update(request, route, patcher(request, route, body))

    def _bind(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        binding = document_of(request, body)
        self._registry.bind(route.namespace, route.name, binding, dry_run=dry_run(request.query))
        return Answer(_encode({**_SUCCESS, "code": 201}), 201)

    def _delete(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        resource = route.resource
        last, gone = self._registry.delete(
            resource, route.namespace, route.name, delete_options(request, body)
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
        options = delete_options(request, body)
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


_SUCCESS: Document = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


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


def _status_answer(error: StatusError) -> Answer:
    return Answer(_encode(error.status()), error.code)
