from typing import Any

import pytest

from emu.api.kinds import events
from emu.api.registry import Registry
from emu.api.resources import BY_NAME, BY_PATH

from .kinds import create, refusal, row

META = {"name": "x", "namespace": "default"}
ABOUT = {"kind": "Pod", "name": "web", "namespace": "default"}
NEW_STYLE = BY_PATH["events.k8s.io", "v1", "events"]

CORE = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": META,
    "involvedObject": ABOUT,
    "message": "Started",
    "source": {"component": "kubelet", "host": "node-1"},
    "firstTimestamp": "1970-01-01T00:00:00Z",
    "lastTimestamp": "1970-01-01T00:00:30Z",
    "count": 3,
    "type": "Normal",
    "reason": "Started",
    "reportingComponent": "kubelet",
    "reportingInstance": "node-1",
}
EVENTS = {
    "metadata": META,
    "regarding": ABOUT,
    "note": "Started",
    "deprecatedSource": {"component": "kubelet", "host": "node-1"},
    "deprecatedFirstTimestamp": "1970-01-01T00:00:00Z",
    "deprecatedLastTimestamp": "1970-01-01T00:00:30Z",
    "deprecatedCount": 3,
    "type": "Normal",
    "reason": "Started",
    "reportingController": "kubelet",
    "reportingInstance": "node-1",
}
SINGLE = {
    "metadata": META,
    "regarding": ABOUT,
    "note": "Scaled",
    "eventTime": "1970-01-01T00:00:10.000000Z",
    "type": "Warning",
    "reason": "Scaled",
    "action": "Scaling",
    "reportingController": "example.org/scaler",
    "reportingInstance": "scaler-1",
}


def test_the_two_forms_say_the_same():
    core = {key: value for key, value in CORE.items() if key not in ("apiVersion", "kind")}
    assert events.to_new_style(core) == EVENTS
    assert events.to_core(EVENTS) == core


def test_both_forms_can_be_selected_by_their_own_names():
    found = BY_NAME["events"].fields(CORE)
    for resource in (BY_NAME["events"], NEW_STYLE):
        assert set(resource.field_labels) <= found.keys()
    assert found["involvedObject.name"] == found["regarding.name"] == "web"
    assert found["reportingController"] == found["source"] == "kubelet"


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        pytest.param(
            {"involvedObject": {**ABOUT, "namespace": "other"}},
            ['involvedObject.namespace: Invalid value: "other": does not match event.namespace'],
            id="namespace",
        ),
        pytest.param(
            {"eventTime": "1970-01-01T00:00:10.000000Z", "reportingComponent": "", "reportingInstance": ""},
            [
                "reportingController: Required value",
                'reportingController: Invalid value: "": name part must be non-empty',
                "reportingInstance: Required value",
                "action: Required value",
            ],
            id="an event with a time says who reports",
        ),
        pytest.param(
            {
                "eventTime": "1970-01-01T00:00:10.000000Z",
                "action": "a" * 129,
                "reason": "r" * 129,
                "message": "m" * 1025,
            },
            [
                'action: Invalid value: "": can have at most 128 characters',
                'reason: Invalid value: "": can have at most 128 characters',
                'message: Invalid value: "": can have at most 1024 characters',
            ],
            id="lengths",
        ),
    ],
)
def test_refused(registry: Registry, change: dict[str, Any], errors: list[str]):
    assert refusal(registry, "events", {**CORE, **change}) == errors


def test_an_event_without_a_time_may_say_little(registry: Registry):
    create(registry, "events", {"metadata": META, "involvedObject": ABOUT})


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        pytest.param({}, [], id="accepted"),
        pytest.param({"eventTime": None}, ["eventTime: Required value"], id="time"),
        pytest.param(
            {"type": "Odd"}, ['type: Invalid value: "": has invalid value: Odd'], id="type is one of two"
        ),
        pytest.param(
            {"deprecatedCount": 2, "deprecatedSource": {"host": "a"}},
            [
                'count: Invalid value: "": needs to be unset',
                'source: Invalid value: "": needs to be unset',
            ],
            id="deprecated fields",
        ),
        pytest.param(
            {"series": {"count": 1}},
            [
                'series.count: Invalid value: "": should be at least 2',
                "series.lastObservedTime: Required value",
            ],
            id="series",
        ),
    ],
)
def test_what_events_k8s_io_asks_for_besides(change: dict[str, Any], errors: list[str]):
    assert [str(error) for error in NEW_STYLE.validate({**SINGLE, **change})] == errors


def test_only_the_series_of_an_event_changes():
    series = {"count": 2, "lastObservedTime": "1970-01-01T00:00:50.000000Z"}
    assert NEW_STYLE.validate_update({**SINGLE, "series": series}, SINGLE) == []
    (found,) = NEW_STYLE.validate_update({**SINGLE, "note": "Other"}, SINGLE)
    assert str(found) == 'message: Invalid value: "Other": field is immutable'


@pytest.mark.parametrize(
    ("document", "cells"),
    [
        (
            CORE,
            ["30s", "Normal", "Started", "pod/web", "", "kubelet, node-1", "Started", "60s", 3, "x"],
        ),
        (
            events.to_core(SINGLE),
            [
                "50s",
                "Warning",
                "Scaled",
                "pod/web",
                "",
                "example.org/scaler, scaler-1",
                "Scaled",
                "50s",
                1,
                "x",
            ],
        ),
        (
            {
                **CORE,
                "series": {"count": 7, "lastObservedTime": "1970-01-01T00:00:55Z"},
                "involvedObject": {"kind": "Node", "fieldPath": "spec"},
                "source": {"component": "a"},
                "reportingInstance": "",
            },
            ["5s", "Normal", "Started", "node", "spec", "a", "Started", "60s", 7, "x"],
        ),
        ({"metadata": META}, ["<unknown>", "", "", "", "", "", "", "<unknown>", 1, "x"]),
    ],
)
def test_rows(document: dict[str, Any], cells: list[Any]):
    assert row("events", document, now=60) == cells
    assert NEW_STYLE.cells(events.to_new_style(document), 60) == cells
    assert len(BY_NAME["events"].columns) == len(cells)
