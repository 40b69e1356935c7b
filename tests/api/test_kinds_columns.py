"""The columns of the kinds that the network consists of."""

from typing import Any

import pytest

from emu.api.resources import BY_NAME, RESOURCES

from .kinds import row

META = {"name": "x", "creationTimestamp": "1970-01-01T00:00:00Z"}
WAITING, RUNNING, TERMINATED = "waiting", "running", "terminated"


def container(
    state: str = RUNNING, *, ready: bool = False, restarts: int = 0, **fields: Any
) -> dict[str, Any]:
    last = fields.pop("last", None)
    name = fields.pop("name", "c")
    started = {"started": fields.pop("started")} if "started" in fields else {}
    status = {"name": name, "ready": ready, "restartCount": restarts, "state": {state: fields}, **started}
    if last:
        status["lastState"] = {"terminated": {"finishedAt": last}}
    return status


def pod(
    phase: str = "Running",
    *containers: dict[str, Any],
    init: tuple[dict[str, Any], ...] = (),
    conditions: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    meta: dict[str, Any] | None = None,
    **status: Any,
) -> dict[str, Any]:
    return {
        "metadata": {**META, **(meta or {})},
        "spec": {"containers": [{"name": "c"}], **(spec or {})},
        "status": {
            "phase": phase,
            "containerStatuses": list(containers),
            "initContainerStatuses": list(init),
            "conditions": [{"type": key, **value} for key, value in (conditions or {}).items()],
            **status,
        },
    }


READY = {"Ready": {"status": "True"}}
INIT_2 = {"initContainers": [{"name": "a"}, {"name": "b"}]}
SIDECAR = {"initContainers": [{"name": "a", "restartPolicy": "Always"}]}
TWO = {"containers": [{"name": "c"}, {"name": "d"}]}
DELETED = {"deletionTimestamp": "1970-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("document", "ready", "status", "restarts"),
    [
        pytest.param(pod("Pending"), "0/1", "Pending", "0", id="pending"),
        pytest.param(pod("Running", container(ready=True)), "1/1", "Running", "0", id="running"),
        pytest.param(
            pod("Pending", container(WAITING, reason="ContainerCreating")),
            "0/1",
            "ContainerCreating",
            "0",
            id="creating",
        ),
        pytest.param(
            pod("Running", container(WAITING, reason="CrashLoopBackOff", restarts=3)),
            "0/1",
            "CrashLoopBackOff",
            "3",
            id="crashing",
        ),
        pytest.param(
            pod("Running", container(ready=True, restarts=2, last="1970-01-01T00:00:50Z")),
            "1/1",
            "Running",
            "2 (10s ago)",
            id="restarted",
        ),
        pytest.param(
            pod("Succeeded", container(TERMINATED, reason="Completed", exitCode=0)),
            "0/1",
            "Completed",
            "0",
            id="completed",
        ),
        pytest.param(
            pod(
                "Running",
                container(TERMINATED, reason="Completed", exitCode=0),
                container(ready=True),
                spec=TWO,
            ),
            "1/2",
            "NotReady",
            "0",
            id="one completed, one running",
        ),
        pytest.param(
            pod(
                "Running",
                container(TERMINATED, reason="Completed", exitCode=0),
                container(ready=True),
                spec=TWO,
                conditions=READY,
            ),
            "1/2",
            "Running",
            "0",
            id="one completed, pod ready",
        ),
        pytest.param(
            pod("Failed", container(TERMINATED, exitCode=3)), "0/1", "ExitCode:3", "0", id="exit code"
        ),
        pytest.param(
            pod("Failed", container(TERMINATED, exitCode=137, signal=9)), "0/1", "Signal:9", "0", id="signal"
        ),
        pytest.param(pod("Failed", reason="Evicted"), "0/1", "Evicted", "0", id="evicted"),
        pytest.param(
            pod("Pending", conditions={"PodScheduled": {"status": "False", "reason": "SchedulingGated"}}),
            "0/1",
            "SchedulingGated",
            "0",
            id="gated",
        ),
        pytest.param(
            pod(
                "Pending",
                container(WAITING, reason="PodInitializing"),
                init=(container(TERMINATED, exitCode=0), container()),
                spec=INIT_2,
            ),
            "0/1",
            "Init:1/2",
            "0",
            id="second init container",
        ),
        pytest.param(
            pod("Pending", init=(container(WAITING, reason="CrashLoopBackOff", restarts=4),), spec=INIT_2),
            "0/1",
            "Init:CrashLoopBackOff",
            "4",
            id="init container crashes",
        ),
        pytest.param(
            pod("Pending", init=(container(TERMINATED, exitCode=1),), spec=INIT_2),
            "0/1",
            "Init:ExitCode:1",
            "0",
            id="init container failed",
        ),
        pytest.param(
            pod(
                "Pending",
                container(WAITING, reason="PodInitializing"),
                init=(container(TERMINATED, exitCode=0),) * 2,
                spec=INIT_2,
            ),
            "0/1",
            "PodInitializing",
            "0",
            id="init containers are done",
        ),
        pytest.param(
            pod(
                "Running",
                container(ready=True, restarts=1),
                init=(container(name="a", ready=True, started=True, restarts=2),),
                spec=SIDECAR,
                conditions={"Initialized": {"status": "True"}},
            ),
            "2/2",
            "Running",
            "3",
            id="sidecar",
        ),
        pytest.param(pod("Running", container(), meta=DELETED), "0/1", "Terminating", "0", id="terminating"),
        pytest.param(
            pod("Succeeded", container(TERMINATED, reason="Completed"), meta=DELETED),
            "0/1",
            "Completed",
            "0",
            id="deleted when done",
        ),
        pytest.param(pod("Running", meta=DELETED, reason="NodeLost"), "0/1", "Unknown", "0", id="node lost"),
    ],
)
def test_pods(document: dict[str, Any], ready: str, status: str, restarts: str):
    assert row("pods", document, now=60)[:5] == ["x", ready, status, restarts, "60s"]


def test_wide_columns_of_pods():
    gated = {"nodeName": "node-1", "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]}
    conditions = {"a": {"status": "True"}, "b": {"status": "False"}}
    document = pod(spec=gated, conditions=conditions, podIP="127.244.1.2", nominatedNodeName="node-2")
    assert row("pods", document)[5:] == ["127.244.1.2", "node-1", "node-2", "1/2"]
    assert row("pods", pod())[5:] == ["<none>"] * 4


def node(*, ready: str | None = "True", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {**META, "labels": labels or {}},
        "spec": spec,
        "status": {
            "conditions": [{"type": "Ready", "status": ready}] if ready else [],
            "addresses": [{"type": "InternalIP", "address": "127.168.1.10"}],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Linux"},
        },
    }


WIDE = ["127.168.1.10", "<none>", "Linux", "<unknown>", "<unknown>"]
ROLES = {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge", "a": "b"}


@pytest.mark.parametrize(
    ("document", "status", "roles"),
    [
        (node(), "Ready", "<none>"),
        (node(ready="False"), "NotReady", "<none>"),
        (node(ready="Unknown"), "NotReady", "<none>"),
        (node(ready=None), "Unknown", "<none>"),
        (node(unschedulable=True), "Ready,SchedulingDisabled", "<none>"),
        (node(labels=ROLES), "Ready", "control-plane,edge"),
    ],
)
def test_nodes(document: dict[str, Any], status: str, roles: str):
    assert row("nodes", document, now=60) == ["x", status, roles, "60s", "v1.36.0", *WIDE]


SUBSET = {
    "addresses": [{"ip": "127.0.0.1"}, {"ip": "127.0.0.2"}],
    "ports": [{"port": 80}, {"port": 443}],
}
SLICE = "endpointslices.discovery.k8s.io"


@pytest.mark.parametrize(
    ("name", "document", "cells"),
    [
        ("endpoints", {}, ["x", "<none>", "60s"]),
        (
            "endpoints",
            {"subsets": [SUBSET]},
            ["x", "127.0.0.1:80,127.0.0.2:80,127.0.0.1:443 + 1 more...", "60s"],
        ),
        ("endpoints", {"subsets": [{"addresses": [{"ip": "127.0.0.1"}]}]}, ["x", "127.0.0.1", "60s"]),
        (
            "endpoints",
            {"subsets": [{"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]}]},
            ["x", "[fd00::1]:80", "60s"],
        ),
        (SLICE, {"addressType": "IPv4"}, ["x", "IPv4", "<unset>", "<unset>", "60s"]),
        (
            SLICE,
            {
                "addressType": "IPv4",
                "ports": [{"port": 80}, {"name": "dns"}, {}],
                "endpoints": [{"addresses": [f"127.0.0.{number}"]} for number in range(4)],
            },
            ["x", "IPv4", "80,dns,*", "127.0.0.0,127.0.0.1,127.0.0.2 + 1 more...", "60s"],
        ),
        (SLICE, {"addressType": "IPv4", "ports": [{"name": ""}]}, ["x", "IPv4", "<unset>", "<unset>", "60s"]),
        (
            "services",
            {
                "spec": {
                    "type": "LoadBalancer",
                    "clusterIP": "127.96.0.5",
                    "externalIPs": ["127.0.0.9"],
                    "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}],
                    "selector": {"app": "web"},
                },
                "status": {"loadBalancer": {"ingress": [{"ip": "127.0.113.2"}]}},
            },
            [
                "x",
                "LoadBalancer",
                "127.96.0.5",
                "127.0.113.2,127.0.0.9",
                "80:30080/TCP",
                "60s",
                "app=web",
            ],
        ),
        (
            "services",
            {"spec": {"type": "ExternalName", "externalName": "a.org"}},
            ["x", "ExternalName", "<none>", "a.org", "<none>", "60s", "<none>"],
        ),
        ("networkpolicies.networking.k8s.io", {"spec": {"podSelector": {}}}, ["x", "<none>", "60s"]),
        ("configmaps", {"data": {"a": "b"}, "binaryData": {"c": ""}}, ["x", 2, "60s"]),
        ("secrets", {"type": "Opaque", "data": {"a": "b"}}, ["x", "Opaque", 1, "60s"]),
        ("serviceaccounts", {}, ["x", "60s"]),
        (
            "networkpolicies.networking.k8s.io",
            {
                "spec": {
                    "podSelector": {
                        "matchLabels": {"d": "1", "b": "2"},
                        "matchExpressions": [
                            {"key": "c", "operator": "NotIn", "values": ["z", "y"]},
                            {"key": "a", "operator": "Exists"},
                            {"key": "e", "operator": "DoesNotExist"},
                        ],
                    }
                }
            },
            ["x", "a,b=2,c notin (y,z),d=1,!e", "60s"],
        ),
        ("namespaces", {"status": {"phase": "Active"}}, ["x", "Active", "60s"]),
        ("leases.coordination.k8s.io", {"spec": {"holderIdentity": "node-1"}}, ["x", "node-1", "60s"]),
    ],
)
def test_rows(name: str, document: dict[str, Any], cells: list[Any]):
    assert row(name, {"metadata": META, **document}, now=60) == cells
    assert len(BY_NAME[name].columns) == len(cells)


def test_no_two_rows_claim_a_short_name_in_a_group():
    seen = [
        (resource.group, resource.version, name)
        for resource in RESOURCES
        for name in (resource.plural, *resource.short_names)
    ]
    assert len(seen) == len(set(seen))
