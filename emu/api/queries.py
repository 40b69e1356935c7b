"""Query parameters: selectors, pages, versions, dry run. Wrong ones are a 400 that names them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from emu.api.errors import BadRequestError, FieldError, invalid
from emu.api.resource import Resource
from emu.api.routes import Route
from emu.api.store import Item, Matcher, Scope
from emu.core.selectors import SelectorError, parse_field_selector, parse_label_selector

_VERSION = re.compile(r"[0-9]{1,19}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


def number(query: Mapping[str, str], key: str) -> int | None:
    """A numeric parameter, None when it is not given."""
    text = query.get(key)
    if not text:
        return None
    if not _INTEGER.fullmatch(text):
        raise BadRequestError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def version_of(text: str) -> int:
    """A resourceVersion; 0 when it is not given, or any will do. Raises BadRequestError."""
    wrong = version_error(text)
    if wrong:
        raise BadRequestError(f"invalid resource version: {wrong}")
    return int(text or 0)


def version_error(text: str) -> FieldError | None:
    """What is wrong with a resourceVersion."""
    if not text or _VERSION.fullmatch(text):
        return None
    why = "value out of range" if text.isascii() and text.isdigit() else "invalid syntax"
    return invalid("resourceVersion", text, f'strconv.ParseUint: parsing "{text}": {why}')


def _unknown_field(resource: Resource, path: str) -> str:
    """Upstream says it in other words for kinds that have no fields of their own."""
    if resource.field_labels:
        return f"field label not supported: {path}"
    return f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'


def matcher(resource: Resource, query: Mapping[str, str]) -> Matcher | None:
    """The label and field selectors of a query as a function; None when there are none."""
    try:
        labels = parse_label_selector(query["labelSelector"]) if query.get("labelSelector") else None
        fields = parse_field_selector(query["fieldSelector"]) if query.get("fieldSelector") else ()
    except SelectorError as error:
        raise BadRequestError(f"unable to parse requirement: {error}") from None
    for requirement in fields:
        if requirement.path not in ("metadata.name", "metadata.namespace", *resource.field_labels):
            raise BadRequestError(_unknown_field(resource, requirement.path))
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


def scope(route: Route, query: Mapping[str, str]) -> Scope:
    """The narrowest index that covers a watch."""
    named = {
        requirement.path: requirement.value
        for requirement in parse_field_selector(query.get("fieldSelector", ""))
        if requirement.equal and requirement.value
    }
    name = named.get("metadata.name", "")
    node = "" if name else named.get("spec.nodeName", "")
    return Scope(route.resource.name, route.namespace, name, node)
