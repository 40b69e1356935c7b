"""YAML as kubectl reads it, in one pass and within bounds.

kubectl's parser takes `yes` and `y` for booleans and 1e3 for a number, and leaves dates and 1:30 as text;
PyYAML's own resolver decides otherwise, so scalars are resolved here. Nothing recurses, so that no input can
exhaust the stack, and what aliases repeat is counted, so that none can exhaust the memory.
Source of the scalar rules: sigs.k8s.io/yaml, goyaml.v2, resolve.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

MAX_DEPTH = 200
"""How deep mappings and lists may be nested; no Kubernetes kind comes near it."""
MAX_REPEATED = 8 << 20
"""How many characters the aliases of one document may add to it."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PREFIX = "tag:yaml.org,2002:"
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_INTEGER = re.compile(r"[-+]?(?:0[bB][01]+|0[oO]?[0-7]+|0[xX][0-9a-fA-F]+|[1-9][0-9]*|0)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NUMBER_START = frozenset("+-.0123456789")


class YamlError(Exception):
    """The text is not YAML, or not within bounds. `line` counts from 1; 0 when it is not known."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem


class Document(NamedTuple):
    """One document of a stream."""

    value: Any
    line: int
    """Where it begins, from 1."""
    item_lines: list[int]
    """Where the elements of its top-level `items` begin, when it is a mapping that has them."""


def read_documents(text: str) -> Iterator[Document]:
    """The documents of a YAML stream, empty ones included (as None). Raises YamlError."""
    builder = _Builder()
    try:
        for event in yaml.parse(text, _Loader):
            document = builder.take(event)
            if document is not None:
                yield document
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise YamlError(mark.line + 1 if mark else 0, problem) from None


def resolve(text: str) -> Any:
    """What a plain scalar means: bool, int, float, None, or the text itself.

    Raises ValueError for .inf and .nan, which JSON does not have.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_START:
        return text
    digits = text.replace("_", "")
    if _INTEGER.fullmatch(digits) and abs(number := _integer(digits)) < 1 << 64:
        return number
    if _FLOAT.fullmatch(digits):
        value = float(digits)
        return int(value) if value.is_integer() and abs(value) < 1 << 63 else value
    if _NO_NUMBER.fullmatch(text):
        raise ValueError(f"{text} is no number that JSON has")
    return text


def _integer(digits: str) -> int:
    sign = -1 if digits[0] == "-" else 1
    digits = digits.lstrip("+-").lower()
    if len(digits) == 1 or digits[0] != "0":
        return sign * int(digits)
    base = {"b": 2, "o": 8, "x": 16}.get(digits[1])
    return sign * (int(digits, 8) if base is None else int(digits[2:], base))


class _Frame:
    """A mapping or list that is being built."""

    __slots__ = ("anchor", "key", "merges", "size", "value")

    def __init__(self, value: Any, anchor: str | None) -> None:
        self.value = value
        self.anchor = anchor
        self.key: str | None = None
        self.merges: list[Any] = []
        self.size = 1


class _Builder:
    """Turns events into values with a stack of its own."""

    def __init__(self) -> None:
        self._reset(0)

    def _reset(self, line: int) -> None:
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._open: set[str] = set()
        self._repeated = 0
        self._root: Any = None
        self._line = line
        self._begun = False
        self._item_lines: list[int] = []

    def take(self, event: Any) -> Document | None:
        """The document that an event ends, if it does."""
        line = event.start_mark.line + 1
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._start(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end(line)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event.anchor, line)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._reset(line)
        elif isinstance(event, yaml.DocumentEndEvent):
            return Document(self._root, self._line, self._item_lines)
        return None

    def _scalar(self, event: Any, line: int) -> None:
        value = _scalar_value(event, line)
        if self._awaits_key():
            self._stack[-1].key = _key(event, value, line)
            self._stack[-1].size += len(event.value)
            return
        size = 1 + len(event.value)
        if event.anchor:
            self._anchors[event.anchor] = (value, size)
        self._add(value, size, line)

    def _start(self, event: Any, line: int) -> None:
        if self._awaits_key():
            raise YamlError(line, "a list or mapping cannot be a key")
        _check_tag(event, ("map", "seq"), line)
        if len(self._stack) >= MAX_DEPTH:
            raise YamlError(line, f"it is nested more than {MAX_DEPTH} levels deep")
        self._note_line(line)
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Frame(value, event.anchor))
        if event.anchor:
            self._anchors.pop(event.anchor, None)
            self._open.add(event.anchor)

    def _end(self, line: int) -> None:
        frame = self._stack.pop()
        for merged in frame.merges:
            for key, value in merged.items():
                frame.value.setdefault(key, value)
        if frame.anchor:
            self._open.discard(frame.anchor)
            self._anchors[frame.anchor] = (frame.value, frame.size)
        self._add(frame.value, frame.size, line, noted=True)

    def _alias(self, anchor: str | None, line: int) -> None:
        if self._awaits_key():
            raise YamlError(line, f"the alias *{anchor} cannot be a key")
        if anchor is None or anchor not in self._anchors:
            problem = "is inside of what it repeats" if anchor in self._open else "has no anchor before it"
            raise YamlError(line, f"the alias *{anchor} {problem}")
        value, size = self._anchors[anchor]
        self._repeated += size
        if self._repeated > MAX_REPEATED:
            raise YamlError(line, f"its aliases repeat more than {MAX_REPEATED >> 20} MiB")
        self._add(value, size, line)

    def _awaits_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None

    def _note_line(self, line: int) -> None:
        if not self._begun:
            self._begun, self._line = True, line
        elif (
            len(self._stack) == 2 and self._stack[0].key == "items" and isinstance(self._stack[1].value, list)
        ):
            self._item_lines.append(line)

    def _add(self, value: Any, size: int, line: int, *, noted: bool = False) -> None:
        if not noted:
            self._note_line(line)
        if not self._stack:
            self._root = value
            return
        frame = self._stack[-1]
        frame.size += size
        if isinstance(frame.value, list):
            frame.value.append(value)
            return
        assert frame.key is not None, "the parser gives a key before each value of a mapping"
        if frame.key == "<<":
            merged = value if isinstance(value, list) else [value]
            if not all(isinstance(each, dict) for each in merged):
                raise YamlError(line, "`<<` merges mappings only")
            frame.merges += merged
        else:
            frame.value[frame.key] = value
        frame.key = None


def _scalar_value(event: Any, line: int) -> Any:
    _check_tag(event, ("str", "int", "float", "bool", "null"), line)
    if event.tag in ("!", _PREFIX + "str") or (event.style and event.tag is None):
        return event.value
    try:
        return resolve(event.value)
    except ValueError as error:
        raise YamlError(line, str(error)) from None


def _key(event: Any, value: Any, line: int) -> str:
    if value is None:
        raise YamlError(line, "a key is empty")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else str(event.value)


def _check_tag(event: Any, known: tuple[str, ...], line: int) -> None:
    if event.tag not in (None, "!", *(_PREFIX + name for name in known)):
        raise YamlError(line, f"the tag {event.tag.replace(_PREFIX, '!!')} means nothing to Kubernetes")
