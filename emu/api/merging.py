"""Merging an applied configuration into a document, and taking fields out of one.

Source: `typed` of sigs.k8s.io/structured-merge-diff.
"""

from __future__ import annotations

from typing import Any

from emu.api import fieldsets
from emu.api.fieldsets import SELF, FieldSet, is_member
from emu.api.shapes import UNKNOWN, Shape, grouped, is_items, is_map


def copied(value: Any) -> Any:
    """A deep copy."""
    if isinstance(value, dict):
        return {key: copied(inner) for key, inner in value.items()}
    return [copied(inner) for inner in value] if isinstance(value, list) else value


# --- merging ---


def merged(live: Any, applied: Any, shape: Shape) -> Any:
    """The live value with the applied one merged in; nothing is removed. Parts of both may be in the result.

    Null leaves a map or a list with contents as it is, and stands for itself otherwise.
    """
    if is_map(applied, shape) and is_map(live, shape):
        result = dict(live)
        for key, inner in applied.items():
            result[key] = merged(live[key], inner, shape.below(key)[1]) if key in live else inner
        return result
    if is_items(applied, shape) and is_items(live, shape):
        return _merged_items(live, applied, shape) if live and applied else applied or live or applied
    if applied is None and live and (is_map(live, shape) or is_items(live, shape)):
        return live
    return applied


def _merged_items(live: list[Any], applied: list[Any], shape: Shape) -> list[Any]:
    """Items in the order of the applied list; the others stay where they are between those that both have."""
    by_step = grouped(live, shape)
    wanted = {shape.step(item): item for item in applied}
    had, wants = [shape.step(item) for item in live], list(wanted)
    shared = [step for step in wants if step in by_step]
    result: list[Any] = []
    done: set[str] = set()
    left = right = 0
    while left < len(had) or right < len(wants):
        if left < len(had):
            step = had[left]
            if step not in wanted:
                result.append(live[left])
                left += 1
                continue
            # Shared items follow the applied order, so this one waits for its turn or has had it.
            if right < len(wants) and step != wants[right] and shared and shared[0] != step:
                left += 1
                continue
            if step in done or (right < len(wants) and step == wants[right]):
                left += 1
        if right < len(wants):
            step = wants[right]
            same = by_step.get(step, ())
            # Of several live items with these keys none is the one to merge with.
            item = merged(same[0], wanted[step], shape.items) if len(same) == 1 else wanted[step]
            result.append(item)
            done.add(step)
            right += 1
            if shared and shared[0] == step:
                shared.pop(0)
    return result


# --- removing ---


def with_named(fields: FieldSet, shape: Shape) -> FieldSet:
    """The set, and the fields of objects that hold members of it: they go when all below them goes."""
    result: FieldSet = {}
    for step, node in fields.items():
        if not node:
            result[step] = node
            continue
        declared = False
        below = UNKNOWN
        if step[0] == "f":
            declared = shape.declares(step[2:])
            below = shape.below(step[2:])[1]
        elif step[0] == "k":
            below = shape.items
        inner = with_named(node, below)
        result[step] = {SELF: {}, **inner} if declared and SELF not in inner else inner
    return result


def removed(value: Any, fields: FieldSet, shape: Shape) -> Any:
    """The value without the members of a set. A map or a list that is no member stays, if only empty."""
    if is_map(value, shape):
        result: dict[str, Any] = {}
        for key, inner in value.items():
            step, below = shape.below(key)
            node = fields.get(step)
            if node is None:
                result[key] = inner
            elif not is_member(node):
                result[key] = removed(inner, node, below)
        return result
    if is_items(value, shape):
        items = []
        for item in value:
            node = fields.get(shape.step(item))
            if node is None:
                items.append(item)
            elif not is_member(node):
                items.append(removed(item, node, shape.items))
        return items
    return value


# --- what does not fit ---


def misfits(value: Any, shape: Shape, path: str = "") -> list[str]:
    """What is wrong with an applied configuration, in the words of the typed parser."""
    if value is None or (shape.deduced and not isinstance(value, dict)):
        return []
    if shape.deduced:
        return _misfit_entries(value, shape, path)
    if shape.holds_items:
        if not isinstance(value, list):
            return [f"{path}: expected list, got &{{{_go(value)}}}"]
        return _misfit_items(value, shape, path)
    if shape.holds_entries:
        if not isinstance(value, dict):
            return [f"{path}: expected map, got &{{{_go(value)}}}"]
        return _misfit_entries(value, shape, path)
    wrong = _misfit_scalar(value, shape)
    return [f"{path}: {wrong}"] if wrong else []


def _misfit_entries(value: dict[str, Any], shape: Shape, path: str) -> list[str]:
    found = []
    for key, inner in value.items():
        if shape.declares(key) or shape.open:
            found += misfits(inner, shape.below(key)[1], f"{path}.{key}")
        else:
            found.append(f"{path}.{key}: field not declared in schema")
    return found


def _misfit_items(value: list[Any], shape: Shape, path: str) -> list[str]:
    found: list[str] = []
    seen: set[str] = set()
    for index, item in enumerate(value):
        text = f"[{index}]"
        if shape.by_item:
            try:
                step = shape.step(item)
            except ValueError as error:
                return [*found, f"{path}: element {index}: {error}"]
            text = fieldsets.step_text(step)
            if step in seen:
                found.append(f"{path}: duplicate entries for key {text}")
            seen.add(step)
        found += misfits(item, shape.items, path + text)
    return found


def _misfit_scalar(value: Any, shape: Shape) -> str:
    scalar = isinstance(value, (str, int, float))
    match shape.type:
        case "string":
            return (
                ""
                if isinstance(value, str)
                else f"expected string, got &value.valueUnstructured{{Value:{_go(value)}}}"
            )
        case "boolean":
            return "" if isinstance(value, bool) else f"expected boolean, got &{{{_go(value)}}}"
        case "integer" | "number":
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return ""
            return f"expected numeric (int or float), got {_go_type(value)}"
        case "":
            return "" if scalar else f"expected any scalar, got &{{{_go(value)}}}"
    return ""


def _go(value: Any) -> str:
    """A value as Go prints it."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_go(inner)}" for key, inner in sorted(value.items())) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_go, value)) + "]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _go_type(value: Any) -> str:
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, list):
        return "[]interface {}"
    return "bool" if isinstance(value, bool) else "string"
