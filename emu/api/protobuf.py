"""Bodies in the protobuf form of the Kubernetes API, read as the JSON documents that they stand for.

client-go sends them since 0.32, and kubectl with it for `create`, `autoscale` and `auth`. The form is that of
apimachinery's `runtime/serializer/protobuf`: four bytes of magic and a `runtime.Unknown` around the message.
Unlike upstream, which skips what it does not know, a field that the table does not have is an error: nothing
that a client sends is lost in silence.

Every error is a BadRequestError. The cost is linear in the body: values are read in place, and the depth is
that of the table, in which no message contains itself.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NoReturn

from emu.api.decoding import decode_json
from emu.api.errors import BadRequestError
from emu.api.protobuf_fields import (
    KUBERNETES_VERSION,
    Field,
    Fields,
    Shape,
    entry_fields,
    fields,
    kinds,
)

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

# Wire types.
_VARINT, _DELIMITED = 0, 2

_EPOCH = datetime(1970, 1, 1)
# Go's zero time, which JSON has as null.
_ZERO_TIME = datetime(1, 1, 1)


def decode(body: bytes) -> dict[str, Any]:
    """The document of a body: apiVersion, kind, and the fields. Nulls of the JSON form are left out."""
    if not body.startswith(_MAGIC):
        _malformed("it does not begin with the bytes of Kubernetes protobuf")
    unknown: dict[str, Any] = {}
    _read(body, len(_MAGIC), len(body), "Unknown", fields("Unknown"), unknown)
    if unknown.get("contentEncoding"):
        _malformed(f'its content encoding "{unknown["contentEncoding"]}" is not known')
    type_meta = unknown.get("typeMeta", {})
    raw = unknown.get("raw", b"")
    content_type = unknown.get("contentType", MEDIA_TYPE)
    if content_type == "application/json":
        document = decode_json(raw).value
        if not isinstance(document, dict):
            _malformed("the JSON in it is not an object")
        return {**type_meta, **document}
    if content_type != MEDIA_TYPE:
        _malformed(f'its content type "{content_type}" is not known')
    version, kind = type_meta.get("apiVersion", ""), type_meta.get("kind", "")
    message = kinds().get((version, kind)) or kinds().get(("*", kind))
    if message is None:
        raise BadRequestError(f'no kind "{kind}" is known in protobuf for version "{version}"')
    document = {"apiVersion": version, "kind": kind}
    _read(raw, 0, len(raw), message, fields(message), document)
    return document


def _malformed(why: str) -> NoReturn:
    raise BadRequestError(f"the body is not Kubernetes protobuf: {why}")


# --- the wire ---


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    """An unsigned number of up to 64 bits, and where it ends."""
    if at < end and body[at] < 0x80:
        return body[at], at + 1
    value = shift = 0
    while at < end:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
        shift += 7
        if shift > 63:
            break
    else:
        _malformed("it ends within a number")
    _malformed("a number in it has more than 64 bits")


def _read(body: bytes, start: int, end: int, message: str, known: Fields, document: dict[str, Any]) -> None:
    """Add the fields between two offsets to a document. A field given again adds to a list or message."""
    at = start
    while at < end:
        tag, at = _varint(body, at, end)
        field = known.get(tag >> 3)
        if field is None:
            _malformed(f"{message} has no field {tag >> 3} in Kubernetes {KUBERNETES_VERSION}")
        wire = tag & 7
        if wire == _VARINT:
            number, at = _varint(body, at, end)
            convert = _NUMBERS.get(field.type)
            if convert is None:
                _wrong_wire_type(message, field, wire)
            _put(document, field, convert(number))
        elif wire == _DELIMITED:
            size, at = _varint(body, at, end)
            if size > end - at:
                _malformed(f"{_field_name(message, field)} goes beyond its end")
            _take(body, at, at + size, message, field, document)
            at += size
        else:
            _wrong_wire_type(message, field, wire)


def _take(body: bytes, start: int, end: int, message: str, field: Field, document: dict[str, Any]) -> None:
    """Add one length-delimited field to a document."""
    if field.shape is Shape.MAP:
        entry: dict[str, Any] = {}
        what = f"an entry of {_field_name(message, field)}"
        _read(body, start, end, what, entry_fields(field.type), entry)
        value = entry["value"] if "value" in entry else _value(b"", 0, 0, message, field)
        if value is not None:
            document.setdefault(field.name, {})[entry.get("key", "")] = value
    elif field.shape is Shape.INLINE:
        _read(body, start, end, field.type, fields(field.type), document)
    elif field.type in _NUMBERS:
        _unpack(body, start, end, message, field, document)
    elif field.shape is Shape.ONE and field.type not in _TEXTS and field.type not in _JSON_FORMS:
        _read(body, start, end, field.type, fields(field.type), document.setdefault(field.name, {}))
    else:
        _put(document, field, _value(body, start, end, message, field))


def _unpack(body: bytes, start: int, end: int, message: str, field: Field, document: dict[str, Any]) -> None:
    """Add the numbers of a packed list to a document."""
    if field.shape is not Shape.LIST:
        _wrong_wire_type(message, field, _DELIMITED)
    convert = _NUMBERS[field.type]
    numbers = []
    at = start
    while at < end:
        number, at = _varint(body, at, end)
        numbers.append(convert(number))
    if numbers:
        document.setdefault(field.name, []).extend(numbers)


def _put(document: dict[str, Any], field: Field, value: Any) -> None:
    """Add a value to a list, or set it, as the JSON form would have it."""
    if field.shape is Shape.LIST:
        document.setdefault(field.name, []).append(value)
    elif value is None or (not value and not field.keeps_zero and field.type not in _JSON_FORMS):
        document.pop(field.name, None)
    else:
        document[field.name] = value


def _value(body: bytes, start: int, end: int, message: str, field: Field) -> Any:
    """A length-delimited value. None is JSON's null."""
    text = _TEXTS.get(field.type)
    if text is not None:
        try:
            return text(body[start:end])
        except UnicodeDecodeError:
            _malformed(f"{_field_name(message, field)} is not UTF-8")
    found: dict[str, Any] = {}
    _read(body, start, end, field.type, fields(field.type), found)
    form = _JSON_FORMS.get(field.type)
    return form(found) if form else found


def _field_name(message: str, field: Field) -> str:
    return f"{field.name} of {message}"


def _wrong_wire_type(message: str, field: Field, wire: int) -> NoReturn:
    _malformed(f"{_field_name(message, field)} is not of wire type {wire}")


# --- values ---


def _int32(number: int) -> int:
    return ((number & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


def _int64(number: int) -> int:
    return (number ^ (1 << 63)) - (1 << 63)


def _embedded_json(found: Mapping[str, Any]) -> Any:
    raw = found.get("raw", b"")
    return decode_json(raw).value if raw else None


def _int_or_string(found: Mapping[str, Any]) -> int | str:
    type_ = found.get("type", 0)
    if type_ not in (0, 1):
        _malformed(f"an IntOrString is of type {type_}, not 0 or 1")
    value: int | str = found.get("strVal", "") if type_ else found.get("intVal", 0)
    return value


def _moment(seconds: int, microseconds: int) -> datetime | None:
    try:
        moment = _EPOCH + timedelta(seconds=seconds, microseconds=microseconds)
    except OverflowError:
        _malformed(f"the time {seconds} seconds after 1970 is not in the years 1 to 9999")
    return None if moment == _ZERO_TIME else moment


def _time(found: Mapping[str, Any]) -> str | None:
    # Upstream drops the fraction too, for JSON never had one.
    moment = _moment(found.get("seconds", 0), 0) if found else None
    return f"{moment.isoformat()}Z" if moment else None


def _micro_time(found: Mapping[str, Any]) -> str | None:
    # Go truncates towards zero.
    moment = _moment(found.get("seconds", 0), int(found.get("nanos", 0) / 1000)) if found else None
    return f"{moment.isoformat(timespec='microseconds')}Z" if moment else None


_NUMBERS: Mapping[str, Callable[[int], int]] = {"bool": bool, "int32": _int32, "int64": _int64}
_TEXTS: Mapping[str, Callable[[bytes], Any]] = {
    "bytes": lambda content: b64encode(content).decode(),
    "raw": bytes,
    "string": bytes.decode,
}
# Messages that are something else than an object in JSON.
_JSON_FORMS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "ExtraValue": lambda found: found.get("items", []),
    "FieldsV1": _embedded_json,
    "IntOrString": _int_or_string,
    "MicroTime": _micro_time,
    "Quantity": lambda found: found.get("string", "0"),
    "RawExtension": _embedded_json,
    "Time": _time,
}
