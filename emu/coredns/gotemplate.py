"""Go's text/template, as far as records need it: fields, functions, pipelines, variables, if, with, range.

`parse` compiles a text into closures and raises TemplateError for what is not understood. `Template.render`
runs them over plain values: str, int, bool, list, and dict, whose keys are map keys and struct fields alike.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

_ACTION = re.compile(r"\{\{(- )?((?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^\"`])*?)( -)?\}\}", re.DOTALL)
_WORD = re.compile(
    r"""\s*(?:(?P<string>"(?:\\.|[^"\\])*"|`[^`]*`)|(?P<number>-?\d+)|(?P<sign>:=|[=|(),])"""
    r"""|(?P<chain>(?:\$\w*|\.)?(?:\.?[A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)*|\$\w*|\.))"""
)
_VERB = re.compile(r"%([-+ 0#]*)(\d*)(?:\.(\d+))?(.)", re.DOTALL)
_CONTROLS = ("if", "with", "range")
_ENDS = ("else", "end")


class TemplateError(Exception):
    """A template cannot be understood, or not run."""


class NoValue:
    """What a key that a map lacks gives."""

    def __str__(self) -> str:
        return "<no value>"

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())


NO_VALUE = NoValue()


class Scope:
    """What names stand for while a template runs: the dot and the variables."""

    def __init__(self, dot: Any, variables: dict[str, Any]) -> None:
        self.dot = dot
        self.variables = variables

    def within(self, dot: Any, **variables: Any) -> Scope:
        """For the inside of a block: its variables end with it."""
        return Scope(dot, {**self.variables, **variables})


Value = Callable[[Scope], Any]
Part = Callable[[Scope], str]


class Template(NamedTuple):
    """A template that was understood."""

    parts: tuple[Part, ...]

    def render(self, data: dict[str, Any]) -> str:
        """The text for these data. Raises TemplateError."""
        try:
            return _run(self.parts, Scope(data, {"$": data}))
        except (TypeError, ValueError, LookupError) as error:
            raise TemplateError(str(error)) from None


def parse(text: str, fields: frozenset[str]) -> Template:
    """Compile a template whose data have these fields."""
    parser = _Parser(text, fields)
    parts, end = parser.block(outermost=True)
    if end:
        raise TemplateError(f"{{{{{end}}}}} without a beginning")
    return Template(parts)


def _run(parts: Sequence[Part], scope: Scope) -> str:
    return "".join(part(scope) for part in parts)


def text_of(value: Any) -> str:
    """A value as Go prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{' '.join(map(text_of, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{text_of(value[key])}' for key in sorted(value))}]"
    return str(value)


# --- functions ---


def _parse_int(text: str, base: int, bits: int) -> int:
    if not re.fullmatch(r"[0-9A-Za-z_]+", text):
        raise ValueError(f'parsing "{text}": invalid syntax')
    number = int(text, base)
    if number >> bits:
        raise ValueError(f'parsing "{text}": value out of range')
    return number


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, NO_VALUE)
        elif not isinstance(key, int) or not 0 <= key < len(value):
            raise TemplateError(f"index out of range: {text_of(key)}")
        else:
            value = ord(value[key]) if isinstance(value, str) else value[key]
    return value


def _slice(value: Any, *bounds: int) -> Any:
    start, end = (*bounds, *(0, len(value))[len(bounds) :])
    if not 0 <= start <= end <= len(value):
        raise TemplateError(f"slice out of range: {start}:{end}")
    return value[start:end]


def _and(*values: Any) -> Any:
    return next((value for value in values if not value), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if value), values[-1])


def _print(*values: Any) -> str:
    """Like fmt.Sprint: blanks between operands of which neither is a string."""
    out = ""
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            out += " "
        out += text_of(value)
    return out


def _printf(form: str, *values: Any) -> str:
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        if verb == "q":
            verb, value = "s", '"' + text_of(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
        if verb in "xX" and isinstance(value, str):
            verb, value = "s", value.encode().hex() if verb == "x" else value.encode().hex().upper()
        if verb in "dxXoc" and isinstance(value, int):
            return f"%{flags}{width}{verb}" % value
        if verb == "b" and isinstance(value, int):
            return f"{value:{'0' if '0' in flags else ''}{width}b}"
        if verb in "svt":
            shown = text_of(value)[: int(precision) if precision else None]
            return shown.ljust(int(width or 0)) if "-" in flags else shown.rjust(int(width or 0))
        return f"%!{verb}({text_of(value)})"

    out = _VERB.sub(one, form)
    return out + (f"%!(EXTRA {', '.join(map(text_of, rest))})" if rest else "")


def _compare(relation: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(one: Any, other: Any) -> bool:
        if type(one) is not type(other):
            raise TemplateError("incompatible types for comparison")
        return relation(one, other)

    return compare


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "parseInt": _parse_int,
    "index": _index,
    "slice": _slice,
    "len": len,
    "not": lambda value: not value,
    "and": _and,
    "or": _or,
    "print": _print,
    "println": lambda *values: " ".join(map(text_of, values)) + "\n",
    "printf": _printf,
    "eq": lambda one, *others: any(_compare(lambda a, b: bool(a == b))(one, other) for other in others),
    "ne": _compare(lambda a, b: bool(a != b)),
    "lt": _compare(lambda a, b: bool(a < b)),
    "le": _compare(lambda a, b: bool(a <= b)),
    "gt": _compare(lambda a, b: bool(a > b)),
    "ge": _compare(lambda a, b: bool(a >= b)),
}


# --- the parser ---


class _Parser:
    def __init__(self, text: str, fields: frozenset[str]) -> None:
        self._fields = fields
        self._pieces = _pieces(text)
        self._at = 0

    def block(self, *, outermost: bool) -> tuple[tuple[Part, ...], str]:
        """Parts up to an `else` or `end` and that action, or to the end of the text.

        `outermost`: the dot is the data, so that its fields can be checked.
        """
        parts: list[Part] = []
        while self._at < len(self._pieces):
            kind, text = self._pieces[self._at]
            self._at += 1
            if kind == "text":
                parts.append(_literal(text))
                continue
            word = text.split(None, 1)[0] if text.strip() else ""
            if word in _ENDS:
                return tuple(parts), text.strip()
            if word in _CONTROLS:
                parts.append(self._control(word, text.strip()[len(word) :], outermost))
            elif not text.lstrip().startswith("/*"):
                parts.append(self._output(text, outermost))
        return tuple(parts), ""

    def _output(self, text: str, outermost: bool) -> Part:
        words = _words(text)
        value, names, assigns = self._pipeline(words, outermost)
        if len(names) > 1:
            raise TemplateError(f"{{{{{text}}}}}: two variables are for range only")
        if not names:
            return lambda scope: text_of(value(scope))

        def assign(scope: Scope) -> str:
            if assigns == "=" and names[0] not in scope.variables:
                raise TemplateError(f"undefined variable {names[0]}")
            scope.variables[names[0]] = value(scope)
            return ""

        return assign

    def _control(self, word: str, condition: str, outermost: bool) -> Part:
        value, names, _ = self._pipeline(_words(condition), outermost)
        inner = outermost and word == "if"
        parts, end = self.block(outermost=inner)
        otherwise: tuple[Part, ...] = ()
        if end == "else":
            otherwise, end = self.block(outermost=outermost)
        elif end.startswith("else "):
            nested, *rest = end[5:].split(None, 1)
            if nested not in ("if", "with"):
                raise TemplateError(f"{{{{{end}}}}} is not understood")
            otherwise, end = (self._control(nested, " ".join(rest), outermost),), "end"
        if end != "end":
            raise TemplateError(f"{{{{{word}{condition}}}}} has no end")
        if word == "range":
            return _range(value, names, parts, otherwise)

        def run(scope: Scope) -> str:
            found = value(scope)
            extra = {names[0]: found} if names else {}
            dot = found if word == "with" and found else scope.dot
            return _run(parts if found else otherwise, scope.within(dot, **extra))

        return run

    def _pipeline(self, words: list[tuple[str, str]], outermost: bool) -> tuple[Value, list[str], str]:
        """The value, the variables that are set to it, and whether by `:=` or `=`."""
        names: list[str] = []
        assigns = ""
        signs = [text for kind, text in words if kind == "sign" and text in (":=", "=")]
        if signs:
            assigns = signs[0]
            cut = words.index(("sign", assigns))
            names = [text for kind, text in words[:cut] if kind == "chain"]
            if len(signs) > 1 or not names or not all(re.fullmatch(r"\$\w+", name) for name in names):
                raise TemplateError(f'"{assigns}" needs a variable before it')
            words = words[cut + 1 :]
        value: Value | None = None
        for command in _split(words):
            value = self._command(command, value, outermost)
        if value is None:
            raise TemplateError("an action is empty")
        return value, names, assigns

    def _command(self, words: list[tuple[str, str]], piped: Value | None, outermost: bool) -> Value:
        if not words:
            raise TemplateError("a command of a pipeline is empty")
        kind, text = words[0]
        if kind == "chain" and text[0] not in ".$" and text not in ("true", "false", "nil"):
            function = FUNCTIONS.get(text)
            if function is None:
                raise TemplateError(f'there is no function "{text}"')
            arguments = self._operands(words[1:], outermost) + ([piped] if piped else [])
            return lambda scope: function(*(argument(scope) for argument in arguments))
        operands = self._operands(words, outermost)
        if len(operands) > 1 or piped is not None:
            raise TemplateError(f'"{text}" is no function and takes no arguments')
        return operands[0]

    def _operands(self, words: list[tuple[str, str]], outermost: bool) -> list[Value]:
        operands: list[Value] = []
        at = 0
        while at < len(words):
            kind, text = words[at]
            at += 1
            if (kind, text) == ("sign", "("):
                end = _closing(words, at)
                value, names, _ = self._pipeline(words[at:end], outermost)
                if names:
                    raise TemplateError("a variable is set within parentheses")
                operands.append(value)
                at = end + 1
            elif kind == "chain" and text.startswith(".") and at > 1 and words[at - 2] == ("sign", ")"):
                operands.append(_chain(operands.pop(), text[1:].split(".")))
            elif kind == "sign":
                raise TemplateError(f'"{text}" is not expected')
            else:
                operands.append(self._operand(kind, text, outermost))
        return operands

    def _operand(self, kind: str, text: str, outermost: bool) -> Value:
        if kind == "number":
            return _constant(int(text))
        if kind == "string":
            return _constant(text[1:-1] if text[0] == "`" else ast.literal_eval(text))
        if text in ("true", "false", "nil"):
            return _constant({"true": True, "false": False, "nil": None}[text])
        if text[0] not in ".$":
            return self._command([(kind, text)], None, outermost)
        start, *path = text.split(".")
        path = [name for name in path if name]
        if path and (start == "$" or (not start and outermost)) and path[0] not in self._fields:
            raise TemplateError(f"there is no field .{path[0]}")
        if start:
            return _chain(_variable(start), path)
        return _chain(lambda scope: scope.dot, path)


def _literal(text: str) -> Part:
    return lambda scope: text


def _constant(value: Any) -> Value:
    return lambda scope: value


def _variable(name: str) -> Value:
    def value(scope: Scope) -> Any:
        if name not in scope.variables:
            raise TemplateError(f"undefined variable {name}")
        return scope.variables[name]

    return value


def _chain(value: Value, path: list[str]) -> Value:
    def look_up(scope: Scope) -> Any:
        found = value(scope)
        for name in path:
            if not isinstance(found, dict):
                raise TemplateError(f"can't evaluate field {name}")
            found = found.get(name, NO_VALUE)
        return found

    return look_up


def _range(value: Value, names: list[str], parts: tuple[Part, ...], otherwise: tuple[Part, ...]) -> Part:
    def run(scope: Scope) -> str:
        found = value(scope)
        if isinstance(found, int) and not isinstance(found, bool):
            pairs: list[tuple[Any, Any]] = [(number, number) for number in range(found)]
        else:
            pairs = sorted(found.items()) if isinstance(found, dict) else list(enumerate(found))
        if not pairs:
            return _run(otherwise, scope.within(scope.dot))
        out = ""
        for pair in pairs:
            extra = dict(zip(names, pair[-len(names) :] if names else (), strict=False))
            out += _run(parts, scope.within(pair[1], **extra))
        return out

    return run


def _pieces(text: str) -> list[tuple[str, str]]:
    """Texts and actions in turn, with blanks removed where a `-` asks for it."""
    pieces: list[tuple[str, str]] = []
    at = 0
    trim = False
    for match in _ACTION.finditer(text):
        plain = text[at : match.start()]
        if "{{" in plain:
            break
        plain = plain.lstrip() if trim else plain
        pieces.append(("text", plain.rstrip() if match[1] else plain))
        pieces.append(("action", match[2]))
        trim = match[3] is not None
        at = match.end()
    rest = text[at:]
    if "{{" in rest:
        raise TemplateError("an action is not closed")
    pieces.append(("text", rest.lstrip() if trim else rest))
    return [piece for piece in pieces if piece[0] == "action" or piece[1]]


def _words(text: str) -> list[tuple[str, str]]:
    words = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None or match.lastgroup is None:
            raise TemplateError(f'"{text[at:].strip()}" is not understood')
        words.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return words


def _split(words: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """The commands of a pipeline."""
    if not words:
        return []
    commands: list[list[tuple[str, str]]] = [[]]
    depth = 0
    for word in words:
        depth += {"(": 1, ")": -1}.get(word[1], 0) if word[0] == "sign" else 0
        if word == ("sign", "|") and not depth:
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def _closing(words: list[tuple[str, str]], at: int) -> int:
    depth = 1
    for number in range(at, len(words)):
        if words[number][0] == "sign":
            depth += {"(": 1, ")": -1}.get(words[number][1], 0)
        if not depth:
            return number
    raise TemplateError("a parenthesis is not closed")
