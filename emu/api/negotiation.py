"""Which form an answer takes: media types with their parameters, parsed and never compared as text."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from emu.api.errors import NotAcceptableError


class MediaType(NamedTuple):
    """One media type of an Accept or Content-Type header."""

    name: str
    parameters: dict[str, str]


@lru_cache(maxsize=256)
def media_types(header: str) -> tuple[MediaType, ...]:
    """The media types of a header, in order."""
    found = []
    for part in header.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name:
            pairs = (parameter.partition("=") for parameter in parameters)
            found.append(
                MediaType(name.lower(), {key.strip().lower(): value.strip() for key, _, value in pairs})
            )
    return tuple(found)


class Form(NamedTuple):
    """The form of an answer: `json`, or a Table in one of its versions."""

    table: str = ""
    """"v1" or "v1beta1" of meta.k8s.io, "" for no Table."""
    metadata_only: bool = False
    """Whether PartialObjectMetadata was asked for."""

    @property
    def plain(self) -> bool:
        """Whether objects are given as they are."""
        return not self.table and not self.metadata_only


@lru_cache(maxsize=256)
def answer_form(accept: str) -> Form:
    """The first form that is accepted and can be given. Raises NotAcceptableError."""
    if not accept:
        return Form()
    for media_type in media_types(accept):
        if media_type.name not in ("application/json", "application/yaml", "*/*", "application/*"):
            continue
        kind = media_type.parameters.get("as", "")
        version = media_type.parameters.get("v", "")
        known = media_type.parameters.get("g") == "meta.k8s.io" and version in ("v1", "v1beta1")
        if kind == "Table" and known:
            return Form(table=version)
        if kind in ("PartialObjectMetadata", "PartialObjectMetadataList") and known:
            return Form(metadata_only=True)
        if not kind:
            return Form()
    raise NotAcceptableError


def parse_bool(text: str | None) -> bool:
    """A query parameter as Go's ParseBool reads it; a bare key counts as true."""
    return text in ("1", "t", "T", "true", "TRUE", "True", "")
