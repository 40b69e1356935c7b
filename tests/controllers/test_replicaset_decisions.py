"""ReplicaSets: claims, creations, victims, status."""

from __future__ import annotations

import pytest

from emu.controllers.actions import Create, Delete, Patch, Requeue
from emu.controllers.replicaset import decide, family, victims
from emu.core.objects import Pod

from .controller_objects import NOW, owner, pod, replica_set

MINE = [owner("ReplicaSet", "web-1")]
LABELS = {"app": "web", "pod-template-hash": "web-1"}


def mine(name: str, **more: object) -> Pod:
    return pod(name, labels=LABELS, owners=MINE, **more)  # type: ignore[arg-type]


def test_missing_pods_are_created_with_their_owner() -> None:
    subject = replica_set("web-1", replicas=3, pods=1)
    created = [
        a.document for a in decide(subject, family(subject, [mine("a")], []), NOW) if isinstance(a, Create)
    ]
    assert len({document["metadata"]["name"] for document in created}) == 2
    assert all(document["metadata"]["name"].startswith("web-1-") for document in created)
    assert created[0]["metadata"]["ownerReferences"][0]["uid"] == "uid-web-1"


def test_finished_and_terminating_pods_are_replaced() -> None:
    subject = replica_set("web-1", replicas=2)
    owned = [mine("a", terminating=True), mine("b", phase="Failed")]
    assert sum(isinstance(a, Create) for a in decide(subject, family(subject, owned, []), NOW)) == 2


def test_orphans_are_adopted_and_count() -> None:
    subject = replica_set("web-1", replicas=1)
    actions = decide(subject, family(subject, [], [pod("a", labels=LABELS), pod("b", labels={})]), NOW)
    assert [
        (a.name, a.patch["metadata"]["ownerReferences"][0]["name"]) for a in actions if isinstance(a, Patch)
    ] == [("a", "web-1")]
    assert not [a for a in actions if isinstance(a, Create | Delete)]


def test_pods_that_match_no_more_are_released_and_replaced() -> None:
    subject = replica_set("web-1", replicas=1)
    lost = pod("a", labels={"app": "debug"}, owners=MINE)
    actions = decide(subject, family(subject, [lost], []), NOW)
    assert isinstance(actions[0], Patch)
    assert actions[0].patch["metadata"]["ownerReferences"] == []
    assert sum(isinstance(a, Create) for a in actions) == 1


@pytest.mark.parametrize(
    ("rule", "first", "second"),
    [
        ("unassigned before assigned", mine("z", node="", ready=False), mine("a", ready=False)),
        ("Pending before Running", mine("z", phase="Pending", ready=False), mine("a", ready=False)),
        ("not Ready before Ready", mine("z", ready=False), mine("a")),
        (
            "cheap before dear",
            mine("z", annotations={"controller.kubernetes.io/pod-deletion-cost": "-1"}),
            mine("a"),
        ),
        ("Ready for a short time first", mine("z", ready_since="2026-06-01T00:00:00Z"), mine("a")),
        ("young before old", mine("z", created="2026-06-01T00:00:00Z"), mine("a")),
    ],
)
def test_victims(rule: str, first: Pod, second: Pod) -> None:
    assert [p.name for p in victims([second, first], NOW)] == [first.name, second.name], rule


def test_victims_come_from_the_fullest_node() -> None:
    pods = [mine("a", node="node-1"), mine("b", node="node-2"), mine("c", node="node-2")]
    assert victims(pods, NOW)[0].spec.node_name == "node-2"


def test_availability_takes_min_ready_seconds() -> None:
    subject = replica_set("web-1", replicas=1, minReadySeconds=60)
    fresh = mine("a", ready_since="2027-01-15T07:59:30Z")
    actions = decide(subject, family(subject, [fresh], []), NOW)
    status = next(a for a in actions if isinstance(a, Patch)).patch["status"]
    assert (status["readyReplicas"], status["availableReplicas"]) == (1, 0)
    assert [a.seconds for a in actions if isinstance(a, Requeue)] == [30.0]


def test_a_settled_replica_set_writes_nothing() -> None:
    subject = replica_set("web-1", replicas=1)
    assert decide(subject, family(subject, [mine("a")], []), NOW) == []
