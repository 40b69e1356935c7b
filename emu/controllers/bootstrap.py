"""The system objects that every cluster has: cluster DNS and the configuration of kube-proxy.

What is there already is left as it is, since users edit these objects; only a proxy mode or ipvs scheduler
that the configuration names explicitly is written into an existing kube-proxy ConfigMap.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import yaml

from emu.client.reflector import Reflector
from emu.client.rest import ApiError, ApiUnreachable, Client
from emu.core.addresses import bridge_address
from emu.core.config import ClusterConfig, ProxyMode
from emu.core.objects import ConfigMap, Deployment, Node, ResourceName, Service
from emu.planes.base import Plane

log = logging.getLogger(__name__)

NAMESPACE = "kube-system"
DNS_PORT = 53
COREDNS_IMAGE = "registry.k8s.io/coredns/coredns:v1.12.0"
_DNS_LABELS = {"k8s-app": "kube-dns"}
_METRICS_PORT = 9153
_READY_PORT = 8181
_RETRY_SECONDS = 0.1
_NODES_SECONDS = 2.0
_PROXY_CONFIG = "config.conf"


def dns_port(config: ClusterConfig, plane: Plane) -> int:
    """The port that the DNS pods can listen on: 53, or the fallback where that needs a privilege."""
    address = bridge_address(config.ranges.pod_cidr(1))
    try:
        plane.listen_udp(address, DNS_PORT).close()
    except OSError as error:
        log.warning(
            "cluster DNS answers at port %d, because port %d cannot be bound (%s): allow it with "
            "`sysctl net.ipv4.ip_unprivileged_port_start=0`",
            config.ports.dns_fallback,
            DNS_PORT,
            error.strerror,
        )
        return config.ports.dns_fallback
    return DNS_PORT


def corefile(cluster_domain: str) -> str:
    """The Corefile that kubeadm installs."""
    return f""".:53 {{
    errors
    health {{
       lameduck 5s
    }}
    ready
    kubernetes {cluster_domain} in-addr.arpa ip6.arpa {{
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }}
    prometheus :{_METRICS_PORT}
    forward . /etc/resolv.conf {{
       max_concurrent 1000
    }}
    cache 30 {{
       disable success {cluster_domain}
       disable denial {cluster_domain}
    }}
    loop
    reload
    loadbalance
}}
"""


def proxy_configuration(mode: ProxyMode, scheduler: str) -> str:
    """A KubeProxyConfiguration as YAML."""
    document = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode.value,
        "ipvs": {"scheduler": scheduler},
    }
    return yaml.safe_dump(document, sort_keys=False)


def updated_proxy_configuration(text: str, config: ClusterConfig) -> str:
    """An existing configuration with what emu.yaml or a flag sets explicitly; else exactly as it was."""
    if config.proxy_mode is None and config.ipvs_scheduler is None:
        return text
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        document = None
    if not isinstance(document, dict):
        return proxy_configuration(config.proxy_mode or ProxyMode.IPTABLES, config.ipvs_scheduler or "rr")
    wanted = dict(document)
    if config.proxy_mode is not None:
        wanted["mode"] = config.proxy_mode.value
    if config.ipvs_scheduler is not None:
        ipvs = document.get("ipvs")
        wanted["ipvs"] = {**(ipvs if isinstance(ipvs, dict) else {}), "scheduler": config.ipvs_scheduler}
    return text if wanted == document else yaml.safe_dump(wanted, sort_keys=False)


def system_objects(config: ClusterConfig, port: int) -> list[tuple[ResourceName, dict[str, Any]]]:
    """The objects to create where they are missing; `port` is what the DNS pods listen on."""
    proxy_mode = config.proxy_mode or ProxyMode.IPTABLES
    return [
        (ConfigMap.resource, _config_map("coredns", {"Corefile": corefile(config.cluster_domain)})),
        (
            ConfigMap.resource,
            _config_map(
                "kube-proxy",
                {_PROXY_CONFIG: proxy_configuration(proxy_mode, config.ipvs_scheduler or "rr")},
            ),
        ),
        (Service.resource, _dns_service(config.ranges.dns_service)),
        (Deployment.resource, _dns_deployment(port)),
    ]


def _config_map(name: str, data: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": data,
    }


def _dns_service(address: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "namespace": NAMESPACE,
            "labels": {
                **_DNS_LABELS,
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
            "annotations": {
                "prometheus.io/port": str(_METRICS_PORT),
                "prometheus.io/scrape": "true",
                "emu.network/bound-by": "coredns",
            },
        },
        "spec": {
            "clusterIP": address,
            "selector": _DNS_LABELS,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "dns"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": "dns-tcp"},
                {"name": "metrics", "port": _METRICS_PORT, "protocol": "TCP", "targetPort": "metrics"},
            ],
        },
    }


def _dns_deployment(port: int) -> dict[str, Any]:
    container = {
        "name": "coredns",
        "image": COREDNS_IMAGE,
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [
            {"name": "dns", "containerPort": port, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": port, "protocol": "TCP"},
            {"name": "metrics", "containerPort": _METRICS_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": _READY_PORT, "scheme": "HTTP"},
            "periodSeconds": 2,
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "coredns", "namespace": NAMESPACE, "labels": _DNS_LABELS},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": _DNS_LABELS},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": _DNS_LABELS},
                "spec": {
                    "containers": [container],
                    "dnsPolicy": "Default",
                    "priorityClassName": "system-cluster-critical",
                },
            },
        },
    }


async def bootstrap(client: Client, config: ClusterConfig, plane: Plane, nodes: Reflector[Node]) -> None:
    """Create what is missing, all at once; try again until the API server has taken it.

    Workloads wait for the nodes, so that the scheduler spreads their pods over all of them.
    """
    objects = system_objects(config, dns_port(config, plane))
    async with asyncio.TaskGroup() as group:
        for resource, document in objects:
            if resource != Deployment.resource:
                group.create_task(_ensure(client, config, resource, document))
        await _until_ready(nodes, {node.name for node in config.nodes})
        for resource, document in objects:
            if resource == Deployment.resource:
                group.create_task(_ensure(client, config, resource, document))


async def _until_ready(nodes: Reflector[Node], names: set[str]) -> None:
    """Wait for nodes to be Ready, but not long for those that do not come."""
    changed = asyncio.Event()
    nodes.subscribe(lambda *_: changed.set())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_NODES_SECONDS):
            while not names <= {node.name for node in nodes.items.values() if node.ready}:
                changed.clear()
                await changed.wait()


async def _ensure(
    client: Client, config: ClusterConfig, resource: ResourceName, document: dict[str, Any]
) -> None:
    name = document["metadata"]["name"]
    while True:
        try:
            try:
                await client.create(resource, document)
            except ApiError as error:
                # An address that is taken is refused before the name is looked at.
                if not error.already_exists and not await _exists(client, resource, name):
                    raise
                if (resource, name) == (ConfigMap.resource, "kube-proxy"):
                    await _set_proxy_mode(client, config)
        except (ApiError, ApiUnreachable) as error:
            log.warning("cannot create %s %s/%s yet: %s", resource.plural, NAMESPACE, name, error)
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return


async def _exists(client: Client, resource: ResourceName, name: str) -> bool:
    try:
        await client.get_document(resource, NAMESPACE, name)
    except ApiError as error:
        if error.not_found:
            return False
        raise
    return True


async def _set_proxy_mode(client: Client, config: ClusterConfig) -> None:
    present = await client.get(ConfigMap, NAMESPACE, "kube-proxy")
    text = present.data.get(_PROXY_CONFIG, "")
    wanted = updated_proxy_configuration(text, config)
    if wanted != text:
        patch = {"data": {_PROXY_CONFIG: wanted}}
        await client.patch(ConfigMap.resource, NAMESPACE, "kube-proxy", patch)
