"""The load balancer of the cluster: external IPs out of the pool for Services of type LoadBalancer.

A Service with a loadBalancerClass belongs to another implementation and is left alone.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Network

from emu.controllers.actions import Action, Context, Patch, Report, perform
from emu.controllers.workqueue import WorkQueue
from emu.core.addresses import contains, is_ipv4, to_str
from emu.core.objects import Service


def decide(service: Service, taken: Collection[str], pool: str) -> list[Action]:
    """What to do for a Service, where `taken` are the IPs of the other Services. `pool` is a CIDR."""
    held = [ingress.ip for ingress in service.status.load_balancer.ingress]
    if service.spec.type != "LoadBalancer":
        return [_status(service, None)] if held else []
    if service.spec.load_balancer_class is not None:
        return []
    if not held and service.metadata.deletion_timestamp is not None:
        return []
    wanted = service.spec.load_balancer_ip
    if len(held) == 1 and held[0] not in taken and _in_pool(held[0], pool) and wanted in ("", held[0]):
        return []
    actions: list[Action] = []
    if wanted and not _in_pool(wanted, pool):
        actions.append(_refused(service, f"{wanted} is not in the load-balancer pool {pool}"))
    elif wanted and wanted in taken:
        actions.append(_refused(service, f"{wanted} is used by another Service"))
    elif chosen := wanted or _lowest_free(taken, pool):
        return [
            _status(service, chosen),
            Report(service, "EnsuredLoadBalancer", f"Assigned external IP {chosen}"),
        ]
    else:
        message = (
            f"no free address in the load-balancer pool {pool}: delete a Service of type LoadBalancer, or "
            "give `networks.loadBalancers` in emu.yaml a larger range"
        )
        actions.append(Report(service, "SyncLoadBalancerFailed", message, warning=True))
    return [_status(service, None), *actions] if held else actions


def _refused(service: Service, why: str) -> Report:
    message = f"{why}; change spec.loadBalancerIP, or remove it to be given a free address"
    return Report(service, "SyncLoadBalancerFailed", message, warning=True)


def _in_pool(address: str, pool: str) -> bool:
    return is_ipv4(address) and contains(pool, address)


def _lowest_free(taken: Collection[str], pool: str) -> str:
    network = IPv4Network(pool)
    for number in range(int(network.network_address) + 1, int(network.broadcast_address)):
        if (address := to_str(number)) not in taken:
            return address
    return ""


def _status(service: Service, address: str | None) -> Patch:
    balancer = {"ingress": [{"ip": address, "ipMode": "VIP"}] if address else None}
    patch = {"metadata": {"uid": service.metadata.uid}, "status": {"loadBalancer": balancer}}
    return Patch(Service.resource, service.namespace, service.name, patch, subresource="status")


class LoadBalancerController:
    """Hands out and takes back external IPs, one Service after the other."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._recorder = context.recorder("service-controller")
        self._pool = context.config.ranges.load_balancers
        self._services = context.informers.reflector(Service)
        self._balanced: dict[str, Service] = {}
        self._queue = WorkQueue("load-balancer", self._sync)
        self._services.subscribe(self._changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._context.informers.synced()
        await self._queue.run()

    def _changed(self, key: str, before: Service | None, now: Service | None) -> None:
        held = bool(before is not None and before.status.load_balancer.ingress)
        if now is not None and (now.spec.type == "LoadBalancer" or now.status.load_balancer.ingress):
            self._balanced[key] = now
            self._queue.add(key)
        else:
            self._balanced.pop(key, None)
        if held and (now is None or now.status.load_balancer != before.status.load_balancer):  # type: ignore[union-attr]
            self._retry_waiting()

    def _retry_waiting(self) -> None:
        """An address was given back: those who got none have another chance."""
        for key, service in self._balanced.items():
            if not service.status.load_balancer.ingress:
                self._queue.add(key)

    async def _sync(self, key: str) -> float | None:
        service = self._services.items.get(key)
        if service is None:
            return None
        taken = {
            ingress.ip
            for other in self._balanced.values()
            if other.metadata.uid != service.metadata.uid and _precedes(other, service)
            for ingress in other.status.load_balancer.ingress
        }
        return await perform(self._context, self._recorder, decide(service, taken, self._pool))


def _precedes(other: Service, service: Service) -> bool:
    """Of two that hold the same address the older keeps it; who holds none must respect all."""
    held = {ingress.ip for ingress in service.status.load_balancer.ingress}
    shared = any(ingress.ip in held for ingress in other.status.load_balancer.ingress)
    age = (other.metadata.creation_timestamp, other.metadata.uid)
    return not shared or age < (service.metadata.creation_timestamp, service.metadata.uid)
