"""Services, pods and nodes change, and slices and Endpoints follow: over real sockets, a kubelet by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from emu.core.objects import Endpoints, EndpointSlice, Event, Node, Pod, Service

from .conftest import ControlPlane

Eventually = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
OF_WEB = "kubernetes.io/service-name=web"


class World:
    """The default namespace, in few words."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.client = plane.client

    async def service(self, name: str = "web", **spec: Any) -> None:
        """A Service; give a selector or none."""
        meta = {"name": name, "namespace": "default"}
        await self.client.create(
            Service.resource, {"metadata": meta, "spec": {"ports": [{"port": 80}], **spec}}
        )

    async def pod(self, name: str, number: int, node: str = "node-1", **labels: str) -> None:
        """A pod that runs and is ready."""
        meta = {"name": name, "namespace": "default", "labels": {"app": "web", **labels}}
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "x"}]}
        await self.client.create(Pod.resource, {"metadata": meta, "spec": spec})
        ip = self.plane.settings.config.ranges.pod_cidr(1).removesuffix("0/24") + str(number)
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:07Z"}
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]}
        await self.plane.patch_status(Pod, name, status, "default")

    async def slices(self, selector: str = OF_WEB) -> list[EndpointSlice]:
        """The slices of a Service."""
        return await self.client.list(EndpointSlice, "default", label_selector=selector)

    async def endpoints(self) -> dict[str, tuple[bool, bool, bool]]:
        """The conditions of all endpoints of the Service, by the pods' names."""
        return {
            e.target_ref.name: (e.ready, e.serving, e.terminating)
            for item in await self.slices()
            for e in item.endpoints
            if e.target_ref is not None
        }

    async def becomes(self, *expected: str) -> bool:
        """Whether exactly these pods are endpoints."""
        return sorted(await self.endpoints()) == sorted(expected)


@pytest.fixture
def world(control_plane: ControlPlane) -> World:
    return World(control_plane)


async def test_b3_every_change_is_followed(world: World, eventually: Eventually) -> None:
    client = world.client
    await world.plane.add_node(1)
    await world.service(selector={"app": "web"})
    for number, name in enumerate("abc", 2):
        await world.pod(name, number)
    await eventually(lambda: world.becomes("a", "b", "c"))
    # The labels of a pod, and of the Service.
    await client.patch(Pod.resource, "default", "a", {"metadata": {"labels": {"app": "other"}}})
    await eventually(lambda: world.becomes("b", "c"))
    await client.patch(Service.resource, "default", "web", {"metadata": {"labels": {"team": "x"}}})

    async def labelled() -> bool:
        return [i.metadata.labels.get("team") for i in await world.slices()] == ["x"]

    await eventually(labelled)
    # The selector, and back.
    await client.patch(Service.resource, "default", "web", {"spec": {"selector": {"app": "other"}}})
    await eventually(lambda: world.becomes("a"))
    await client.patch(Service.resource, "default", "web", {"spec": {"selector": {"app": "web"}}})
    await eventually(lambda: world.becomes("b", "c"))
    # Readiness.
    conditions = [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:09Z"}]
    await world.plane.patch_status(Pod, "b", {"conditions": conditions}, "default")

    async def unready() -> bool:
        return (await world.endpoints()).get("b") == (False, False, False)

    await eventually(unready)
    trigger = "endpoints.kubernetes.io/last-change-trigger-time"
    assert [i.metadata.annotations.get(trigger) for i in await world.slices()] == ["2026-01-01T00:00:09Z"]
    # B1: termination, until the pod is gone.
    path = Pod.resource.path("default", "c")
    await client.request("DELETE", path, body={"gracePeriodSeconds": 30})

    async def terminating() -> bool:
        return (await world.endpoints()).get("c") == (False, True, True)

    await eventually(terminating)
    await client.request("DELETE", path, body={"gracePeriodSeconds": 0})
    await eventually(lambda: world.becomes("b"))
    # Ports.
    ports = [{"port": 80, "targetPort": 8080}]
    await client.patch(Service.resource, "default", "web", {"spec": {"ports": ports}})

    async def ported() -> bool:
        return [p.port for i in await world.slices() for p in i.ports] == [8080]

    await eventually(ported)
    # B2: the node of a pod goes, and comes back in a zone.
    await client.delete(Node.resource, "", "node-1")
    await eventually(lambda: world.becomes())
    (placeholder,) = await world.slices()
    assert (placeholder.endpoints, placeholder.ports) == ((), ())


async def test_b3_the_zone_of_a_node_and_topology_mode(world: World, eventually: Eventually) -> None:
    client = world.client
    for number in (1, 2):
        await world.plane.add_node(number)
    annotations = {"service.kubernetes.io/topology-mode": "Auto"}
    await world.service(selector={"app": "web"})
    await client.patch(Service.resource, "default", "web", {"metadata": {"annotations": annotations}})
    await world.pod("a", 2)
    await world.pod("b", 3, "node-2")
    await eventually(lambda: world.becomes("a", "b"))
    for number, zone in ((1, "x"), (2, "y")):
        labels = {"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}}
        await client.patch(Node.resource, "", f"node-{number}", labels)
        # A number is a quantity as well.
        await world.plane.patch_status(Node, f"node-{number}", {"allocatable": {"cpu": 2}})

    async def zones() -> list[tuple[str | None, list[str]]]:
        return sorted(
            (e.zone, [z.name for z in e.hints.for_zones] if e.hints else [])
            for item in await world.slices()
            for e in item.endpoints
        )

    async def hinted() -> bool:
        return await zones() == [("x", ["x"]), ("y", ["y"])]

    async def told() -> bool:
        return {"TopologyAwareHintsDisabled", "TopologyAwareHintsEnabled"} <= {
            event.reason for event in await client.list(Event, "default")
        }

    await eventually(hinted)
    await eventually(told)
    await client.patch(
        Service.resource,
        "default",
        "web",
        {"metadata": {"annotations": {"service.kubernetes.io/topology-mode": None}}},
    )

    async def bare() -> bool:
        return await zones() == [("x", []), ("y", [])]

    await eventually(bare)


async def test_b11_endpoints_written_by_hand_and_those_of_services(
    world: World, eventually: Eventually
) -> None:
    client = world.client
    await world.service("db")
    await world.service("web", selector={"app": "web"})
    await client.create(
        Endpoints.resource,
        {
            "metadata": {"name": "db", "namespace": "default"},
            "subsets": [{"addresses": [{"ip": "10.0.0.5"}], "ports": [{"port": 5432}]}],
        },
    )
    of_db = "kubernetes.io/service-name=db"

    async def mirrored() -> list[EndpointSlice]:
        found = await world.slices(of_db)
        return found if [e.addresses for i in found for e in i.endpoints] == [("10.0.0.5",)] else []

    (first,) = await eventually(mirrored)
    await client.delete(EndpointSlice.resource, "default", first.name)

    async def again() -> bool:
        return any(i.metadata.uid != first.metadata.uid for i in await mirrored())

    await eventually(again)

    async def managed() -> bool:
        found = {e.name: e for e in await client.list(Endpoints, "default")}
        label = "endpoints.kubernetes.io/managed-by"
        return "web" in found and found["web"].metadata.labels.get(label) == "endpoint-controller"

    await eventually(managed)
    # Endpoints that somebody deletes come back.
    await client.delete(Endpoints.resource, "default", "web")
    await eventually(managed)
    # Both kinds go with their Service, and so do the slices.
    await asyncio.gather(*(client.delete(Service.resource, "default", name) for name in ("db", "web")))

    async def gone() -> bool:
        left = {e.name for e in await client.list(Endpoints, "default")}
        return not left & {"db", "web"} and not await world.slices(of_db) and not await world.slices()

    await eventually(gone)
