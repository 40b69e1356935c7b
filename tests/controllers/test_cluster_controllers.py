"""Node life cycle, garbage, system objects, namespaces."""

from __future__ import annotations

import pytest
import yaml

from emu.controllers import bootstrap, garbage_collector, namespaces, node_lifecycle
from emu.controllers.actions import Patch, Report, Requeue
from emu.core.config import ClusterConfig, ProxyMode
from emu.core.objects import ConfigMap, EndpointSlice, Node

from .controller_objects import NOW, metadata, node, owner, pod, view

UNREACHABLE = [
    {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
]


def test_a_silent_node_becomes_unknown_and_its_pods_not_ready() -> None:
    actions = node_lifecycle.decide(node(), [pod("a"), pod("b", ready=False)], 6.0, 6.0, NOW)
    status, report, taint, ready = actions
    assert isinstance(status, Patch)
    assert isinstance(report, Report)
    assert isinstance(taint, Patch)
    assert isinstance(ready, Patch)
    condition = status.patch["status"]["conditions"][0]
    assert (condition["type"], condition["status"], condition["reason"], condition["message"]) == (
        "Ready",
        "Unknown",
        "NodeStatusUnknown",
        "Kubelet stopped posting node status.",
    )
    assert report.reason == "NodeNotReady"
    assert taint.patch["spec"]["taints"] == UNREACHABLE
    assert (ready.name, ready.patch["status"]["conditions"][0]["status"]) == ("a", "False")


def test_a_node_that_is_heard_is_judged_when_its_grace_ends() -> None:
    assert node_lifecycle.decide(node(), [pod("a")], 2.0, 6.0, NOW) == [Requeue(4.0)]


def test_a_gone_node_is_written_once() -> None:
    assert node_lifecycle.decide(node(ready="Unknown", taints=UNREACHABLE), [], 60.0, 6.0, NOW) == []


@pytest.mark.parametrize(
    ("rule", "subject", "expected"),
    [
        ("back: the taints go", node(taints=UNREACHABLE), None),
        (
            "the user's own stay",
            node(taints=[{"key": "mine", "effect": "NoSchedule"}, *UNREACHABLE]),
            [{"key": "mine", "effect": "NoSchedule"}],
        ),
        (
            "cordoned",
            node(unschedulable=True),
            [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}],
        ),
    ],
)
def test_taints(rule: str, subject: Node, expected: list[dict[str, str]] | None) -> None:
    (patch, _) = node_lifecycle.decide(subject, [], 0.0, 6.0, NOW)
    assert isinstance(patch, Patch)
    assert patch.patch["spec"]["taints"] == expected, rule


SERVED = [
    garbage_collector.GroupKind("apps", "ReplicaSet"),
    garbage_collector.GroupKind("", "Service"),
]


@pytest.mark.parametrize(
    ("rule", "owners", "living", "expected"),
    [
        ("no owner", [], [], []),
        ("the owner lives", [owner("ReplicaSet", "rs")], ["uid-rs"], []),
        ("the owner is gone", [owner("ReplicaSet", "rs")], [], ["Delete"]),
        (
            "one of two lives: the other reference goes",
            [owner("ReplicaSet", "a"), {**owner("Service", "b"), "apiVersion": "v1"}],
            ["uid-b"],
            ["Patch"],
        ),
        ("a kind that is not served", [{**owner("Job", "j"), "apiVersion": "batch/v1"}], [], []),
        (
            "another version of a served group",
            [{**owner("ReplicaSet", "r"), "apiVersion": "apps/v9"}],
            [],
            ["Delete"],
        ),
    ],
)
def test_owners_that_are_gone(
    rule: str, owners: list[dict[str, object]], living: list[str], expected: list[str]
) -> None:
    subject = view(EndpointSlice, {"metadata": metadata("s", ownerReferences=owners)})
    gone = garbage_collector.absent(subject, living, SERVED)
    actions = garbage_collector.collect(subject, gone)
    assert [type(action).__name__ for action in actions] == expected, rule


@pytest.mark.parametrize(
    ("rule", "finalizer", "count", "expected"),
    [
        ("Foreground: what it owns goes first", "foregroundDeletion", 2, ["Delete", "Delete"]),
        ("Foreground: then itself", "foregroundDeletion", 0, ["Patch"]),
        ("Orphan: what it owns is let go", "orphan", 2, ["Patch", "Patch"]),
        ("Orphan: then itself goes", "orphan", 0, ["Patch"]),
        ("somebody else's finalizer", "example.com/x", 2, []),
    ],
)
def test_finalizers(rule: str, finalizer: str, count: int, expected: list[str]) -> None:
    gone = metadata("s", finalizers=[finalizer], deletionTimestamp="2026-01-01T00:00:00Z")
    subject = view(EndpointSlice, {"metadata": gone})
    reference = {**owner("X", "s"), "blockOwnerDeletion": finalizer == "foregroundDeletion"}
    owned = [pod(f"p{n}", owners=[reference]) for n in range(count)]
    actions = garbage_collector.finalize(subject, owned)
    assert [type(action).__name__ for action in actions] == expected, rule


def test_foreground_deletion_waits_only_for_what_blocks_it() -> None:
    gone = metadata("s", finalizers=["foregroundDeletion"], deletionTimestamp="2026-01-01T00:00:00Z")
    subject = view(EndpointSlice, {"metadata": gone})
    (action,) = garbage_collector.finalize(subject, [pod("p", owners=[owner("X", "s")])])
    assert isinstance(action, Patch)


def test_events_live_for_an_hour() -> None:
    events = [("old", "", "2027-01-15T06:00:00Z"), ("new", "2027-01-15T07:30:00Z", "2027-01-15T06:00:00Z")]
    assert garbage_collector.expired(events, NOW) == ["old"]


def test_system_objects() -> None:
    objects = {
        (document["kind"], document["metadata"]["name"]): document
        for _, document in bootstrap.system_objects(ClusterConfig(cluster_domain="example.test"), 1053)
    }
    service = objects["Service", "kube-dns"]
    assert service["spec"]["clusterIP"] == "127.96.0.10"
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["dns", "dns-tcp", "metrics"]
    container = objects["Deployment", "coredns"]["spec"]["template"]["spec"]["containers"][0]
    assert [port["containerPort"] for port in container["ports"]] == [1053, 1053, 9153]
    assert "kubernetes example.test in-addr.arpa" in objects["ConfigMap", "coredns"]["data"]["Corefile"]
    proxy = yaml.safe_load(objects["ConfigMap", "kube-proxy"]["data"]["config.conf"])
    assert (proxy["mode"], proxy["ipvs"]["scheduler"]) == ("iptables", "rr")


@pytest.mark.parametrize(
    ("rule", "config", "mode", "scheduler"),
    [
        ("nothing set: as it is", ClusterConfig(), "nftables", "sh"),
        ("a mode that is set", ClusterConfig(proxy_mode=ProxyMode.IPVS), "ipvs", "sh"),
        ("a scheduler that is set", ClusterConfig(ipvs_scheduler="lc"), "nftables", "lc"),
    ],
)
def test_existing_proxy_configuration(rule: str, config: ClusterConfig, mode: str, scheduler: str) -> None:
    text = "# mine\n" + yaml.safe_dump(
        {"mode": "nftables", "ipvs": {"scheduler": "sh", "minSyncPeriod": "1s"}}
    )
    updated = bootstrap.updated_proxy_configuration(text, config)
    document = yaml.safe_load(updated)
    assert (document["mode"], document["ipvs"]["scheduler"]) == (mode, scheduler), rule
    assert document["ipvs"]["minSyncPeriod"] == "1s"
    assert (updated == text) is (config == ClusterConfig())


def test_namespace_defaults() -> None:
    config_map, account = namespaces.defaults("team", "PEM")
    assert config_map.resource == ConfigMap.resource
    assert config_map.document["data"] == {"ca.crt": "PEM"}
    assert account.document["metadata"] == {"namespace": "team", "name": "default"}
