"""Command lines of Go programs: the `flag` package and cobra's pflag, as far as both agree.

`-name=value`, `--name=value`, `--name value`; Booleans take a value only after `=`; `--` ends the flags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from emu.core import durations

Value = str | int | bool | float


class ArgumentError(Exception):
    """The program would refuse its command line; the message is close to the one it prints."""


class Duration(float):
    """Seconds, given as a Go duration such as 1m30s. Its use as a default says that a flag is one."""


class Arguments(NamedTuple):
    """A parsed command line."""

    flags: dict[str, Value]
    positional: list[str]

    def text(self, name: str) -> str:
        """A flag's value as text."""
        return str(self.flags[name])

    def number(self, name: str) -> int:
        """A flag's value as a whole number."""
        return int(self.flags[name])

    def seconds(self, name: str) -> float:
        """A flag's value as seconds."""
        return float(self.flags[name])


def parse(arguments: Sequence[str], defaults: Mapping[str, Value]) -> Arguments:
    """Read a command line. `defaults` names the flags, whose types are theirs. Raises ArgumentError."""
    flags = dict(defaults)
    positional: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            positional.extend(words)
            break
        if not word.startswith("-") or word == "-":
            positional.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if name not in defaults:
            raise ArgumentError(f"unknown flag: --{name}")
        if not equals:
            if isinstance(defaults[name], bool):
                value = "true"
            else:
                following = next(words, None)
                if following is None:
                    raise ArgumentError(f"flag needs an argument: --{name}")
                value = following
        flags[name] = _convert(name, value, defaults[name])
    return Arguments(flags, positional)


def _convert(name: str, text: str, default: Value) -> Value:
    if isinstance(default, bool):
        lowered = text.lower()
        if lowered in ("true", "t", "1"):
            return True
        if lowered in ("false", "f", "0"):
            return False
        raise ArgumentError(f'invalid argument "{text}" for "--{name}" flag: not a Boolean')
    try:
        if isinstance(default, Duration):
            return Duration(parse_duration(text))
        if isinstance(default, int):
            return int(text)
    except ValueError as error:
        raise ArgumentError(f'invalid argument "{text}" for "--{name}" flag: {error}') from None
    return text


def parse_duration(text: str) -> float:
    """A Go duration in seconds. Raises ValueError."""
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    try:
        return sign * durations.parse_duration(rest)
    except ValueError:
        raise ValueError(f'time: invalid duration "{text}"') from None
