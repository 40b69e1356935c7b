"""Request bodies as plain documents: JSON and YAML, bounded in depth and size, doubled keys told."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from emu.api.errors import BadRequestError

MAX_DEPTH = 200
"""Levels of nesting; no served kind comes near."""
_MAX_YAML_NODES = 1_000_000

_encode = msgspec.json.Encoder().encode


NO_KIND = "couldn't get version/kind; json parse error: "


class UndecodableError(BadRequestError):
    """The body is not in the form that its media type says. `why` is for messages about objects."""

    def __init__(self, form: str, why: str) -> None:
        super().__init__(f"the body is not {form}: {why}")
        self.why = NO_KIND + why if form == "JSON" else f"yaml: {why}"


class Decoded(NamedTuple):
    """A body, and the paths of keys that it has more than once (the last one counts)."""

    value: Any
    duplicates: list[str]


def decode_json(body: bytes) -> Decoded:
    """A JSON body without the keys whose value is null, as Go's decoding has it. Raises BadRequestError."""
    value = decode(body)
    # Most bodies have no null and cannot be deep; they need no copy.
    if b"null" in body or body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        value = without_nulls(value)
    return Decoded(value, _duplicates(body, value))


def decode(body: bytes) -> Any:
    """A JSON body as it is. Raises BadRequestError."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UndecodableError("JSON", str(error)) from None
    except RecursionError:
        raise _too_deep() from None


def without_nulls(value: Any, depth: int = 0) -> Any:
    """A copy without the keys whose value is null. Raises BadRequestError beyond MAX_DEPTH."""
    if isinstance(value, dict):
        if depth > MAX_DEPTH:
            raise _too_deep()
        return {key: without_nulls(item, depth + 1) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        if depth > MAX_DEPTH:
            raise _too_deep()
        return [without_nulls(item, depth + 1) for item in value]
    return value


def _too_deep() -> UndecodableError:
    return UndecodableError("JSON", "exceeded max depth")


# --- doubled keys ---


class _Doubled(dict[str, Any]):
    """An object with doubled keys."""

    keys_twice: tuple[str, ...] = ()


def _duplicates(body: bytes, value: Any) -> list[str]:
    # A body that is as long as its own encoding has every key once; only others are looked at closely.
    if len(_encode(value)) == len(body.strip()):
        return []
    found = False

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        document = dict(items)
        if len(document) == len(items):
            return document
        found = True
        doubled = _Doubled(document)
        keys = [key for key, _ in items]
        doubled.keys_twice = tuple(key for key in document if keys.count(key) > 1)
        return doubled

    slow = json.loads(body, object_pairs_hook=pairs)
    return list(_paths(slow, "")) if found else []


def _paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value, _Doubled):
            yield from (f"{path}.{key}".lstrip(".") for key in value.keys_twice)
        for key, item in value.items():
            yield from _paths(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _paths(item, f"{path}[{index}]")


# --- YAML ---


def decode_yaml(body: bytes) -> Decoded:
    """One YAML document (JSON included) as JSON would have it. Raises BadRequestError."""
    if body.lstrip().startswith(b"{"):
        try:
            return decode_json(body)
        except BadRequestError:
            # YAML's flow mappings begin with a brace too.
            pass
    return Decoded(without_nulls(_yaml_value(body)), [])


def decode_configuration(body: bytes) -> Any:
    """A configuration to apply, in YAML or JSON, nulls included. Raises BadRequestError."""
    try:
        return _as_json(decode(body), [_MAX_YAML_NODES])
    except BadRequestError:
        return _yaml_value(body)


def _yaml_value(body: bytes) -> Any:
    # Imported here since hardly any client sends it.
    import yaml

    try:
        value = yaml.load(body, _loader())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UndecodableError("YAML", " ".join(str(error).split())) from None
    return _as_json(value, [_MAX_YAML_NODES])


def _loader() -> Any:
    """A safe loader that leaves times as text."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
            for first, pairs in base.yaml_implicit_resolvers.items()
        }

    return Loader


def _as_json(value: Any, budget: list[int], depth: int = 0) -> Any:
    budget[0] -= 1
    if budget[0] < 0:
        raise BadRequestError("the YAML of the body grows beyond all bounds by its aliases")
    if depth > MAX_DEPTH:
        raise _too_deep()
    if isinstance(value, dict):
        return {_key(key): _as_json(item, budget, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item, budget, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRequestError(f"the body is not JSON: {value} is no number of JSON")
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise BadRequestError(f"the body is not JSON: it holds a {type(value).__name__}")


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, (str, int, float)):
        return str(key)
    raise BadRequestError("the body is not JSON: a key is no text")
