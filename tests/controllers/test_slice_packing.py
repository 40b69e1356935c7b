"""B5: how endpoints are packed into slices, by tables and against a transcription of upstream's steps."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.controllers.actions import Action, Create, Delete, Replace
from emu.controllers.endpointslice import slice_labels
from emu.controllers.slices import MAX_ENDPOINTS, Owner, Ports, pack, writes
from emu.core.objects import (
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    ObjectReference,
    Service,
)

from .controller_objects import endpoint_slice, metadata, service, view

SERVICE = service()
OWNER = Owner(SERVICE, slice_labels(SERVICE))
HTTP, HTTPS = EndpointPort(port=8080, name="http"), EndpointPort(port=8443, name="https")
ONE: Ports = (HTTP,)
TWO: Ports = (HTTP, HTTPS)


def endpoint(number: int, ready: bool = True, **changes: object) -> Endpoint:
    fields = {
        "addresses": (f"127.244.{number // 250}.{number % 250 + 2}",),
        "conditions": EndpointConditions(ready=ready, serving=ready, terminating=False),
        "node_name": "node-1",
        "target_ref": ObjectReference(kind="Pod", namespace="default", name=f"p{number}", uid=f"u{number}"),
        **changes,
    }
    return Endpoint(**fields)  # type: ignore[arg-type]


def many(count: int, start: int = 0) -> list[Endpoint]:
    return [endpoint(number) for number in range(start, start + count)]


def present(name: str, endpoints: list[Endpoint], ports: Ports = ONE, **labels: str) -> EndpointSlice:
    return endpoint_slice(name, endpoints, ports, owner=SERVICE, labels={**OWNER.labels, **labels})


def written(
    desired: dict[Ports, list[Endpoint]], existing: list[EndpointSlice], owner: Owner = OWNER
) -> list[Action]:
    return writes(owner, pack(owner, desired, existing), dict)


def shape(actions: list[Action]) -> dict[str, int]:
    """The sizes of what is written by name, `new` for what is created, -1 for what is deleted."""
    shapes: dict[str, int] = {}
    new = itertools.count(1)
    for action in actions:
        match action:
            case Create(_, document):
                shapes[f"new-{next(new)}"] = len(document["endpoints"])
            case Replace(_, document):
                shapes[document["metadata"]["name"]] = len(document["endpoints"])
            case Delete(_, _, name, _):
                shapes[name] = -1
    return shapes


@pytest.mark.parametrize(
    ("rule", "desired", "existing", "expected"),
    [
        ("at most 100", many(250), [], {"new-1": 100, "new-2": 100, "new-3": 50}),
        ("exactly 100", many(100), [], {"new-1": 100}),
        ("no difference, no write", many(3), [present("a", many(3))], {}),
        (
            "a new one goes into the slice that it fills best",
            many(151),
            [present("a", many(70)), present("b", many(80, 70))],
            {"b": 81},
        ),
        (
            "several go into one slice together",
            many(180),
            [present("a", many(70)), present("b", many(80, 70))],
            {"a": 100},
        ),
        (
            "what fits into no slice is not spread",
            many(190),
            [present("a", many(70)), present("b", many(80, 70))],
            {"new-1": 40},
        ),
        (
            "changed slices are filled first, what is left goes on",
            many(149, 1),
            [present("a", many(100)), present("b", many(40, 100))],
            {"a": 100, "b": 49},
        ),
        (
            "the fullest of the changed slices is filled first",
            [*many(39, 1), *many(89, 41), *many(20, 200)],
            [present("a", many(40)), present("b", many(90, 40))],
            {"a": 48, "b": 100},
        ),
        (
            "a slice that changed is filled before one that would fit better",
            many(100, 1),
            [present("a", many(20)), present("b", many(79, 20))],
            {"a": 21},
        ),
        (
            "never rebalanced",
            [*many(1), *many(1, 100)],
            [present("a", many(100)), present("b", many(100, 100))],
            {"a": 1, "b": 1},
        ),
        (
            "an empty slice goes",
            many(50, 100),
            [present("a", many(100)), present("b", many(50, 100))],
            {"a": -1},
        ),
        (
            "a slice that would go is used again",
            many(10, 200),
            [present("a", many(10))],
            {"a": 10},
        ),
        (
            "a hundred new ones get a slice of their own, though there is an empty one",
            many(100),
            [present("a", [])],
            {"new-1": 100},
        ),
        ("ninety-nine do not", many(99), [present("a", [])], {"a": 99}),
        (
            "one endpoint in two slices leaves the second",
            many(2),
            [present("a", many(2)), present("b", many(1))],
            {"b": -1},
        ),
        (
            "twice in one slice",
            many(2),
            [present("a", [*many(2), *many(1)])],
            {"a": 2},
        ),
        (
            "slices that somebody filled over the limit are not shrunk, nor filled more",
            [*many(150), *many(60, 200)],
            [present("a", [*many(149), endpoint(149, ready=False)])],
            {"a": 150, "new-1": 60},
        ),
        (
            "only labels changed: it is written, hence filled",
            many(11),
            [present("a", many(10), team="x"), present("b", [])],
            {"a": 11},
        ),
        (
            "labels that only slices have are not looked at",
            many(10),
            [present("a", many(10), **{"service.kubernetes.io/headless": ""})],
            {},
        ),
    ],
)
def test_b5_filling(
    rule: str, desired: list[Endpoint], existing: list[EndpointSlice], expected: dict[str, int]
) -> None:
    assert shape(written({ONE: desired}, existing)) == expected, rule


@pytest.mark.parametrize(
    ("rule", "changes", "written_again"),
    [
        ("condition", {"ready": False}, True),
        ("node", {"node_name": "node-2"}, True),
        ("zone", {"zone": "b"}, True),
        (
            "another pod of the same name",
            {"target_ref": ObjectReference(kind="Pod", namespace="default", name="p0", uid="other")},
            True,
        ),
        ("nothing", {}, False),
    ],
)
def test_b5_an_endpoint_changes_in_its_place(
    rule: str, changes: dict[str, object], written_again: bool
) -> None:
    changed = [endpoint(0, **changes), *many(2, 1)]  # type: ignore[arg-type]
    actions = written({ONE: changed}, [present("a", many(3)), present("b", [])])
    assert shape(actions) == ({"a": 3} if written_again else {}), rule
    for action in actions:
        assert isinstance(action, Replace)
        assert action.document["endpoints"][0]["addresses"] == ["127.244.0.2"]


def test_b5_groups_do_not_ask_for_an_order_of_ports() -> None:
    existing = [present("a", many(3), (HTTPS, HTTP))]
    assert written({TWO: many(3)}, existing) == []
    (update,) = written({TWO: many(4)}, existing)
    assert isinstance(update, Replace)
    assert [port["name"] for port in update.document["ports"]] == ["https", "http"]


def test_b5_changed_ports_change_the_slice() -> None:
    (update,) = written({TWO: many(3)}, [present("a", many(3), ONE)])
    assert isinstance(update, Replace)
    assert update.document["metadata"]["name"] == "a"
    assert [port["port"] for port in update.document["ports"]] == [8080, 8443]


def test_b4_a_placeholder_and_back() -> None:
    (created,) = written({}, [])
    assert isinstance(created, Create)
    assert (created.document["endpoints"], created.document["ports"]) == ([], [])
    placeholder = present("a", [], ())
    assert written({}, [placeholder]) == []
    assert shape(written({ONE: many(1)}, [placeholder])) == {"a": 1}
    assert shape(written({}, [present("a", many(1))])) == {"a": 0}
    assert shape(written({}, [present("a", many(1)), present("b", many(1, 1), TWO)])) in (
        {"a": 0, "b": -1},
        {"b": 0, "a": -1},
    )
    assert shape(written({}, [present("a", [], (), team="x")])) == {"a": 0}


def test_b4_slices_of_an_earlier_service_are_neither_kept_nor_used() -> None:
    older = view(Service, {"metadata": metadata("web") | {"uid": "uid-older"}})
    theirs = endpoint_slice("a", many(3), ONE, owner=older, labels=OWNER.labels)
    assert shape(written({ONE: many(3)}, [theirs])) == {"a": -1, "new-1": 3}


def test_b4_other_families_and_slices_that_are_going_are_not_used() -> None:
    other = endpoint_slice("a", [], (), owner=SERVICE, labels=OWNER.labels, addressType="IPv6")
    going = endpoint_slice("b", many(3), ONE, owner=SERVICE, labels=OWNER.labels, going=True)
    assert shape(written({ONE: many(3)}, [other, going])) == {"a": -1, "new-1": 3}


def test_nothing_is_created_for_a_service_that_is_being_deleted() -> None:
    going = view(
        Service,
        {
            "metadata": metadata("web", deletionTimestamp="2026-01-01T00:00:00Z"),
            "spec": {"selector": {"app": "web"}},
        },
    )
    owner = Owner(going, OWNER.labels)
    assert shape(written({ONE: many(3)}, [], owner)) == {}
    assert shape(written({ONE: many(3)}, [present("a", many(2))], owner)) == {"a": 3}


def test_b4_what_others_wrote_into_a_slice_stays() -> None:
    theirs = {"example.com/note": "x"}
    existing = endpoint_slice(
        "a",
        many(1),
        ONE,
        owner=SERVICE,
        labels=OWNER.labels,
        annotations=theirs,
        finalizers=["example.com/f"],
    )
    (update,) = written({ONE: many(2)}, [existing])
    assert isinstance(update, Replace)
    written_metadata = update.document["metadata"]
    assert written_metadata["annotations"] == theirs
    assert written_metadata["finalizers"] == ["example.com/f"]
    assert (written_metadata["uid"], written_metadata["resourceVersion"]) == ("uid-a", "9")


# --- against the steps of `reconcileByPortMapping` and `finalize`, written down one by one ---


@dataclass
class World:
    """Slices by name, each with its ports and the numbers of its endpoints, and what is desired."""

    slices: dict[str, tuple[Ports, list[int]]] = field(default_factory=dict)
    relabelled: set[str] = field(default_factory=set)
    desired: dict[Ports, dict[int, bool]] = field(default_factory=dict)
    """Endpoints by ports; False for one that differs from what the slices say of it."""


@dataclass
class Steps:
    """What the steps come to for slices of the same ports."""

    creates: list[list[int]] = field(default_factory=list)
    updates: dict[str, list[int]] = field(default_factory=dict)
    unchanged: dict[str, list[int]] = field(default_factory=dict)
    deletes: list[str] = field(default_factory=list)


def first_step(slices: dict[str, list[int]], relabelled: set[str], left: dict[int, bool]) -> Steps:
    """What is desired stays where it is."""
    steps = Steps()
    for name, numbers in slices.items():
        new, updated = [], False
        for number in numbers:
            if number in left:
                new.append(number)
                equal = left.pop(number)
                updated = updated or not equal
        if updated or len(new) != len(numbers):
            if new:
                steps.updates[name] = new
            else:
                steps.deletes.append(name)
        elif name in relabelled:
            steps.updates[name] = new
        else:
            steps.unchanged[name] = numbers
    return steps


def later_steps(steps: Steps, left: dict[int, bool]) -> None:
    """Changed slices are filled, then one that is not, then new ones."""
    for name in sorted(steps.updates, key=lambda name: -len(steps.updates[name])):
        while left and len(steps.updates[name]) < MAX_ENDPOINTS:
            steps.updates[name].append(left.popitem()[0])
    while left:
        closest, chosen = MAX_ENDPOINTS, ""
        for name, numbers in steps.unchanged.items():
            room = MAX_ENDPOINTS - (len(left) + len(numbers))
            if len(left) < MAX_ENDPOINTS and 0 <= room < closest:
                closest, chosen = room, name
        target: list[int] = []
        if chosen:
            target = steps.updates[chosen] = list(steps.unchanged.pop(chosen))
        else:
            steps.creates.append(target)
        while left and len(target) < MAX_ENDPOINTS:
            target.append(left.popitem()[0])


def transcribed(world: World) -> tuple[int, int, int, Counter[int]]:
    """How many slices are created, updated and deleted, and the sizes of all slices then."""
    total = Steps()
    for ports, wanted in world.desired.items():
        left = dict(wanted)
        slices = {name: numbers for name, (held, numbers) in world.slices.items() if set(held) == set(ports)}
        steps = first_step(slices, world.relabelled, left)
        later_steps(steps, left)
        total.creates += steps.creates
        total.updates.update(steps.updates)
        total.unchanged.update(steps.unchanged)
        total.deletes += steps.deletes
    wanted_ports = [set(ports) for ports in world.desired]
    total.deletes += [name for name, (held, _) in world.slices.items() if set(held) not in wanted_ports]
    if len(total.deletes) == len(world.slices) and not total.creates:
        total.creates.append([])
    sizes = Counter(map(len, [*total.creates, *total.updates.values(), *total.unchanged.values()]))
    again = min(len(total.creates), len(total.deletes))
    return len(total.creates) - again, len(total.updates) + again, len(total.deletes) - again, sizes


@st.composite
def worlds(draw: st.DrawFn) -> World:
    random: Random = draw(st.randoms(use_true_random=False))
    world = World()
    numbers = itertools.count()
    for name in "abcde"[: draw(st.integers(0, 5))]:
        ports = draw(st.sampled_from([ONE, TWO, (HTTPS, HTTP)]))
        size = draw(st.one_of(st.integers(1, 8), st.integers(90, 110), st.integers(1, 100)))
        world.slices[name] = (ports, [next(numbers) for _ in range(size)])
        if draw(st.booleans()) and draw(st.booleans()):
            world.relabelled.add(name)
    gone, different, moved = (draw(st.sampled_from([0.0, 0.02, 0.5, 1.0])) for _ in range(3))
    for ports, held in world.slices.values():
        for number in held:
            if random.random() >= gone:
                group = TWO if random.random() < moved or len(ports) == 2 else ONE
                world.desired.setdefault(group, {})[number] = random.random() >= different
    for group in (ONE, TWO):
        for _ in range(draw(st.sampled_from([0, 0, 1, 5, 60, 99, 100, 101, 230]))):
            world.desired.setdefault(group, {})[next(numbers)] = True
    if world.slices and draw(st.booleans()):
        # One endpoint is in two slices of the same ports.
        some = draw(st.sampled_from(sorted(world.slices)))
        ports, held = world.slices[some]
        world.slices["twin"] = (ports, held[:3])
    return world


@settings(deadline=None, max_examples=50)
@given(worlds())
def test_b5_as_upstream_packs(world: World) -> None:
    existing = [
        present(
            name, [endpoint(n) for n in held], ports, **({"old": "x"} if name in world.relabelled else {})
        )
        for name, (ports, held) in world.slices.items()
    ]
    desired = {
        ports: [endpoint(number, ready=same) for number, same in wanted.items()]
        for ports, wanted in world.desired.items()
    }
    actions = written(desired, existing)
    after = {item.name: ([e.addresses[0] for e in item.endpoints], set(item.ports)) for item in existing}
    for action in actions:
        match action:
            case Create(_, document) | Replace(_, document):
                addresses = [e["addresses"][0] for e in document["endpoints"]]
                ports = {EndpointPort(port=p["port"], name=p["name"]) for p in document["ports"]}
                after[document["metadata"]["name"]] = addresses, ports
            case Delete(_, _, name, _):
                del after[name]
    kinds = Counter(type(action) for action in actions)
    created, updated, deleted, sizes = transcribed(world)
    assert (kinds[Create], kinds[Replace], kinds[Delete]) == (created, updated, deleted)
    assert Counter(len(addresses) for addresses, _ in after.values()) == sizes
    # None is lost, none is twice, and each is with its own ports.
    for ports, wanted in desired.items():
        found = [a for addresses, held in after.values() if held == set(ports) for a in addresses]
        assert sorted(found) == sorted(e.addresses[0] for e in wanted)
    assert sum(len(addresses) for addresses, _ in after.values()) == sum(map(len, desired.values()))
    # None has moved out of a slice that stays, and no slice grows over the limit.
    for name, (ports, held) in world.slices.items():
        addresses, _ = after.get(name, ([], set()))
        assert len(addresses) <= max(MAX_ENDPOINTS, len(held))
        group = TWO if len(ports) == 2 else ONE
        kept = {endpoint(n).addresses[0] for n in held if n in world.desired.get(group, {})}
        assert kept <= set(addresses) or "twin" in world.slices


def test_b5_five_thousand_and_one_more_is_one_write() -> None:
    created = [a for a in written({ONE: many(5000)}, []) if isinstance(a, Create)]
    assert len(created) == 50
    existing = [present(f"s{n}", many(100, 100 * n)) for n in range(50)]
    assert shape(written({ONE: many(5001)}, existing)) == {"new-1": 1}
    assert shape(written({ONE: many(4999)}, existing)) == {"s49": 99}
