"""The controllers against the API server, over real sockets; a kubelet's writes are made by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from emu.client.reflector import Reflector
from emu.controllers.bootstrap import bootstrap
from emu.core.objects import (
    ConfigMap,
    Deployment,
    Endpoints,
    EndpointSlice,
    Event,
    Lease,
    Node,
    Pod,
    ReplicaSet,
    Service,
    condition,
)
from emu.planes.loopback import LoopbackPlane

from .conftest import ControlPlane

Eventually = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
LABELS = {"app": "web"}


def deployment(replicas: int, image: str = "v1", **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": image}]}}
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template, **spec},
    }


async def bound(plane: ControlPlane, count: int) -> list[Pod]:
    pods = [pod for pod in await plane.client.list(Pod, "default") if not pod.terminating]
    return pods if len(pods) == count and all(pod.spec.node_name for pod in pods) else []


async def run_pod(plane: ControlPlane, pod: Pod, *, ready: bool = True) -> None:
    """What a kubelet writes when a pod runs; addresses are told apart by the pod's place in its name."""
    number = int(pod.spec.node_name.rpartition("-")[2])
    ip = plane.settings.config.ranges.pod_cidr(number).removesuffix("0/24") + str(2 + hash(pod.name) % 250)
    ready_condition = {"type": "Ready", "status": "True" if ready else "False"}
    status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready_condition]}
    await plane.patch_status(Pod, pod.name, status, pod.namespace)


async def end_pod(plane: ControlPlane, pod: Pod) -> None:
    """What a kubelet does when a pod has ended."""
    path = Pod.resource.path(pod.namespace, pod.name)
    await plane.client.request("DELETE", path, body={"gracePeriodSeconds": 0})


async def kubelet(plane: ControlPlane) -> None:
    """All pods run at once and end at once."""
    while True:
        for pod in await plane.client.list(Pod, "default"):
            if pod.terminating:
                await end_pod(plane, pod)
            elif pod.spec.node_name and not pod.ready:
                await run_pod(plane, pod)
        await asyncio.sleep(0.005)


async def test_a_deployment_becomes_pods_on_both_nodes_and_endpoints(
    control_plane: ControlPlane, eventually: Eventually
) -> None:
    plane = control_plane
    await plane.add_node(1)
    await plane.add_node(2)
    await plane.client.create(Deployment.resource, deployment(4))
    await plane.client.create(
        Service.resource,
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": LABELS, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    )
    pods = await eventually(lambda: bound(plane, 4))
    assert sorted(pod.spec.node_name for pod in pods) == ["node-1", "node-1", "node-2", "node-2"]
    for pod in pods:
        await run_pod(plane, pod)

    async def available() -> bool:
        found = await plane.client.get(Deployment, "default", "web")
        progressing = condition(found.status.conditions, "Progressing")
        return (
            found.status.available_replicas == 4
            and progressing is not None
            and progressing.reason == "NewReplicaSetAvailable"
        )

    async def served() -> bool:
        slices = await plane.client.list(EndpointSlice, label_selector="kubernetes.io/service-name=web")
        return sum(endpoint.ready for item in slices for endpoint in item.endpoints) == 4

    async def legacy() -> bool:
        found = [e for e in await plane.client.list(Endpoints, "default") if e.name == "web"]
        return bool(found and found[0].subsets and len(found[0].subsets[0].addresses) == 4)

    await eventually(available)
    await eventually(served)
    await eventually(legacy)
    cidrs = {node.spec.pod_cidr for node in await plane.client.list(Node)}
    assert cidrs == {plane.settings.config.ranges.pod_cidr(number) for number in (1, 2)}


async def test_rollout_scale_and_deletion(control_plane: ControlPlane, eventually: Eventually) -> None:
    plane = control_plane
    await plane.add_node(1)
    await plane.client.create(Deployment.resource, deployment(3))
    task = asyncio.create_task(kubelet(plane))

    async def settled(replicas: int, image: str) -> bool:
        found = await plane.client.get(Deployment, "default", "web")
        pods = await plane.client.list(Pod, "default")
        return (
            found.status.observed_generation == found.metadata.generation
            and found.status.updated_replicas == found.status.available_replicas == replicas
            and found.status.replicas == replicas
            and [pod.spec.containers[0].image for pod in pods] == [image] * replicas
        )

    try:
        await eventually(lambda: settled(3, "v1"))
        change = {"spec": {"template": deployment(3, "v2")["spec"]["template"]}}
        await plane.client.patch(Deployment.resource, "default", "web", change)
        await eventually(lambda: settled(3, "v2"))
        sets = {
            r.metadata.annotations["deployment.kubernetes.io/revision"]: r.spec.replicas
            for r in await sets_of(plane)
        }
        assert sets == {"1": 0, "2": 3}
        await plane.client.patch(Deployment.resource, "default", "web", {"spec": {"replicas": 5}})
        await eventually(lambda: settled(5, "v2"))
        await plane.client.delete(Deployment.resource, "default", "web")

        async def gone() -> bool:
            return not await sets_of(plane) and not await plane.client.list(Pod, "default")

        await eventually(gone)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def sets_of(plane: ControlPlane) -> list[ReplicaSet]:
    return await plane.client.list(ReplicaSet, "default")


async def test_foreground_and_orphan_deletion(control_plane: ControlPlane, eventually: Eventually) -> None:
    plane = control_plane
    await plane.add_node(1)
    task = asyncio.create_task(kubelet(plane))
    path = Deployment.resource.path("default", "web")

    async def deployed() -> bool:
        return len(await bound(plane, 2)) == 2

    async def deleted() -> bool:
        return not await plane.client.list(Deployment, "default")

    try:
        await plane.client.create(Deployment.resource, deployment(2))
        await eventually(deployed)
        await plane.client.request("DELETE", path, body={"propagationPolicy": "Foreground"})
        await eventually(deleted)
        assert not await plane.client.list(Pod, "default")
        await plane.client.create(Deployment.resource, deployment(2))
        await eventually(deployed)
        await plane.client.request("DELETE", path, body={"propagationPolicy": "Orphan"})
        await eventually(deleted)
        (orphan,) = await sets_of(plane)
        assert orphan.metadata.owner_references == ()
        assert len(await bound(plane, 2)) == 2
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_many_pods_at_once_are_never_too_many(
    control_plane: ControlPlane, eventually: Eventually
) -> None:
    plane = control_plane
    await plane.add_node(1)
    await plane.add_node(2)
    await plane.client.create(Deployment.resource, deployment(100))
    pods = await eventually(lambda: bound(plane, 100))
    assert sum(pod.spec.node_name == "node-1" for pod in pods) == 50


async def test_unschedulable_says_why_and_a_node_that_fits_ends_it(
    control_plane: ControlPlane, eventually: Eventually
) -> None:
    plane = control_plane
    await plane.add_node(1, unschedulable=True)
    await plane.client.create(Deployment.resource, deployment(1))

    async def told() -> str:
        for pod in await plane.client.list(Pod, "default"):
            found = condition(pod.status.conditions, "PodScheduled")
            if found is not None and found.status == "False":
                return found.message
        return ""

    assert await eventually(told) == "0/1 nodes are available: 1 node(s) were unschedulable."

    async def event() -> bool:
        return any(e.reason == "FailedScheduling" for e in await plane.client.list(Event, "default"))

    await eventually(event)
    await plane.add_node(2)
    (pod,) = await eventually(lambda: bound(plane, 1))
    assert pod.spec.node_name == "node-2"


@pytest.mark.parametrize("control_plane", [1.0], indirect=True)
async def test_a_node_dies_and_comes_back(control_plane: ControlPlane, eventually: Eventually) -> None:
    plane = control_plane
    await plane.add_node(1)
    await plane.renew(1)
    await plane.client.create(Deployment.resource, deployment(1))
    (pod,) = await eventually(lambda: bound(plane, 1))
    await run_pod(plane, pod)

    async def lost() -> bool:
        node = await plane.client.get(Node, "", "node-1")
        found = condition(node.status.conditions, "Ready")
        return found is not None and found.status == "Unknown" and len(node.spec.taints) == 2

    async def not_ready() -> bool:
        return not (await plane.client.get(Pod, "default", pod.name)).ready

    await eventually(lost)
    await eventually(not_ready)
    await plane.renew(1)
    await plane.ready(1)

    async def back() -> bool:
        node = await plane.client.get(Node, "", "node-1")
        return node.ready and not node.spec.taints

    await eventually(back)
    assert len(await plane.client.list(Lease, "kube-node-lease")) == 1


async def test_load_balancer_addresses_come_and_go(
    control_plane: ControlPlane, eventually: Eventually
) -> None:
    plane = control_plane

    async def ask(name: str) -> str:
        found = await plane.client.get(Service, "default", name)
        return found.status.load_balancer.ingress[0].ip if found.status.load_balancer.ingress else ""

    for name in ("a", "b"):
        spec = {"type": "LoadBalancer", "selector": LABELS, "ports": [{"port": 80}]}
        metadata = {"name": name, "namespace": "default"}
        await plane.client.create(Service.resource, {"metadata": metadata, "spec": spec})
    first, second = await eventually(lambda: ask("a")), await eventually(lambda: ask("b"))
    pool = plane.settings.config.ranges.load_balancers.removesuffix("0/24")
    assert {first, second} == {f"{pool}1", f"{pool}2"}
    await plane.client.patch(Service.resource, "default", "a", {"spec": {"type": "ClusterIP"}})

    async def released() -> bool:
        return not await ask("a")

    await eventually(released)
    await plane.client.patch(Service.resource, "default", "b", {"spec": {"loadBalancerIP": first}})

    async def moved() -> bool:
        return await ask("b") == first

    await eventually(moved)


async def test_deleted_slices_come_back_and_go_with_their_service(
    control_plane: ControlPlane, eventually: Eventually
) -> None:
    plane = control_plane
    await plane.client.create(
        Service.resource,
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": LABELS, "ports": [{"port": 80}]},
        },
    )

    async def slices() -> list[EndpointSlice]:
        return await plane.client.list(EndpointSlice, label_selector="kubernetes.io/service-name=web")

    (first,) = await eventually(slices)
    await plane.client.delete(EndpointSlice.resource, "default", first.name)

    async def replaced() -> bool:
        return any(item.metadata.uid != first.metadata.uid for item in await slices())

    await eventually(replaced)
    await plane.client.delete(Service.resource, "default", "web")

    async def gone() -> bool:
        return not await slices()

    await eventually(gone)


async def test_system_objects_and_namespace_defaults(
    control_plane: ControlPlane, eventually: Eventually
) -> None:
    plane = control_plane

    async def there() -> bool:
        keys = {item.key for item in await plane.client.list(ConfigMap)}
        return {
            "kube-system/coredns",
            "kube-system/kube-proxy",
            "default/kube-root-ca.crt",
            "kube-system/kube-root-ca.crt",
        } <= keys

    async def dns() -> str:
        services = await plane.client.list(Service, "kube-system")
        return next((item.spec.cluster_ip for item in services if item.name == "kube-dns"), "")

    await eventually(there)
    assert await eventually(dns) == plane.settings.config.ranges.dns_service


async def test_the_proxy_mode_of_a_user_stays(control_plane: ControlPlane, eventually: Eventually) -> None:
    """Another start without an explicit mode leaves what was written on the running cluster."""
    plane = control_plane

    async def present() -> str:
        found = [c for c in await plane.client.list(ConfigMap, "kube-system") if c.name == "kube-proxy"]
        return found[0].data["config.conf"] if found else ""

    await eventually(present)
    change = {"data": {"config.conf": "mode: ipvs\n"}}
    await plane.client.patch(ConfigMap.resource, "kube-system", "kube-proxy", change)
    await bootstrap(plane.client, plane.settings.config, LoopbackPlane(), Reflector(plane.client, Node))
    assert await present() == "mode: ipvs\n"
