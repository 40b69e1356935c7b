"""Tables of iptables as `iptables-save` writes them: chains by name, then their rules, chain by chain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

_BUILT_IN = {
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}
MARK_MASQ = "KUBE-MARK-MASQ"
MASQUERADE_MARK = "0x4000"


class Rule(NamedTuple):
    """A rule: what it matches, in the order of iptables-save, and its target with options ("" has none)."""

    matches: str
    target: str


class Table:
    """One table. Rules can only be added to chains that are there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.chains: dict[str, list[Rule]] = {chain: [] for chain in _BUILT_IN[name]}

    def declare(self, *chains: str) -> None:
        """Add chains without rules."""
        for chain in chains:
            self.chains.setdefault(chain, [])

    def add(self, chain: str, matches: str, target: str = "") -> None:
        """Append a rule."""
        self.chains[chain].append(Rule(matches, target))

    def drop_unused(self) -> None:
        """Forget chains of which no rule speaks."""
        targets = {rule.target for rules in self.chains.values() for rule in rules}
        built_in = _BUILT_IN[self.name]
        self.chains = {
            chain: rules
            for chain, rules in self.chains.items()
            if rules or chain in targets or chain in built_in
        }

    def lines(self) -> list[str]:
        """The table as text; nothing when it has no chain but the built-in ones."""
        built_in = _BUILT_IN[self.name]
        names = [*built_in, *sorted(self.chains.keys() - set(built_in))]
        if len(names) == len(built_in):
            return []
        lines = [f"*{self.name}"]
        lines += [f":{name} {'ACCEPT' if name in built_in else '-'} [0:0]" for name in names]
        for name in names:
            for matches, target in self.chains[name]:
                words = ["-A", name, matches, f"-j {target}" if target else ""]
                lines.append(" ".join(word for word in words if word))
        lines.append("COMMIT")
        return lines


def text_of(tables: Iterable[Table], *, whole: bool) -> str:
    """Tables as text; unless `whole`, without the chains of which no rule speaks."""
    lines: list[str] = []
    for table in tables:
        if not whole:
            table.drop_unused()
        lines += table.lines()
    return "".join(f"{line}\n" for line in lines)


def comment(text: str) -> str:
    """The match that carries a comment."""
    escaped = text.replace("'", r"\'")
    return f'-m comment --comment "{escaped}"'


def probability(candidates: int) -> str:
    """The match of a rule that takes one in `candidates`, as the kernel rounds it."""
    written = round(1 / candidates, 10)
    return f"-m statistic --mode random --probability {round(written * 2**31) / 2**31:.11f}"


def source(network: str) -> str:
    """The match on a source, which iptables leaves out where it is everything."""
    if network == "0.0.0.0/0":
        return ""
    return f"-s {network if '/' in network else f'{network}/32'}"


def add_masquerading(nat: Table) -> None:
    """The chains that masquerade what is marked, which the iptables and the ipvs mode share."""
    mark = f"{MASQUERADE_MARK}/{MASQUERADE_MARK}"
    nat.add("KUBE-POSTROUTING", f"-m mark ! --mark {mark}", "RETURN")
    nat.add("KUBE-POSTROUTING", "", f"MARK --set-xmark {MASQUERADE_MARK}/0x0")
    why = comment("kubernetes service traffic requiring SNAT")
    nat.add("KUBE-POSTROUTING", why, "MASQUERADE --random-fully")
    nat.add(MARK_MASQ, "", f"MARK --set-xmark {mark}")


def add_forwarding(filter_: Table) -> None:
    """Accept what is marked or belongs to a connection, whatever the policy of FORWARD."""
    mark = f"-m mark --mark {MASQUERADE_MARK}/{MASQUERADE_MARK}"
    filter_.add("KUBE-FORWARD", f"{comment('kubernetes forwarding rules')} {mark}", "ACCEPT")
    state = "-m conntrack --ctstate RELATED,ESTABLISHED"
    filter_.add("KUBE-FORWARD", f"{comment('kubernetes forwarding conntrack rule')} {state}", "ACCEPT")
