"""The REST client: what it sends, and what it makes of failures."""

from __future__ import annotations

import pytest
from fake_api import connected, failure

from emu.client.rest import ApiError, ApiUnreachable
from emu.core.objects import ConfigMap

PATH = "/api/v1/configmaps"


def config_map(name: str, namespace: str = "x") -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": namespace}}


async def test_lists_of_all_and_of_one_namespace() -> None:
    async with connected() as (api, client):
        api.put(PATH, config_map("a"))
        api.put(PATH, config_map("b", "y"))
        assert [item.key for item in await client.list(ConfigMap)] == ["x/a", "y/b"]
        found = await client.list(ConfigMap, "y", label_selector="a=b", field_selector="metadata.name=b")
        assert [item.key for item in found] == ["y/b"]
        assert api.requests[-1] == (
            "GET",
            "/api/v1/namespaces/y/configmaps",
            {"labelSelector": "a=b", "fieldSelector": "metadata.name=b"},
        )


async def test_writes_go_to_the_objects_own_path() -> None:
    async with connected() as (api, client):
        await client.create(ConfigMap.resource, config_map("a"))
        await client.replace(ConfigMap.resource, config_map("a"), "status")
        await client.patch(ConfigMap.resource, "x", "a", {"data": {}})
        await client.delete(ConfigMap.resource, "x", "a", options={"gracePeriodSeconds": 0})
        assert [(method, path) for method, path, _ in api.bodies] == [
            ("POST", "/api/v1/namespaces/x/configmaps"),
            ("PUT", "/api/v1/namespaces/x/configmaps/a/status"),
            ("PATCH", "/api/v1/namespaces/x/configmaps/a"),
            ("DELETE", "/api/v1/namespaces/x/configmaps/a"),
        ]


@pytest.mark.parametrize(
    ("code", "reason", "flag"),
    [(404, "NotFound", "not_found"), (409, "Conflict", "conflict"), (409, "AlreadyExists", "already_exists")],
)
async def test_a_status_becomes_an_error_that_knows_its_reason(code: int, reason: str, flag: str) -> None:
    async with connected() as (api, client):
        api.failures.append(failure(code, reason, "the message"))
        with pytest.raises(ApiError, match="the message") as caught:
            await client.get(ConfigMap, "x", "a")
        assert (caught.value.code, caught.value.reason) == (code, reason)
        flags = ("not_found", "conflict", "already_exists")
        assert [name for name in flags if getattr(caught.value, name)] == [flag]


async def test_an_error_that_is_no_status_keeps_its_text() -> None:
    async with connected() as (api, client):
        api.failures.append(failure(502))
        api.failures[0].body = b"Bad Gateway"
        with pytest.raises(ApiError, match="Bad Gateway"):
            await client.get(ConfigMap, "x", "a")


async def test_no_server_is_unreachable() -> None:
    async with connected() as (api, client):
        await api.stop()
        with pytest.raises(ApiUnreachable, match="GET /api/v1/configmaps"):
            await client.list(ConfigMap)
        with pytest.raises(ApiUnreachable):
            async with client.stream(PATH, {}):
                pytest.fail("there is no server")


async def test_a_server_that_does_not_answer_is_unreachable_after_the_timeout() -> None:
    async with connected() as (api, client):
        api.held.clear()
        with pytest.raises(ApiUnreachable):
            await client.request("GET", PATH, timeout=0.05)
        api.held.set()


async def test_an_error_in_the_block_of_a_stream_stays_what_it_is() -> None:
    async with connected() as (_, client):
        with pytest.raises(TimeoutError, match="mine"):
            async with client.stream(PATH, {"watch": "true", "resourceVersion": "0"}):
                raise TimeoutError("mine")
