"""Strategic merge patches: merging that knows which lists are sets, and by which key.

Source: apimachinery `util/strategicpatch`. Keys and strategies are those of the published OpenAPI
(`x-kubernetes-patch-merge-key`, `x-kubernetes-patch-strategy`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emu.api.errors import BadRequestError
from emu.api.schemas import Node, child, resolved

Document = dict[str, Any]

_DIRECTIVE = "$patch"
_RETAIN_KEYS = "$retainKeys"
_ORDER_PREFIX = "$setElementOrder/"
_DELETE_PREFIX = "$deleteFromPrimitiveList/"
_EMPTY: Node = {}


def strategic_merge(original: Document, patch: Mapping[str, Any], node: Node = _EMPTY) -> Document:
    """The original with the patch applied; `node` is the definition of both.

    The original may be changed. Raises BadRequestError for a patch that is not one.
    """
    directive = patch.get(_DIRECTIVE)
    if directive == "delete":
        return {}
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE}
    if directive not in (None, "merge"):
        raise BadRequestError(f"unrecognized patch type {directive!r}: one of delete, merge, replace")
    if _RETAIN_KEYS in patch:
        _retain(original, patch)
    for key, value in patch.items():
        if not key.startswith("$"):
            _merge_field(original, key, value, child(node, key) or _EMPTY, patch)
    for key, value in patch.items():
        if key.startswith(_ORDER_PREFIX):
            name = key.removeprefix(_ORDER_PREFIX)
            if name not in patch and isinstance(original.get(name), list):
                below = child(node, name) or _EMPTY
                original[name] = _ordered(original[name], original[name], value, _merge_key(below))
        elif key.startswith(_DELETE_PREFIX):
            name = key.removeprefix(_DELETE_PREFIX)
            original[name] = [item for item in original.get(name) or () if item not in _list(value, key)]
    return original


def _retain(original: Document, patch: Mapping[str, Any]) -> None:
    kept = _list(patch[_RETAIN_KEYS], _RETAIN_KEYS)
    for key in patch:
        if not key.startswith("$") and key not in kept:
            raise BadRequestError(f"the key {key!r} of the patch is not in its {_RETAIN_KEYS} list")
    for key in list(original):
        if key not in kept:
            del original[key]


def _merge_field(original: Document, key: str, value: Any, node: Node, patch: Mapping[str, Any]) -> None:
    strategies = node.get("x-kubernetes-patch-strategy", "").split(",")
    before = original.get(key)
    if value is None:
        original.pop(key, None)
    elif isinstance(value, dict):
        if "replace" in strategies:
            original[key] = value
        else:
            start = before if isinstance(before, dict) else {}
            original[key] = strategic_merge(start, value, resolved(node))
    elif isinstance(value, list) and "merge" in strategies:
        had = before if isinstance(before, list) else []
        merge_key = _merge_key(node)
        merged = _merge_objects(had, value, merge_key, node) if merge_key else _merge_set(had, value)
        order = patch.get(_ORDER_PREFIX + key)
        original[key] = merged if order is None else _ordered(merged, had, order, merge_key)
    elif isinstance(value, list):
        original[key] = [_plain(item) for item in value]
    else:
        original[key] = value


def _merge_key(node: Node) -> str:
    key: str = node.get("x-kubernetes-patch-merge-key", "")
    return key


def _merge_set(had: list[Any], more: list[Any]) -> list[Any]:
    return [*had, *(item for item in more if item not in had)]


def _merge_objects(had: list[Any], items: list[Any], merge_key: str, node: Node) -> list[Any]:
    element = resolved(node.get("items", _EMPTY))
    if any(isinstance(item, dict) and item.get(_DIRECTIVE) == "replace" for item in items):
        return [item for item in items if _DIRECTIVE not in item]
    result = list(had)
    for item in items:
        if not isinstance(item, dict):
            raise BadRequestError(f"the patch has {item!r} in a list of objects")
        if merge_key not in item:
            raise BadRequestError(f"map: {item} does not contain declared merge key: {merge_key}")
        at = [index for index, old in enumerate(result) if _same(old, item, merge_key)]
        if item.get(_DIRECTIVE) == "delete":
            result = [old for index, old in enumerate(result) if index not in at]
        elif at:
            result[at[0]] = strategic_merge(dict(result[at[0]]), item, element)
        else:
            result.append(strategic_merge({}, item, element))
    return result


def _same(old: Any, item: Mapping[str, Any], merge_key: str) -> bool:
    return isinstance(old, dict) and old.get(merge_key) == item[merge_key]


def _ordered(items: list[Any], before: list[Any], order: Any, merge_key: str) -> list[Any]:
    """Items in the order that the patch asks for; others keep their place among those that were there."""

    def identity(item: Any) -> Any:
        return item.get(merge_key) if merge_key and isinstance(item, dict) else item

    wanted = [identity(item) for item in _list(order, _ORDER_PREFIX)]
    was = [identity(item) for item in before]
    left = sorted(
        (item for item in items if identity(item) in wanted), key=lambda item: wanted.index(identity(item))
    )
    right = [item for item in items if identity(item) not in wanted]
    result: list[Any] = []
    while left and right:
        first, other = identity(left[0]), identity(right[0])
        other_earlier = first in was and other in was and was.index(other) < was.index(first)
        result.append((right if other_earlier else left).pop(0))
    return result + left + right


def _plain(value: Any) -> Any:
    """A value without directives."""
    return strategic_merge({}, value) if isinstance(value, dict) else value


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadRequestError(f"{key} of the patch must be a list")
    return value
