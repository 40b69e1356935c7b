"""Bodies of requests: read, decoded by their media type, checked against the schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from emu.api import patch, schemas
from emu.api.errors import BadRequestError, TooLargeError, UnsupportedMediaTypeError
from emu.api.negotiation import media_types
from emu.api.queries import dry_run, number
from emu.api.registry import DeleteOptions, Preconditions, decode, without_nulls
from emu.api.resource import Document, Resource
from emu.api.routes import Route
from emu.api.strategic import strategic_merge

MAX_BODY = 3 * 1024 * 1024


async def read_body(request: web.BaseRequest) -> bytes:
    """The whole body. Raises TooLargeError beyond MAX_BODY."""
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


def document_of(request: web.BaseRequest, body: bytes) -> Document:
    """The object in a body, without nulls as Go would decode it."""
    document = without_nulls(_decode_body(request, body))
    if not isinstance(document, dict):
        raise BadRequestError(f"the body must be an object, not {type(document).__name__}")
    return document


def patcher(request: web.BaseRequest, route: Route, body: bytes) -> Callable[[Document], Document]:
    """What a patch of the request's content type does to an object."""
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


def check_structure(resource: Resource, document: Document, query: Mapping[str, str]) -> list[str]:
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


def delete_options(request: web.BaseRequest, body: bytes) -> DeleteOptions:
    """The DeleteOptions of a body, completed by the query."""
    given: Any = without_nulls(_decode_body(request, body)) if body.strip() else {}
    if not isinstance(given, dict):
        raise BadRequestError("DeleteOptions must be an object")
    preconditions = given.get("preconditions") or {}
    grace = given.get("gracePeriodSeconds", number(request.query, "gracePeriodSeconds"))
    if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
        raise BadRequestError("gracePeriodSeconds: expected an integer")
    policy = given.get("propagationPolicy") or request.query.get("propagationPolicy")
    if given.get("orphanDependents"):
        policy = "Orphan"
    return DeleteOptions(
        grace_period_seconds=grace,
        propagation_policy=policy,
        preconditions=Preconditions(preconditions.get("uid"), preconditions.get("resourceVersion")),
        dry_run=bool(given.get("dryRun")) or dry_run(request.query),
    )
