"""Endpoints objects: which addresses they hold, in which form, and how many."""

from __future__ import annotations

from typing import Any

import pytest

from emu.controllers.actions import Action, Create, Replace
from emu.controllers.endpoints import decide
from emu.controllers.subsets import repack, truncate
from emu.core.objects import (
    EndpointAddress,
    Endpoints,
    EndpointsPort,
    EndpointSubset,
    ObjectReference,
    Pod,
    Service,
)

from .controller_objects import pod, service, view

HTTP, HTTPS = EndpointsPort(port=80, name="http"), EndpointsPort(port=443, name="https")
MANAGED = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
OVER = "endpoints.kubernetes.io/over-capacity"
TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


def document(actions: list[Action]) -> dict[str, Any]:
    (action,) = actions
    assert isinstance(action, Create | Replace)
    return dict(action.document)


def stored(actions: list[Action]) -> Endpoints:
    """The object as it is there once it was written."""
    written = document(actions)
    meta = {"uid": "uid-web", "resourceVersion": "9", **written["metadata"]}
    return view(Endpoints, {**written, "metadata": meta})


def ips(subset: dict[str, Any], key: str = "addresses") -> list[str]:
    return [address["ip"] for address in subset.get(key, ())]


def test_what_is_written() -> None:
    subject = service(labels={"team": "x", "service.kubernetes.io/headless": ""})
    candidate = pod("a", spec={"hostname": "h", "subdomain": "web"})
    created = document(decide(subject, [candidate], None, "2026-01-01T00:00:05Z"))
    assert created["metadata"] == {
        "name": "web",
        "namespace": "default",
        "labels": {"team": "x", **MANAGED},
        "annotations": {TRIGGER: "2026-01-01T00:00:05Z"},
    }
    assert created["subsets"] == [
        {
            "addresses": [
                {
                    "ip": "127.244.1.2",
                    "hostname": "h",
                    "nodeName": "node-1",
                    "targetRef": {"kind": "Pod", "namespace": "default", "name": "a", "uid": "uid-a"},
                }
            ],
            "ports": [{"port": 8080}],
        }
    ]


def test_ready_and_waiting_addresses_in_the_order_of_their_text() -> None:
    pods = [pod("b", ip="127.244.1.9"), pod("a", ip="127.244.1.10"), pod("c", ip="127.244.1.3", ready=False)]
    (subset,) = document(decide(service(), pods, None))["subsets"]
    assert ips(subset) == ["127.244.1.10", "127.244.1.9"]
    assert ips(subset, "notReadyAddresses") == ["127.244.1.3"]


@pytest.mark.parametrize(
    ("rule", "subject", "candidate", "expected"),
    [
        ("terminating", service(), pod("a", terminating=True), None),
        (
            "terminating, with publishNotReadyAddresses",
            service(publishNotReadyAddresses=True),
            pod("a", terminating=True),
            "addresses",
        ),
        ("not ready", service(), pod("a", ready=False), "notReadyAddresses"),
        (
            "not ready, with publishNotReadyAddresses",
            service(publishNotReadyAddresses=True),
            pod("a", ready=False),
            "addresses",
        ),
        ("B2 ended", service(), pod("a", phase="Failed"), None),
        ("B2 no address", service(), pod("a", ip=""), None),
        ("nodes are not looked at", service(), pod("a", node="node-9"), "addresses"),
        (
            "A4 no port of that name",
            service(ports=[{"port": 80, "targetPort": "http"}]),
            pod("a"),
            None,
        ),
        ("A6 headless without ports", service(clusterIP="None", ports=[]), pod("a"), "addresses"),
    ],
)
def test_who_is_in(rule: str, subject: Service, candidate: Pod, expected: str | None) -> None:
    subsets = document(decide(subject, [candidate], None))["subsets"]
    assert [key for subset in subsets for key in subset if key != "ports"] == ([expected] if expected else [])


def test_headless_label() -> None:
    created = document(decide(service(clusterIP="None", ports=[]), [pod("a")], None))
    assert created["metadata"]["labels"] == {**MANAGED, "service.kubernetes.io/headless": ""}
    assert "ports" not in created["subsets"][0]


@pytest.mark.parametrize(
    ("rule", "subject"),
    [
        ("A5 no selector", service(selector={})),
        ("A8 ExternalName", service(type="ExternalName", externalName="example.com")),
    ],
)
def test_none_of_its_business(rule: str, subject: Service) -> None:
    assert decide(subject, [pod("a")], stored(decide(service(), [pod("b")], None))) == [], rule


def test_no_difference_no_write() -> None:
    pods = [pod("a"), pod("b", ip="127.244.1.3", ready=False)]
    present = stored(decide(service(), pods, None, "2026-01-01T00:00:05Z"))
    assert decide(service(), pods[::-1], present) == []
    assert isinstance(decide(service(), pods[:1], present)[0], Replace)
    assert isinstance(decide(service(labels={"a": "b"}), pods, present)[0], Replace)


def test_what_others_wrote_into_it_stays() -> None:
    written = document(decide(service(), [pod("a")], None, "2026-01-01T00:00:05Z"))
    meta = {
        **written["metadata"],
        "uid": "uid-web",
        "resourceVersion": "9",
        "finalizers": ["example.com/f"],
        "annotations": {"example.com/note": "x", TRIGGER: "2026-01-01T00:00:05Z"},
    }
    present = view(Endpoints, {**written, "metadata": meta})
    update = document(decide(service(), [], present))
    assert update["metadata"]["annotations"] == {"example.com/note": "x"}
    assert update["metadata"]["finalizers"] == ["example.com/f"]
    assert (update["metadata"]["uid"], update["metadata"]["resourceVersion"]) == ("uid-web", "9")
    assert update["subsets"] == []


def test_a_thousand_addresses_are_the_limit() -> None:
    def many(count: int) -> list[Pod]:
        return [pod(f"p{n}", ip=f"127.244.{1 + n // 250}.{n % 250 + 2}") for n in range(count)]

    present = stored(decide(service(), many(1001), None))
    assert present.metadata.annotations == {OVER: "truncated"}
    assert sum(len(subset.addresses) for subset in present.subsets) == 1000
    assert decide(service(), many(1001), present) == []
    fewer = document(decide(service(), many(1000), present))
    assert OVER not in fewer["metadata"]["annotations"]
    assert len(fewer["subsets"][0]["addresses"]) == 1000


# --- the canonical form ---


def address(number: int, uid: str = "") -> EndpointAddress:
    reference = ObjectReference(kind="Pod", uid=uid) if uid else None
    return EndpointAddress(ip=f"10.0.{number // 250}.{number % 250}", target_ref=reference)


def subset(
    ready: list[EndpointAddress], waiting: list[EndpointAddress] | None = None, *ports: EndpointsPort
) -> EndpointSubset:
    return EndpointSubset(
        addresses=tuple(ready), not_ready_addresses=tuple(waiting or ()), ports=tuple(ports)
    )


A, B, C = address(1), address(2), address(3)


@pytest.mark.parametrize(
    ("rule", "given", "expected"),
    [
        (
            "the same addresses share a subset",
            [subset([A], [B], HTTP), subset([A], [B], HTTPS)],
            [subset([A], [B], HTTP, HTTPS)],
        ),
        (
            "the same port shares a subset",
            [subset([B], [], HTTP), subset([A], [], HTTP)],
            [subset([A, B], [], HTTP)],
        ),
        (
            "a port that fewer addresses offer has its own",
            [subset([A], [], HTTP, HTTPS), subset([B], [], HTTPS)],
            [subset([A], [], HTTP), subset([A, B], [], HTTPS)],
        ),
        (
            "as ready on every port, else apart",
            [subset([A], [], HTTP), subset([], [A], HTTPS)],
            [subset([A], [], HTTP), subset([], [A], HTTPS)],
        ),
        ("not ready wins", [subset([A], [], HTTP), subset([], [A], HTTP)], [subset([], [A], HTTP)]),
        (
            "not ready wins in any order",
            [subset([], [A], HTTP), subset([A], [], HTTP)],
            [subset([], [A], HTTP)],
        ),
        ("twice is once", [subset([A, A], [], HTTP)], [subset([A], [], HTTP)]),
        (
            "two pods of one address are two",
            [subset([address(1, "y"), address(1, "x")], [], HTTP)],
            [subset([address(1, "x"), address(1, "y")], [], HTTP)],
        ),
        ("no ports at all", [subset([B]), subset([A], [C])], [subset([A, B], [C])]),
        ("nobody", [subset([], [], HTTP)], []),
    ],
)
def test_repacked(rule: str, given: list[EndpointSubset], expected: list[EndpointSubset]) -> None:
    assert list(repack(given)) == expected, rule
    assert repack(expected) == tuple(expected), rule


def numbers(count: int, start: int = 0) -> list[EndpointAddress]:
    return [address(number) for number in range(start, start + count)]


@pytest.mark.parametrize(
    ("rule", "given", "expected"),
    [
        ("within the limit", [(900, 100)], [(900, 100)]),
        ("waiting ones go first", [(900, 200)], [(900, 100)]),
        ("then ready ones, and all that wait", [(1200, 50)], [(1000, 0)]),
        ("in proportion", [(600, 0), (1400, 10)], [(300, 0), (700, 0)]),
        ("rounded up, the last one has less", [(700, 0), (700, 0), (700, 0)], [(334, 0), (334, 0), (332, 0)]),
        ("waiting ones in proportion", [(400, 300), (400, 100)], [(400, 150), (400, 50)]),
        ("a subset that has nothing left goes", [(1000, 0), (0, 5)], [(1000, 0)]),
    ],
)
def test_truncated(rule: str, given: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    subsets = [
        subset(numbers(ready, 3000 * n), numbers(waiting, 3000 * n + ready), EndpointsPort(port=n + 1))
        for n, (ready, waiting) in enumerate(given)
    ]
    kept = truncate(subsets)
    assert [(len(s.addresses), len(s.not_ready_addresses)) for s in kept] == expected, rule
