"""OpenAPI v2 as protobuf: the message `Document` of gnostic's OpenAPIv2.proto.

kubectl up to 1.28 checks manifests with this form, and every kubectl reads it for the merge keys of `apply`.
The field numbers are those of the published .proto file, as far as the documents need them.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from emu.api.openapi.parameters import Document

_VARINT, _FIXED64, _LENGTH = 0, 1, 2

# Message -> field -> number and what it holds: "bool", "int", "double", "strings", "[...]" for a repeated
# value, or one of the values that `_value` knows.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Document": {
        "swagger": (1, "string"),
        "info": (2, "Info"),
        "paths": (8, "Paths"),
        "definitions": (9, "{Schema}"),
    },
    "Info": {"title": (1, "string"), "version": (2, "string")},
    "PathItem": {
        "get": (2, "Operation"),
        "put": (3, "Operation"),
        "post": (4, "Operation"),
        "delete": (5, "Operation"),
        "options": (6, "Operation"),
        "head": (7, "Operation"),
        "patch": (8, "Operation"),
        "parameters": (9, "[ParametersItem]"),
    },
    "Operation": {
        "tags": (1, "strings"),
        "description": (3, "string"),
        "operationId": (5, "string"),
        "produces": (6, "strings"),
        "consumes": (7, "strings"),
        "parameters": (8, "[ParametersItem]"),
        "responses": (9, "Responses"),
    },
    "BodyParameter": {
        "description": (1, "string"),
        "name": (2, "string"),
        "in": (3, "string"),
        "required": (4, "bool"),
        "schema": (5, "Schema"),
    },
    "QueryParameter": {
        "required": (1, "bool"),
        "in": (2, "string"),
        "description": (3, "string"),
        "name": (4, "string"),
        "type": (6, "string"),
        "uniqueItems": (20, "bool"),
    },
    "PathParameter": {
        "required": (1, "bool"),
        "in": (2, "string"),
        "description": (3, "string"),
        "name": (4, "string"),
        "type": (5, "string"),
        "uniqueItems": (19, "bool"),
    },
    "Response": {"description": (1, "string"), "schema": (2, "SchemaItem")},
    "Schema": {
        "$ref": (1, "string"),
        "format": (2, "string"),
        "description": (4, "string"),
        "default": (5, "any"),
        "maximum": (7, "double"),
        "minimum": (9, "double"),
        "maxLength": (11, "int"),
        "minLength": (12, "int"),
        "pattern": (13, "string"),
        "maxItems": (14, "int"),
        "minItems": (15, "int"),
        "maxProperties": (17, "int"),
        "minProperties": (18, "int"),
        "required": (19, "strings"),
        "enum": (20, "[any]"),
        "additionalProperties": (21, "SchemaItem"),
        "type": (22, "TypeItem"),
        "items": (23, "SchemaItem"),
        "properties": (25, "{Schema}"),
    },
}
_EXTENSIONS = {"Operation": 13, "Schema": 31}


def encode(document: Document) -> bytes:
    """A document as protobuf. Raises KeyError for a field that the table does not have."""
    return _message("Document", document)


def _message(name: str, value: Document) -> bytes:
    fields = _MESSAGES[name]
    parts = []
    for key, given in value.items():
        if key.startswith("x-"):
            parts.append(_field(_EXTENSIONS[name], _named(key, _any(given))))
        else:
            number, kind = fields[key]
            parts.append(_encoded(number, kind, given))
    return b"".join(parts)


def _encoded(number: int, kind: str, value: Any) -> bytes:
    if kind == "double":
        return _varint(number << 3 | _FIXED64) + struct.pack("<d", value)
    if kind in ("bool", "int"):
        return _varint(number << 3 | _VARINT) + _varint(int(value))
    if kind == "strings":
        return b"".join(_field(number, text.encode()) for text in value)
    if kind.startswith("["):
        return b"".join(_field(number, _value(kind[1:-1], item)) for item in value)
    return _field(number, _value(kind, value))


def _value(kind: str, value: Any) -> bytes:
    match kind:
        case "string":
            return bytes(value.encode())
        case "any":
            return _any(value)
        case "TypeItem":
            return _field(1, value.encode())
        case "SchemaItem":
            return _field(1, _message("Schema", value))
        case "{Schema}":
            return b"".join(_field(1, _named(key, _message("Schema", below))) for key, below in value.items())
        case "Paths":
            return b"".join(_field(2, _named(key, _message("PathItem", item))) for key, item in value.items())
        case "Responses":
            return b"".join(
                _field(1, _named(code, _field(1, _message("Response", item)))) for code, item in value.items()
            )
        case "ParametersItem":
            return _field(1, _parameter_message(value))
    return _message(kind, value)


def _parameter_message(parameter: Document) -> bytes:
    if parameter["in"] == "body":
        return _field(1, _message("BodyParameter", parameter))
    if parameter["in"] == "query":
        return _field(2, _field(3, _message("QueryParameter", parameter)))
    return _field(2, _field(4, _message("PathParameter", parameter)))


def _named(name: str, value: bytes) -> bytes:
    return _field(1, name.encode()) + _field(2, value)


def _any(value: Any) -> bytes:
    """The text is YAML, of which JSON is a part."""
    return _field(2, msgspec.json.encode(value))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
