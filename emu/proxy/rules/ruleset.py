"""An nftables table as `nft list ruleset` writes it: sets and maps, then chains, as they were created."""

from __future__ import annotations

import re
from ipaddress import IPv4Address

_NEXT_ELEMENT = ",\n\t\t\t     "
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_CHAIN_OF_VERDICT = re.compile(r"\b(?:goto|jump) ([^\s,;}]+)")
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


class Container:
    """A set, or a map to verdicts."""

    def __init__(self, kind: str, type_: str, comment: str = "", options: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self._type = type_
        self._comment = comment
        self._options = options
        self.elements: dict[tuple[str | int, ...], str] = {}
        """Keys, as addresses, protocols and ports, with what follows the key."""

    def lines(self, name: str) -> list[str]:
        """The declaration with the elements."""
        lines = [f"\t{self.kind} {name} {{", f"\t\ttype {self._type}", *(f"\t\t{o}" for o in self._options)]
        if self._comment:
            lines.append(f'\t\tcomment "{self._comment}"')
        if self.elements:
            written = [
                " . ".join(str(part) for part in key) + self.elements[key]
                for key in sorted(self.elements, key=_position)
            ]
            if self.kind == "set":
                written = [", ".join(written[at : at + 2]) for at in range(0, len(written), 2)]
            lines.append(f"\t\telements = {{ {_NEXT_ELEMENT.join(written)} }}")
        return [*lines, "\t}"]


class Ruleset:
    """One table. A chain is its lines; `declare` fixes its place."""

    def __init__(self, table: str, comment: str) -> None:
        self._table = table
        self._comment = comment
        self.containers: dict[str, Container] = {}
        self.chains: dict[str, list[str]] = {}

    def declare(self, chain: str, *lines: str) -> None:
        """Add a chain that may have no rule yet."""
        self.chains.setdefault(chain, []).extend(lines)

    def add(self, chain: str, *rules: str) -> None:
        """Append rules to a chain that was declared."""
        self.chains[chain].extend(rules)

    def text(self) -> str:
        """The whole table."""
        blocks = [container.lines(name) for name, container in self.containers.items()]
        for name, lines in self.chains.items():
            blocks.append([f"\tchain {name} {{", *(f"\t\t{line}" for line in lines), "\t}"])
        body = "\n\n".join("\n".join(block) for block in blocks)
        return f'table {self._table} {{\n\tcomment "{self._comment}"\n{body}\n}}\n'

    def keep(self, chains: set[str]) -> None:
        """Forget empty sets, maps that nothing is in, and chains but some and those that they lead to."""
        self.containers = {
            name: container
            for name, container in self.containers.items()
            if container.elements or any(f"@{name}" in line for c in chains for line in self.chains[c])
        }
        wanted, found = set(chains), set(chains)
        while found:
            lines = [line for chain in found for line in self.chains[chain]]
            found = {name for line in lines for name in _CHAIN_OF_VERDICT.findall(line)} - wanted
            wanted |= found
        for container in self.containers.values():
            for verdict in container.elements.values():
                wanted.update(_CHAIN_OF_VERDICT.findall(verdict))
        self.chains = {name: lines for name, lines in self.chains.items() if name in wanted}


def duration(seconds: int) -> str:
    """A timeout: 3h, 1d1h1m1s."""
    parts = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def _position(key: tuple[str | int, ...]) -> int:
    """The order of nft: addresses by number; concatenations as one little-endian number, ports first."""
    if len(key) == 1:
        return int(IPv4Address(str(key[0])))
    data = b"".join(_bytes(part) for part in key)
    return int.from_bytes(data, "little")


def _bytes(part: str | int) -> bytes:
    if isinstance(part, int):
        return part.to_bytes(2, "big") + b"\0\0"
    if part in _PROTOCOLS:
        return _PROTOCOLS[part].to_bytes(4, "little")
    return IPv4Address(part).packed
