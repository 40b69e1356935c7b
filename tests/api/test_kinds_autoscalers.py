from typing import Any

import msgspec
import pytest

from emu.api.kinds import autoscalers_v1
from emu.api.registry import Registry
from emu.api.resources import BY_NAME, BY_PATH

from .kinds import create, refusal, row

NAME = "horizontalpodautoscalers.autoscaling"
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}


def autoscaler(**spec: Any) -> dict[str, Any]:
    return {"spec": {"scaleTargetRef": TARGET, "maxReplicas": 3, **spec}}


def metric(kind: str, key: str, what: str = "target", **source: Any) -> dict[str, Any]:
    value = source.pop("value")
    return {"type": kind, key: {**source, what: value}}


CPU = metric("Resource", "resource", name="cpu", value={"type": "Utilization", "averageUtilization": 80})
MEMORY = metric("Resource", "resource", name="memory", value={"type": "AverageValue", "averageValue": "64Mi"})
QUEUE = metric(
    "External", "external", metric={"name": "queue"}, value={"type": "AverageValue", "averageValue": "30"}
)
HITS = metric(
    "Object",
    "object",
    describedObject={"kind": "Ingress", "name": "web"},
    metric={"name": "hits", "selector": {"matchLabels": {"a": "b"}}},
    value={"type": "Value", "value": "2k"},
)
PODS = metric("Pods", "pods", metric={"name": "load"}, value={"type": "AverageValue", "averageValue": "500m"})


def test_v2_is_the_preferred_version():
    versions = [version for group, version, plural in BY_PATH if plural == "horizontalpodautoscalers"]
    assert versions == ["v2", "v1"]


def test_defaults(registry: Registry):
    made = create(registry, NAME, autoscaler(behavior={}))
    assert made["status"] == {"desiredReplicas": 0}
    percent = {"type": "Percent", "value": 100, "periodSeconds": 15}
    assert made["spec"] == {
        "scaleTargetRef": TARGET,
        "minReplicas": 1,
        "maxReplicas": 3,
        "metrics": [CPU],
        "behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": 0,
                "selectPolicy": "Max",
                "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, percent],
            },
            "scaleDown": {"selectPolicy": "Max", "policies": [percent]},
        },
    }


AT = "spec.metrics[0]"


@pytest.mark.parametrize(
    ("spec", "errors"),
    [
        pytest.param(
            {"minReplicas": 0, "maxReplicas": 0},
            [
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                "spec.maxReplicas: Invalid value: 0: must be greater than 0",
            ],
            id="replicas",
        ),
        pytest.param(
            {"minReplicas": 5},
            ["spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"],
            id="bounds cross",
        ),
        pytest.param(
            {"scaleTargetRef": {}},
            ["spec.scaleTargetRef.kind: Required value", "spec.scaleTargetRef.name: Required value"],
            id="target left out",
        ),
        pytest.param(
            {"metrics": [{"type": "Mood"}]},
            [
                f'{AT}.type: Unsupported value: "Mood": supported values: "ContainerResource", "External", '
                '"Object", "Pods", "Resource"'
            ],
            id="kind of metric",
        ),
        pytest.param(
            {"metrics": [{"type": "Pods", "resource": MEMORY["resource"]}]},
            [
                f"{AT}.pods: Required value: must populate information for the given metric source",
                f"{AT}.resource: Forbidden: must populate the given metric source only",
            ],
            id="another source",
        ),
        pytest.param(
            {"metrics": [metric("Resource", "resource", name="cpu", value={"type": "Utilization"})]},
            [
                f"{AT}.resource.target.averageUtilization: Required value: must set either a target raw "
                "value or a target utilization"
            ],
            id="nothing aimed at",
        ),
        pytest.param(
            {"behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 3600}]}}},
            [
                "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
                "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 3600: must be less than or "
                "equal to 1800",
            ],
            id="policy",
        ),
    ],
)
def test_refused(registry: Registry, spec: dict[str, Any], errors: list[str]):
    assert refusal(registry, NAME, autoscaler(**spec)) == errors


ANNOTATION = "autoscaling.alpha.kubernetes.io/"
FULL = {
    "metadata": {"name": "x", "annotations": {"mine": "kept"}},
    "spec": {
        "scaleTargetRef": TARGET,
        "minReplicas": 1,
        "maxReplicas": 3,
        "metrics": [MEMORY, QUEUE, HITS, PODS, CPU],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
    },
    "status": {
        "desiredReplicas": 2,
        "currentMetrics": [
            metric("Pods", "pods", "current", metric={"name": "load"}, value={"averageValue": "1"}),
            metric("Resource", "resource", "current", name="cpu", value={"averageUtilization": 40}),
        ],
        "conditions": [{"type": "AbleToScale", "status": "True"}],
    },
}


def test_v1_says_in_annotations_what_it_has_no_field_for():
    v1 = autoscalers_v1.shown(FULL)
    annotations = v1["metadata"]["annotations"]
    decoded = {
        key.removeprefix(ANNOTATION): msgspec.json.decode(value)
        for key, value in annotations.items()
        if key.startswith(ANNOTATION)
    }
    assert v1["spec"] == {
        "scaleTargetRef": TARGET,
        "minReplicas": 1,
        "maxReplicas": 3,
        "targetCPUUtilizationPercentage": 80,
    }
    assert v1["status"] == {"desiredReplicas": 2, "currentCPUUtilizationPercentage": 40}
    assert decoded == {
        "metrics": [
            {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "64Mi"}},
            {"type": "External", "external": {"metricName": "queue", "targetAverageValue": "30"}},
            {
                "type": "Object",
                "object": {
                    "target": {"kind": "Ingress", "name": "web"},
                    "metricName": "hits",
                    "selector": {"matchLabels": {"a": "b"}},
                    "targetValue": "2k",
                },
            },
            {"type": "Pods", "pods": {"metricName": "load", "targetAverageValue": "500m"}},
        ],
        "behavior": {"ScaleDown": {"StabilizationWindowSeconds": 60}},
        "current-metrics": [{"type": "Pods", "pods": {"metricName": "load", "currentAverageValue": "1"}}],
        "conditions": [{"type": "AbleToScale", "status": "True"}],
    }


def test_v1_and_back_loses_nothing():
    assert autoscalers_v1.stored(autoscalers_v1.shown(FULL)) == FULL


@pytest.mark.parametrize(
    "text",
    ["{", "[1]", '"a"', "7", '[{"type":"Resource","resource":{"targetAverageUtilization":"a"}}]', '{"a":1}'],
)
def test_annotations_that_say_nothing_are_dropped(text: str):
    keys = ("metrics", "behavior", "conditions", "current-metrics")
    annotations = {ANNOTATION + key: text for key in keys}
    v2 = autoscalers_v1.stored({"metadata": {"annotations": annotations}, "spec": {"maxReplicas": 1}})
    assert v2["metadata"]["annotations"] == {}
    assert v2["spec"] == {"maxReplicas": 1}


@pytest.mark.parametrize(
    ("metrics", "current", "targets"),
    [
        ([], [], "<none>"),
        ([CPU], [], "cpu: <unknown>/80%"),
        ([CPU], [{"type": "Resource", "resource": {"current": {"averageUtilization": 5}}}], "cpu: 5%/80%"),
        ([MEMORY], [], "memory: <unknown>/64Mi"),
        ([QUEUE], [], "<unknown>/30 (avg)"),
        ([HITS], [{"type": "Object", "object": {"current": {"value": "1k"}}}], "1k/2k"),
        ([PODS, MEMORY, CPU], [], "<unknown>/500m, memory: <unknown>/64Mi + 1 more..."),
    ],
)
def test_rows(metrics: list[dict[str, Any]], current: list[dict[str, Any]], targets: str):
    document = {
        "metadata": {"name": "x", "creationTimestamp": "1970-01-01T00:00:00Z"},
        **autoscaler(metrics=metrics),
        "status": {"currentMetrics": current, "currentReplicas": 2},
    }
    expected = ["x", "Deployment/web", targets, "<unset>", 3, 2, "60s"]
    assert row(NAME, document, now=60) == expected
    v1 = BY_PATH["autoscaling", "v1", "horizontalpodautoscalers"]
    assert v1.cells(autoscalers_v1.shown(document), 60) == expected
    assert len(BY_NAME[NAME].columns) == len(expected)
