"""The verbs over HTTP: get, list, watch, create, update, patch, delete, and those of subresources."""

from __future__ import annotations

import time
from collections.abc import Callable

from aiohttp import web

from emu.api import answers, schemas, subresources
from emu.api.answers import Answer, encode
from emu.api.authentication import Authenticator, User
from emu.api.bodies import (
    checked_object,
    configuration_of,
    content_type,
    deletion_of,
    object_of,
    patcher,
    read_body,
)
from emu.api.errors import MethodNotAllowedError, NoSuchPathError, NotServedError
from emu.api.lists import check_reached, listed
from emu.api.negotiation import parse_bool
from emu.api.options import WriteOptions, delete_options, write_options
from emu.api.patch import APPLY
from emu.api.queries import version_of
from emu.api.registry import Registry, now_text
from emu.api.resource import Document, Resource
from emu.api.reviews import REVIEWS
from emu.api.routes import Route
from emu.api.store import Item, Key
from emu.api.tables import included, partial_metadata, table
from emu.api.watches import serve_watch

_PARTS = ("", "status", "scale")
"""What GET, PUT and PATCH take."""


class Verbs:
    """Answers requests for resources."""

    def __init__(self, registry: Registry, authenticator: Authenticator) -> None:
        self._registry = registry
        self._store = registry.store
        self._authenticator = authenticator

    async def answer(self, request: web.BaseRequest, route: Route, user: User) -> Answer | web.StreamResponse:
        """Do what a request asks of a resource. Raises StatusError."""
        resource, method = route.resource, request.method
        if route.subresource in resource.unserved_subresources:
            raise NotServedError(resource.plural, route.subresource)
        if route.subresource and route.subresource not in resource.subresources:
            raise NoSuchPathError
        if method in ("GET", "HEAD"):
            return await self._read(request, route)
        body = await read_body(request)
        if method == "POST":
            return self._post(request, route, body, user)
        if "update" not in resource.verbs:
            raise MethodNotAllowedError
        if method == "PUT" and route.name:
            return self._replace(request, route, body)
        if method == "PATCH" and route.name and route.subresource in _PARTS:
            return self._patch(request, route, body)
        if method == "DELETE" and not route.subresource:
            return (
                self._delete(request, route, body) if route.name else self._delete_all(request, route, body)
            )
        raise MethodNotAllowedError

    # --- reading ---

    async def _read(self, request: web.BaseRequest, route: Route) -> Answer | web.StreamResponse:
        if "get" not in route.resource.verbs or route.subresource not in _PARTS:
            raise MethodNotAllowedError
        if route.name:
            return self._get(request, route)
        if request.method == "GET" and parse_bool(request.query.get("watch", "false")):
            return await serve_watch(self._store, request, route)
        return self._list(request, route)

    def _get(self, request: web.BaseRequest, route: Route) -> Answer:
        resource = route.resource
        check_reached(self._store, version_of(request.query.get("resourceVersion", "")))
        item = self._registry.get(resource, route.namespace, route.name)
        if route.subresource == "scale":
            return Answer(encode(subresources.scale_of(resource, item.document())))
        if answers.form_of(request).plain and resource.view is None:
            return Answer(item.data)
        return answers.one(request, resource, resource.show(item.document()))

    def _list(self, request: web.BaseRequest, route: Route) -> Answer:
        form = answers.form_of(request)
        resource, query = route.resource, request.query
        items, metadata = listed(self._store, route, query)
        if form.table:
            shown = table(
                resource,
                (resource.show(item.document()) for item in items),
                now=time.time(),
                version=form.table,
                include=included(query),
                metadata=metadata,
            )
            return Answer(encode(shown))
        if form.metadata_only:
            shown = {
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": [partial_metadata(item.document()) for item in items],
            }
            return Answer(encode(shown))
        return Answer(_list_of(resource, metadata, [_data(resource, item) for item in items]))

    # --- writing ---

    def _post(self, request: web.BaseRequest, route: Route, body: bytes, user: User) -> Answer:
        match route.subresource:
            case "binding":
                return self._bind(request, route, body)
            case "eviction":
                return self._evict(request, route, body)
            case "token":
                return self._issue_token(request, route, body)
        if route.name or "create" not in route.resource.verbs:
            raise MethodNotAllowedError
        if route.resource.namespaced and not route.namespace:
            raise MethodNotAllowedError
        if route.resource.kind in REVIEWS:
            return self._review(request, route, body, user)
        return self._create(request, route, body)

    def _create(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        resource, options = route.resource, _options("CreateOptions", request)
        document, warnings = checked_object(resource, request, body, options.validation)
        stored = self._registry.create(
            self._registry.row_of(resource, creates=True),
            route.namespace,
            resource.to_store(document),
            options,
        )
        return self._written(request, resource, stored, options, 201).with_warnings(warnings)

    def _written(
        self,
        request: web.BaseRequest,
        resource: Resource,
        document: Document,
        options: WriteOptions,
        status: int = 200,
    ) -> Answer:
        """An object as it was written: the bytes that the store keeps, where they are what was asked for."""
        if not options.dry_run and resource.view is None and answers.form_of(request).plain:
            metadata = document["metadata"]
            item = self._store.get(Key(resource.name, metadata.get("namespace", ""), metadata["name"]))
            if item is not None and str(item.version) == metadata.get("resourceVersion"):
                return Answer(item.data, status)
        return answers.one(request, resource, resource.show(document), status)

    def _replace(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        options = _options("UpdateOptions", request)
        if route.subresource == "finalize":
            document = object_of(request, body).value
            return Answer(encode(subresources.finalize(self._registry, route.name, document)))
        if route.subresource not in _PARTS:
            raise MethodNotAllowedError
        if route.subresource == "scale":
            document = object_of(request, body).value
            return self._update(request, route, lambda _: document, options, [])
        document, warnings = checked_object(route.resource, request, body, options.validation)
        return self._update(request, route, lambda _: document, options, warnings)

    def _patch(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        applies = content_type(request) == APPLY
        options = _options("PatchOptions", request, applies=applies)
        if applies:
            return self._apply(request, route, configuration_of(body), options)
        warnings: list[str] = []
        change = patcher(request, route, body, options.validation, warnings)
        return self._update(request, route, change, options, warnings)

    def _apply(
        self, request: web.BaseRequest, route: Route, configuration: Document, options: WriteOptions
    ) -> Answer:
        resource = route.resource
        if route.subresource == "scale":
            scale = subresources.apply_scale(
                self._registry, resource, route.namespace, route.name, configuration, options
            )
            return Answer(encode(scale))
        applied, created = self._registry.apply(
            resource, route.namespace, route.name, configuration, options, subresource=route.subresource
        )
        return self._written(request, resource, applied, options, 201 if created else 200)

    def _update(
        self,
        request: web.BaseRequest,
        route: Route,
        change: Callable[[Document], Document],
        options: WriteOptions,
        warnings: list[str],
    ) -> Answer:
        resource = route.resource
        if route.subresource == "scale":
            scale = subresources.set_scale(
                self._registry, resource, route.namespace, route.name, change, options
            )
            return Answer(encode(scale)).with_warnings(warnings)

        def changed(document: Document) -> Document:
            return resource.to_store(change(resource.show(document)))

        updated = self._registry.update(
            self._registry.row_of(resource, creates=False),
            route.namespace,
            route.name,
            changed,
            options,
            subresource=route.subresource,
        )
        return self._written(request, resource, updated, options).with_warnings(warnings)

    # --- subresources and reviews ---

    def _bind(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        options = _options("CreateOptions", request)
        binding = object_of(request, body).value
        subresources.bind(self._registry, route.namespace, route.name, binding, options)
        return answers.success(201)

    def _evict(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        eviction = object_of(request, body).value
        schemas.check(subresources.EVICTION, eviction)
        options = delete_options(eviction.get("deleteOptions") or {}, request.query)
        subresources.evict(self._registry, route.namespace, route.name, options)
        return answers.success(201)

    def _issue_token(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        review = object_of(request, body).value
        schemas.check(subresources.TOKEN_REQUEST, review)
        account = self._registry.get(route.resource, route.namespace, route.name).document()
        spec = review.setdefault("spec", {})
        subresources.check_token_request(spec)
        token, expires = self._authenticator.issue(
            route.namespace,
            route.name,
            account["metadata"]["uid"],
            seconds=spec.get("expirationSeconds"),
            audiences=spec.get("audiences"),
        )
        review["status"] = {"token": token, "expirationTimestamp": now_text(expires)}
        review |= {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1"}
        return Answer(encode(review), 201)

    def _review(self, request: web.BaseRequest, route: Route, body: bytes, user: User) -> Answer:
        resource, options = route.resource, _options("CreateOptions", request)
        document, warnings = checked_object(resource, request, body, options.validation)
        document.setdefault("metadata", {})
        document |= {"kind": resource.kind, "apiVersion": resource.api_version}
        spec = document.setdefault("spec", {})
        document["status"] = REVIEWS[resource.kind](spec, user, self._authenticator)
        return answers.one(request, resource, document, 201).with_warnings(warnings)

    # --- deleting ---

    def _delete(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        resource = route.resource
        last, gone = self._registry.delete(
            self._registry.resources[resource.name], route.namespace, route.name, deletion_of(request, body)
        )
        if resource.deletion_answers_object or not gone:
            return answers.one(request, resource, resource.show(last))
        metadata = last["metadata"]
        details = {
            "name": metadata["name"],
            "group": resource.group,
            "kind": resource.plural,
            "uid": metadata["uid"],
        }
        return answers.success(details={key: value for key, value in details.items() if value})

    def _delete_all(self, request: web.BaseRequest, route: Route, body: bytes) -> Answer:
        resource, options = route.resource, deletion_of(request, body)
        if resource.namespaced and not route.namespace:
            raise MethodNotAllowedError
        deleted = [
            self._registry.delete(
                self._registry.resources[resource.name], item.key.namespace, item.key.name, options
            )[0]
            for item in listed(self._store, route, request.query).items
            if self._store.get(item.key) is not None
        ]
        metadata = {"resourceVersion": str(self._store.version)}
        return Answer(_list_of(resource, metadata, [encode(resource.show(document)) for document in deleted]))


def _options(kind: str, request: web.BaseRequest, *, applies: bool = False) -> WriteOptions:
    return write_options(kind, request.query, request.headers.get("User-Agent", ""), applies=applies)


def _data(resource: Resource, item: Item) -> bytes:
    return item.data if resource.view is None else encode(resource.show(item.document()))


def _list_of(resource: Resource, metadata: Document, items: list[bytes]) -> bytes:
    return b'{"kind":"%bList","apiVersion":"%b","metadata":%b,"items":[%b]}' % (
        resource.kind.encode(),
        resource.api_version.encode(),
        encode(metadata),
        b",".join(items),
    )
