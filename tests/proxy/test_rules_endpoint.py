"""`/rules` of kube-proxy: asked as `emu proxy rules` asks, of a proxy that forwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from emu.proxy import rules_endpoint
from emu.proxy.rules_endpoint import rules_handler
from emu.proxy.tables import Address

from .conftest import Bench

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[Client]:
    app = web.Application()
    app.router.add_get("/rules", rules_handler(bench.proxy, ("127.202.0.0/16",)))
    async with TestClient(TestServer(app)) as client:
        yield client


async def ask(client: Client, **query: str) -> str:
    async with client.get("/rules", params=query) as answer:
        assert (answer.status, answer.content_type) == (200, "text/plain")
        return await answer.text()


@pytest.mark.parametrize(
    ("mode", "commands"),
    [
        ("iptables", ["iptables-save"]),
        ("nftables", ["nft list ruleset"]),
        ("ipvs", ["ipvsadm -Ln", "ipset list", "iptables-save"]),
        ("userspace", ["iptables-save"]),
    ],
)
async def test_the_mode_in_force_on_the_first_node(bench: Bench, client: Client, mode, commands) -> None:
    bench.mode(mode)
    text = await ask(client)
    headers = [line for line in text.splitlines() if line.startswith("#")]
    assert headers == [f"# {command} on n1 ({bench.ip(240)}), {mode} mode" for command in commands]
    assert await ask(client, mode=mode, node="n1") == text


async def test_another_mode_node_and_part(bench: Bench, client: Client) -> None:
    bench.service()
    bench.endpoints(2)
    text = await ask(client, mode="ipvs", node="n2", part="ipset")
    assert text.startswith(f"# ipset list on n2 ({bench.ip(241)}), ipvs mode\nName: KUBE-LOOP-BACK\n")
    assert f"{bench.vip},tcp:8000" in text
    assert "ipvsadm" not in text
    assert "127.202.0.0/16 drop" in await ask(client, mode="nftables")


async def test_one_service(bench: Bench, client: Client) -> None:
    bench.service()
    bench.service("other", clusterIP=bench.ip(201))
    bench.endpoints(2)
    for mode in ("iptables", "nftables", "ipvs", "userspace"):
        text = await ask(client, mode=mode, service="default/web")
        assert bench.vip in text
        assert bench.ip(201) not in text


async def test_ipvs_counts_are_live(bench: Bench, client: Client) -> None:
    bench.mode("ipvs")
    bench.nodes["n1"].keep = True
    bench.service()
    bench.endpoints(2)

    async def counts() -> list[str]:
        return (await ask(client, part="ipvsadm")).splitlines()[-1].split()

    pod = f"{bench.ip(2)}:8080"
    assert await counts() == ["->", pod, "Masq", "1", "0", "0"]
    await bench.ask(bench.ip(9), bench.vip, 8000)
    assert await counts() == ["->", pod, "Masq", "1", "1", "0"]
    sock, ended = bench.nodes["n1"].kept.pop()
    sock.close()
    ended()
    async with asyncio.timeout(5):
        while await counts() != ["->", pod, "Masq", "1", "0", "1"]:
            pass


async def test_a_change_while_counts_are_taken_leaves_no_plan_of_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules_endpoint, "_FRONTENDS_PER_TURN", 1)
    bench.mode("ipvs")
    vips = {"web": bench.vip, "other": bench.ip(201)}
    for name, ip in vips.items():
        bench.service(name, clusterIP=ip)
        bench.endpoints(2, name=name)

    def chosen() -> set[str]:
        tables, planner = bench.proxy.tables, bench.proxy.planner
        frontends = [tables.frontends[Address(ip, 8000, "TCP")] for ip in vips.values()]
        choices = [planner.decide(frontend, (bench.ip(240), 40000), 0.0) for frontend in frontends]
        return {choice.endpoint.address for choice in choices if choice.endpoint}

    assert chosen() == {bench.ip(2)}
    question = rules_endpoint._question(bench.proxy, {})
    turns = rules_endpoint._real_servers(bench.proxy, question).__await__()
    next(turns)
    for name in vips:
        bench.endpoints(3, name=name)
    for _ in turns:
        pass
    assert chosen() == {bench.ip(3)}


async def test_walk(bench: Bench, client: Client) -> None:
    bench.service()
    bench.service("other", clusterIP=bench.ip(201))
    bench.endpoints(2)
    bench.endpoints(2, name="other")
    where, *lines = (await ask(client, walk="true")).splitlines()
    assert where == f"# rules that a new connection is compared with on n1 ({bench.ip(240)}), iptables mode"
    assert [line.split() for line in lines] == [
        ["SERVICE", "PORT", "ADDRESS", "RULES"],
        ["default/other", f"{bench.ip(201)}:8000/tcp", "6"],
        ["default/web", f"{bench.vip}:8000/tcp", "7"],
    ]
    assert len((await ask(client, walk="true", service="default/web")).splitlines()) == 3
    bench.mode("ipvs")
    for mode in ("", "iptables"):
        assert await ask(client, walk="true", mode=mode) == "\n".join((where, *lines, ""))


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ({"mode": "fast"}, 400, 'there is no mode "fast": take one of iptables, ipvs, nftables, userspace'),
        ({"part": "ipset"}, 400, 'iptables mode has no part "ipset": take one of iptables-save'),
        ({"node": "n9"}, 404, 'there is no node "n9": `kubectl get nodes` lists those that are there'),
        ({"service": "web"}, 400, '"web" names no Service: write NAMESPACE/NAME, such as default/web'),
        ({"service": "api"}, 400, '"api" names no Service: write NAMESPACE/NAME, such as default/api'),
        (
            {"service": "default/web:http"},
            400,
            '"default/web:http" is one port of a Service: write default/web for all its ports',
        ),
        ({"services": "web"}, 400, 'there is no parameter "services": take some of mode, node, service, '),
        ({"walk": "yes"}, 400, 'walk is "true" or "false", not "yes"'),
        (
            {"walk": "true", "mode": "ipvs"},
            400,
            "only the rules of iptables mode are walked, and all of them",
        ),
        ({"walk": "true", "part": "iptables-save"}, 400, "only the rules of iptables mode are walked"),
        ({"service": "a/b/c"}, 400, '"a/b/c" names no Service: write NAMESPACE/NAME, such as default/web'),
        ({"service": "default/gone"}, 404, 'there are no rules for a Service "default/gone": '),
    ],
)
async def test_what_names_nothing(bench: Bench, client: Client, query, status, sentence) -> None:
    async with client.get("/rules", params=query) as answer:
        assert answer.status == status
        text = await answer.text()
    assert text.startswith(sentence)
    assert text.count("\n") == 1


async def test_before_a_node_is_known(bench: Bench, client: Client) -> None:
    for name in list(bench.nodes):
        bench.proxy.set_node(name, None, None)
    async with client.get("/rules") as answer:
        assert (answer.status, await answer.text()) == (
            404,
            "kube-proxy knows no node yet: wait until `emu status` says that all is Ready\n",
        )
