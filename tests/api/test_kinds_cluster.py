from typing import Any

import pytest

from emu.api.registry import Registry
from emu.api.resources import BY_NAME

from .kinds import create, refusal, row, update, update_refusal

META = {"name": "x", "creationTimestamp": "1970-01-01T00:00:00Z"}
RBAC = "rbac.authorization.k8s.io"
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
ROLE_REF = {"kind": "ClusterRole", "name": "view"}


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


def claim(**fields: Any) -> dict[str, Any]:
    return {"spec": {**CLAIM, **fields}}


@pytest.mark.parametrize(
    ("name", "document", "expected"),
    [
        (
            "persistentvolumeclaims",
            claim(),
            {"spec": {**CLAIM, "volumeMode": "Filesystem"}, "status": {"phase": "Pending"}},
        ),
        ("resourcequotas", spec(hard={"pods": "2"}), {"spec": {"hard": {"pods": "2"}}, "status": {}}),
        (
            "limitranges",
            spec(limits=[{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]),
            spec(
                limits=[
                    {
                        "type": "Container",
                        "max": {"cpu": "2"},
                        "min": {"memory": "1Mi"},
                        "default": {"cpu": "2"},
                        "defaultRequest": {"cpu": "2", "memory": "1Mi"},
                    }
                ]
            ),
        ),
        (
            "poddisruptionbudgets.policy",
            spec(minAvailable=1),
            {
                "spec": {"minAvailable": 1},
                "status": {
                    "currentHealthy": 0,
                    "desiredHealthy": 0,
                    "disruptionsAllowed": 0,
                    "expectedPods": 0,
                },
            },
        ),
        (
            "storageclasses.storage.k8s.io",
            {"provisioner": "example.org/disk"},
            {
                "provisioner": "example.org/disk",
                "reclaimPolicy": "Delete",
                "volumeBindingMode": "Immediate",
            },
        ),
        (
            "priorityclasses.scheduling.k8s.io",
            {"value": 5},
            {"value": 5, "preemptionPolicy": "PreemptLowerPriority"},
        ),
        (f"roles.{RBAC}", {}, {"rules": []}),
        (
            f"rolebindings.{RBAC}",
            {"roleRef": ROLE_REF, "subjects": [{"kind": "User", "name": "a"}]},
            {
                "roleRef": {**ROLE_REF, "apiGroup": RBAC},
                "subjects": [{"kind": "User", "name": "a", "apiGroup": RBAC}],
            },
        ),
    ],
)
def test_defaults(registry: Registry, name: str, document: dict[str, Any], expected: dict[str, Any]):
    made = create(registry, name, document)
    assert {key: made[key] for key in made if key not in ("apiVersion", "kind", "metadata")} == expected


PERCENT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex "
    "used for validation is '[0-9]+%')"
)
RULE = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}


@pytest.mark.parametrize(
    ("name", "document", "errors"),
    [
        pytest.param(
            "persistentvolumeclaims",
            spec(),
            [
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Required value",
            ],
            id="empty claim",
        ),
        pytest.param(
            "persistentvolumeclaims",
            claim(accessModes=["Sometimes"], resources={"requests": {"storage": "0"}}),
            [
                'spec.accessModes: Unsupported value: "Sometimes": supported values: "ReadOnlyMany", '
                '"ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"',
                'spec.resources[storage]: Invalid value: "0": must be greater than zero',
            ],
            id="modes and size",
        ),
        pytest.param(
            "persistentvolumeclaims",
            claim(accessModes=["ReadWriteOnce", "ReadWriteOncePod"]),
            ["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
            id="one pod only",
        ),
        pytest.param(
            "resourcequotas",
            spec(hard={"pods": "-1"}),
            ['spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0'],
            id="quota",
        ),
        pytest.param(
            "limitranges",
            spec(limits=[{"type": "House"}]),
            [
                'spec.limits[0].type: Unsupported value: "House": supported values: "Container", '
                '"PersistentVolumeClaim", "Pod"'
            ],
            id="type of limits",
        ),
        pytest.param(
            "limitranges",
            spec(limits=[{"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "100m"}}]),
            [
                'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 100m',
            ],
            id="limits that cross",
        ),
        pytest.param(
            "poddisruptionbudgets.policy",
            spec(minAvailable=1, maxUnavailable=1),
            [
                'spec: Invalid value: {"minAvailable":1,"maxUnavailable":1}: minAvailable and maxUnavailable '
                "cannot be both set"
            ],
            id="both bounds",
        ),
        pytest.param(
            "poddisruptionbudgets.policy",
            spec(minAvailable="half"),
            [f'spec.minAvailable: Invalid value: "half": {PERCENT}'],
            id="percent form",
        ),
        pytest.param(
            "poddisruptionbudgets.policy",
            spec(maxUnavailable="110%"),
            ['spec.maxUnavailable: Invalid value: "110%": must not be greater than 100%'],
            id="more than all",
        ),
        pytest.param(
            "poddisruptionbudgets.policy",
            spec(unhealthyPodEvictionPolicy="Never"),
            [
                'spec.unhealthyPodEvictionPolicy: Unsupported value: "Never": supported values: '
                '"AlwaysAllow", "IfHealthyBudget"'
            ],
            id="eviction policy",
        ),
        pytest.param(
            "storageclasses.storage.k8s.io",
            {"reclaimPolicy": "Recycle"},
            [
                "provisioner: Required value",
                'reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"',
            ],
            id="storage class",
        ),
        pytest.param(
            "priorityclasses.scheduling.k8s.io",
            {"value": 1_000_000_001},
            ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
            id="priority",
        ),
        pytest.param(
            "priorityclasses.scheduling.k8s.io",
            {"metadata": {"name": "system-mine"}},
            [
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for "
                "system use only. error: system-mine is not a known system priority class"
            ],
            id="system priority",
        ),
        pytest.param(
            f"roles.{RBAC}",
            {"rules": [{"apiGroups": [""]}]},
            [
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ],
            id="rule",
        ),
        pytest.param(
            f"roles.{RBAC}",
            {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]},
            [
                'rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to '
                "non-resource URLs"
            ],
            id="URL in a namespace",
        ),
        pytest.param(
            f"clusterroles.{RBAC}",
            {"rules": [{**RULE, "nonResourceURLs": ["/x"]}]},
            [
                'rules[0].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular '
                "resources and non-resource URLs"
            ],
            id="URL and resource",
        ),
        pytest.param(
            f"clusterroles.{RBAC}",
            {"aggregationRule": {}},
            [
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector "
                "required if aggregationRule is non-nil"
            ],
            id="aggregation",
        ),
        pytest.param(
            f"rolebindings.{RBAC}",
            {"roleRef": {"kind": "Part"}, "subjects": [{"kind": "Dog", "name": "d"}]},
            [
                'roleRef.kind: Unsupported value: "Part": supported values: "Role", "ClusterRole"',
                "roleRef.name: Required value",
                'subjects[0].kind: Unsupported value: "Dog": supported values: "ServiceAccount", "User", '
                '"Group"',
            ],
            id="binding",
        ),
        pytest.param(
            f"clusterrolebindings.{RBAC}",
            {"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "a"}]},
            [
                'roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"',
                "subjects[0].namespace: Required value",
            ],
            id="cluster-wide binding",
        ),
        pytest.param(
            f"roles.{RBAC}",
            {"metadata": {"name": "a/b"}},
            ["metadata.name: Invalid value: \"a/b\": may not contain '/'"],
            id="name of a role",
        ),
    ],
)
def test_refused(registry: Registry, name: str, document: dict[str, Any], errors: list[str]):
    assert refusal(registry, name, document) == errors


def test_names_of_roles_need_only_stand_in_a_path(registry: Registry):
    create(registry, f"roles.{RBAC}", {"metadata": {"name": "system:Mine_and:yours"}})


@pytest.mark.parametrize(
    ("name", "document", "change", "errors"),
    [
        pytest.param(
            f"rolebindings.{RBAC}",
            {"roleRef": ROLE_REF},
            {"roleRef": {"kind": "Role", "name": "edit"}},
            [
                f'roleRef: Invalid value: {{"kind":"Role","name":"edit","apiGroup":"{RBAC}"}}: cannot change '
                "roleRef"
            ],
            id="role of a binding",
        ),
        pytest.param(
            "persistentvolumeclaims",
            claim(),
            {"accessModes": ["ReadOnlyMany"]},
            [
                "spec: Forbidden: spec is immutable after creation except resources.requests and "
                "volumeAttributesClassName for bound claims"
            ],
            id="claim",
        ),
        pytest.param(
            "priorityclasses.scheduling.k8s.io",
            {"value": 1},
            {"value": 2, "preemptionPolicy": "Never"},
            [
                "value: Forbidden: may not be changed in an update.",
                'preemptionPolicy: Invalid value: "Never": field is immutable',
            ],
            id="priority",
        ),
        pytest.param(
            "storageclasses.storage.k8s.io",
            {"provisioner": "example.org/disk"},
            {"provisioner": "example.org/tape", "volumeBindingMode": "WaitForFirstConsumer"},
            [
                "provisioner: Forbidden: updates to provisioner are forbidden.",
                'volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable',
            ],
            id="storage class",
        ),
    ],
)
def test_immutable(
    registry: Registry, name: str, document: dict[str, Any], change: dict[str, Any], errors: list[str]
):
    create(registry, name, document)
    assert update_refusal(registry, name, **change) == errors


def test_a_claim_may_be_bound_to_a_volume(registry: Registry):
    create(registry, "persistentvolumeclaims", claim())
    assert update(registry, "persistentvolumeclaims", volumeName="pv")["spec"]["volumeName"] == "pv"


SUBJECTS = [
    {"kind": "User", "name": "ada"},
    {"kind": "User", "name": "bob"},
    {"kind": "Group", "name": "staff"},
    {"kind": "ServiceAccount", "name": "robot", "namespace": "default"},
]


@pytest.mark.parametrize(
    ("name", "document", "cells"),
    [
        (
            "persistentvolumeclaims",
            {**claim(storageClassName="fast"), "status": {"phase": "Pending"}},
            ["x", "Pending", "", "", "", "fast", "<unset>", "60s", "<unset>"],
        ),
        (
            "persistentvolumeclaims",
            {
                **claim(volumeName="pv-1", volumeMode="Block"),
                "status": {
                    "phase": "Bound",
                    "capacity": {"storage": "2Gi"},
                    "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                },
            },
            ["x", "Bound", "pv-1", "2Gi", "RWO,RWX", "", "<unset>", "60s", "Block"],
        ),
        (
            "resourcequotas",
            {
                "status": {
                    "hard": {"requests.cpu": "1", "limits.cpu": "2", "pods": "4"},
                    "used": {"pods": "3"},
                }
            },
            ["x", "pods: 3/4, requests.cpu: 0/1", "limits.cpu: 0/2", "60s"],
        ),
        ("limitranges", {}, ["x", "1970-01-01T00:00:00Z"]),
        (f"roles.{RBAC}", {}, ["x", "1970-01-01T00:00:00Z"]),
        ("poddisruptionbudgets.policy", spec(minAvailable="50%"), ["x", "50%", "N/A", 0, "60s"]),
        (
            "storageclasses.storage.k8s.io",
            {
                "metadata": {**META, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
                "provisioner": "example.org/disk",
                "allowVolumeExpansion": True,
            },
            ["x (default)", "example.org/disk", "Delete", "Immediate", True, "60s"],
        ),
        (
            "priorityclasses.scheduling.k8s.io",
            {"value": 7, "preemptionPolicy": "Never"},
            ["x", 7, False, "60s", "Never"],
        ),
        (
            f"rolebindings.{RBAC}",
            {"roleRef": ROLE_REF, "subjects": SUBJECTS},
            ["x", "ClusterRole/view", "60s", "ada, bob", "staff", "default/robot"],
        ),
        (f"clusterrolebindings.{RBAC}", {"roleRef": ROLE_REF}, ["x", "ClusterRole/view", "60s", "", "", ""]),
    ],
)
def test_rows(name: str, document: dict[str, Any], cells: list[Any]):
    assert row(name, {"metadata": META, **document}, now=60) == cells
    assert len(BY_NAME[name].columns) == len(cells)
