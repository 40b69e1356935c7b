"""What a snapshot holds, in which form and order."""

from typing import Any

import pytest
from documents import SERVED, obj, owned, service

from emu.client.snapshots import snapshot, unchanged

SYSTEM = {"namespace": "kube-system"}
COREFILE = obj("ConfigMap", "coredns", dump=False, metadata=SYSTEM, data={"Corefile": "."})
COREDNS = obj("Deployment", "coredns", "apps/v1", dump=False, metadata=SYSTEM, spec={"replicas": 2})
DEFAULTS = [COREFILE, COREDNS]
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
FINALIZERS = {"finalizers": ["kubernetes"]}
NAME_LABEL = {"kubernetes.io/metadata.name": "shop"}


def saved(*documents: dict[str, Any]) -> list[dict[str, Any]]:
    return snapshot(documents, SERVED, DEFAULTS)


def live(document: dict[str, Any], **more: Any) -> dict[str, Any]:
    """As a server gives it."""
    metadata = {**document["metadata"], "uid": "u", "resourceVersion": "9", **more.pop("metadata", {})}
    return {**document, "metadata": metadata, **more}


DEPLOYMENT = obj("Deployment", "web", "apps/v1")


@pytest.mark.parametrize(
    "documents",
    [
        pytest.param([service("kubernetes")], id="the API server's Service"),
        pytest.param([obj("EndpointSlice", "kubernetes", "discovery.k8s.io/v1")], id="and its slice"),
        pytest.param([obj("ServiceAccount", "default")], id="a default ServiceAccount"),
        pytest.param([obj("ConfigMap", "kube-root-ca.crt")], id="the root CA"),
        pytest.param([obj("Namespace", "kube-system", spec=FINALIZERS)], id="a namespace of every cluster"),
        pytest.param([obj("Node"), obj("Event")], id="nodes and events"),
        pytest.param([obj("Pod", metadata={"deletionTimestamp": "x"})], id="what is being deleted"),
        pytest.param([live(COREFILE)], id="the Corefile as installed"),
        pytest.param(
            [live(COREDNS, metadata={"generation": 1}, spec={"replicas": 2, "paused": False})],
            id="CoreDNS as installed, with what the server filled in",
        ),
    ],
)
def test_what_the_cluster_makes_itself_is_left_out(documents):
    assert saved(*documents) == []


@pytest.mark.parametrize(
    "documents",
    [
        pytest.param([owned("ReplicaSet", "web-1", DEPLOYMENT, "apps/v1")], id="a ReplicaSet"),
        pytest.param(
            [
                owned("ReplicaSet", "web-1", DEPLOYMENT, "apps/v1"),
                owned("Pod", "x", obj("ReplicaSet", "web-1", "apps/v1")),
            ],
            id="and its pods",
        ),
    ],
)
def test_what_controllers_make_is_left_out(documents):
    assert [document["kind"] for document in saved(DEPLOYMENT, *documents)] == ["Deployment"]


def test_endpoints_by_selector_are_left_out_and_those_by_hand_kept():
    by_selector = [service("a", selector={"a": "b"}), obj("Endpoints", "a")]
    documents = [*by_selector, service("b"), obj("Endpoints", "b")]
    assert [(d["kind"], d["metadata"]["name"]) for d in saved(*documents)] == [
        ("Service", "a"),
        ("Service", "b"),
        ("Endpoints", "b"),
    ]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param(
            obj("ConfigMap", metadata={"managedFields": [{}], "annotations": {LAST_APPLIED: "{}"}}),
            obj("ConfigMap", dump=False, metadata={"annotations": {LAST_APPLIED: "{}"}}),
            id="the last-applied annotation stays",
        ),
        pytest.param(
            service(clusterIP="127.96.1.2", ports=[{"port": 80, "nodePort": 30001}]),
            service(dump=False, clusterIP="127.96.1.2", ports=[{"port": 80, "nodePort": 30001}]),
            id="addresses and node ports stay",
        ),
        pytest.param(
            obj("Pod", spec={"nodeName": "node-2"}, status={"podIP": "127.244.1.2"}),
            obj("Pod", dump=False, spec={"nodeName": "node-2"}),
            id="a pod's node stays",
        ),
        pytest.param(
            obj("ConfigMap", metadata={"finalizers": ["example.com/hold"]}),
            obj("ConfigMap", dump=False, metadata={"finalizers": ["example.com/hold"]}),
            id="finalizers stay",
        ),
        pytest.param(
            obj("Namespace", "default", metadata={"labels": {"team": "a", **NAME_LABEL}}, spec=FINALIZERS),
            obj("Namespace", "default", dump=False, metadata={"labels": {"team": "a"}}),
            id="labels of a namespace of every cluster",
        ),
        pytest.param(
            live(COREFILE, data={"Corefile": ".", "more": "x"}),
            {**COREFILE, "data": {"Corefile": ".", "more": "x"}},
            id="a Corefile that somebody changed",
        ),
        pytest.param(
            obj("Secret", type="kubernetes.io/tls", data={"a": "b"}),
            obj("Secret", dump=False, type="kubernetes.io/tls", data={"a": "b"}),
            id="a Secret",
        ),
    ],
)
def test_form(document, expected):
    assert saved(document) == [expected]


@pytest.mark.parametrize(
    ("document", "same"),
    [
        (COREDNS, True),
        (live(COREDNS, metadata={"generation": 2}), False),
        (live(COREDNS, spec={"replicas": 3}), False),
        (live(COREDNS, metadata={"name": "other"}), False),
        (live(COREDNS, kind="DaemonSet"), False),
    ],
)
def test_when_a_system_object_is_as_it_was_made(document, same):
    assert unchanged(document, COREDNS) is same


def test_the_order_is_one_in_which_they_can_be_applied_and_compared():
    documents = [
        *(DEPLOYMENT, obj("Pod", "b"), obj("Pod", "a"), service("b"), service("a"), obj("Secret")),
        *(obj("ClusterRole", version="rbac.authorization.k8s.io/v1"), obj("Namespace", "shop")),
    ]
    expected = ["Namespace", "Secret", "Service", "Service", "ClusterRole", "Pod", "Pod", "Deployment"]
    assert [document["kind"] for document in saved(*documents)] == expected
    assert saved(*documents) == saved(*reversed(documents))
