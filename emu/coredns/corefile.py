"""The Corefile: server blocks, directives and their blocks, as CoreDNS's lexer and parser read them.

Words are separated by blanks; a word may be quoted, `#` at the start of a word begins a comment, a brace that
ends a line opens a block. `{$NAME}` and `{%NAME%}` are environment variables. `(name) { ... }` defines a
snippet that `import name` inserts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Network, ip_network
from typing import NamedTuple

DEFAULT_PORT = 53
_ENVIRONMENT = re.compile(r"\{\$([A-Za-z_][A-Za-z0-9_]*)\}|\{%([A-Za-z_][A-Za-z0-9_]*)%\}")
_MAX_IMPORTS = 100

KUBEADM = """\
.:53 {{
    errors
    health {{
       lameduck 5s
    }}
    ready
    kubernetes {zone} in-addr.arpa ip6.arpa {{
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }}
    prometheus :9153
    forward . /etc/resolv.conf {{
       max_concurrent 1000
    }}
    cache 30 {{
       disable success {zone}
       disable denial {zone}
    }}
    loop
    reload
    loadbalance
}}
"""


class CorefileError(ValueError):
    """A Corefile is wrong. The message begins with file and line."""

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(f"{file}:{line}: {message}")


class Token(NamedTuple):
    """A word and where it stands."""

    text: str
    line: int


class Line(NamedTuple):
    """A line within a directive's block: its first word and the others."""

    name: str
    args: tuple[str, ...]
    number: int


class Directive(NamedTuple):
    """One plugin's mention in a server block."""

    name: str
    args: tuple[str, ...]
    block: tuple[Line, ...]
    file: str
    line: int

    def error(self, message: str, line: int | None = None) -> CorefileError:
        """An error about this directive, or about a line of its block."""
        return CorefileError(self.file, line or self.line, f"plugin/{self.name}: {message}")


class Zone(NamedTuple):
    """A key of a server block: a zone in lower case with a final dot, and a port."""

    name: str
    port: int


class ServerBlock(NamedTuple):
    """Zones and the directives for them, in the order of the file."""

    zones: tuple[Zone, ...]
    directives: tuple[Directive, ...]
    line: int


def kubeadm_corefile(zone: str) -> str:
    """The Corefile that kubeadm installs."""
    return KUBEADM.format(zone=zone.rstrip("."))


def parse_corefile(
    text: str, file: str = "Corefile", environment: Mapping[str, str] = {}
) -> list[ServerBlock]:
    """The server blocks of a Corefile. Raises CorefileError that names file and line."""
    return _Parser(_lex(text, file, environment), file).blocks()


def normalize_zones(text: str) -> list[str]:
    """Zones in lower case with a final dot; a CIDR becomes the reverse zones that cover it.

    Raises ValueError when the text is neither.
    """
    if "/" in text:
        return _reverse_zones(text)
    name = text.rstrip(".").lower()
    if not name:
        return ["."]
    if any(not 0 < len(label) <= 63 for label in name.split(".")) or len(name) > 253:
        raise ValueError(f'"{text}" is not a zone')
    return [f"{name}."]


def _reverse_zones(text: str) -> list[str]:
    network = ip_network(text, strict=False)
    step, suffix = (8, "in-addr.arpa.") if isinstance(network, IPv4Network) else (4, "ip6.arpa.")
    prefix = -(-network.prefixlen // step) * step
    zones = []
    for subnet in network.subnets(new_prefix=prefix):
        labels = subnet.network_address.reverse_pointer.split(".")[:-2]
        kept = labels[len(labels) - prefix // step :]
        zones.append(".".join([*kept, suffix]))
    return zones


def _lex(text: str, file: str, environment: Mapping[str, str]) -> list[Token]:
    tokens = []
    number = 1
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\n":
            number += 1
            at += 1
        elif char.isspace():
            at += 1
        elif char == "#":
            at = text.find("\n", at)
            if at < 0:
                break
        elif char == '"':
            word, end = _quoted(text, at, file, number)
            tokens.append(Token(_expand(word, environment), number))
            number += text.count("\n", at, end)
            at = end
        else:
            end = at
            while end < len(text) and not text[end].isspace():
                end += 1
            tokens.append(Token(_expand(text[at:end], environment), number))
            at = end
    return tokens


def _quoted(text: str, at: int, file: str, number: int) -> tuple[str, int]:
    """The word in quotes that begins at `at`, and the offset after it. Only `\\"` is an escape."""
    word = []
    end = at + 1
    while end < len(text) and text[end] != '"':
        if text.startswith('\\"', end):
            end += 1
        word.append(text[end])
        end += 1
    if end >= len(text):
        raise CorefileError(file, number, "a quote is not closed")
    return "".join(word), end + 1


def _expand(word: str, environment: Mapping[str, str]) -> str:
    return _ENVIRONMENT.sub(lambda match: environment.get(match[1] or match[2], ""), word)


class _Parser:
    def __init__(self, tokens: list[Token], file: str) -> None:
        self._tokens = tokens
        self._file = file
        self._at = 0
        self._imports = 0
        self._snippets: dict[str, list[Token]] = {}

    def blocks(self) -> list[ServerBlock]:
        blocks: list[ServerBlock] = []
        taken: dict[Zone, int] = {}
        while self._at < len(self._tokens):
            block = self._block()
            if block is None:
                continue
            for zone in block.zones:
                if zone in taken:
                    raise self._error(
                        f"the zone {zone.name}:{zone.port} is already served by the block in line "
                        f"{taken[zone]}",
                        block.line,
                    )
                taken[zone] = block.line
            blocks.append(block)
        if not blocks:
            raise self._error("there is no server block", 1)
        return blocks

    def _block(self) -> ServerBlock | None:
        """One server block; None for a snippet, which is remembered."""
        first = self._tokens[self._at]
        keys = self._keys()
        if len(keys) == 1 and re.fullmatch(r"\(.+\)", keys[0]):
            self._snippets[keys[0][1:-1]] = self._snippet(first.line)
            return None
        zones = tuple(zone for key in keys for zone in self._zones(key, first.line))
        directives: list[Directive] = []
        while True:
            token = self._peek(f'the server block "{" ".join(keys)}" is not closed', first.line)
            if token.text == "}":
                self._at += 1
                return ServerBlock(zones, tuple(directives), first.line)
            if token.text == "import":
                self._import()
                continue
            directives.append(self._directive())

    def _keys(self) -> list[str]:
        keys: list[str] = []
        line = self._tokens[self._at].line
        while True:
            token = self._peek("a server block needs an opening brace", line)
            self._at += 1
            if token.text == "{":
                if not keys:
                    raise self._error("a server block needs a zone before its opening brace", token.line)
                return keys
            if token.text == "}":
                raise self._error("a closing brace without its opening one", token.line)
            keys += [key for key in token.text.split(",") if key]

    def _snippet(self, line: int) -> list[Token]:
        start = self._at
        depth = 1
        while depth:
            token = self._peek("a snippet is not closed", line)
            depth += {"{": 1, "}": -1}.get(token.text, 0)
            self._at += 1
        return self._tokens[start : self._at - 1]

    def _import(self) -> None:
        token = self._tokens[self._at]
        words = self._rest_of_line()
        name = words[1].text if len(words) == 2 else ""
        if name not in self._snippets:
            raise self._error(
                f'import of "{name}": there is no such snippet above, and files are not imported', token.line
            )
        self._imports += 1
        if self._imports > _MAX_IMPORTS:
            raise self._error(f'import of "{name}": a snippet imports itself', token.line)
        self._tokens[self._at : self._at] = self._snippets[name]

    def _directive(self) -> Directive:
        words = self._rest_of_line()
        head = words[0]
        if head.text == "{":
            raise self._error("an opening brace without a plugin before it", head.line)
        block: list[Line] = []
        if words[-1].text == "{":
            words.pop()
            while self._peek(f"the block of {head.text} is not closed", head.line).text != "}":
                line = self._rest_of_line()
                if line[-1].text == "{":
                    raise self._error(f"the block of {head.text} has a block within it", line[-1].line)
                block.append(Line(line[0].text, tuple(word.text for word in line[1:]), line[0].line))
            self._at += 1
        args = tuple(word.text for word in words[1:])
        return Directive(head.text, args, tuple(block), self._file, head.line)

    def _rest_of_line(self) -> list[Token]:
        start = self._at
        line = self._tokens[start].line
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.line != line or (token.text == "}" and self._at > start):
                break
            self._at += 1
            if token.text == "{":
                break
        return self._tokens[start : self._at]

    def _zones(self, key: str, line: int) -> list[Zone]:
        scheme, _, rest = key.rpartition("://")
        if scheme not in ("", "dns"):
            raise self._error(f'"{key}": only dns:// is served here', line)
        name, colon, port = rest.rpartition(":") if re.search(r":\d*$", rest) else (rest, "", "")
        try:
            number = int(port) if colon and port else DEFAULT_PORT
            if not 0 < number < 65536:
                raise ValueError(f'"{port}" is not a port')
            return [Zone(zone, number) for zone in normalize_zones(name or ".")]
        except ValueError as error:
            raise self._error(str(error), line) from None

    def _peek(self, otherwise: str, line: int) -> Token:
        if self._at >= len(self._tokens):
            raise self._error(otherwise, line)
        return self._tokens[self._at]

    def _error(self, message: str, line: int) -> CorefileError:
        return CorefileError(self._file, line, message)
