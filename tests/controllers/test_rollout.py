"""Deployments: steps of a rollout, revisions, conditions."""

from __future__ import annotations

from typing import Any

import pytest

from emu.controllers import rollout
from emu.controllers.actions import Action, Create, Delete, Patch, Report
from emu.controllers.deployment import Observed, decide
from emu.core.objects import Deployment, ReplicaSet

from .controller_objects import NOW, deployment, replica_set


def strategy(surge: int | str, unavailable: int | str) -> dict[str, Any]:
    return {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


@pytest.mark.parametrize(
    ("rule", "replicas", "surge", "unavailable", "expected"),
    [
        ("the defaults of 3: one more, none less", 3, "25%", "25%", (1, 0)),
        ("surge rounds up, unavailable down", 10, "25%", "25%", (3, 2)),
        ("counts are taken as they are", 10, 2, 3, (2, 3)),
        ("both zero would never move", 10, 0, 0, (0, 1)),
        ("unavailable is at most all", 2, 1, 5, (1, 2)),
        ("zero replicas", 0, "25%", "25%", (0, 0)),
    ],
)
def test_limits(
    rule: str, replicas: int, surge: int | str, unavailable: int | str, expected: tuple[int, int]
) -> None:
    limits = rollout.limits(deployment(replicas, strategy=strategy(surge, unavailable)))
    assert (limits.surge, limits.unavailable) == (expected if replicas else (0, limits.unavailable)), rule


@pytest.mark.parametrize(
    ("rule", "replicas", "new", "old", "expected"),
    [
        ("a first rollout asks for all at once", 3, None, [], (3, {})),
        ("maxSurge lets one more start", 3, None, [(3, 3)], (1, {})),
        ("at the ceiling nothing starts", 3, (1, 0), [(3, 3)], (1, {})),
        ("a new one that is available frees an old one", 3, (1, 1), [(3, 3)], (1, {"old-0": 2})),
        ("room below the ceiling is used", 3, (1, 1), [(2, 2)], (2, {})),
        ("the last old one goes when all new are there", 3, (3, 3), [(1, 1)], (3, {"old-0": 0})),
        ("the last old one stays while a new one is missing", 3, (3, 2), [(1, 1)], (3, {})),
        ("old ones that are not available go first", 3, (1, 0), [(2, 0), (1, 1)], (1, {})),
        ("broken old ones go without waiting", 3, (1, 1), [(2, 0), (1, 1)], (1, {"old-0": 1})),
        ("too many new ones are taken back", 3, (5, 5), [], (3, {})),
        ("a settled Deployment stays", 3, (3, 3), [(0, 0)], (3, {})),
    ],
)
def test_rolling_step(
    rule: str,
    replicas: int,
    new: tuple[int, int] | None,
    old: list[tuple[int, int]],
    expected: tuple[int, dict[str, int]],
) -> None:
    current = replica_set("new", replicas=new[0], available=new[1]) if new else None
    olds = [replica_set(f"old-{i}", replicas=r, available=a, image="v0") for i, (r, a) in enumerate(old)]
    targets = rollout.rolling(deployment(replicas), current, olds)
    assert (targets.current, dict(targets.old)) == expected, rule


def converge(subject: Deployment, start: list[ReplicaSet]) -> list[tuple[int, ...]]:
    """Play a rollout: every pod that is asked for is available at the next step."""
    sets = {item.name: item for item in start}
    trace = []
    for _ in range(50):
        actions = decide(Observed(subject, list(sets.values())), NOW)
        writes = [a for a in actions if isinstance(a, Create | Patch) and a.resource.plural == "replicasets"]
        counts = {item.name: item.spec.replicas for item in sets.values()}
        for write in writes:
            if isinstance(write, Create):
                counts["new"] = write.document["spec"]["replicas"]
            elif "spec" in write.patch:
                counts[write.name] = write.patch["spec"]["replicas"]
        if counts == {item.name: item.spec.replicas for item in sets.values()}:
            return trace
        sets = {
            name: replica_set(name, replicas=count, image="v2" if name == "new" else "v1")
            for name, count in counts.items()
        }
        trace.append(tuple(counts.values()))
    raise AssertionError(f"no end: {trace}")


def test_a_rollout_never_leaves_its_limits() -> None:
    subject = deployment(10, image="v2", strategy=strategy(3, 2))
    trace = converge(subject, [replica_set("old", replicas=10)])
    assert trace[0] == (10, 3)
    assert trace[-1] == (0, 10)
    assert all(8 <= sum(counts) <= 13 for counts in trace)


def test_recreate_ends_all_before_it_starts_one() -> None:
    subject = deployment(3, image="v2", strategy={"type": "Recreate"})
    old = replica_set("old", replicas=3)
    first = decide(Observed(subject, [old], old_pods=3), NOW)
    assert [a.patch["spec"] for a in replica_set_writes(first)] == [{"replicas": 0}]
    ended = replica_set("old", replicas=0)
    assert not replica_set_writes(decide(Observed(subject, [ended], old_pods=1), NOW))
    last = [a for a in decide(Observed(subject, [ended], old_pods=0), NOW) if isinstance(a, Create)]
    assert [a.document["spec"]["replicas"] for a in last] == [3]


def replica_set_writes(actions: list[Action]) -> list[Patch]:
    return [
        a
        for a in actions
        if isinstance(a, Patch) and a.resource.plural == "replicasets" and "spec" in a.patch
    ]


def test_paused_changes_no_template() -> None:
    subject = deployment(3, image="v2", paused=True)
    actions = decide(Observed(subject, [replica_set("old", replicas=3)]), NOW)
    assert not [a for a in actions if isinstance(a, Create)]
    assert conditions(actions)["Progressing"]["reason"] == "DeploymentPaused"


def test_scaling_in_the_middle_of_a_rollout_is_proportional() -> None:
    """The example of the documentation: 10 to 15 replicas, at 8 old and 5 new pods, maxSurge 3."""
    sizes = {"deployment.kubernetes.io/desired-replicas": "10"}
    old = replica_set("old", replicas=8, annotations=sizes)
    new = replica_set("new", replicas=5, available=0, image="v2", annotations=sizes)
    subject = deployment(15, image="v2", strategy=strategy(3, 2))
    writes = replica_set_writes(decide(Observed(subject, [old, new]), NOW))
    assert {write.name: write.patch["spec"]["replicas"] for write in writes} == {"old": 11, "new": 7}


def conditions(actions: list[Action]) -> dict[str, dict[str, Any]]:
    status = next(a for a in actions if isinstance(a, Patch) and a.subresource == "status")
    return {item["type"]: item for item in status.patch["status"]["conditions"]}


def test_the_first_replica_set() -> None:
    subject = deployment(3)
    actions = decide(Observed(subject, []), NOW)
    created = next(a for a in actions if isinstance(a, Create)).document
    label = created["metadata"]["labels"]["pod-template-hash"]
    assert created["metadata"]["name"] == f"web-{label}"
    assert created["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": label}
    assert created["spec"]["template"]["metadata"]["labels"] == {"app": "web", "pod-template-hash": label}
    assert created["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    assert [a.message for a in actions if isinstance(a, Report)] == [
        f"Scaled up replica set web-{label} from 0 to 3"
    ]
    found = conditions(actions)
    assert found["Available"]["status"] == "False"
    assert found["Progressing"]["reason"] == "NewReplicaSetCreated"


def test_a_complete_rollout_says_so_and_then_is_quiet() -> None:
    name = f"web-{rollout.template_hash(deployment())}"
    annotations = {
        "deployment.kubernetes.io/revision": "1",
        "deployment.kubernetes.io/desired-replicas": "3",
        "deployment.kubernetes.io/max-replicas": "4",
    }
    current = replica_set(name, replicas=3, annotations=annotations)
    revision = {"deployment.kubernetes.io/revision": "1"}
    actions = decide(Observed(deployment(annotations=revision), [current]), NOW)
    status = next(a for a in actions if isinstance(a, Patch)).patch["status"]
    assert status["updatedReplicas"] == status["availableReplicas"] == 3
    assert status["observedGeneration"] == 2
    found = conditions(actions)
    assert (found["Available"]["status"], found["Progressing"]["reason"]) == (
        "True",
        "NewReplicaSetAvailable",
    )
    settled = deployment(annotations=revision, status=status)
    assert decide(Observed(settled, [current]), NOW + 5) == []


def test_a_rollout_without_progress_misses_its_deadline() -> None:
    progressing = {
        "type": "Progressing",
        "status": "True",
        "reason": "ReplicaSetUpdated",
        "message": "",
        "lastUpdateTime": "2027-01-15T07:59:00Z",
    }
    current = replica_set("new", replicas=3, available=0)
    subject = deployment(
        progressDeadlineSeconds=30,
        status={"conditions": [progressing], "updatedReplicas": 3, "replicas": 3},
    )
    actions = decide(Observed(subject, [current]), NOW)
    assert conditions(actions)["Progressing"]["reason"] == "ProgressDeadlineExceeded"
    assert conditions(actions)["Progressing"]["status"] == "False"


def test_undo_makes_an_old_template_the_newest_revision() -> None:
    first = replica_set("a", replicas=0, image="v1", annotations={"deployment.kubernetes.io/revision": "1"})
    second = replica_set("b", replicas=3, image="v2", annotations={"deployment.kubernetes.io/revision": "2"})
    actions = decide(Observed(deployment(image="v1"), [first, second]), NOW)
    marks = [
        a.patch["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
        for a in actions
        if isinstance(a, Patch)
        and "deployment.kubernetes.io/revision" in a.patch.get("metadata", {}).get("annotations", {})
    ]
    assert marks == ["3", "3"]


def test_history_beyond_its_limit_goes() -> None:
    olds = [
        replica_set(
            f"old-{n}", replicas=0, image=f"x{n}", annotations={"deployment.kubernetes.io/revision": str(n)}
        )
        for n in range(1, 5)
    ]
    current = replica_set("new", replicas=3)
    actions = decide(Observed(deployment(revisionHistoryLimit=2), [*olds, current]), NOW)
    assert [a.name for a in actions if isinstance(a, Delete)] == ["old-1", "old-2"]
