"""The reflector keeps its copy true through everything that happens to a watch."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from fake_api import FakeApi, connected, failure, until

from emu.client.reflector import Reflector
from emu.core.objects import ConfigMap

PATH = "/api/v1/configmaps"

Change = tuple[str, str | None, str | None]


def config_map(name: str, value: str = "", **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "x"}, "data": {"value": value, **data}}


class Watched:
    def __init__(self, api: FakeApi, reflector: Reflector[ConfigMap]) -> None:
        self.api = api
        self.reflector = reflector
        self.changes: list[Change] = []
        reflector.subscribe(self._changed)

    def _changed(self, key: str, before: ConfigMap | None, now: ConfigMap | None) -> None:
        self.changes.append((key, before and before.data["value"], now and now.data["value"]))

    @property
    def values(self) -> dict[str, str]:
        return {key: item.data["value"] for key, item in self.reflector.items.items()}

    @property
    def stored(self) -> dict[str, str]:
        return {key: item["data"]["value"] for key, item in self.api.collections.get(PATH, {}).items()}

    async def in_step(self) -> None:
        await until(lambda: self.api.watching(PATH) > 0 and self.values == self.stored)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    async with connected() as (api, client):
        api.put(PATH, config_map("a", "1"))
        api.put(PATH, config_map("b", "1"))
        reflector = Reflector(client, ConfigMap)
        held = Watched(api, reflector)
        task = asyncio.create_task(reflector.run())
        try:
            async with asyncio.timeout(5):
                await reflector.synced.wait()
            await held.in_step()
            yield held
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_list_and_watch_tell_of_each_change_once(watched: Watched) -> None:
    api = watched.api
    api.put(PATH, config_map("a", "2"))
    api.put(PATH, config_map("c", "1"))
    api.delete(PATH, "x/b")
    await watched.in_step()
    assert watched.changes == [
        ("x/a", None, "1"),
        ("x/b", None, "1"),
        ("x/a", "1", "2"),
        ("x/c", None, "1"),
        ("x/b", "1", None),
    ]
    assert watched.reflector.version == api.version


async def test_a_late_subscriber_is_told_what_is_there(watched: Watched) -> None:
    late = Watched(watched.api, watched.reflector)
    assert late.changes == [("x/a", None, "1"), ("x/b", None, "1")]


async def test_a_broken_watch_is_resumed_without_a_new_list(watched: Watched) -> None:
    watched.api.break_watches()
    await until(lambda: watched.api.watching(PATH) == 0)
    watched.api.put(PATH, config_map("a", "2"))
    watched.api.delete(PATH, "x/b")
    await watched.in_step()
    assert watched.api.count(PATH, watch=False) == 1
    assert watched.changes[2:] == [("x/a", "1", "2"), ("x/b", "1", None)]


async def test_after_410_the_collection_is_listed_and_only_differences_are_told(watched: Watched) -> None:
    api = watched.api
    api.held.clear()
    api.break_watches()
    await until(lambda: api.watching(PATH) == 0)
    api.put(PATH, config_map("b", "2"))
    api.put(PATH, config_map("c", "1"))
    api.put(PATH, config_map("d", "1"))
    api.delete(PATH, "x/d")
    api.forget_history()
    api.held.set()
    await watched.in_step()
    assert api.count(PATH, watch=False) == 2
    assert watched.changes[2:] == [("x/b", "1", "2"), ("x/c", None, "1")]


async def test_what_went_while_the_history_was_lost_is_told_as_deleted(watched: Watched) -> None:
    api = watched.api
    api.held.clear()
    api.break_watches()
    await until(lambda: api.watching(PATH) == 0)
    api.delete(PATH, "x/b")
    api.forget_history()
    api.held.set()
    await watched.in_step()
    assert watched.changes[2:] == [("x/b", "1", None)]


async def test_http_410_is_an_expiry_too(watched: Watched) -> None:
    watched.api.failures.append(failure(410, "Expired"))
    watched.api.break_watches()
    await until(lambda: watched.api.count(PATH, watch=False) == 2)
    await watched.in_step()


async def test_an_error_event_ends_the_watch_and_nothing_else(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.api.send(PATH, b'{"type":"ERROR","object":{"code":500,"message":"etcd is tired"}}\n')
    await until(lambda: watched.api.count(PATH, watch=True) == 2)
    watched.api.put(PATH, config_map("a", "2"))
    await watched.in_step()
    assert watched.api.count(PATH, watch=False) == 1
    assert "etcd is tired" in caplog.text


async def test_bookmarks_move_the_version(watched: Watched) -> None:
    watched.api.send(PATH, b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"77"}}}\n')
    await until(lambda: watched.reflector.version == 77)
    watched.api.break_watches()
    await until(lambda: watched.api.count(PATH, watch=True) == 2)
    assert watched.api.requests[-1][2]["resourceVersion"] == "77"


async def test_huge_objects_arrive_and_lines_may_come_in_pieces(watched: Watched) -> None:
    huge = "x" * (3 << 20)
    watched.api.put(PATH, config_map("huge", "1", blob=huge))
    await watched.in_step()
    assert watched.reflector.items["x/huge"].data["blob"] == huge
    piece = b'{"type":"ADDED","object":{"metadata":{"name":"p","namespace":"x","resourceVersion":"9"},'
    watched.api.send(PATH, piece)
    watched.api.send(PATH, b'"data":{"value":"1"}}}\n{"type":"BOOKMARK",')
    watched.api.send(PATH, b'"object":{"metadata":{"resourceVersion":"10"}}}\n')
    await until(lambda: watched.reflector.version == 10)
    assert watched.values["x/p"] == "1"


async def test_half_a_line_before_the_connection_broke_is_no_event(watched: Watched) -> None:
    watched.api.send(PATH, b'{"type":"ADDED","object":{"metadata":{"name":"half"')
    watched.api.break_watches()
    await until(lambda: watched.api.count(PATH, watch=True) == 2)
    await watched.in_step()


async def test_the_last_known_state_counts_while_the_server_is_away(watched: Watched) -> None:
    api = watched.api
    await api.stop()
    assert watched.values == {"x/a": "1", "x/b": "1"}
    assert watched.reflector.synced.is_set()
    api.put(PATH, config_map("a", "2"))
    await api.start()
    await watched.in_step()
    assert watched.changes[2:] == [("x/a", "1", "2")]


async def test_a_server_that_ends_watches_at_once_is_not_asked_ever_faster(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    api = watched.api
    began = len(api.requests)
    loop = asyncio.get_running_loop()
    end = loop.time() + 0.5
    while loop.time() < end:
        api.break_watches()
        await asyncio.sleep(0.002)
    # Delays of 25 to 50 ms, then doubled: at most 5 in half a second.
    assert len(api.requests) - began <= 6


async def test_an_object_that_cannot_be_read_hides_no_other(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    api = watched.api
    broken = {"metadata": {"name": "broken", "namespace": "x"}, "data": 7}
    api.put(PATH, broken)
    api.put(PATH, config_map("a", "2"))
    await until(lambda: watched.values["x/a"] == "2")
    assert "cannot be read" in caplog.text
    api.held.clear()
    api.break_watches()
    await until(lambda: api.watching(PATH) == 0)
    api.put(PATH, config_map("c", "1"))
    api.forget_history()
    api.held.set()
    await until(lambda: watched.values == {"x/a": "2", "x/b": "1", "x/c": "1"})


async def test_an_answer_that_is_no_list_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async with connected() as (api, client):
        api.failures.append(failure(200, "not a list"))
        api.failures[0].body = b"<html>"
        api.failures.append(failure(503, "ServiceUnavailable"))
        reflector = Reflector(client, ConfigMap)
        task = asyncio.create_task(reflector.run())
        async with asyncio.timeout(5):
            await reflector.synced.wait()
        task.cancel()
        assert "is not an API server's" in caplog.text


async def test_an_error_of_a_listener_is_not_taken_for_a_lost_connection() -> None:
    async with connected() as (api, client):
        reflector = Reflector(client, ConfigMap)

        def refuse(key: str, before: ConfigMap | None, now: ConfigMap | None) -> None:
            raise OSError("address in use")

        reflector.subscribe(refuse)
        task = asyncio.create_task(reflector.run())
        await until(lambda: api.watching(PATH) == 1)
        api.put(PATH, config_map("a"))
        with pytest.raises(OSError, match="address in use"):
            async with asyncio.timeout(5):
                await task


async def test_learn_reads_its_own_write_and_says_nothing_twice(watched: Watched) -> None:
    api = watched.api
    api.held.clear()
    document = api.put(PATH, config_map("own", "1"))
    body = msgspec.json.encode(document)
    watched.reflector.learn(body)
    assert watched.values["x/own"] == "1"
    api.held.set()
    api.put(PATH, config_map("a", "2"))
    await watched.in_step()
    assert watched.changes[2:] == [("x/own", None, "1"), ("x/a", "1", "2")]
    api.delete(PATH, "x/own")
    await watched.in_step()
    # An answer that the watch has overtaken brings nothing back.
    watched.reflector.learn(body)
    assert "x/own" not in watched.values
