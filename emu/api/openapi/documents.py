"""The documents: one of OpenAPI v3 for each group and version, and one of OpenAPI v2 for all.

They are made when the first client asks, not at start-up, and kept compressed: many clients never ask, and
those that do keep what they got, since its URL carries a hash of it.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from functools import cache
from typing import Any, NamedTuple

import msgspec

from emu.api.discovery import GIT_VERSION, group_versions
from emu.api.openapi import gnostic, operations, v2
from emu.api.openapi.parameters import Document
from emu.api.resources import RESOURCES
from emu.api.schemas import DATA

_REFERENCE = re.compile(rb'"#/components/schemas/([^"]+)"')
_FASTEST = 1

Schemas = dict[str, msgspec.Raw]


class Stored(NamedTuple):
    """A document, compressed with gzip, and its hash."""

    compressed: bytes
    etag: str

    @property
    def body(self) -> bytes:
        """The document itself."""
        return gzip.decompress(self.compressed)


def _stored(body: bytes) -> Stored:
    # No time of day in the compressed form: equal documents are equal bytes.
    return Stored(gzip.compress(body, _FASTEST, mtime=0), hashlib.sha512(body).hexdigest().upper())


def group_version_paths() -> list[str]:
    """`api/v1`, `apis/apps/v1`, ..."""
    return [
        f"apis/{group}/{version}" if group else f"api/{version}"
        for group, versions in group_versions().items()
        for version in versions
    ]


@cache
def index() -> Stored:
    """The document at /openapi/v3."""
    paths = {
        path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={stored.etag}"}
        for path, stored in _all_v3().items()
    }
    return _stored(msgspec.json.encode({"paths": paths}))


def v3(path: str) -> Stored:
    """The document of a group and version, by its path. Raises KeyError for one that is not served."""
    return _all_v3()[path]


@cache
def _all_v3() -> dict[str, Stored]:
    # All at once: clients start with the index, which has the hash of each.
    schemas = _schemas()
    return {path: _stored(_v3(path, schemas)) for path in group_version_paths()}


@cache
def v2_json() -> Stored:
    """The document at /openapi/v2."""
    return _stored(msgspec.json.encode(_v2()))


@cache
def v2_protobuf() -> Stored:
    """The same as a `Document` of gnostic's OpenAPIv2.proto."""
    return _stored(gnostic.encode(_v2()))


def _v2() -> Document:
    paths: Document = {}
    for resource in RESOURCES:
        paths |= operations.paths(resource)
    return v2.converted(_complete(paths, _schemas()))


def _v3(path: str, schemas: Schemas) -> bytes:
    paths: Document = {}
    for resource in RESOURCES:
        if path == (
            f"apis/{resource.group}/{resource.version}" if resource.group else f"api/{resource.version}"
        ):
            paths |= operations.paths(resource)
    return msgspec.json.encode(_complete(paths, schemas))


def _schemas() -> Schemas:
    """The published schemas by name, each still encoded: none is looked into but for its references."""
    return msgspec.json.decode((DATA / "openapi.json").read_bytes(), type=Schemas)


def _complete(paths: Document, schemas: Schemas) -> Document:
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": GIT_VERSION},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": _reachable(msgspec.json.encode(paths), schemas)},
    }


def _reachable(text: bytes, schemas: Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pending = _references(text)
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = schemas[name]
            pending += _references(bytes(schemas[name]))
    return dict(sorted(found.items()))


def _references(text: bytes) -> list[str]:
    return [name.decode() for name in _REFERENCE.findall(text)]
