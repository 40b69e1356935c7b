"""B3: which Services a change concerns, and that finding them does not look at all Services."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import pytest

from emu.client.rest import Client
from emu.controllers import service_pods
from emu.controllers.informers import Informers
from emu.controllers.service_pods import ServicePods
from emu.core.objects import Node, Object, Pod, Service

from .controller_objects import metadata, node, pod, service, view

T = TypeVar("T", bound=Object)


class World:
    """Objects as reflectors would tell of them."""

    def __init__(self) -> None:
        self.informers = Informers(cast("Client", None))
        self.service_pods = ServicePods(self.informers)
        self.concerned: list[str] = []
        self.service_pods.subscribe(self.concerned.append)

    def put(self, *items: Object) -> list[str]:
        """Add or replace objects; the Services that this concerned."""
        self.concerned.clear()
        for item in items:
            reflector = self.informers.reflector(type(item))
            before = reflector.items.get(item.key)
            reflector.items[item.key] = item
            reflector._notify(item.key, before, item)
        return sorted(self.concerned)

    def remove(self, kind: type[T], key: str) -> list[str]:
        """Delete an object."""
        self.concerned.clear()
        reflector = self.informers.reflector(kind)
        reflector._notify(key, reflector.items.pop(key), None)
        return sorted(self.concerned)


@pytest.fixture
def world() -> World:
    found = World()
    found.put(
        node(labels={"topology.kubernetes.io/zone": "a"}),
        service("web"),
        service("all", selector={"tier": "x"}),
        service("other", selector={"app": "other"}),
        service("none", selector={}),
        view(Service, {"metadata": metadata("web", "elsewhere"), "spec": {"selector": {"app": "web"}}}),
        pod("a", labels={"app": "web", "tier": "x"}),
    )
    return found


BOTH = ["default/all", "default/web"]


@pytest.mark.parametrize(
    ("rule", "change", "expected"),
    [
        ("a new pod", pod("b"), ["default/web"]),
        ("readiness", pod("a", labels={"app": "web", "tier": "x"}, ready=False), BOTH),
        ("address", pod("a", labels={"app": "web", "tier": "x"}, ip="127.244.1.9"), BOTH),
        ("termination", pod("a", labels={"app": "web", "tier": "x"}, terminating=True), BOTH),
        ("the end", pod("a", labels={"app": "web", "tier": "x"}, phase="Failed"), BOTH),
        ("labels: those of before and of now", pod("a", labels={"app": "other"}), [*BOTH, "default/other"]),
        ("what endpoints do not show", pod("a", labels={"app": "web", "tier": "x"}, created="2027"), []),
        ("a Service", service("none", selector={}), ["default/none"]),
        ("the zone of a node", node(labels={"topology.kubernetes.io/zone": "b"}), BOTH),
        ("what else a node says", node(labels={"topology.kubernetes.io/zone": "a"}, ready="False"), []),
        ("a node without pods", node("node-2"), []),
    ],
)
def test_b3_concerns(world: World, rule: str, change: Object, expected: list[str]) -> None:
    assert world.put(change) == sorted(expected), rule


def test_b3_what_is_gone_concerns_too(world: World) -> None:
    assert world.remove(Node, "node-1") == BOTH
    assert world.put(node()) == BOTH
    assert world.remove(Pod, "default/a") == BOTH
    assert world.remove(Service, "default/web") == ["default/web"]
    assert world.put(pod("a")) == []


def test_b3_a_selector_that_changed_is_the_one_that_counts(world: World) -> None:
    world.put(service("web", selector={"app": "web", "tier": "x"}))
    assert world.put(pod("b")) == []
    world.put(service("web", type="ExternalName"))
    assert world.put(pod("c")) == []
    world.put(service("web"))
    assert world.put(pod("d")) == ["default/web"]


def test_a5_all_pairs_match_in_the_same_namespace(world: World) -> None:
    found = world.service_pods.pods
    assert [p.name for p in found(service("x", selector={"app": "web", "tier": "x"}))] == ["a"]
    assert found(service("x", selector={"app": "web", "tier": "y"})) == []
    assert found(service("x", selector={})) == []
    elsewhere = {"metadata": metadata("x", "elsewhere"), "spec": {"selector": {"app": "web"}}}
    assert found(view(Service, elsewhere)) == []


@pytest.mark.parametrize("shared", [{"app.kubernetes.io/component": "web"}, {"zzz": "web"}])
def test_a_change_of_a_pod_asks_few_of_many_services(
    monkeypatch: pytest.MonkeyPatch, shared: dict[str, str]
) -> None:
    """Also where all of them have a pair of their selectors in common, as those of a Helm chart."""
    world = World()
    world.put(*(service(f"s{n}", selector={**shared, "instance": f"i{n}"}) for n in range(500)))
    asked: list[Any] = []
    selects = service_pods.selects

    def counted(subject: Service, candidate: Pod) -> bool:
        asked.append(subject)
        return selects(subject, candidate)

    monkeypatch.setattr(service_pods, "selects", counted)
    assert world.put(pod("p", labels={**shared, "instance": "i77"})) == ["default/s77"]
    assert len(asked) <= 3
