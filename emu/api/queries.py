"""Query parameters: selectors, pages, versions, dry run. Wrong ones are a 400 that names them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec

from emu.api.errors import BadRequestError
from emu.api.resource import Resource
from emu.api.routes import Route
from emu.api.store import Item, Matcher, Scope
from emu.core.selectors import SelectorError, parse_field_selector, parse_label_selector

_encode = msgspec.json.Encoder().encode


def number(query: Mapping[str, str], key: str) -> int | None:
    """A numeric parameter, None when it is not given."""
    text = query.get(key)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise BadRequestError(f'invalid {key} "{text}": not a number') from None


def version_of(text: str) -> int:
    """A resourceVersion; 0 when it is not given, or any will do."""
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


def page(items: list[Item], query: Mapping[str, str], metadata: dict[str, Any]) -> list[Item]:
    """The part of a list that `limit` and `continue` ask for; adds to `metadata` what is left."""
    limit = number(query, "limit") or 0
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
