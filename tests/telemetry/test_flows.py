"""The ring of flow records."""

import asyncio
import json

from emu.telemetry.flows import FlowRecord, FlowRing, Verdict


def flow(source: str) -> FlowRecord:
    return FlowRecord(source=source, destination="127.0.0.1:80", verdict=Verdict.FORWARDED)


def sources(lines: bytes) -> list[str]:
    return [json.loads(line)["source"] for line in lines.splitlines()]


def test_the_oldest_make_room():
    ring = FlowRing("proxy", capacity=2)
    for source in ("a", "b", "c"):
        ring.add(flow, source)
    assert sources(ring.lines()) == ["b", "c"]


def test_nothing_is_built_until_somebody_looks():
    built = []

    def build(source: str) -> FlowRecord:
        built.append(source)
        return flow(source)

    ring = FlowRing("proxy")
    ring.add(build, "a")
    assert built == []
    ring.lines()
    assert built == ["a"]


def test_a_record_tells_when_it_was_added_and_by_whom():
    ring = FlowRing("node/node-1")
    ring.add(flow, "a")
    first, second = ring.lines(), ring.lines()
    assert first == second
    record = json.loads(first)
    assert record["reporter"] == "node/node-1"
    assert record["time"] > 1_700_000_000


async def test_a_follower_sees_what_comes_and_not_what_was():
    ring = FlowRing("proxy")
    ring.add(flow, "before")
    following = ring.follow()
    line = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    ring.add(flow, "after")
    assert sources(await line) == ["after"]
    await following.aclose()
    ring.add(flow, "unseen")
