"""Which pods a Service selects, and which Services a change of a pod, node or Service concerns."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from emu.controllers.informers import Informers
from emu.core.objects import Container, Node, Pod, Service, ServicePort

Concerned = Callable[[str], None]
"""Called with the key of a Service that must be looked at again."""


def selects(service: Service, pod: Pod) -> bool:
    """Whether a Service selects a pod: same namespace, all pairs match, and there is at least one."""
    selector = service.spec.selector
    return (
        bool(selector)
        and service.namespace == pod.namespace
        and selector.items() <= pod.metadata.labels.items()
    )


def target_port(port: ServicePort, pod: Pod) -> int | None:
    """The number of a Service port on a pod, None when the pod has no port of that name and protocol."""
    target = port.target_port
    if not target:
        return port.port
    if isinstance(target, int):
        return target
    for container in _port_owners(pod):
        for candidate in container.ports:
            if candidate.name == target and candidate.protocol == port.protocol:
                return candidate.container_port
    return None


def _port_owners(pod: Pod) -> Iterable[Container]:
    yield from pod.spec.containers
    for container in pod.spec.init_containers:
        if container.restart_policy == "Always":
            yield container


def has_address(pod: Pod) -> bool:
    """Whether a pod has an address that traffic may be sent to: an IPv4 one, before the pod has ended."""
    return not pod.finished and bool(pod.ip) and ":" not in pod.ip


class ServicePods:
    """Follows Services, pods and nodes, and finds what belongs together without looking at all of them."""

    def __init__(self, informers: Informers) -> None:
        self.services = informers.reflector(Service)
        self.nodes = informers.reflector(Node)
        self._pods = informers.reflector(Pod)
        # Any pair of a selector will do to find the Services of a pod: a selected pod has them all.
        self._services_by_pair: dict[Hashable, set[str]] = {}
        self._pair_of: dict[str, Hashable] = {}
        self._pods_by_pair = informers.index(Pod, "labels", _all_pairs)
        self._pods_on = informers.index(Pod, "node", lambda pod: (pod.spec.node_name,))
        self._listeners: list[Concerned] = []
        self.services.subscribe(self._service_changed)
        self._pods.subscribe(self._pod_changed)
        self.nodes.subscribe(self._node_changed)

    def subscribe(self, concerned: Concerned) -> None:
        """Tell of every Service that a later change concerns."""
        self._listeners.append(concerned)

    def pods(self, service: Service) -> list[Pod]:
        """The pods that a Service selects, by name."""
        pairs = [(service.namespace, *pair) for pair in service.spec.selector.items()]
        if not pairs:
            return []
        fewest = min((self._pods_by_pair.get(pair) for pair in pairs), key=len)
        return sorted((pod for pod in fewest.values() if selects(service, pod)), key=lambda pod: pod.name)

    def _concerns(self, key: str) -> None:
        for listener in self._listeners:
            listener(key)

    def _service_changed(self, key: str, before: Service | None, now: Service | None) -> None:
        self._file(key, now)
        self._concerns(key)

    def _file(self, key: str, service: Service | None) -> None:
        """Keep a Service under the pair of its selector that the fewest others are kept under.

        Many Services may share a pair, as those of a Helm chart do; each pod would then ask all of them.
        """
        if key in self._pair_of:
            pair = self._pair_of.pop(key)
            self._services_by_pair[pair].discard(key)
            if not self._services_by_pair[pair]:
                del self._services_by_pair[pair]
        if service is None or not service.spec.selector or service.spec.type == "ExternalName":
            return
        pairs = [(service.namespace, *pair) for pair in sorted(service.spec.selector.items())]
        fewest = min(pairs, key=lambda pair: len(self._services_by_pair.get(pair, ())))
        self._pair_of[key] = fewest
        self._services_by_pair.setdefault(fewest, set()).add(key)

    def _pod_changed(self, key: str, before: Pod | None, now: Pod | None) -> None:
        if before is not None and now is not None and _relevant(before) == _relevant(now):
            return
        concerned = {
            service_key: None
            for pod in (before, now)
            if pod is not None
            for pair in _all_pairs(pod)
            for service_key in self._services_by_pair.get(pair, ())
            if selects(self.services.items[service_key], pod)
        }
        for service_key in concerned:
            self._concerns(service_key)

    def _node_changed(self, key: str, before: Node | None, now: Node | None) -> None:
        if before is not None and now is not None and before.zone == now.zone:
            return
        for pod_key, pod in self._pods_on.get(key).items():
            self._pod_changed(pod_key, None, pod)


def _relevant(pod: Pod) -> tuple[Any, ...]:
    return (
        pod.metadata.uid,
        pod.metadata.labels,
        pod.ip,
        pod.ready,
        pod.terminating,
        pod.finished,
        pod.spec,
    )


def _all_pairs(pod: Pod) -> Iterable[Hashable]:
    return [(pod.namespace, name, value) for name, value in pod.metadata.labels.items()]
