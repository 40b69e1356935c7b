"""Which pod asks: the pods by their addresses, for logs, counters and faults that name the client.

Pure: fed with pods. A pod of the host network asks from its node's address, which is no pod's, so it is left
out. Nothing is known before somebody calls `want`: a watch of all pods has its price.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from emu.core.objects import Object, PodIP, ResourceName, View


class ClientSpec(View, frozen=True):
    """What matters of a pod's `spec`."""

    host_network: bool = False


class ClientStatus(View, frozen=True):
    """What matters of a pod's `status`."""

    phase: str = "Pending"
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")


class ClientPod(Object, frozen=True):
    """core/v1 Pod as far as it is a client of DNS."""

    resource = ResourceName("", "v1", "pods")
    kind = "Pod"

    spec: ClientSpec = ClientSpec()
    status: ClientStatus = ClientStatus()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that are this pod's alone."""
        if self.spec.host_network or self.status.phase in ("Succeeded", "Failed"):
            return ()
        return tuple(item.ip for item in self.status.pod_ips if item.ip)


class PodName(NamedTuple):
    """Namespace and name of a pod."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """As `namespace/name`."""
        return f"{self.namespace}/{self.name}"


class Clients:
    """The pods by address."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        """Set once somebody needs the pods to be fed."""
        self.synced = False
        """Whether all pods are in: an address that is not there is nobody's."""
        self._pods: dict[str, PodName] = {}
        self._before: list[Callable[[str], None]] = []

    def want(self) -> None:
        """Ask for the pods to be fed."""
        self.wanted.set()

    def before_change(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with an address just before it comes to mean another pod or none."""
        self._before.append(listener)

    def pod_at(self, address: str) -> PodName | None:
        """The pod that has an address; None where it is no pod's."""
        return self._pods.get(address)

    def set_pod(self, _key: str, before: ClientPod | None, now: ClientPod | None) -> None:
        """A pod came, changed or went."""
        old = before.addresses if before is not None else ()
        new = now.addresses if now is not None else ()
        if old == new:
            return
        if before is not None:
            name = PodName(before.namespace, before.name)
            for address in old:
                # Its successor at the address may have been heard of first.
                if address not in new and self._pods.get(address) == name:
                    self._tell(address)
                    del self._pods[address]
        if now is not None:
            name = PodName(now.namespace, now.name)
            for address in new:
                if self._pods.get(address) != name:
                    self._tell(address)
                    self._pods[address] = name

    def _tell(self, address: str) -> None:
        for listener in self._before:
            listener(address)
