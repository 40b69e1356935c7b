"""Writes protobuf bodies for tests: by hand, and out of JSON documents as Go would send them."""

import json
from base64 import b64decode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from emu.api.protobuf_fields import SCALARS, Field, Shape, fields, kinds

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def chunk(field: int, *content: bytes | str) -> bytes:
    joined = b"".join(part.encode() if isinstance(part, str) else part for part in content)
    return varint(field << 3 | 2) + varint(len(joined)) + joined


def body(version: str, kind: str, *content: bytes, **unknown: str) -> bytes:
    rest = b"".join(chunk({"encoding": 3, "content_type": 4}[name], value) for name, value in unknown.items())
    return b"k8s\0" + chunk(1, chunk(1, version), chunk(2, kind)) + chunk(2, *content) + rest


def written(document: dict[str, Any]) -> bytes:
    """A whole document as a body. Raises KeyError for a field that the table does not have."""
    version, kind = document["apiVersion"], document["kind"]
    rest = {name: value for name, value in document.items() if name not in ("apiVersion", "kind")}
    return body(version, kind, _message(kinds()[version, kind], rest))


def flattened(message: str) -> dict[str, Field]:
    """The fields of a message by their names in JSON."""
    found: dict[str, Field] = {}
    for field in fields(message).values():
        found |= flattened(field.type) if field.shape is Shape.INLINE else {field.name: field}
    return found


def _message(message: str, document: dict[str, Any]) -> bytes:
    unwritten = set(document)
    out = bytearray()
    for key, field in fields(message).items():
        if field.shape is Shape.INLINE:
            names = flattened(field.type).keys() & unwritten
            out += chunk(key, _message(field.type, {name: document[name] for name in names}))
            unwritten -= names
        elif field.name in unwritten:
            unwritten.remove(field.name)
            out += b"".join(_values(key, field, document[field.name]))
        elif field.type in SCALARS and field.shape is Shape.ONE and not field.keeps_zero:
            # Go always sends what is no pointer.
            out += number(key, 0) if field.type in ("bool", "int32", "int64") else chunk(key)
    if unwritten:
        raise KeyError(f"{message} lacks {sorted(unwritten)}")
    return bytes(out)


def _values(key: int, field: Field, value: Any) -> Iterable[bytes]:
    if field.shape is Shape.MAP:
        for name, item in value.items():
            yield chunk(key, chunk(1, name), _value(2, field.type, item))
    elif field.shape is Shape.LIST:
        yield from (_value(key, field.type, item) for item in value)
    else:
        yield _value(key, field.type, value)


def _value(key: int, type_: str, value: Any) -> bytes:
    match type_:
        case "bool" | "int32" | "int64":
            return number(key, value)
        case "string":
            return chunk(key, value)
        case "bytes":
            return chunk(key, b64decode(value))
        case "Quantity":
            return chunk(key, chunk(1, value))
        case "IntOrString":
            is_text = isinstance(value, str)
            return chunk(
                key,
                number(1, is_text),
                number(2, 0 if is_text else value),
                chunk(3, value if is_text else ""),
            )
        case "Time" | "MicroTime":
            seconds, microseconds = divmod(
                (datetime.fromisoformat(value) - _EPOCH) // timedelta(microseconds=1), 1_000_000
            )
            return chunk(key, number(1, seconds), number(2, microseconds * 1000))
        case "FieldsV1" | "RawExtension":
            return chunk(key, chunk(1, json.dumps(value)))
        case "ExtraValue":
            return chunk(key, *(chunk(1, item) for item in value))
        case _:
            return chunk(key, _message(type_, value))
