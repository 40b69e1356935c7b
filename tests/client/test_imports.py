"""Making objects of other clusters fit: what is left out, what changes, in which order."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from documents import SERVED, obj, owned, service

from emu.client.changes import Change, Reason, report
from emu.client.imports import Target, plan
from emu.client.manifests import Manifest, load_manifests
from emu.core.addresses import Networks

DUMP = Path(__file__).parent / "dumps" / "kind.yaml"


def target(*services: dict[str, Any], **more: Any) -> Target:
    facts: dict[str, Any] = {
        "kinds": SERVED,
        "networks": Networks(),
        "nodes": frozenset({"node-1", "node-2"}),
        "namespaces": frozenset({"default", "kube-system"}),
        "services": services,
    }
    return Target(**(facts | more))


def run(*documents: dict[str, Any], into: Target | None = None, of_snapshot: bool = False):
    manifests = [Manifest(document, "m.yaml", of_snapshot) for document in documents]
    return plan(manifests, into or target())


def reasons(*documents: dict[str, Any], into: Target | None = None) -> list[Reason]:
    return [change.reason for change in run(*documents, into=into).changes if change.reason.leaves_out]


DEPLOYMENT = obj("Deployment", "web", "apps/v1")
REPLICA_SET = owned("ReplicaSet", "web-1", DEPLOYMENT, "apps/v1")
POD = owned("Pod", "web-1-x", REPLICA_SET)
STATEFUL_SET = obj("StatefulSet", "db", "apps/v1")
ROLLOUT = obj("Rollout", "web", "argoproj.io/v1alpha1")
LABELLED = {"labels": {"team": "a"}}
SLICE_BY_CONTROLLER = {
    "labels": {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
}
MIRRORED = {"labels": {"endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io"}}


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        pytest.param([obj("Node", dump=False)], [Reason.NODE], id="a node, even by hand"),
        pytest.param([obj("Event")], [Reason.RECORD], id="an event"),
        pytest.param([obj("Lease", version="coordination.k8s.io/v1")], [Reason.RECORD], id="a lease"),
        pytest.param(
            [obj("Pod", metadata={"deletionTimestamp": "2025-01-01T00:00:00Z"})],
            [Reason.DELETING],
            id="what is being deleted",
        ),
        pytest.param([obj("ConfigMap", "kube-root-ca.crt")], [Reason.GENERATED], id="the root CA"),
        pytest.param([service("kubernetes", dump=False)], [Reason.GENERATED], id="the API server's Service"),
        pytest.param(
            [obj("IPAddress", version="networking.k8s.io/v1")], [Reason.GENERATED], id="an allocated address"
        ),
        pytest.param([obj("ServiceAccount", "default")], [Reason.GENERATED], id="a default ServiceAccount"),
        pytest.param(
            [obj("ServiceAccount", "default", imagePullSecrets=[{"name": "a"}])],
            [],
            id="a default ServiceAccount that somebody edited",
        ),
        pytest.param([obj("Namespace", "default")], [Reason.GENERATED], id="a namespace of every cluster"),
        pytest.param([obj("Namespace", "default", metadata=LABELLED)], [], id="such a namespace with labels"),
        pytest.param(
            [obj("Secret", type="kubernetes.io/service-account-token")], [Reason.GENERATED], id="a token"
        ),
        pytest.param(
            [obj("Deployment", "coredns", "apps/v1", metadata={"namespace": "kube-system"})],
            [Reason.SYSTEM],
            id="the other cluster's DNS",
        ),
        pytest.param(
            [obj("ConfigMap", "coredns", dump=False, metadata={"namespace": "kube-system"})],
            [],
            id="this cluster's Corefile, by hand or from a snapshot",
        ),
        pytest.param(
            [obj("DaemonSet", "kube-proxy", "apps/v1", dump=False, metadata={"namespace": "kube-system"})],
            [Reason.SYSTEM],
            id="kube-proxy's DaemonSet, even by hand",
        ),
        pytest.param(
            [obj("NetworkPolicy", version="networking.k8s.io/v1", metadata={"namespace": "kube-system"})],
            [],
            id="a policy for system pods",
        ),
        pytest.param(
            [obj("ClusterRole", "system:node", "rbac.authorization.k8s.io/v1")],
            [Reason.SYSTEM],
            id="a role of the system",
        ),
        pytest.param(
            [obj("Pod", metadata={"annotations": {"kubernetes.io/config.mirror": "x"}})],
            [Reason.SYSTEM],
            id="a static pod's mirror",
        ),
        pytest.param([ROLLOUT], [Reason.UNSERVED], id="a kind that is not served"),
        pytest.param(
            [obj("PersistentVolumeClaim", dump=False)],
            [Reason.UNSERVED],
            id="a known kind not served, by hand",
        ),
        pytest.param([obj("Pood", dump=False)], [], id="a misspelling, which applying refuses"),
        pytest.param(
            [DEPLOYMENT, REPLICA_SET, POD],
            [Reason.CONTROLLED, Reason.CONTROLLED],
            id="what a Deployment makes again",
        ),
        pytest.param([POD, REPLICA_SET], [Reason.CONTROLLED], id="the order of the file does not matter"),
        pytest.param([POD], [], id="a pod whose owner is not there stands alone"),
        pytest.param(
            [ROLLOUT, owned("ReplicaSet", "web-1", ROLLOUT, "apps/v1")],
            [Reason.UNSERVED],
            id="what an unserved kind made stands alone",
        ),
        pytest.param(
            [STATEFUL_SET, owned("Pod", "db-0", STATEFUL_SET)],
            [],
            id="what an owner without a controller here made stands alone",
        ),
        pytest.param(
            [service(selector={"a": "b"}), obj("Endpoints")], [Reason.CONTROLLED], id="Endpoints by selector"
        ),
        pytest.param([service(), obj("Endpoints")], [], id="Endpoints by hand"),
        pytest.param(
            [obj("EndpointSlice", version="discovery.k8s.io/v1", metadata=SLICE_BY_CONTROLLER)],
            [Reason.CONTROLLED],
            id="a managed slice",
        ),
        pytest.param(
            [obj("EndpointSlice", version="discovery.k8s.io/v1", metadata=MIRRORED)],
            [Reason.CONTROLLED],
            id="a mirrored slice",
        ),
        pytest.param([obj("EndpointSlice", version="discovery.k8s.io/v1")], [], id="a slice by hand"),
    ],
)
def test_what_is_left_out(documents, expected):
    assert reasons(*documents) == expected


def test_endpoints_of_a_service_with_selector_in_the_target_are_left_out():
    there = service(selector={"a": "b"})
    assert reasons(obj("Endpoints", dump=False), into=target(there)) == [Reason.CONTROLLED]


TOKEN = {"name": "kube-api-access-x", "projected": {}}
MOUNT = {"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
OWN = {"name": "data", "emptyDir": {}}
CONTROLLER_LABELS = {"controller-uid": "x", "batch.kubernetes.io/controller-uid": "x", "app": "a"}


@pytest.mark.parametrize(
    ("document", "expected", "changes"),
    [
        pytest.param(
            obj("ConfigMap", metadata={"generation": 2, "managedFields": [{}], "creationTimestamp": "x"}),
            obj("ConfigMap", dump=False),
            {Reason.SERVER_FIELDS: ""},
            id="metadata of the server",
        ),
        pytest.param(
            obj("Pod", dump=False, metadata={"creationTimestamp": None}, status={}),
            obj("Pod", dump=False),
            {},
            id="empty fields of generated manifests say nothing",
        ),
        pytest.param(
            obj("Pod", metadata={"generateName": "a-"}, spec={"nodeName": "kind-worker"}),
            obj("Pod", dump=False, spec={}),
            {Reason.SERVER_FIELDS: "", Reason.NODE_NAME: "was on kind-worker"},
            id="a node that is not here",
        ),
        pytest.param(
            obj("Pod", spec={"nodeName": "node-2"}),
            obj("Pod", dump=False, spec={"nodeName": "node-2"}),
            {Reason.SERVER_FIELDS: ""},
            id="a node that is here",
        ),
        pytest.param(
            obj("Pod", dump=False, spec={"nodeName": "nowhere"}),
            obj("Pod", dump=False, spec={"nodeName": "nowhere"}),
            {},
            id="a node that a person chose",
        ),
        pytest.param(
            obj(
                "Pod",
                spec={
                    "volumes": [TOKEN, OWN],
                    "containers": [{"name": "c", "volumeMounts": [MOUNT]}],
                    "ephemeralContainers": [{"name": "debug"}],
                    "tolerations": [{"key": "node.kubernetes.io/not-ready"}],
                },
            ),
            obj(
                "Pod",
                dump=False,
                spec={
                    "volumes": [OWN],
                    "containers": [{"name": "c"}],
                    "tolerations": [{"key": "node.kubernetes.io/not-ready"}],
                },
            ),
            {Reason.SERVER_FIELDS: "", Reason.TOKEN: ""},
            id="token volumes go, others and tolerations stay",
        ),
        pytest.param(
            obj("ConfigMap", metadata={"finalizers": ["example.com/hold"]}),
            obj("ConfigMap", dump=False),
            {Reason.SERVER_FIELDS: "", Reason.FINALIZER: "example.com/hold"},
            id="a finalizer of a controller that is not here",
        ),
        pytest.param(
            obj("ConfigMap", dump=False, metadata={"finalizers": ["example.com/hold"]}),
            obj("ConfigMap", dump=False, metadata={"finalizers": ["example.com/hold"]}),
            {},
            id="a finalizer by hand",
        ),
        pytest.param(
            POD,
            obj("Pod", "web-1-x", dump=False),
            {Reason.SERVER_FIELDS: "", Reason.OWNER: "ReplicaSet web-1"},
            id="an owner that is not there",
        ),
        pytest.param(
            obj("Pod", metadata={"annotations": {"cni.projectcalico.org/podIP": "10.1.2.3/32", "a": "b"}}),
            obj("Pod", dump=False, metadata={"annotations": {"a": "b"}}),
            {Reason.SERVER_FIELDS: "", Reason.NETWORK: ""},
            id="notes of a network plugin",
        ),
        pytest.param(
            obj(
                "Job",
                version="batch/v1",
                metadata={"labels": CONTROLLER_LABELS},
                spec={
                    "selector": {"matchLabels": {"controller-uid": "x"}},
                    "template": {"metadata": {"labels": CONTROLLER_LABELS, "creationTimestamp": None}},
                },
            ),
            obj(
                "Job",
                version="batch/v1",
                dump=False,
                metadata={"labels": {"app": "a"}},
                spec={"template": {"metadata": {"labels": {"app": "a"}}}},
            ),
            {Reason.SERVER_FIELDS: ""},
            id="a Job's generated selector",
        ),
        pytest.param(
            service(
                clusterIP="10.96.1.2",
                clusterIPs=["10.96.1.2", "fd00::1"],
                ipFamilies=["IPv4", "IPv6"],
                ipFamilyPolicy="RequireDualStack",
            ),
            service(
                dump=False,
                clusterIP="127.96.1.2",
                clusterIPs=["127.96.1.2"],
                ipFamilies=["IPv4"],
                ipFamilyPolicy="PreferDualStack",
            ),
            {
                Reason.SERVER_FIELDS: "",
                Reason.FAMILY: "fd00::1",
                Reason.ADDRESS_MOVED: "10.96.1.2 -> 127.96.1.2",
            },
            id="two families become one",
        ),
        pytest.param(
            service(clusterIP="fd00::1", clusterIPs=["fd00::1"], ipFamilies=["IPv6"]),
            service(dump=False, ipFamilies=["IPv4"]),
            {Reason.SERVER_FIELDS: "", Reason.FAMILY: "fd00::1"},
            id="IPv6 alone gets an IPv4 address",
        ),
        pytest.param(
            service(clusterIP="None", clusterIPs=["None"], ipFamilies=["IPv4", "IPv6"]),
            service(dump=False, clusterIP="None", clusterIPs=["None"], ipFamilies=["IPv4"]),
            {Reason.SERVER_FIELDS: "", Reason.FAMILY: ""},
            id="headless stays headless",
        ),
        pytest.param(
            service(clusterIP="10.96.0.0"),
            service(dump=False),
            {Reason.SERVER_FIELDS: "", Reason.ADDRESS_DROPPED: "10.96.0.0 cannot exist here"},
            id="no counterpart",
        ),
        pytest.param(
            service(dump=False, clusterIP="10.96.1.2"),
            service(dump=False, clusterIP="10.96.1.2"),
            {},
            id="an address that a person chose is theirs to correct",
        ),
        pytest.param(
            service(type="NodePort", ports=[{"port": 80, "nodePort": 8080}, {"port": 81, "nodePort": 30001}]),
            service(dump=False, type="NodePort", ports=[{"port": 80}, {"port": 81, "nodePort": 30001}]),
            {Reason.SERVER_FIELDS: "", Reason.NODE_PORT: "8080 is out of range"},
            id="a node port out of range",
        ),
    ],
)
def test_what_changes(document, expected, changes):
    planned = run(document)
    assert [manifest.document for manifest in planned.manifests] == [expected]
    assert {change.reason: change.detail for change in planned.changes} == changes


def addresses(planned) -> dict[str, str | None]:
    return {m.document["metadata"]["name"]: m.document["spec"].get("clusterIP") for m in planned.manifests}


def test_an_address_that_is_taken_in_the_target_is_given_up():
    taken = target(service("other", clusterIP="127.96.1.2"))
    for given in ("10.96.1.2", "127.96.1.2"):
        planned = run(service(clusterIP=given), into=taken)
        assert addresses(planned) == {"a": None}
        assert Reason.ADDRESS_DROPPED in {change.reason for change in planned.changes}


def test_an_address_of_the_same_service_is_kept():
    assert addresses(run(service(clusterIP="127.96.1.2"), into=target(service(clusterIP="127.96.1.2")))) == {
        "a": "127.96.1.2"
    }


def test_who_names_an_address_that_fits_has_it_before_others_move_there():
    planned = run(service("moves", clusterIP="10.96.1.2"), service("fits", clusterIP="127.96.1.2"))
    assert addresses(planned) == {"moves": None, "fits": "127.96.1.2"}


def test_two_addresses_with_one_counterpart():
    planned = run(service("a", clusterIP="10.96.1.2"), service("b", clusterIP="10.112.1.2"))
    assert addresses(planned) == {"a": "127.96.1.2", "b": None}


def test_node_ports_that_others_have_are_given_up():
    taken = target(service("other", ports=[{"port": 1, "nodePort": 30080}]))
    planned = run(service(ports=[{"port": 80, "nodePort": 30080}], healthCheckNodePort=30081), into=taken)
    assert planned.manifests[0].document["spec"]["ports"] == [{"port": 80}]
    assert planned.manifests[0].document["spec"]["healthCheckNodePort"] == 30081


def test_a_snapshot_moves_with_its_addresses_to_another_slot():
    saved = service(dump=False, clusterIP="127.96.1.2", clusterIPs=["127.96.1.2"])
    planned = run(saved, into=target(networks=Networks.of_slot(3)), of_snapshot=True)
    assert addresses(planned) == {"a": "127.3.1.2"}


def test_the_given_documents_are_left_as_they_were():
    document = service(clusterIP="10.96.1.2")
    run(document)
    assert document == service(clusterIP="10.96.1.2")


def test_namespaces_come_first_and_workloads_last():
    planned = run(
        *(obj("Deployment", "web", "apps/v1", dump=False), obj("Pod", dump=False)),
        *(service("given", dump=False), service("chosen", dump=False, clusterIP="127.96.0.9")),
        *(obj("Secret", dump=False), obj("Namespace", "shop", dump=False)),
        *(obj("NetworkPolicy", version="networking.k8s.io/v1", dump=False), obj("ConfigMap", dump=False)),
    )
    assert [f"{m.document['kind']} {m.document['metadata']['name']}" for m in planned.manifests] == [
        "Namespace shop",
        "Service chosen",
        "Secret a",
        "NetworkPolicy a",
        "ConfigMap a",
        "Service given",
        "Deployment web",
        "Pod a",
    ]


def test_a_namespace_that_a_dump_does_not_hold_is_made():
    planned = run(obj("Pod", metadata={"namespace": "shop"}))
    assert [m.document["kind"] for m in planned.manifests] == ["Namespace", "Pod"]
    assert Change(Reason.NAMESPACE, "Namespace", "shop") in planned.changes
    assert len(run(obj("Pod", dump=False, metadata={"namespace": "shop"})).manifests) == 1


NONSENSE = [None, [], "x", {"ports": 5, "clusterIP": 7}, {"clusterIPs": "x", "ports": [3]}]


@pytest.mark.parametrize("value", NONSENSE)
def test_nonsense_is_left_for_the_api_server_to_refuse(value):
    for kind in ("Service", "Pod", "Job", "PersistentVolumeClaim"):
        run(obj(kind, spec=value))
    run(obj("Endpoints", subsets=value), obj("ConfigMap", metadata={"labels": value, "annotations": value}))


def test_a_dump_of_a_kind_cluster():
    planned = plan(load_manifests([DUMP]), target())
    assert [manifest.title for manifest in planned.manifests] == [
        "Namespace shop",
        "ConfigMap shop/settings",
        "Service shop/web",
        "Service shop/front",
        "NetworkPolicy shop/web-from-client",
        "Pod shop/client",
        "Deployment shop/web",
    ]
    text = yaml.safe_dump([manifest.document for manifest in planned.manifests])
    for foreign in (
        "resourceVersion",
        "uid",
        "172.18.",
        "10.244.",
        "10.96.",
        "kind-worker",
        "kube-api-access",
    ):
        assert foreign not in text


def test_the_report_is_grouped_by_reason_and_does_not_depend_on_order():
    planned = plan(load_manifests([DUMP]), target())
    lines = report(planned.changes)
    assert lines == report(reversed(planned.changes))
    assert lines[:3] == [
        "Left out, 22 objects:",
        "  Nodes: this cluster's come from its own configuration",
        "    Node kind-control-plane, kind-worker",
    ]
    assert "    Service shop/web: 10.96.45.12 -> 127.96.45.12" in lines
    assert "    ServiceMonitor (monitoring.coreos.com/v1): 1 object" in lines


def test_a_long_report_is_cut_and_counts_the_rest():
    changes = [Change(Reason.RECORD, "Event", f"default/event-{number:04}") for number in range(1000)]
    lines = report(changes)
    assert lines[0] == "Left out, 1000 objects:"
    assert len(lines) < 10
    assert lines[-1].endswith("and 976 more")
    moved = [Change(Reason.ADDRESS_MOVED, "Service", f"s{number:02}", "a -> b") for number in range(30)]
    assert report(moved)[-1] == "    ... and 6 more of kind Service"
