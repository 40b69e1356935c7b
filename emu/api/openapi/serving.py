"""Which OpenAPI document a request gets, and with which headers.

They are those of Kubernetes: a document can be asked for with the hash that the index gives, and is then
kept for a year; an old hash leads to the new one; an ETag makes asking again cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from typing import NamedTuple

from emu.api.errors import NoSuchPathError, NotAcceptableError
from emu.api.negotiation import media_types
from emu.api.openapi import documents
from emu.api.openapi.documents import Stored

_YEAR = 365 * 24 * 3600
_JSON = "application/json"
_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_PROTOBUF_OLD = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


class OpenApiAnswer(NamedTuple):
    """What to answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


def answer(path: str, query: Mapping[str, str], headers: Mapping[str, str], now: float) -> OpenApiAnswer:
    """The answer to a GET of `/openapi/...`; `now` is in seconds since the epoch.

    Raises NoSuchPathError and NotAcceptableError.
    """
    found, content_type = _found(path, headers.get("Accept", ""))
    given = {"Content-Type": content_type, "ETag": f'"{found.etag}"', "Vary": "Accept, Accept-Encoding"}
    asked = query.get("hash")
    if asked and path != "/openapi/v2":
        if asked != found.etag:
            return OpenApiAnswer(301, {**given, "Location": f"{path}?hash={found.etag}"})
        given["Cache-Control"] = "public, immutable"
        given["Expires"] = formatdate(now + _YEAR, usegmt=True)
    if _matches(headers.get("If-None-Match", ""), found.etag):
        return OpenApiAnswer(304, given)
    if any(coding.name == "gzip" for coding in media_types(headers.get("Accept-Encoding", ""))):
        return OpenApiAnswer(200, {**given, "Content-Encoding": "gzip"}, found.compressed)
    return OpenApiAnswer(200, given, found.body)


def _found(path: str, accept: str) -> tuple[Stored, str]:
    if path == "/openapi/v2":
        return _found_v2(accept)
    version, _, group_version = path.removeprefix("/openapi/").partition("/")
    if version != "v3":
        raise NoSuchPathError
    try:
        found = documents.v3(group_version) if group_version else documents.index()
    except KeyError:
        raise NoSuchPathError from None
    if accept and not any(kind.name in (_JSON, "application/*", "*/*") for kind in media_types(accept)):
        raise NotAcceptableError
    return found, _JSON


def _found_v2(accept: str) -> tuple[Stored, str]:
    for kind in media_types(accept or _JSON):
        if kind.name in (_JSON, "application/*", "*/*"):
            return documents.v2_json(), _JSON
        if kind.name in (_PROTOBUF, _PROTOBUF_OLD):
            return documents.v2_protobuf(), _PROTOBUF
    raise NotAcceptableError


def _matches(condition: str, etag: str) -> bool:
    """If-None-Match of RFC 9110, section 13.1.2."""
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in condition.split(",")]
    return etag in tags or tags == ["*"]
