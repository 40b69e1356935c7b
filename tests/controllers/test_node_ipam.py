"""The pod ranges of nodes."""

from __future__ import annotations

import pytest

from emu.controllers import node_ipam
from emu.controllers.actions import Patch, Report
from emu.core.addresses import Networks

from .controller_objects import node


@pytest.mark.parametrize(
    ("rule", "address", "taken", "expected"),
    [
        ("the number of its address", "127.168.1.12", set(), "127.244.3.0/24"),
        ("else the lowest free", "127.168.1.11", {"127.244.1.0/24", "127.244.2.0/24"}, "127.244.3.0/24"),
        ("an address of no number", "127.168.0.1", {"127.244.1.0/24"}, "127.244.2.0/24"),
        ("no address yet", "", set(), None),
    ],
)
def test_pod_ranges(rule: str, address: str, taken: set[str], expected: str | None) -> None:
    actions = node_ipam.decide(node(address=address), taken, Networks())
    written = [a.patch["spec"]["podCIDR"] for a in actions if isinstance(a, Patch)]
    assert written == ([expected] if expected else []), rule


def test_pod_ranges_run_out() -> None:
    ranges = Networks(pods="127.244.0.0/23")
    (report,) = node_ipam.decide(node(), {"127.244.1.0/24"}, ranges)
    assert isinstance(report, Report)
    assert "networks.pods" in report.message
