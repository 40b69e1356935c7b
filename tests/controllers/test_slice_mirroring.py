"""B11: slices that mirror Endpoints which were written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from emu.controllers.actions import Action, Create, Delete, Replace, Report
from emu.controllers.endpointslice_mirroring import decide
from emu.core.objects import Endpoints, EndpointSlice, Service

from .controller_objects import metadata, service, view, written_slice

DB = service("db", selector={})
PORTS = [{"port": 5432, "name": "pg"}]


def hand_written(*subsets: dict[str, Any], **more: Any) -> Endpoints:
    default = {
        "addresses": [{"ip": "127.0.0.5"}],
        "notReadyAddresses": [{"ip": "127.0.0.6"}],
        "ports": PORTS,
    }
    return view(Endpoints, {"metadata": metadata("db", **more), "subsets": list(subsets) or [default]})


def many(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{"ip": f"10.0.{n // 250}.{n % 250 + 1}"} for n in range(start, start + count)]


def documents(actions: list[Action]) -> list[dict[str, Any]]:
    return [dict(a.document) for a in actions if isinstance(a, Create | Replace)]


def after(actions: list[Action]) -> list[EndpointSlice]:
    return [written_slice(document) for document in documents(actions)]


def test_b11_what_is_mirrored() -> None:
    source = hand_written(
        {
            "addresses": [
                {
                    "ip": "127.0.0.5",
                    "hostname": "h",
                    "nodeName": "node-1",
                    "targetRef": {"kind": "Pod", "namespace": "default", "name": "p", "uid": "u"},
                }
            ],
            "notReadyAddresses": [{"ip": "127.0.0.6"}],
            "ports": [{"port": 5432, "name": "pg", "protocol": "UDP", "appProtocol": "example.com/pg"}],
        },
        labels={"team": "x"},
        annotations={
            "example.com/note": "y",
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
            "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z",
        },
    )
    (created,) = documents(decide(DB, source, []))
    meta = created["metadata"]
    prefix, _, suffix = meta["name"].rpartition("-")
    assert (prefix, len(suffix), meta["generateName"]) == ("db", 5, "db-")
    assert meta["labels"] == {
        "team": "x",
        "kubernetes.io/service-name": "db",
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
    }
    assert meta["annotations"] == {"example.com/note": "y"}
    (owner,) = meta["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "Endpoints",
        "uid-db",
        True,
        True,
    )
    assert created["addressType"] == "IPv4"
    assert created["ports"] == [
        {"name": "pg", "protocol": "UDP", "port": 5432, "appProtocol": "example.com/pg"}
    ]
    assert created["endpoints"] == [
        {
            "addresses": ["127.0.0.5"],
            "conditions": {"ready": True},
            "hostname": "h",
            "nodeName": "node-1",
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "p", "uid": "u"},
        },
        {"addresses": ["127.0.0.6"], "conditions": {"ready": False}},
    ]


@pytest.mark.parametrize(
    ("rule", "subject", "source"),
    [
        ("the Service has a selector", service("db"), hand_written()),
        (
            "asked to skip",
            DB,
            hand_written(labels={"endpointslice.kubernetes.io/skip-mirror": "true"}),
        ),
        (
            "a leader's record",
            DB,
            hand_written(annotations={"control-plane.alpha.kubernetes.io/leader": "{}"}),
        ),
        ("no Service", None, hand_written()),
        ("no Endpoints", DB, None),
    ],
)
def test_b11_not_mirrored(rule: str, subject: Service | None, source: Endpoints | None) -> None:
    assert decide(subject, source, []) == [], rule
    present = after(decide(DB, hand_written(), []))
    assert [type(action) for action in decide(subject, source, present)] == [Delete], rule


def test_b11_skip_mirror_is_asked_for_in_so_many_words() -> None:
    source = hand_written(labels={"endpointslice.kubernetes.io/skip-mirror": "yes"})
    assert [type(action) for action in decide(DB, source, [])] == [Create]


@pytest.mark.parametrize(
    ("rule", "source", "kinds"),
    [
        ("nothing", hand_written(), []),
        ("the order of addresses", hand_written(resourceVersion="8"), []),
        ("labels", hand_written(labels={"a": "b"}), [Replace]),
        ("annotations", hand_written(annotations={"a": "b"}), [Replace]),
        (
            "annotations that are not copied",
            hand_written(annotations={"kubectl.kubernetes.io/last-applied-configuration": "{}"}),
            [],
        ),
        (
            "readiness",
            hand_written({"addresses": [{"ip": "127.0.0.5"}, {"ip": "127.0.0.6"}], "ports": PORTS}),
            [Replace],
        ),
        ("an address less", hand_written({"addresses": [{"ip": "127.0.0.5"}], "ports": PORTS}), [Replace]),
        (
            "an address more",
            hand_written(
                {
                    "addresses": [{"ip": "127.0.0.5"}, {"ip": "127.0.0.7"}],
                    "notReadyAddresses": [{"ip": "127.0.0.6"}],
                    "ports": PORTS,
                }
            ),
            [Replace],
        ),
        (
            "ports: the slice is used again",
            hand_written({"addresses": [{"ip": "127.0.0.5"}], "ports": [{"port": 1}]}),
            [Replace],
        ),
        ("Endpoints of a later uid", hand_written(uid="uid-later"), [Replace]),
        ("no subsets", view(Endpoints, {"metadata": metadata("db")}), [Delete]),
    ],
)
def test_b11_changes_are_followed(rule: str, source: Endpoints, kinds: list[type[Action]]) -> None:
    present = after(decide(DB, hand_written(), []))
    actions = decide(DB, source, present)
    assert [type(action) for action in actions] == kinds, rule
    if Replace in kinds:
        assert documents(actions)[0]["metadata"]["name"] == present[0].name, rule
        assert decide(DB, source, after(actions)) == [], rule


def test_b11_one_slice_for_each_set_of_ports_and_family() -> None:
    source = hand_written(
        {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "ports": PORTS},
        {"addresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 1, "name": "x"}]},
        {"addresses": [{"ip": "10.0.0.3"}], "ports": PORTS},
        {"addresses": [{"ip": "10.0.0.4"}]},
    )
    found = {
        (document["addressType"], tuple(port["name"] for port in document["ports"])): [
            e["addresses"][0] for e in document["endpoints"]
        ]
        for document in documents(decide(DB, source, []))
    }
    assert found == {
        ("IPv4", ("pg",)): ["10.0.0.1", "10.0.0.3"],
        ("IPv6", ("pg",)): ["fd00::1"],
        ("IPv4", ("x",)): ["10.0.0.2"],
        ("IPv4", ()): ["10.0.0.4"],
    }


def test_b11_slices_of_one_family_are_not_used_for_another() -> None:
    present = after(decide(DB, hand_written({"addresses": [{"ip": "fd00::1"}], "ports": PORTS}), []))
    actions = decide(DB, hand_written(), present)
    assert [type(action) for action in actions] == [Create, Delete]


def test_b11_a_slice_too_many_goes() -> None:
    twice = after(decide(DB, hand_written(), [])) + after(decide(DB, hand_written(), []))
    assert [type(action) for action in decide(DB, hand_written(), twice)] == [Delete]


def test_b11_nothing_is_created_for_endpoints_that_are_being_deleted() -> None:
    going = hand_written(deletionTimestamp="2026-01-01T00:00:00Z")
    assert decide(DB, going, []) == []
    assert decide(DB, going, after(decide(DB, hand_written(), []))) == []


@pytest.mark.parametrize(
    ("rule", "subset", "mirrored", "reports"),
    [
        ("a thousand", {"addresses": many(1000)}, 1000, []),
        (
            "one more: ready ones come first",
            {"addresses": many(600), "notReadyAddresses": many(401, 600)},
            1000,
            [
                (
                    "TooManyAddressesToMirror",
                    "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. "
                    "1 addresses were skipped",
                )
            ],
        ),
        (
            "what is no address",
            {"addresses": [*many(1), {"ip": "x"}]},
            1,
            [("InvalidIPAddress", "Skipped 1 invalid IP addresses when mirroring to EndpointSlices")],
        ),
    ],
)
def test_b11_what_cannot_be_mirrored_is_told(
    rule: str, subset: dict[str, Any], mirrored: int, reports: list[tuple[str, str]]
) -> None:
    actions = decide(DB, hand_written({**subset, "ports": PORTS}), [])
    (document,) = documents(actions)
    assert len(document["endpoints"]) == mirrored, rule
    assert [(a.reason, a.message) for a in actions if isinstance(a, Report) and a.warning] == reports, rule
