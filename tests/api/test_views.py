"""Objects in another form than the stored one: events.k8s.io/v1, and autoscaling/v1."""

from typing import Any

import msgspec

from emu.client.rest import MERGE_PATCH

from .conftest import Server
from .test_http import TABLE, call, raw

CORE_EVENTS = "/api/v1/namespaces/default/events"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
V1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"
V2 = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
EVENT = {
    "metadata": {"name": "x"},
    "regarding": {"kind": "Pod", "name": "web", "namespace": "default"},
    "note": "Scaled",
    "eventTime": "2026-01-01T00:00:10.000000Z",
    "type": "Normal",
    "reason": "Scaled",
    "action": "Scaling",
    "reportingController": "example.org/scaler",
    "reportingInstance": "scaler-1",
}
SERIES = {"count": 2, "lastObservedTime": "2026-01-01T00:00:50.000000Z"}
PATCH = {"Content-Type": MERGE_PATCH}


async def refusal(server: Server, method: str, path: str, body: Any, **headers: str) -> list[str]:
    data = msgspec.json.encode(body)
    status, found, _ = await raw(
        server, method, path, data=data, headers={"Content-Type": "application/json", **headers}
    )
    assert status == 422, found
    return [f"{cause['field']}: {cause['message']}" for cause in found["details"]["causes"]]


async def test_an_event_is_the_same_object_in_both_groups(server: Server):
    made = await call(server, "POST", EVENTS, body=EVENT)
    assert (made["apiVersion"], made["kind"]) == ("events.k8s.io/v1", "Event")
    assert made["note"] == "Scaled"
    core = await call(server, "GET", f"{CORE_EVENTS}/x")
    assert core["apiVersion"] == "v1"
    assert core["message"] == "Scaled"
    assert core["reportingComponent"] == "example.org/scaler"
    assert core["metadata"]["uid"] == made["metadata"]["uid"]
    selector = {"fieldSelector": "regarding.name=web,reportingController=example.org/scaler"}
    (listed,) = (await call(server, "GET", EVENTS, params=selector))["items"]
    assert listed["regarding"] == EVENT["regarding"]
    assert (await call(server, "GET", EVENTS, params={"fieldSelector": "regarding.name=b"}))["items"] == []
    _, shown, _ = await raw(server, "GET", f"{EVENTS}/x", headers={"Accept": TABLE})
    assert shown["rows"][0]["cells"][1:4] == ["Normal", "Scaled", "pod/web"]


async def test_events_k8s_io_asks_for_more_than_the_core_group(server: Server):
    old_style = {"metadata": {"name": "x"}, "type": "Odd", "count": 2}
    assert (await call(server, "POST", CORE_EVENTS, body=old_style))["count"] == 2
    assert await refusal(
        server, "POST", EVENTS, {"metadata": {"name": "y"}, "type": "Odd", "deprecatedCount": 2}
    ) == [
        "eventTime: Required value",
        'type: Invalid value: "": has invalid value: Odd',
        'count: Invalid value: "": needs to be unset',
    ]
    # What is there is not judged by the rules for new Events.
    changed = await call(server, "PATCH", f"{EVENTS}/x", body={"series": SERIES}, content_type=MERGE_PATCH)
    assert changed["series"] == SERIES


async def test_applying_is_checked_as_any_write(server: Server):
    applied = {"Content-Type": "application/apply-patch+yaml"}
    path = f"{EVENTS}/x?fieldManager=test"
    kind = {"apiVersion": "events.k8s.io/v1", "kind": "Event"}
    assert await refusal(
        server, "PATCH", path, {**kind, "metadata": {"name": "x"}, "type": "Normal"}, **applied
    ) == ["eventTime: Required value"]
    body = msgspec.json.encode({**kind, **EVENT})
    status, made, _ = await raw(server, "PATCH", path, data=body, headers=applied)
    assert (status, made["note"]) == (201, "Scaled")
    changed = {**kind, **EVENT, "note": "Other"}
    assert await refusal(server, "PATCH", path, changed, **applied) == [
        'message: Invalid value: "Other": field is immutable'
    ]


async def test_only_the_series_of_an_event_changes_through_events_k8s_io(server: Server):
    await call(server, "POST", EVENTS, body=EVENT)
    changed = await call(server, "PATCH", f"{EVENTS}/x", body={"series": SERIES}, content_type=MERGE_PATCH)
    assert changed["series"] == SERIES
    assert await refusal(server, "PATCH", f"{EVENTS}/x", {"note": "Other"}, **PATCH) == [
        'message: Invalid value: "Other": field is immutable'
    ]
    through_core = await call(
        server, "PATCH", f"{CORE_EVENTS}/x", body={"message": "Other"}, content_type=MERGE_PATCH
    )
    assert through_core["message"] == "Other"


async def test_an_autoscaler_is_the_same_object_in_both_versions(server: Server):
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"scaleTargetRef": target, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50}
    made = await call(server, "POST", V1, body={"metadata": {"name": "x"}, "spec": spec})
    assert made["spec"] == {**spec, "minReplicas": 1}
    v2 = await call(server, "GET", f"{V2}/x")
    utilization = {"type": "Utilization", "averageUtilization": 50}
    assert v2["spec"]["metrics"] == [{"type": "Resource", "resource": {"name": "cpu", "target": utilization}}]
    memory = {
        "type": "Resource",
        "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "64Mi"}},
    }
    v2["spec"]["metrics"].insert(0, memory)
    changed = await call(server, "PUT", f"{V2}/x", body=v2)
    v1 = await call(server, "GET", f"{V1}/x")
    assert v1["spec"]["targetCPUUtilizationPercentage"] == 50
    assert "memory" in v1["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"]
    put = await call(server, "PUT", f"{V1}/x", body={**v1, "spec": {**v1["spec"], "maxReplicas": 4}})
    assert put["spec"]["maxReplicas"] == 4
    after = await call(server, "GET", f"{V2}/x")
    assert after["spec"] == {**changed["spec"], "maxReplicas": 4}
    assert "annotations" not in after["metadata"]
