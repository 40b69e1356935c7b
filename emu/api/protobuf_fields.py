"""The messages of the Kubernetes API in protobuf: what each field number means.

`protobuf_fields.txt` is the table, and tells its own format.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from functools import cache
from pathlib import Path
from typing import NamedTuple

KUBERNETES_VERSION = "1.36"
_TABLE = Path(__file__).with_name("protobuf_fields.txt")

SCALARS = frozenset({"bool", "bytes", "int32", "int64", "raw", "string"})


class Shape(Enum):
    """How often a field holds its type, and where JSON has it."""

    ONE = auto()
    LIST = auto()
    MAP = auto()
    INLINE = auto()


class Field(NamedTuple):
    """One field. `type` is a scalar or a message; `keeps_zero`: JSON has it even if it is zero."""

    name: str
    type: str
    shape: Shape
    keeps_zero: bool


Fields = Mapping[int, Field]


@cache
def _lines() -> dict[str, list[str]]:
    """The words after the name of each message."""
    lines = _TABLE.read_text(encoding="utf-8").splitlines()
    words = (line.split() for line in lines if not line.startswith("#"))
    return {name: rest for name, *rest in words}


@cache
def kinds() -> Mapping[tuple[str, str], str]:
    """The message of each apiVersion (`*` is any) and kind."""
    return {
        (rest[0], name.rpartition(".")[2]): name
        for name, rest in _lines().items()
        if rest and ":" not in rest[0]
    }


@cache
def fields(message: str) -> Fields:
    """The fields of a message by number. Raises KeyError for a message that the table does not have."""
    package = message.rpartition(".")[0]
    return dict(_field(word, package) for word in _lines()[message] if ":" in word)


@cache
def entry_fields(type_: str) -> Fields:
    """The fields of an entry of a map to `type_`."""
    return {1: Field("key", "string", Shape.ONE, True), 2: Field("value", type_, Shape.ONE, True)}


def _field(word: str, package: str) -> tuple[int, Field]:
    number, name, type_ = word.split(":")
    shape = {"[]": Shape.LIST, "{}": Shape.MAP}.get(type_[:2], Shape.INLINE if name == "." else Shape.ONE)
    bare = type_.removeprefix("[]").removeprefix("{}").removesuffix("*")
    local = f"{package}.{bare}"
    return int(number), Field(name, local if local in _lines() else bare, shape, type_.endswith("*"))
