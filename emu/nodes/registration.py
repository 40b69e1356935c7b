"""A node's own objects: its Node, and the Lease by which the control plane knows that it is alive."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import platform
from datetime import UTC, datetime
from typing import Any

import msgspec

from emu import __version__
from emu.client.events import timestamp
from emu.client.reflector import Reflector
from emu.client.rest import ApiError, ApiUnreachable, Client
from emu.core.config import ClusterConfig
from emu.core.objects import Lease, Node, condition

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
POD_CAPACITY = 110

_FIRST_RETRY_SECONDS = 0.05
_LAST_RETRY_SECONDS = 2.0
_ZONE = "topology.kubernetes.io/zone"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def node_document(name: str, config: ClusterConfig) -> dict[str, Any]:
    """The Node that a new node registers, without its status."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": node_labels(name, config)},
        "spec": {},
    }


def node_labels(name: str, config: ClusterConfig) -> dict[str, str]:
    """The labels that kubelet sets, the zone, and those of the configuration, which win."""
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": architecture,
    }
    configured = config.node(name)
    if configured is not None:
        if configured.zone is not None:
            labels[_ZONE] = configured.zone
        labels.update(configured.labels)
    return labels


def node_status(
    name: str, config: ClusterConfig, server_version: str, ready: bool, since: str, now: str
) -> dict[str, Any]:
    """The status that a node reports; `since` is when Ready took its present value."""
    capacity = {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 1024}Ki",
        "ephemeral-storage": "100Gi",
        "pods": str(POD_CAPACITY),
    }
    condition_ready = (
        ("True", "KubeletReady", "kubelet is posting ready status")
        if ready
        else ("False", "KubeletNotReady", "the node has no podCIDR yet")
    )
    conditions = (
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", *condition_ready),
    )
    return {
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": [
            {"type": "InternalIP", "address": config.node_address(name)},
            {"type": "Hostname", "address": name},
        ],
        "conditions": [
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": now,
                "lastTransitionTime": since,
            }
            for kind, status, reason, message in conditions
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.fixed_ports.kubelet}},
        "nodeInfo": {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "bootID": "",
            "containerRuntimeVersion": f"emu://{__version__}",
            "kernelVersion": platform.release(),
            "kubeProxyVersion": server_version,
            "kubeletVersion": server_version,
            "machineID": name,
            "operatingSystem": "linux",
            "osImage": f"emu {__version__}",
            "systemUUID": name,
        },
    }


class Registration:
    """Keeps the Node and its Lease. `pod_cidr` is set once the controllers have given the node its range."""

    def __init__(self, name: str, config: ClusterConfig, client: Client) -> None:
        self._name = name
        self._config = config
        self._client = client
        self._reflector = Reflector(client, Node, field_selector=f"metadata.name={name}")
        self._reflector.subscribe(self._changed)
        self._uid = ""
        self._version = ""
        self._ready = False
        self._since = timestamp()
        self._report = asyncio.Event()
        self.pod_cidr: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Register, then follow the Node and renew the Lease until cancelled."""
        info = await self._persist("GET", "/version", None)
        self._version = f"v{info.get('major', '1')}.{str(info.get('minor', '0')).rstrip('+')}.0+emu"
        await self._register()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reflector.run())
            tasks.create_task(self._keep_reported())
            tasks.create_task(self._renew())

    def set_ready(self) -> None:
        """Report Ready=True from now on."""
        if not self._ready:
            self._ready = True
            self._since = timestamp()
            self._report.set()

    async def _register(self) -> None:
        path = Node.resource.path()
        document = node_document(self._name, self._config)
        # One request where the API server takes the status of a new Node, as upstream's does.
        document["status"] = self._status()
        try:
            node = await self._persist("POST", path, document)
        except ApiError as error:
            if not error.already_exists:
                raise
            labels = {"metadata": {"labels": document["metadata"]["labels"]}}
            node = await self._persist("PATCH", Node.resource.path("", self._name), labels)
            log.info("took over the Node object of an earlier process", extra={"node": self._name})
            self._report.set()
        self._uid = node["metadata"]["uid"]
        if not node.get("status", {}).get("addresses"):
            self._report.set()

    def _status(self) -> dict[str, Any]:
        return node_status(self._name, self._config, self._version, self._ready, self._since, timestamp())

    def _changed(self, key: str, before: Node | None, now: Node | None) -> None:
        if now is None:
            # As kubelet: a Node that somebody deletes comes back when the node is started again.
            log.warning("the Node object was deleted: restart the node to register it again")
            return
        if now.spec.pod_cidr and not self.pod_cidr.done():
            self.pod_cidr.set_result(now.spec.pod_cidr)
        reported = condition(now.status.conditions, "Ready")
        if self._ready and (reported is None or reported.status != "True"):
            # The node controller has given the node up while it was silent.
            self._report.set()

    async def _keep_reported(self) -> None:
        path = Node.resource.path("", self._name, "status")
        while True:
            await self._report.wait()
            self._report.clear()
            try:
                await self._persist("PATCH", path, {"status": self._status()})
            except ApiError as error:
                if not error.not_found:
                    raise

    async def _renew(self) -> None:
        interval = self._config.node_lifecycle.renew_interval_seconds
        path = Lease.resource.path(LEASE_NAMESPACE, self._name)
        while True:
            try:
                now = {"spec": {"renewTime": micro_time(), "holderIdentity": self._name}}
                await self._client.request(
                    "PATCH", path, body=now, content_type="application/merge-patch+json", timeout=interval
                )
            except ApiUnreachable as error:
                log.debug("the Lease is not renewed: %s", error)
            except ApiError as error:
                if error.not_found:
                    await self._create_lease()
                else:
                    log.warning("the Lease is not renewed: %s", error)
            await asyncio.sleep(interval)

    async def _create_lease(self) -> None:
        duration = math.ceil(self._config.node_lifecycle.lease_duration_seconds)
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._name, "uid": self._uid}
        lease = {
            "apiVersion": Lease.resource.api_version,
            "kind": "Lease",
            "metadata": {
                "name": self._name,
                "namespace": LEASE_NAMESPACE,
                "ownerReferences": [owner],
            },
            "spec": {
                "holderIdentity": self._name,
                "leaseDurationSeconds": duration,
                "renewTime": micro_time(),
            },
        }
        try:
            await self._client.create(Lease.resource, lease)
        except (ApiError, ApiUnreachable) as error:
            log.debug("the Lease is not created yet: %s", error)

    async def _persist(self, method: str, path: str, body: Any) -> dict[str, Any]:
        """A request, repeated until the API server answers."""
        delay = _FIRST_RETRY_SECONDS
        content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        while True:
            try:
                answer = await self._client.request(method, path, body=body, content_type=content_type)
                return msgspec.json.decode(answer, type=dict[str, Any])
            except ApiError as error:
                if error.code < 500 and error.code != 429 and error.reason != "Conflict":
                    raise
                log.debug("%s %s: %s", method, path, error)
            except ApiUnreachable as error:
                log.debug("%s", error)
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LAST_RETRY_SECONDS)


def micro_time() -> str:
    """Now, as `metav1.MicroTime`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
