import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from emu.api.negotiation import Form
from emu.api.resources import BY_NAME
from emu.api.watches import event_encoding
from emu.client.kubeconfig import read_kubeconfig
from emu.client.rest import STRATEGIC_MERGE_PATCH

from .conftest import Server, pod, within
from .test_http import TABLE, call, raw

PODS = "/api/v1/namespaces/default/pods"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json"
NOT_OLDER = "resourceVersionMatch=NotOlderThan"
WATCH_LIST = f"sendInitialEvents=true&{NOT_OLDER}&allowWatchBookmarks=true"


class Watch:
    """A watch as a client has it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> Any:
        """The next event; None at the end."""
        line = await within(10, self.response.content.readline())
        return msgspec.json.decode(line) if line else None

    async def rest(self) -> list[Any]:
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events


@asynccontextmanager
async def watch(server: Server, path: str, accept: str = "application/json") -> AsyncIterator[Watch]:
    credentials = read_kubeconfig(server.kubeconfig)
    headers = {"Authorization": f"Bearer {credentials.token}", "Accept": accept}
    context = ssl.create_default_context(cadata=credentials.ca.decode())
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context), read_bufsize=1 << 20, headers=headers
        ) as session,
        session.get(credentials.server + path) as response,
    ):
        assert response.status == 200
        yield Watch(response)


def seen(event: Any) -> tuple[str, str]:
    return event["type"], event["object"]["metadata"]["name"]


async def label(server: Server, name: str, **labels: str) -> Any:
    body = {"metadata": {"labels": labels}}
    return await call(server, "PATCH", f"{PODS}/{name}", body=body, content_type=STRATEGIC_MERGE_PATCH)


@pytest.mark.parametrize("start", ["watch=true", "watch=1&resourceVersion=0", "watch=True&resourceVersion="])
async def test_a_watch_without_a_version_starts_with_what_is_there(server: Server, start: str):
    await call(server, "POST", PODS, body=pod("a"))
    async with watch(server, f"{PODS}?{start}") as watching:
        assert seen(await watching.next()) == ("ADDED", "a")
        await label(server, "a", x="y")
        assert seen(await watching.next()) == ("MODIFIED", "a")


async def test_a_deletion_carries_its_own_version(server: Server):
    created = await call(server, "POST", PODS, body=pod("a"))
    version = int(created["metadata"]["resourceVersion"])
    async with watch(server, f"{PODS}?watch=1&resourceVersion={version}") as watching:
        await call(server, "DELETE", f"{PODS}/a")
        event = await watching.next()
        assert seen(event) == ("DELETED", "a")
        assert int(event["object"]["metadata"]["resourceVersion"]) == version + 1


async def test_leaving_and_entering_a_selector(server: Server):
    await call(server, "POST", PODS, body=pod("a"))
    async with watch(server, f"{PODS}?watch=1&labelSelector=app%3Dweb") as watching:
        await label(server, "a", app="web")
        entered = await watching.next()
        assert seen(entered) == ("ADDED", "a")
        changed = await label(server, "a", app="other")
        left = await watching.next()
        assert seen(left) == ("DELETED", "a")
        assert left["object"]["metadata"]["labels"] == {"app": "web"}
        assert left["object"]["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]


async def test_one_object_by_field_selector(server: Server):
    for name in "ab":
        await call(server, "POST", PODS, body=pod(name))
    path = f"{PODS}?watch=1&fieldSelector=metadata.name%3Db&resourceVersion=0"
    async with watch(server, path) as watching:
        assert seen(await watching.next()) == ("ADDED", "b")
        await label(server, "a", x="y")
        await label(server, "b", x="y")
        assert seen(await watching.next()) == ("MODIFIED", "b")


async def test_a_get_of_one_object_is_no_watch(server: Server):
    """Upstream reads the parameter for collections only."""
    created = await call(server, "POST", PODS, body=pod("a"))
    status, found, _ = await raw(server, "GET", f"{PODS}/a?watch=true")
    assert (status, found) == (200, created)


async def test_watch_list(server: Server):
    await call(server, "POST", PODS, body=pod("a"))
    async with watch(server, f"{PODS}?watch=1&{WATCH_LIST}") as watching:
        assert seen(await watching.next()) == ("ADDED", "a")
        bookmark = await watching.next()
        assert bookmark["type"] == "BOOKMARK"
        assert bookmark["object"]["kind"] == "Pod"
        assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        await call(server, "POST", PODS, body=pod("b"))
        event = await watching.next()
        assert seen(event) == ("ADDED", "b")
        versions = [int(found["object"]["metadata"]["resourceVersion"]) for found in (bookmark, event)]
        assert versions[1] == versions[0] + 1


async def test_watch_list_without_initial_events_starts_now(server: Server):
    await call(server, "POST", PODS, body=pod("a"))
    async with watch(server, f"{PODS}?watch=1&sendInitialEvents=false&{NOT_OLDER}") as watching:
        await call(server, "POST", PODS, body=pod("b"))
        assert seen(await watching.next()) == ("ADDED", "b")


INVALID = 'ListOptions.meta.k8s.io "" is invalid: '
NEEDS_MATCH = (
    "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
)


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ("sendInitialEvents=true&allowWatchBookmarks=true", 422, INVALID + NEEDS_MATCH),
        (
            "sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=1",
            422,
            f"{INVALID}[{NEEDS_MATCH}, resourceVersionMatch: Unsupported value: "
            '"Exact": supported values: "NotOlderThan"]',
        ),
        (
            "resourceVersionMatch=NotOlderThan&resourceVersion=1",
            422,
            f"{INVALID}resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless "
            "sendInitialEvents is provided",
        ),
        (f"{WATCH_LIST}&resourceVersion=100000", 504, "Timeout: Too large resource version: 100000, current"),
        (
            "resourceVersion=x",
            422,
            'pods "" is invalid: resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": '
            "invalid syntax",
        ),
        ("timeoutSeconds=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("labelSelector=a+b", 400, "unable to parse requirement"),
    ],
)
async def test_refusals(server: Server, query: str, code: int, message: str):
    status, found, _ = await raw(server, "GET", f"{PODS}?watch=1&{query}")
    assert (status, found["code"]) == (code, code)
    assert found["message"].startswith(message)


async def test_a_version_that_is_not_retained_is_an_error_in_the_stream(server: Server):
    async with watch(server, f"{PODS}?watch=1&resourceVersion=100000") as watching:
        (event,) = await watching.rest()
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


async def test_bookmarks_come_from_time_to_time(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("emu.api.watches._BOOKMARK_SECONDS", 0.05)
    async with watch(server, f"{PODS}?watch=1&allowWatchBookmarks=true") as watching:
        # Of another resource: only a bookmark tells of it.
        made = await call(server, "POST", CONFIG_MAPS, body={"metadata": {"name": "a"}})
        version = made["metadata"]["resourceVersion"]
        bookmark = await watching.next()
        while bookmark["object"]["metadata"]["resourceVersion"] != version:
            assert bookmark["type"] == "BOOKMARK"
            bookmark = await watching.next()
    async with watch(server, f"{PODS}?watch=1&timeoutSeconds=1") as watching:
        assert await watching.rest() == []


async def test_a_last_bookmark_comes_before_the_timeout(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("emu.api.watches._LAST_BOOKMARK_SECONDS", 0.5)
    async with watch(server, f"{PODS}?watch=1&allowWatchBookmarks=true&timeoutSeconds=1") as watching:
        await call(server, "POST", PODS, body=pod("a"))
        events = await watching.rest()
    assert [event["type"] for event in events] == ["ADDED", "BOOKMARK"]


async def test_tables_describe_their_columns_once(server: Server):
    for name in "ab":
        await call(server, "POST", PODS, body=pod(name))
    async with watch(server, f"{PODS}?watch=1", TABLE) as watching:
        await call(server, "POST", PODS, body=pod("c"))
        events = [await watching.next() for _ in range(3)]
    assert {event["object"]["kind"] for event in events} == {"Table"}
    assert [event["object"]["rows"][0]["cells"][0] for event in events] == ["a", "b", "c"]
    assert [event["object"]["columnDefinitions"] is None for event in events] == [False, True, True]
    # Another watch of the same form, later: its first event describes them again.
    async with watch(server, f"{PODS}?watch=1&resourceVersion=1&limit=1", TABLE) as watching:
        assert (await watching.next())["object"]["columnDefinitions"]


def test_watches_of_the_same_form_share_their_encoding():
    """Equal encodings share the bytes of an event, which is what makes many watchers cheap."""
    pods, form = BY_NAME["pods"], Form(table="v1")
    first = event_encoding(pods, form, "", with_columns=True)
    assert first is event_encoding(pods, Form(table="v1"), "", with_columns=True)
    assert first.following() is event_encoding(pods, form, "", with_columns=False)
    assert first.following().following() is first.following()
    assert first is not event_encoding(pods, form, "Object", with_columns=True)


async def test_metadata_only(server: Server):
    await call(server, "POST", PODS, body=pod("a"))
    async with watch(server, f"{PODS}?watch=1&{WATCH_LIST}", METADATA) as watching:
        event, bookmark = await watching.next(), await watching.next()
    assert event["object"]["kind"] == bookmark["object"]["kind"] == "PartialObjectMetadata"
    assert event["object"]["metadata"]["name"] == "a"
    assert "spec" not in event["object"]
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_watch_of_another_form_of_stored_objects_has_that_form(server: Server):
    """Events are stored as of core/v1 and shown as of events.k8s.io too."""
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    about = {"kind": "Pod", "namespace": "default", "name": "a"}
    document = {"metadata": {"name": "e"}, "involvedObject": about, "reason": "Seen", "message": "text"}
    async with watch(server, f"{path}?watch=1&sendInitialEvents=false&{NOT_OLDER}") as watching:
        await call(server, "POST", "/api/v1/namespaces/default/events", body=document)
        event = await watching.next()
    assert event["object"]["apiVersion"] == "events.k8s.io/v1"
    assert event["object"]["regarding"]["name"] == "a"


async def test_a_client_of_http_1_0_gets_lines_until_the_connection_closes(server: Server):
    await call(server, "POST", PODS, body=pod("a"))
    reader, writer = await connect(server, f"{PODS}?watch=1&timeoutSeconds=1", "HTTP/1.0")
    try:
        answer = await within(10, reader.read())
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert msgspec.json.decode(body.splitlines()[0])["type"] == "ADDED"


async def connect(
    server: Server, path: str, version: str = "HTTP/1.1"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which a GET was sent."""
    credentials = read_kubeconfig(server.kubeconfig)
    port = int(credentials.server.rpartition(":")[2])
    context = ssl.create_default_context(cadata=credentials.ca.decode())
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=1 << 16)
    head = (f"GET {path} {version}", "Host: 127.0.0.1", f"Authorization: Bearer {credentials.token}", "", "")
    writer.write("\r\n".join(head).encode())
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("backlog", [True, False], ids=["in its backlog", "in its changes"])
async def test_a_client_that_never_reads_is_cut_off_and_holds_nobody_up(
    server: Server, monkeypatch: pytest.MonkeyPatch, backlog: bool
):
    monkeypatch.setattr("emu.api.watches._QUEUED_BYTES", 4 << 20)
    monkeypatch.setattr("emu.api.fanout._PENDING_BYTES", 4 << 20)
    big = {"data": {"text": "x" * 500_000}}
    if backlog:
        for number in range(30):
            await call(server, "POST", CONFIG_MAPS, body={"metadata": {"name": f"old-{number}"}, **big})
    reader, writer = await connect(server, f"{CONFIG_MAPS}?watch=1&resourceVersion=1")
    # The answer has begun: from now on nothing is read.
    await within(5, reader.readuntil(b"\r\n\r\n"))
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    written = 30
    async with watch(server, f"{CONFIG_MAPS}?watch=1&allowWatchBookmarks=true&resourceVersion=0") as other:
        for number in range(30 if backlog else 0):
            assert seen(await other.next())[1].startswith("old-"), number
        for number in range(written):
            await call(server, "POST", CONFIG_MAPS, body={"metadata": {"name": f"new-{number}"}, **big})
            assert seen(await other.next()) == ("ADDED", f"new-{number}")
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    received = await within(10, until_cut(reader))
    writer.close()
    assert received < written * 500_000


async def until_cut(reader: asyncio.StreamReader) -> int:
    """How much comes before the connection breaks."""
    received = 0
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(1 << 16):
            received += len(data)
    return received
