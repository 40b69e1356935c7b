"""The Corefile: server blocks, directives and their blocks, as CoreDNS's parser reads them.

`ZONE... { directives }`; a file with one server block needs no braces. `(name) { ... }` defines a snippet;
`import` inserts a snippet, or files. A directive's block opens on the line of the directive.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Network, ip_network
from typing import NamedTuple

from emu.coredns.caddyfile import CorefileError, Source, Token, lex

__all__ = [
    "DEFAULT_PORT",
    "CorefileError",
    "Directive",
    "Line",
    "ServerBlock",
    "Zone",
    "kubeadm_corefile",
    "normalize_zones",
    "parse_corefile",
]

DEFAULT_PORT = 53
_MAX_IMPORTS = 1000

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


class Line(NamedTuple):
    """A line within a directive's block: its first word and the others."""

    name: str
    args: tuple[str, ...]
    number: int
    file: str


class Directive(NamedTuple):
    """One plugin's mention in a server block."""

    name: str
    args: tuple[str, ...]
    block: tuple[Line, ...]
    file: str
    line: int

    def error(self, message: str, line: int | None = None) -> CorefileError:
        """An error about this directive, or about a line of its block."""
        file = next((item.file for item in self.block if item.number == line), self.file)
        return CorefileError(file, line or self.line, f"plugin/{self.name}: {message}")


class Zone(NamedTuple):
    """A key of a server block: a zone in lower case with a final dot, and a port."""

    name: str
    port: int


class ServerBlock(NamedTuple):
    """Zones and the directives for them, in the order of the file."""

    zones: tuple[Zone, ...]
    directives: tuple[Directive, ...]
    file: str
    line: int


def kubeadm_corefile(zone: str) -> str:
    """The Corefile that kubeadm installs."""
    return KUBEADM.format(zone=zone.rstrip("."))


def parse_corefile(
    text: str,
    file: str = "Corefile",
    environment: Mapping[str, str] = {},
    beside: Mapping[str, str] | None = None,
) -> list[ServerBlock]:
    """The server blocks of a Corefile. Raises CorefileError that names file and line.

    Relative imports are looked up in `beside` (texts by name) where it is given, else in the file's folder.
    """
    return _Parser(lex(text, file, environment), Source(file, environment, beside)).blocks()


def normalize_zones(text: str) -> list[str]:
    """Zones in lower case with a final dot; a CIDR becomes the reverse zones that cover it.

    Raises ValueError when the text is neither.
    """
    if "/" in text:
        return _reverse_zones(text)
    if not text.isascii():
        raise ValueError(f'"{text}" is not a zone: names are written in ASCII, as xn--...')
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


class _Parser:
    def __init__(self, tokens: list[Token], source: Source) -> None:
        self._tokens = tokens
        self._source = source
        self._at = 0
        self._imports = 0
        self._snippets: dict[str, list[Token]] = {}

    def blocks(self) -> list[ServerBlock]:
        blocks: list[ServerBlock] = []
        taken: dict[Zone, int] = {}
        while self._next() is not None:
            block = self._block()
            if block is None:
                continue
            for zone in block.zones:
                if zone in taken:
                    raise CorefileError(
                        block.file,
                        block.line,
                        f"the zone {zone.name}:{zone.port} is already served by the block in line "
                        f"{taken[zone]}",
                    )
                taken[zone] = block.line
            blocks.append(block)
        if not blocks:
            raise CorefileError(self._source.file, 1, "there is no server block")
        return blocks

    def _block(self) -> ServerBlock | None:
        """One server block; None for a snippet, which is remembered."""
        first = self._tokens[self._at]
        keys, braces = self._keys()
        if len(keys) == 1 and re.fullmatch(r"\(.+\)", keys[0]):
            self._define(keys[0][1:-1], first, braces)
            return None
        zones = tuple(zone for key in keys for zone in _zones(key, first))
        directives: list[Directive] = []
        while True:
            token = self._next()
            if token is None:
                if braces:
                    raise first.error(f'the server block "{" ".join(keys)}" is not closed')
                break
            if token.text == "}":
                if not braces:
                    raise token.error("a closing brace without its opening one")
                self._at += 1
                break
            directives.append(self._directive())
        return ServerBlock(zones, tuple(directives), first.file, first.line)

    def _keys(self) -> tuple[list[str], bool]:
        """The zones before a block, and whether it is in braces."""
        keys: list[str] = []
        more = False
        while True:
            token = self._tokens[self._at] if self._at < len(self._tokens) else None
            if token is not None and token.text == "{" and keys and not more:
                self._at += 1
                return keys, True
            if (token is None or token.first) and keys and not more:
                return keys, False
            if token is None or token.text == "{":
                where = token or self._tokens[-1]
                if more:
                    raise where.error("another zone is expected after the comma")
                raise where.error("a server block needs a zone before its opening brace")
            if token.text == "}":
                raise token.error("a closing brace without its opening one")
            more = token.text.endswith(",")
            keys += [key] if (key := token.text.removesuffix(",")) else []
            self._at += 1

    def _define(self, name: str, first: Token, braces: bool) -> None:
        if name in self._snippets:
            raise first.error(f'the snippet "{name}" is already there')
        start = self._at
        depth = int(braces)
        while depth:
            if self._at >= len(self._tokens):
                raise first.error("a snippet is not closed")
            depth += {"{": 1, "}": -1}.get(self._tokens[self._at].text, 0)
            self._at += 1
        if self._at == start:
            raise first.error("a snippet needs an opening brace")
        self._snippets[name] = self._tokens[start : self._at - 1]

    def _next(self) -> Token | None:
        """The word that comes next, after putting in what is imported here; None at the end."""
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.text != "import" or not token.first:
                return token
            words = self._rest_of_line()
            if len(words) != 2:
                raise token.error("import takes one snippet, file or pattern")
            self._imports += 1
            if self._imports > _MAX_IMPORTS:
                raise token.error(f'import of "{words[1].text}": it imports itself')
            found = self._snippets.get(words[1].text)
            del self._tokens[self._at - 2 : self._at]
            self._at -= 2
            self._tokens[self._at : self._at] = self._source.imported(words[1]) if found is None else found
        return None

    def _directive(self) -> Directive:
        words = self._rest_of_line()
        head = words[0]
        if head.text == "{":
            raise head.error("an opening brace without a plugin before it")
        block: list[Line] = []
        if words[-1].text == "{":
            words.pop()
            while (token := self._next()) is None or token.text != "}":
                if token is None:
                    raise head.error(f"the block of {head.text} is not closed")
                line = self._rest_of_line()
                if line[-1].text == "{":
                    raise line[-1].error(f"the block of {head.text} has a block within it")
                args = tuple(word.text for word in line[1:])
                block.append(Line(token.text, args, token.line, token.file))
            self._at += 1
        args = tuple(word.text for word in words[1:])
        return Directive(head.text, args, tuple(block), head.file, head.line)

    def _rest_of_line(self) -> list[Token]:
        start = self._at
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if self._at > start and (token.first or token.text == "}"):
                break
            self._at += 1
            if token.text == "{":
                break
        return self._tokens[start : self._at]


def _zones(key: str, token: Token) -> list[Zone]:
    scheme, _, rest = key.rpartition("://")
    if scheme not in ("", "dns"):
        raise token.error(f'"{key}": only dns:// is served here')
    name, colon, port = rest.rpartition(":") if re.search(r":\d*$", rest) else (rest, "", "")
    try:
        number = int(port) if colon and port else DEFAULT_PORT
        if not 0 < number < 65536:
            raise ValueError(f'"{port}" is not a port')
        return [Zone(zone, number) for zone in normalize_zones(name or ".")]
    except ValueError as error:
        raise token.error(str(error)) from None
