"""The policy watch: nothing but policies while there are none, and no moment in which a new pod is open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from fake_api import FakeApi, connected, until

from emu.client.policies import PolicyWatch
from emu.core.objects import Pod

POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
PODS, NAMESPACES, NODES = "/api/v1/pods", "/api/v1/namespaces", "/api/v1/nodes"
WEB, FRIEND, STRANGER = "10.0.1.2", "10.0.1.3", "10.0.1.4"


def policy(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "x"}, "spec": {"podSelector": {}, **spec}}


def pod(name: str, address: str, **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "x", "uid": fields.get("uid", name), "labels": {"pod": name}},
        "spec": {"nodeName": "n1"},
        "status": {"podIP": address, "phase": "Running"},
    }


def view(document: dict[str, Any]) -> Pod:
    return msgspec.convert(document, Pod)


ALLOW_FRIEND = {"ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "friend"}}}]}]}


class Watched:
    def __init__(self, api: FakeApi, watch: PolicyWatch) -> None:
        self.api = api
        self.watch = watch
        self.calls = 0
        watch.subscribe(self._called)

    def _called(self) -> None:
        self.calls += 1

    def reaches(self, source: str, destination: str = WEB) -> bool:
        return self.watch.engine.decide(source, destination, 80).allowed

    async def settled(self) -> None:
        """The callback of the changes so far was called."""
        calls = self.calls
        await until(lambda: self.calls > calls)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    async with connected() as (api, client):
        for name, address in (("web", WEB), ("friend", FRIEND), ("stranger", STRANGER)):
            api.put(PODS, pod(name, address))
        api.put(NAMESPACES, {"metadata": {"name": "x"}})
        api.put(
            NODES,
            {
                "metadata": {"name": "n1"},
                "spec": {"podCIDR": "10.0.1.0/24"},
                "status": {"addresses": [{"type": "InternalIP", "address": "10.9.0.1"}]},
            },
        )
        watch = PolicyWatch(client)
        held = Watched(api, watch)
        task = asyncio.create_task(watch.run())
        try:
            async with asyncio.timeout(5):
                await watch.synced.wait()
            yield held
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_without_a_policy_only_policies_are_watched(watched: Watched) -> None:
    await until(lambda: watched.api.watching(POLICIES) == 1)
    assert {path for _, path, _ in watched.api.requests} == {POLICIES}
    assert watched.watch.engine.empty


async def test_the_first_policy_starts_the_other_watches_and_the_last_stops_them(watched: Watched) -> None:
    api = watched.api
    api.put(POLICIES, policy(**ALLOW_FRIEND))
    await watched.settled()
    assert watched.reaches(FRIEND)
    assert watched.reaches("10.9.0.1")
    assert not watched.reaches(STRANGER)
    await until(lambda: all(api.watching(path) == 1 for path in (PODS, NAMESPACES, NODES)))
    api.delete(POLICIES, "x/p")
    await watched.settled()
    assert watched.reaches(STRANGER)
    await until(lambda: not any(api.watching(path) for path in (PODS, NAMESPACES, NODES)))
    api.put(PODS, pod("stranger", "10.0.1.5"))
    api.put(POLICIES, policy(**ALLOW_FRIEND))
    await watched.settled()
    assert watched.reaches(FRIEND)
    assert not watched.reaches("10.0.1.5")


async def test_policies_are_withheld_until_their_peers_are_known(watched: Watched) -> None:
    api, watch = watched.api, watched.watch
    await until(lambda: api.watching(POLICIES) == 1)
    api.held.clear()
    api.put(POLICIES, policy(**ALLOW_FRIEND))
    await until(lambda: not watch.synced.is_set())
    assert watch.engine.empty
    assert watched.calls == 0
    ready = asyncio.create_task(watch.ready("x"))
    await until(lambda: api.count(PODS, watch=False) == 1)
    assert not ready.done()
    api.held.set()
    async with asyncio.timeout(5):
        await ready
    assert watched.reaches(FRIEND)
    assert not watched.reaches(STRANGER)


async def test_ready_waits_for_a_policy_that_the_watch_has_not_told_of(watched: Watched) -> None:
    api = watched.api
    await until(lambda: api.watching(POLICIES) == 1)
    # Stored, but the watch is late.
    tell, api.send = api.send, lambda path, line: None  # type: ignore[method-assign]
    api.put(POLICIES, policy())
    api.send = tell  # type: ignore[method-assign]
    ready = [asyncio.create_task(watched.watch.ready("x")) for _ in range(20)]
    await until(lambda: any(path.endswith("/namespaces/x/networkpolicies") for _, path, _ in api.requests))
    assert watched.reaches(STRANGER)
    api.break_watches()
    async with asyncio.timeout(5):
        await asyncio.gather(*ready)
    assert not watched.reaches(STRANGER)
    lookups = [path for _, path, _ in api.requests if path.endswith("/namespaces/x/networkpolicies")]
    assert len(lookups) == 1


async def test_ready_counts_what_is_known_while_the_server_is_away(watched: Watched) -> None:
    watched.api.put(POLICIES, policy())
    await watched.settled()
    await watched.api.stop()
    async with asyncio.timeout(5):
        await watched.watch.ready("x")
    assert not watched.reaches(STRANGER)


async def test_a_burst_calls_back_once_and_irrelevant_changes_never(watched: Watched) -> None:
    api = watched.api
    api.put(POLICIES, policy(**ALLOW_FRIEND))
    await watched.settled()
    await until(lambda: api.watching(PODS) == 1 and api.watching(NODES) == 1)
    calls = watched.calls
    conditions = {"podIP": WEB, "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    api.put(PODS, {**pod("web", WEB), "status": conditions})
    for number in range(50):
        api.put(PODS, pod(f"new-{number}", f"10.0.1.{100 + number}"))
    await until(
        lambda: not watched.reaches(FRIEND, "10.0.1.200") or not watched.reaches(STRANGER, "10.0.1.149")
    )
    assert calls < watched.calls <= calls + 25
    calls = watched.calls
    api.put(PODS, {**pod("web", WEB), "status": {**conditions, "reason": "x"}})
    api.put(PODS, pod("mark", "10.0.1.99"))
    await until(lambda: not watched.reaches(STRANGER, "10.0.1.99"))
    await until(lambda: watched.calls == calls + 1)


async def test_an_own_pod_is_isolated_before_the_api_has_its_address(watched: Watched) -> None:
    api, watch = watched.api, watched.watch
    api.put(POLICIES, policy(**ALLOW_FRIEND))
    await watched.settled()
    await until(lambda: api.watching(PODS) == 1)
    own = pod("own", "10.0.1.77")
    watch.set_own_pod(view(own))
    assert not watched.reaches(STRANGER, "10.0.1.77")
    # The watch is behind: it tells of the pod without its address, and of a label that is new.
    told = {**own, "metadata": {**own["metadata"], "labels": {"pod": "friend"}}, "status": {}}
    api.put(PODS, told)
    await until(lambda: watched.reaches("10.0.1.77"))
    assert not watched.reaches(STRANGER, "10.0.1.77")
    # It was deleted in the API, and still stops here.
    api.delete(PODS, "x/own")
    api.put(PODS, pod("mark", "10.0.1.99"))
    await until(lambda: not watched.reaches(STRANGER, "10.0.1.99"))
    assert not watched.reaches(STRANGER, "10.0.1.77")
    watch.remove_own_pod("x/own")
    assert watched.reaches(STRANGER, "10.0.1.77")


async def test_own_pods_are_kept_when_the_last_policy_goes(watched: Watched) -> None:
    watched.watch.set_own_pod(view(pod("own", "10.0.1.77")))
    for _ in range(2):
        watched.api.put(POLICIES, policy(**ALLOW_FRIEND))
        await watched.settled()
        assert not watched.reaches(STRANGER, "10.0.1.77")
        watched.api.delete(POLICIES, "x/p")
        await watched.settled()
        assert watched.reaches(STRANGER, "10.0.1.77")


async def test_a_policy_that_cannot_be_compiled_closes_its_subjects(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.api.put(POLICIES, policy(ingress=[{"ports": [{"protocol": "ICMP"}]}]))
    await watched.settled()
    assert not watched.reaches(FRIEND)
    assert "NetworkPolicy x/p cannot be compiled and admits nobody" in caplog.text


async def test_deleting_and_applying_at_once_leaves_the_new_policy_in_force(watched: Watched) -> None:
    api = watched.api
    api.put(POLICIES, policy(**ALLOW_FRIEND))
    await watched.settled()
    for turn in range(20):
        api.delete(POLICIES, "x/p" if turn == 0 else f"x/p{turn - 1}")
        if turn % 2:
            await asyncio.sleep(0.001 * turn)
        api.put(POLICIES, policy(f"p{turn}", **ALLOW_FRIEND))
    async with asyncio.timeout(5):
        await watched.watch.ready("x")
    assert watched.reaches(FRIEND)
    assert not watched.reaches(STRANGER)
