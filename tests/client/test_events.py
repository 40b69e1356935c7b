"""Events are written in the background, aggregated, and not lost while the API server is away."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from fake_api import connected, failure, until

from emu.client import events
from emu.client.events import EventRecorder, timestamp
from emu.core.objects import Node, Pod

EVENTS = "/api/v1/namespaces/x/events"
POD = msgspec.convert({"metadata": {"name": "web", "namespace": "x", "uid": "u1"}}, Pod)


async def test_an_event_names_its_object_and_its_source() -> None:
    async with connected() as (api, client):
        EventRecorder(client, "kubelet", "node-1").warning(POD, "PortNotBound", "port 80 is taken")
        await until(lambda: len(api.bodies) == 1)
        method, path, event = api.bodies[0]
        assert (method, path) == ("POST", EVENTS)
        assert event["metadata"]["name"].startswith("web.")
        assert event["involvedObject"]["uid"] == "u1"
        assert event["involvedObject"]["apiVersion"] == "v1"
        assert event["source"] == {"component": "kubelet", "host": "node-1"}
        assert (event["type"], event["reason"], event["count"]) == ("Warning", "PortNotBound", 1)


async def test_what_is_repeated_raises_the_count_of_the_first() -> None:
    async with connected() as (api, client):
        recorder = EventRecorder(client, "kubelet")
        recorder.normal(POD, "Started", "a")
        await until(lambda: len(api.bodies) == 1)
        for _ in range(5):
            recorder.normal(POD, "Started", "a")
        recorder.normal(POD, "Started", "another")
        await until(lambda: len(api.bodies) == 3)
        assert [body.get("count") for _, _, body in api.bodies] == [1, 6, 1]
        assert api.bodies[1][0] == "PATCH"


async def test_the_count_of_an_earlier_process_goes_on() -> None:
    async with connected() as (api, client):
        recorder = EventRecorder(client, "kubelet")
        api.failures.append(failure(409, "AlreadyExists"))
        api.failures.append(failure(200))
        api.failures[1].text = '{"metadata":{"name":"web.1"},"count":7}'
        recorder.normal(POD, "Started", "a")
        await until(lambda: len(api.bodies) == 1)
        assert api.bodies[0][0] == "PATCH"
        assert api.bodies[0][2]["count"] == 8
        recorder.normal(POD, "Started", "a")
        await until(lambda: len(api.bodies) == 2)
        assert api.bodies[1][2]["count"] == 9


async def test_an_event_that_expired_is_written_anew() -> None:
    async with connected() as (api, client):
        recorder = EventRecorder(client, "kubelet")
        recorder.normal(POD, "Started", "a")
        await until(lambda: len(api.bodies) == 1)
        api.failures.append(failure(404, "NotFound"))
        recorder.normal(POD, "Started", "a")
        await until(lambda: len(api.bodies) == 2)
        assert api.bodies[1][0] == "POST"


async def test_events_wait_for_the_server_and_a_refused_one_does_not_stop_the_rest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "_RETRY_SECONDS", 0.01)
    async with connected() as (api, client):
        await api.stop()
        recorder = EventRecorder(client, "kubelet")
        recorder.normal(POD, "Started", "a")
        await asyncio.sleep(0)
        await api.start()
        await until(lambda: len(api.bodies) == 1)
        api.failures.append(failure(403, "Forbidden", "namespace x is being terminated"))
        recorder.normal(POD, "Killing", "b")
        recorder.normal(POD, "Killing", "c")
        await until(lambda: len(api.bodies) == 2)
        assert api.bodies[1][2]["message"] == "c"
        assert "being terminated" in caplog.text


async def test_events_of_cluster_scoped_objects_go_to_the_default_namespace() -> None:
    async with connected() as (api, client):
        node = msgspec.convert({"metadata": {"name": "node-1"}}, Node)
        EventRecorder(client, "node-controller").normal(node, "NodeReady", "ready")
        await until(lambda: len(api.bodies) == 1)
        assert api.bodies[0][1] == "/api/v1/namespaces/default/events"


def test_timestamp() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00Z"


async def test_what_is_pending_when_the_client_closes_is_given_up() -> None:
    async with connected() as (api, client):
        recorder = EventRecorder(client, "kubelet")
        recorder.warning(POD, "Late", "never written")
        await client.__aexit__(None, None, None)
        writer = recorder._writer
        assert writer is not None
        await asyncio.wait_for(writer, 5)
        assert api.bodies == []
