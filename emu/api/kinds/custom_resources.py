"""Values of custom resources against the constraints of their definitions, in the words of Kubernetes.

Source: `pkg/apiserver/validation` of apiextensions-apiserver, and kube-openapi's `pkg/validation`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from emu.api.errors import (
    FieldError,
    duplicate,
    invalid,
    not_supported,
    required,
    too_long,
    too_many,
)
from emu.api.schemas import Node, resolved


def check(value: Any, node: Node, path: str = "") -> Iterator[FieldError]:
    """Errors of a value that has the structure of `node`: what is missing, too much, or not allowed."""
    node = resolved(node)
    if isinstance(value, dict):
        yield from _check_object(value, node, path)
    elif isinstance(value, list):
        yield from _check_list(value, node, path)
    elif isinstance(value, str):
        yield from _check_text(value, node, path)
    elif isinstance(value, int) and not isinstance(value, bool):
        if "minimum" in node and value < node["minimum"]:
            yield _breaks(path, value, f"should be greater than or equal to {node['minimum']}")
        if "maximum" in node and value > node["maximum"]:
            yield _breaks(path, value, f"should be less than or equal to {node['maximum']}")


def _breaks(path: str, value: Any, rule: str) -> FieldError:
    return invalid(path, value, f"{path} in body {rule}")


def _check_object(value: dict[str, Any], node: Node, path: str) -> Iterator[FieldError]:
    prefix = f"{path}." if path else ""
    yield from (required(prefix + key) for key in node.get("required", ()) if key not in value)
    if len(value) < node.get("minProperties", 0):
        yield _breaks(path, len(value), f"should have at least {node['minProperties']} properties")
    if "maxProperties" in node and len(value) > node["maxProperties"]:
        yield too_many(path, len(value), node["maxProperties"])
    properties = node.get("properties") or {}
    for key, item in value.items():
        if key in properties:
            yield from check(item, properties[key], prefix + key)


def _check_list(value: list[Any], node: Node, path: str) -> Iterator[FieldError]:
    if len(value) < node.get("minItems", 0):
        yield _breaks(path, len(value), f"should have at least {node['minItems']} items")
    if "maxItems" in node and len(value) > node["maxItems"]:
        yield too_many(path, len(value), node["maxItems"])
    for index, item in enumerate(value):
        yield from check(item, node["items"], f"{path}[{index}]")
        if node.get("x-kubernetes-list-type") == "set" and item in value[:index]:
            yield duplicate(f"{path}[{index}]", item)


def _check_text(value: str, node: Node, path: str) -> Iterator[FieldError]:
    if "maxLength" in node and len(value) > node["maxLength"]:
        yield too_long(path, node["maxLength"])
    if "pattern" in node and not re.search(node["pattern"], value):
        yield _breaks(path, value, f"should match '{node['pattern']}'")
    if "enum" in node and value not in node["enum"]:
        yield not_supported(path, value, node["enum"])
