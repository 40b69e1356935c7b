"""Bodies of requests: read, decoded by their media type, checked against the schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from emu.api import patch, protobuf, schemas
from emu.api.decoding import (
    NO_KIND,
    Decoded,
    UndecodableError,
    decode,
    decode_configuration,
    decode_json,
    decode_yaml,
    without_nulls,
)
from emu.api.errors import (
    BadRequestError,
    InvalidError,
    Target,
    TooLargeError,
    UnrecognizedError,
    UnsupportedMediaTypeError,
    invalid,
)
from emu.api.identity import check_kind
from emu.api.negotiation import media_types
from emu.api.options import DeleteOptions, FieldValidation, delete_options
from emu.api.resource import Document, Resource
from emu.api.routes import Route
from emu.api.strategic import strategic_merge

MAX_BODY = 3 * 1024 * 1024
_TYPE_META = (
    r'struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }'
)


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


def content_type(request: web.BaseRequest) -> str:
    """The media type of the body, without parameters."""
    found = media_types(request.headers.get("Content-Type", ""))
    return found[0].name if found else "application/json"


def _decode_body(request: web.BaseRequest, body: bytes) -> Decoded:
    """A body in JSON, YAML or protobuf. Raises UnsupportedMediaTypeError for anything else."""
    kind = content_type(request)
    if kind in ("application/json", "*/*"):
        return decode_json(body)
    if kind == "application/yaml":
        return decode_yaml(body)
    if kind == protobuf.MEDIA_TYPE:
        return Decoded(protobuf.decode(body), [])
    raise UnsupportedMediaTypeError(
        "the body of the request was in an unknown format - accepted media types include: "
        f"application/json, application/yaml, {protobuf.MEDIA_TYPE}"
    )


def object_of(request: web.BaseRequest, body: bytes) -> Decoded:
    """The object in a body. Raises BadRequestError when it is no object."""
    decoded = _decode_body(request, body)
    return Decoded(_object(decoded.value), decoded.duplicates)


def _object(value: Any) -> Document:
    if not isinstance(value, dict):
        raise BadRequestError(f"the body must be an object, not {type(value).__name__}")
    return value


def _check_is_object(resource: Resource, value: Any, body: bytes) -> None:
    if not isinstance(value, dict):
        why = f"{NO_KIND}json: cannot unmarshal {schemas.json_type(value)} into Go value of type {_TYPE_META}"
        raise UnrecognizedError(resource.kind, why, body)


def deletion_of(request: web.BaseRequest, body: bytes) -> DeleteOptions:
    """The DeleteOptions of a DELETE."""
    given = _decode_body(request, body).value if body.strip() else {}
    return delete_options(given, request.query)


def checked_object(
    resource: Resource, request: web.BaseRequest, body: bytes, mode: FieldValidation
) -> tuple[Document, list[str]]:
    """The object in a body and the warnings about it. Raises BadRequestError as fieldValidation asks."""
    try:
        decoded = _decode_body(request, body)
    except UndecodableError as error:
        raise UnrecognizedError(resource.kind, error.why, body) from None
    _check_is_object(resource, decoded.value, body)
    check_kind(resource, decoded.value)
    unknown = schemas.check(resource, decoded.value)
    found = [f'unknown field "{path}"' for path in unknown]
    found += [f'duplicate field "{path}"' for path in decoded.duplicates]
    if found and mode == "Strict":
        raise BadRequestError(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f"strict decoding error: {', '.join(found)}"
        )
    return decoded.value, found if mode == "Warn" else []


def configuration_of(body: bytes) -> Document:
    """The configuration in the body of a server-side apply."""
    return _object(decode_configuration(body))


def patcher(
    request: web.BaseRequest, route: Route, body: bytes, mode: FieldValidation, warnings: list[str]
) -> Callable[[Document], Document]:
    """What a patch of the request's content type does to an object; what it warns of goes to `warnings`.

    The function raises InvalidError when the result is no object of its kind.
    """
    kind, resource = content_type(request), route.resource
    if kind not in _patch_types(resource):
        raise UnsupportedMediaTypeError(
            "the body of the request was in an unknown format - accepted media types include: "
            f"{', '.join((*_patch_types(resource), patch.APPLY))}"
        )
    changes = decode(body)
    if kind != patch.JSON:
        changes = _object(changes)
    typed = route.subresource != "scale"
    node = schemas.root(resource) if kind == patch.STRATEGIC and typed else {}

    def change(document: Document) -> Document:
        if kind == patch.JSON:
            changed = patch.json_patch(document, changes)
        elif kind == patch.MERGE:
            changed = patch.merge_patch(document, changes)
        else:
            changed = strategic_merge(document, changes, node)
        changed = _object(without_nulls(changed))
        return _checked(resource, changed, changes, mode, warnings) if typed else changed

    return change


def _patch_types(resource: Resource) -> tuple[str, ...]:
    return (patch.JSON, patch.MERGE, *((patch.STRATEGIC,) if resource.strategic else ()))


def _checked(
    resource: Resource, changed: Document, changes: Any, mode: FieldValidation, warnings: list[str]
) -> Document:
    """The result of a patch, checked as a body is; what is wrong is told of the patch, with code 422."""
    try:
        unknown = schemas.check(resource, changed)
    except BadRequestError as error:
        raise _invalid_patch(changes, error.message) from None
    found = [f'unknown field "{path}"' for path in unknown]
    if found and mode == "Strict":
        raise _invalid_patch(changes, f"strict decoding error: {', '.join(found)}")
    if mode == "Warn":
        warnings.extend(found)
    return changed


def _invalid_patch(changes: Any, why: str) -> InvalidError:
    return InvalidError(Target("", "", ""), [invalid("patch", go_text(changes), why)])


def go_text(value: Any) -> str:
    """A value as Go's `%+v` prints it: `map[a:b c:[1 2]]`."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go_text(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(go_text, value))}]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)
