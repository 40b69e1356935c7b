"""What holds for rules in any mode: nothing is declared twice, and nothing is spoken of that is not there."""

from __future__ import annotations

import re
from collections import Counter

_VERDICTS = {"ACCEPT", "DROP", "REJECT", "RETURN", "DNAT", "MASQUERADE", "MARK", "REDIRECT"}


def check_iptables(text: str, *, whole: bool) -> dict[str, dict[str, list[str]]]:
    """The rules by table and chain. A whole text has chains too that kube-proxy makes and does not use."""
    tables: dict[str, dict[str, list[str]]] = {}
    chains: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            assert line[1:] not in tables
            chains = tables[line[1:]] = {}
        elif line.startswith(":"):
            name = line[1:].split()[0]
            assert name not in chains
            assert len(name) <= 28
            chains[name] = []
        elif line.startswith("-A "):
            _, chain, rest = line.split(" ", 2)
            chains[chain].append(rest)
        else:
            assert line in {"COMMIT", ""} or line.startswith("#")
    for chains in tables.values():
        targets = {words for rules in chains.values() for rule in rules for words in _targets(rule)}
        assert targets <= chains.keys() | _VERDICTS
        hashed = {name for name in chains if re.fullmatch(r"KUBE-[A-Z]+-[A-Z2-7]{16}", name)}
        assert hashed <= targets
        if not whole:
            assert {name for name in chains if name.startswith("KUBE-") and not chains[name]} <= targets
    return tables


def _targets(rule: str) -> list[str]:
    return re.findall(r"(?:^| )-j (\S+)", rule)


def check_nftables(text: str) -> dict[str, str]:
    """The bodies of sets, maps and chains by name."""
    found = re.findall(r"^\t(set|map|chain) (\S+) \{\n(.*?)^\t\}", text, re.MULTILINE | re.DOTALL)
    assert [name for name, times in Counter(name for _, name, _ in found).items() if times > 1] == []
    bodies = {name: body for _, name, body in found}
    chains = {name for kind, name, _ in found if kind == "chain"}
    assert set(re.findall(r"(?:goto|jump) ([^\s,]+)", text)) <= chains
    assert (
        set(re.findall(r"@([^\s\"]+?)(?=[\s\"]|$)", re.sub(r'"[^"]*"', "", text))) <= bodies.keys() - chains
    )
    return bodies
