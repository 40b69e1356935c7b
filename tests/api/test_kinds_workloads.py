from typing import Any

import pytest

from emu.api.registry import Registry
from emu.api.resources import BY_NAME

from .kinds import SELECTOR, TEMPLATE, create, refusal, row, update, update_refusal

POD_SPEC = {
    "containers": [
        {
            "name": "c",
            "image": "nginx:1.27",
            "imagePullPolicy": "IfNotPresent",
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        }
    ],
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}


def workload(**spec: Any) -> dict[str, Any]:
    return {"spec": {"selector": SELECTOR, "template": TEMPLATE, **spec}}


def with_pod(**fields: Any) -> dict[str, Any]:
    return workload(template={**TEMPLATE, "spec": {**TEMPLATE["spec"], **fields}})


def without(spec: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key not in keys}


@pytest.mark.parametrize(
    ("name", "defaults", "status"),
    [
        (
            "deployments.apps",
            {
                "progressDeadlineSeconds": 600,
                "replicas": 1,
                "revisionHistoryLimit": 10,
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
                },
            },
            {},
        ),
        ("replicasets.apps", {"replicas": 1}, {"replicas": 0}),
        (
            "statefulsets.apps",
            {
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
                "podManagementPolicy": "OrderedReady",
                "replicas": 1,
                "revisionHistoryLimit": 10,
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            },
            {"replicas": 0, "availableReplicas": 0},
        ),
        (
            "daemonsets.apps",
            {
                "revisionHistoryLimit": 10,
                "updateStrategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
                },
            },
            {
                "currentNumberScheduled": 0,
                "desiredNumberScheduled": 0,
                "numberMisscheduled": 0,
                "numberReady": 0,
            },
        ),
    ],
)
def test_defaults(registry: Registry, name: str, defaults: dict[str, Any], status: dict[str, Any]):
    made = create(registry, name, workload())
    assert without(made["spec"], "selector", "template") == defaults
    assert made["spec"]["template"]["spec"] == POD_SPEC
    assert made["status"] == status
    assert made["metadata"]["generation"] == 1


def test_a_replication_controller_takes_labels_and_selector_from_its_template(registry: Registry):
    made = create(registry, "replicationcontrollers", {"spec": {"template": TEMPLATE}})
    assert made["spec"]["selector"] == made["metadata"]["labels"] == {"app": "web"}
    assert made["spec"]["replicas"] == 1
    assert made["status"] == {"replicas": 0}


def test_claim_templates_of_a_stateful_set_are_claims(registry: Registry):
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    made = create(registry, "statefulsets.apps", workload(volumeClaimTemplates=[claim]))
    assert made["spec"]["volumeClaimTemplates"] == [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data"},
            "spec": {**claim["spec"], "volumeMode": "Filesystem"},
            "status": {"phase": "Pending"},
        }
    ]


NEGATIVE = "Invalid value: -1: must be greater than or equal to 0"
PERCENT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex "
    "used for validation is '[0-9]+%')"
)
OTHER = {"matchLabels": {"app": "other"}}
MISMATCH = (
    'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`'
)
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
ALWAYS = 'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'


def rolling(**values: Any) -> dict[str, Any]:
    return {"type": "RollingUpdate", "rollingUpdate": values}


@pytest.mark.parametrize(
    ("name", "document", "errors"),
    [
        pytest.param(
            "deployments.apps", workload(replicas=-1), [f"spec.replicas: {NEGATIVE}"], id="replicas"
        ),
        pytest.param(
            "deployments.apps",
            {"spec": {"template": TEMPLATE}},
            ["spec.selector: Required value"],
            id="deployment without selector",
        ),
        pytest.param("deployments.apps", workload(selector=OTHER), [MISMATCH], id="deployment mismatch"),
        pytest.param(
            "deployments.apps",
            workload(selector={}),
            ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
            id="deployment empty selector",
        ),
        pytest.param("deployments.apps", with_pod(restartPolicy="Never"), [ALWAYS], id="deployment restart"),
        pytest.param(
            "deployments.apps",
            with_pod(activeDeadlineSeconds=5),
            [
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet "
                "is not Supported"
            ],
            id="deployment deadline",
        ),
        pytest.param(
            "deployments.apps",
            workload(strategy=rolling(maxSurge="x", maxUnavailable=1)),
            [f'spec.strategy.rollingUpdate.maxSurge: Invalid value: "x": {PERCENT}'],
            id="percent form",
        ),
        pytest.param(
            "deployments.apps",
            workload(strategy=rolling(maxSurge="0%", maxUnavailable=0)),
            [
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` "
                "is 0"
            ],
            id="nothing may move",
        ),
        pytest.param(
            "deployments.apps",
            workload(strategy=rolling(maxUnavailable="101%")),
            [
                'spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than '
                "100%"
            ],
            id="more than all",
        ),
        pytest.param("replicasets.apps", workload(selector=OTHER), [MISMATCH], id="replica set mismatch"),
        pytest.param(
            "replicationcontrollers",
            {"spec": {"template": {"spec": TEMPLATE["spec"]}}},
            ["spec.selector: Required value"],
            id="rc without labels",
        ),
        pytest.param(
            "replicationcontrollers",
            {"spec": {"template": TEMPLATE, "selector": {"app": "other"}}},
            [MISMATCH],
            id="rc mismatch",
        ),
        pytest.param("statefulsets.apps", workload(selector=OTHER), [MISMATCH], id="sts mismatch"),
        pytest.param(
            "statefulsets.apps",
            workload(serviceName="a_b"),
            [f'spec.serviceName: Invalid value: "a_b": {LABEL}'],
            id="sts service",
        ),
        pytest.param(
            "statefulsets.apps",
            {"metadata": {"name": "a_b"}, **workload()},
            [f'metadata.name: Invalid value: "a_b": {LABEL}'],
            id="sts name is part of host names",
        ),
        pytest.param(
            "statefulsets.apps",
            workload(selector={}),
            ["spec.selector: Invalid value: {}: empty selector is invalid for statefulset"],
            id="sts empty selector",
        ),
        pytest.param(
            "statefulsets.apps",
            workload(podManagementPolicy="Eager"),
            [
                "spec.podManagementPolicy: Invalid value: \"Eager\": must be 'OrderedReady' or 'Parallel'",
            ],
            id="sts management",
        ),
        pytest.param(
            "statefulsets.apps",
            workload(updateStrategy=rolling(partition=-1)),
            [f"spec.updateStrategy.rollingUpdate.partition: {NEGATIVE}"],
            id="sts partition",
        ),
        pytest.param(
            "statefulsets.apps",
            workload(updateStrategy={"type": "OnDelete", "rollingUpdate": {"partition": 1}}),
            [
                'spec.updateStrategy.rollingUpdate: Invalid value: {"partition":1}: only allowed for '
                "updateStrategy 'RollingUpdate'"
            ],
            id="sts on delete",
        ),
        pytest.param(
            "statefulsets.apps",
            workload(persistentVolumeClaimRetentionPolicy={"whenScaled": "Keep"}),
            [
                'spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "Keep": supported '
                'values: "Retain", "Delete"'
            ],
            id="sts retention",
        ),
        pytest.param("statefulsets.apps", with_pod(restartPolicy="Never"), [ALWAYS], id="sts restart"),
        pytest.param("daemonsets.apps", workload(selector=OTHER), [MISMATCH], id="ds mismatch"),
        pytest.param(
            "daemonsets.apps", {"spec": {"template": TEMPLATE}}, [MISMATCH], id="ds without selector"
        ),
        pytest.param(
            "daemonsets.apps",
            workload(updateStrategy=rolling(maxUnavailable=1, maxSurge=1)),
            [
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when "
                "maxUnavailable is non-zero"
            ],
            id="ds both",
        ),
        pytest.param(
            "daemonsets.apps",
            workload(updateStrategy=rolling(maxUnavailable=0)),
            [
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge "
                "is 0"
            ],
            id="ds neither",
        ),
        pytest.param(
            "daemonsets.apps",
            workload(updateStrategy={"type": "Recreate"}),
            [
                'spec.updateStrategy.type: Unsupported value: "Recreate": supported values: "RollingUpdate", '
                '"OnDelete"'
            ],
            id="ds strategy",
        ),
        pytest.param(
            "controllerrevisions.apps", {}, ["data: Required value: data is mandatory"], id="revision data"
        ),
    ],
)
def test_refused(registry: Registry, name: str, document: dict[str, Any], errors: list[str]):
    assert refusal(registry, name, document) == errors


@pytest.mark.parametrize("name", ["deployments.apps", "replicasets.apps", "daemonsets.apps"])
def test_the_selector_is_immutable(registry: Registry, name: str):
    create(registry, name, workload())
    wider = {"metadata": {"labels": {"app": "web", "a": "b"}}, "spec": POD_SPEC}
    selector = {"matchLabels": {"a": "b"}}
    assert update_refusal(registry, name, selector=selector, template=wider) == [
        'spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: field is immutable'
    ]


def test_a_stateful_set_changes_in_some_fields_only(registry: Registry):
    create(registry, "statefulsets.apps", workload())
    changed = update(registry, "statefulsets.apps", replicas=3, minReadySeconds=1, revisionHistoryLimit=2)
    assert changed["metadata"]["generation"] == 2
    assert update_refusal(registry, "statefulsets.apps", serviceName="other") == [
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', "
        "'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
        "'minReadySeconds' are forbidden"
    ]


def test_the_server_counts_the_templates_of_a_daemon_set(registry: Registry):
    key = "deprecated.daemonset.template.generation"
    assert create(registry, "daemonsets.apps", workload())["metadata"]["annotations"] == {key: "1"}
    changed = update(registry, "daemonsets.apps", minReadySeconds=1)
    assert changed["metadata"]["annotations"] == {key: "1"}
    relabelled = {**TEMPLATE, "metadata": {"labels": {"app": "web", "a": "b"}}}
    changed = update(registry, "daemonsets.apps", template=relabelled)
    assert changed["metadata"]["annotations"] == {key: "2"}


META = {"name": "x", "creationTimestamp": "1970-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("name", "document", "cells"),
    [
        (
            "deployments.apps",
            {
                **workload(replicas=3),
                "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1},
            },
            ["x", "2/3", 3, 1, "60s", "c", "nginx:1.27", "app=web"],
        ),
        (
            "replicasets.apps",
            {**workload(replicas=3), "status": {"replicas": 2, "readyReplicas": 1}},
            ["x", 3, 2, 1, "60s", "c", "nginx:1.27", "app=web"],
        ),
        (
            "replicationcontrollers",
            {**workload(replicas=3, selector={"b": "2", "a": "1"}), "status": {"replicas": 2}},
            ["x", 3, 2, 0, "60s", "c", "nginx:1.27", "a=1,b=2"],
        ),
        (
            "statefulsets.apps",
            {**workload(replicas=3), "status": {"readyReplicas": 2}},
            ["x", "2/3", "60s", "c", "nginx:1.27"],
        ),
        (
            "daemonsets.apps",
            {
                **with_pod(nodeSelector={"disk": "ssd"}),
                "status": {
                    "desiredNumberScheduled": 5,
                    "currentNumberScheduled": 4,
                    "numberReady": 3,
                    "updatedNumberScheduled": 2,
                    "numberAvailable": 1,
                },
            },
            ["x", 5, 4, 3, 2, 1, "disk=ssd", "60s", "c", "nginx:1.27", "app=web"],
        ),
        (
            "controllerrevisions.apps",
            {
                "metadata": {
                    **META,
                    "ownerReferences": [
                        {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": True}
                    ],
                },
                "revision": 2,
            },
            ["x", "statefulset.apps/web", 2, "60s"],
        ),
        ("controllerrevisions.apps", {}, ["x", "<none>", 0, "60s"]),
    ],
)
def test_rows(name: str, document: dict[str, Any], cells: list[Any]):
    assert row(name, {"metadata": META, **document}, now=60) == cells
    assert len(BY_NAME[name].columns) == len(cells)
