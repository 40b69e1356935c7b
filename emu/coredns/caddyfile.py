"""Words of a Caddyfile, the syntax of Corefiles: lexing, environment variables, and what `import` finds.

Blanks separate words. A word that begins with `"` goes on to the next `"`, over lines too; within it `\\"` is
a quote, and every other backslash stands for itself. `#` outside quotes begins a comment. `{$NAME}` and
`{%NAME%}` are environment variables, put in after lexing: their values are not split into words.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

MOUNT = "/etc/coredns/"
"""Where deployments mount the ConfigMap whose key `Corefile` is read."""
_ENVIRONMENT = re.compile(r"\{%(.+?)%\}|\{\$([^}]+)\}")
_WILDCARDS = re.compile(r"[*?\[]")


class CorefileError(ValueError):
    """A Corefile is wrong. The message begins with file and line."""

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(f"{file}:{line}: {message}")


class Token(NamedTuple):
    """A word and where it stands."""

    text: str
    file: str
    line: int
    first: bool
    """Whether it is the first word of its line."""

    def error(self, message: str) -> CorefileError:
        """An error about this word."""
        return CorefileError(self.file, self.line, message)


class Source(NamedTuple):
    """Where a Corefile's text, and what it imports, comes from."""

    file: str
    environment: Mapping[str, str] = {}
    beside: Mapping[str, str] | None = None
    """The files beside it, by name, where it is a ConfigMap's key: the other keys. None: those on disk."""

    def imported(self, token: Token) -> list[Token]:
        """The words of the files that an `import` names, which may hold one wildcard."""
        pattern = token.text
        if pattern.count("*") > 1 or pattern.count("?") > 1 or "[" in pattern:
            raise token.error(f'import of "{pattern}": a pattern has one wildcard at most')
        texts = self._in_config_map(pattern) if self._is_key(pattern) else _on_disk(pattern, token)
        if not texts:
            if not _WILDCARDS.search(pattern):
                raise token.error(f'import of "{pattern}": there is no such snippet above, and no such file')
            log.warning("%s:%d: no file matches %s", token.file, token.line, pattern)
        return [word for name, text in texts for word in lex(text, name, self.environment)]

    def _is_key(self, pattern: str) -> bool:
        return self.beside is not None and "/" not in pattern.removeprefix(MOUNT)

    def _in_config_map(self, pattern: str) -> list[tuple[str, str]]:
        beside = self.beside or {}
        where = self.file.rpartition(" ")[0]
        pattern = pattern.removeprefix(MOUNT)
        return [
            (f"{where} {key}".strip(), beside[key]) for key in sorted(beside) if fnmatchcase(key, pattern)
        ]


def _on_disk(pattern: str, token: Token) -> list[tuple[str, str]]:
    """Names and texts of files; a relative pattern starts from the file that imports."""
    path = Path(token.file).parent / pattern
    paths = sorted(path.parent.glob(path.name)) if _WILDCARDS.search(path.name) else [path]
    try:
        return [(str(item), item.read_text()) for item in paths if not item.is_dir() and item.exists()]
    except (OSError, UnicodeDecodeError) as error:
        raise token.error(f'import of "{pattern}": {error}') from None


def lex(text: str, file: str, environment: Mapping[str, str]) -> list[Token]:
    """The words of a text. Raises CorefileError for a quote that is not closed."""
    tokens: list[Token] = []
    number = 1
    at = 1 if text.startswith("\ufeff") else 0
    first = True
    while at < len(text):
        char = text[at]
        if char == "\n":
            number += 1
            first = True
            at += 1
        elif char.isspace():
            at += 1
        elif char == "#":
            at = text.find("\n", at)
            if at < 0:
                break
        else:
            word, end = _quoted(text, at, file, number) if char == '"' else _plain(text, at)
            tokens.append(Token(_expand(word, environment), file, number, first))
            number += text.count("\n", at, end)
            first = False
            at = end
    return tokens


def _plain(text: str, at: int) -> tuple[str, int]:
    end = at
    while end < len(text) and text[end] != "#" and not text[end].isspace():
        end += 1
    return text[at:end], end


def _quoted(text: str, at: int, file: str, number: int) -> tuple[str, int]:
    """The word in quotes that begins at `at`, and the offset after it."""
    word: list[str] = []
    end = at + 1
    while end < len(text) and text[end] != '"':
        if text[end] == "\\" and end + 1 < len(text):
            word.append('"' if text[end + 1] == '"' else text[end : end + 2])
            end += 2
        else:
            word.append(text[end])
            end += 1
    if end >= len(text):
        raise CorefileError(file, number, "a quote is not closed")
    return "".join(word), end + 1


def _expand(word: str, environment: Mapping[str, str]) -> str:
    return _ENVIRONMENT.sub(lambda match: environment.get(match[1] or match[2], ""), word)
