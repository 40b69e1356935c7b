"""docs/reference/services.md: rule by rule, what emu does and which tests see it.

The names of tests begin with the rules that they test, and so the page's last column is made from them:
`python tests/end_to_end/test_services_page.py` prints the page as it should be.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "services.md"
RULES = {"A": 22, "B": 13, "C": 22, "D": 8, "E": 9, "F": 7, "G": 5, "H": 5, "I": 5}
"""How many rules each section has."""
OUTSIDE = ("tests/end_to_end/services/", "tests/end_to_end/test_status_endpoints.py")
"""Where tests bind an address, dial, and read what comes back."""
_NAME = re.compile(r"test_((?:[a-i]\d+_)+)")
_ROW = re.compile(r"\| ([A-I]\d+) \| ([^|]+) \|.*")
_MODES = {"every_mode": "every mode", "kernel_modes": "iptables, ipvs, nftables"}


class Named(NamedTuple):
    name: str
    file: str
    modes: str

    @property
    def rules(self) -> list[str]:
        found = _NAME.match(self.name)
        return found[1].upper().split("_")[:-1] if found else []


def named_tests() -> Iterator[Named]:
    """All tests that are named after rules, by file and line."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if _NAME.search(path.read_text()) is None:
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _NAME.match(node.name):
                modes = [shown for decorator in node.decorator_list if (shown := _modes(decorator))]
                yield Named(node.name, str(path.relative_to(ROOT)), modes[0] if modes else "")


def _modes(decorator: ast.expr) -> str:
    if isinstance(decorator, ast.Name):
        return _MODES.get(decorator.id, "")
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "in_modes":
        return ", ".join(argument.value for argument in decorator.args if isinstance(argument, ast.Constant))
    return ""


def page() -> str:
    """The page with its tests brought up to date."""
    found = list(named_tests())
    return "".join(_line(line, found) for line in PAGE.read_text().splitlines(keepends=True))


def _line(line: str, found: list[Named]) -> str:
    row = _ROW.match(line)
    if row is None:
        return line
    outside = [test for test in found if row[1] in test.rules and test.file.startswith(OUTSIDE)]
    seen = [f"`{test.name}`{f' ({test.modes})' if test.modes else ''}" for test in outside]
    return f"| {row[1]} | {row[2]} | {', '.join(seen) or 'not from outside'} |\n"


def test_the_page_names_the_tests_that_there_are():
    assert PAGE.read_text() == page()


def test_the_page_has_every_rule_once_and_every_test_a_rule():
    rules = [f"{letter}{number}" for letter, count in RULES.items() for number in range(1, count + 1)]
    assert [row[1] for line in PAGE.read_text().splitlines() if (row := _ROW.match(line))] == rules
    assert {test.name: rule for test in named_tests() for rule in test.rules if rule not in rules} == {}


if __name__ == "__main__":
    print(page(), end="")
