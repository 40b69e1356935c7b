"""The scheduler: which nodes take a pod, which one gets it, and what is said when none does."""

from __future__ import annotations

from typing import Any

import pytest

from emu.controllers.actions import Create, Patch, Report
from emu.controllers.scheduler import Load, Placement, decide, place, refusal, tolerates
from emu.core.objects import Node, Taint, Toleration

from .controller_objects import NOW, node, pod

TAINT = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("rule", "subject", "spec", "expected"),
    [
        ("a Ready node takes any pod", node(), {}, ""),
        (
            "not Ready",
            node(ready="False"),
            {},
            "node(s) had untolerated taint {node.kubernetes.io/not-ready: }",
        ),
        (
            "never heard of",
            node(ready=None),
            {},
            "node(s) had untolerated taint {node.kubernetes.io/not-ready: }",
        ),
        ("cordoned", node(unschedulable=True), {}, "node(s) were unschedulable"),
        ("tainted", node(taints=[TAINT]), {}, "node(s) had untolerated taint {dedicated: db}"),
        ("tainted for preference only", node(taints=[{**TAINT, "effect": "PreferNoSchedule"}]), {}, ""),
        (
            "tolerated",
            node(taints=[TAINT]),
            {"tolerations": [{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]},
            "",
        ),
        (
            "nodeSelector misses",
            node(labels={"disk": "hdd"}),
            {"nodeSelector": {"disk": "ssd"}},
            "node(s) didn't match Pod's node affinity/selector",
        ),
        ("nodeSelector matches", node(labels={"disk": "ssd"}), {"nodeSelector": {"disk": "ssd"}}, ""),
    ],
)
def test_refusal(rule: str, subject: Node, spec: dict[str, Any], expected: str) -> None:
    assert refusal(pod("a", node="", spec=spec), subject) == expected, rule


@pytest.mark.parametrize(
    ("rule", "toleration", "expected"),
    [
        ("Equal", Toleration(key="k", value="v", effect="NoSchedule"), True),
        ("Equal, other value", Toleration(key="k", value="x", effect="NoSchedule"), False),
        ("Exists", Toleration(key="k", operator="Exists"), True),
        ("Exists, other key", Toleration(key="x", operator="Exists"), False),
        ("no effect means all", Toleration(key="k", value="v"), True),
        ("other effect", Toleration(key="k", value="v", effect="NoExecute"), False),
        ("no key with Exists means all", Toleration(operator="Exists"), True),
        ("no key with Equal means none", Toleration(value="v"), False),
    ],
)
def test_tolerations(rule: str, toleration: Toleration, expected: bool) -> None:
    assert tolerates(toleration, Taint(key="k", value="v", effect="NoSchedule")) is expected, rule


@pytest.mark.parametrize(
    ("rule", "loads", "expected"),
    [
        ("fewest of the same controller", [Load(1, 1), Load(9, 0)], "node-2"),
        ("then fewest pods", [Load(3, 1), Load(2, 1)], "node-2"),
        ("then the name", [Load(2, 1), Load(2, 1)], "node-1"),
    ],
)
def test_spread(rule: str, loads: list[Load], expected: str) -> None:
    nodes = [(node(f"node-{n}"), load) for n, load in enumerate(loads, 1)]
    assert place(pod("a", node=""), nodes) == Placement(expected), rule


def test_message_counts_reasons() -> None:
    nodes = [
        node("node-1", taints=[TAINT]),
        node("node-2", unschedulable=True),
        node("node-3", taints=[TAINT]),
    ]
    assert place(pod("a", node=""), [(n, Load()) for n in nodes]).message == (
        "0/3 nodes are available: 2 node(s) had untolerated taint {dedicated: db}, "
        "1 node(s) were unschedulable."
    )
    assert place(pod("a", node=""), []).message == "no nodes available to schedule pods"


def test_binding_or_condition_once() -> None:
    subject = pod("a", node="", ready=False)
    (bind,) = decide(subject, Placement("node-2"), NOW)
    assert isinstance(bind, Create)
    assert (bind.subresource, bind.document["target"]["name"]) == ("binding", "node-2")
    report, patch = decide(subject, Placement("", "0/1 nodes"), NOW)
    assert isinstance(report, Report)
    assert isinstance(patch, Patch)
    assert (report.reason, report.warning) == ("FailedScheduling", True)
    told = patch.patch["status"]["conditions"][0]
    assert (told["type"], told["status"], told["reason"]) == ("PodScheduled", "False", "Unschedulable")
