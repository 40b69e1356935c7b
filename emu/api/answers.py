"""Complete answers: objects in the form that was asked for, Status documents, warnings."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from emu.api.errors import StatusError
from emu.api.negotiation import Form, answer_form, parse_bool
from emu.api.resource import Document, Resource
from emu.api.tables import included, partial_metadata, table

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
_YAML = "application/yaml"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_WARNINGS_LIMIT = 4096
_WARNING_LIMIT = 256
_FOR_PEOPLE = ("curl", "Wget", "Mozilla")

encode = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """A complete answer."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = {}

    def with_warnings(self, warnings: Iterable[str]) -> Answer:
        """RFC 7234 section 5.5, as kubectl prints them."""
        texts = [text.replace("\\", "\\\\").replace('"', '\\"') for text in told(warnings)]
        if not texts:
            return self
        value = ", ".join(f'299 - "{text}"' for text in texts)
        return self._replace(headers={**self.headers, "Warning": value})


def told(warnings: Iterable[str]) -> list[str]:
    """Those that a header can hold: each once, without control characters, shortened when they are many.

    Source: the warning recorder of the apiserver (filters/warning.go).
    """
    texts = [text for text in dict.fromkeys(warnings) if text and not _CONTROL.search(text)]
    if sum(map(len, texts)) <= _WARNINGS_LIMIT:
        return texts
    short = [text[:_WARNING_LIMIT] for text in texts]
    return [
        text
        for text, before in zip(short, accumulate(map(len, short), initial=0), strict=False)
        if before < _WARNINGS_LIMIT
    ]


def form_of(request: web.BaseRequest) -> Form:
    """The form that the request accepts. Raises NotAcceptableError."""
    return answer_form(request.headers.get("Accept", ""))


def one(request: web.BaseRequest, resource: Resource, document: Document, status: int = 200) -> Answer:
    """An object, as a Table or as its metadata where that was asked for."""
    form = form_of(request)
    if form.metadata_only:
        return Answer(encode(partial_metadata(document)), status)
    if form.table:
        shown = table(
            resource,
            [document],
            now=time.time(),
            version=form.table,
            include=included(request.query),
            metadata={"resourceVersion": document["metadata"].get("resourceVersion", "")},
        )
        return Answer(encode(shown), status)
    return Answer(encode(document), status)


def failure(error: StatusError) -> Answer:
    """The Status of an error."""
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    return Answer(encode(error.status()), error.code, headers=headers)


def success(code: int = 200, details: Mapping[str, Any] | None = None) -> Answer:
    """The Status of something that was done."""
    status: Document = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details:
        status["details"] = details
    if code != 200:
        status["code"] = code
    return Answer(encode(status), code)


def formatted(request: web.BaseRequest, answer: Answer) -> Answer:
    """An answer in JSON as YAML where that was asked for, or with lines and indents for people."""
    if answer.content_type != JSON or not answer.body or "Content-Encoding" in answer.headers:
        return answer
    if request.headers.get("Accept", "").startswith(_YAML):
        # Imported here since hardly any client asks for it.
        import yaml

        text = yaml.dump(
            msgspec.json.decode(answer.body),
            Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
            allow_unicode=True,
        )
        return answer._replace(body=text.encode(), content_type=_YAML)
    asked = request.query.get("pretty")
    for_people = request.headers.get("User-Agent", "").startswith(_FOR_PEOPLE)
    if (for_people if asked is None else parse_bool(asked)) and len(answer.body) < 1 << 20:
        return answer._replace(body=msgspec.json.format(answer.body, indent=2) + b"\n")
    return answer
