"""What the API server itself puts into a new cluster: the namespaces and its own Service."""

from __future__ import annotations

from emu.api.registry import Registry
from emu.api.resource import Document
from emu.api.store import Key
from emu.core.config import ClusterConfig
from emu.core.objects import SERVICE_NAME_LABEL

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
BOUND_BY_ANNOTATION = "emu.network/bound-by"
_API_PORT = 443


def bootstrap(registry: Registry, config: ClusterConfig) -> None:
    """Create what is missing, and correct the addresses of the API server's Service if they moved."""
    for name in NAMESPACES:
        _ensure(registry, "namespaces", "", {"metadata": {"name": name}})
    _replace_if_moved(registry, config)
    port = {"name": "https", "protocol": "TCP", "port": _API_PORT, "targetPort": config.fixed_ports.apiserver}
    _ensure(
        registry,
        "services",
        "default",
        {
            "metadata": {
                "name": "kubernetes",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
                "annotations": {BOUND_BY_ANNOTATION: "apiserver"},
            },
            "spec": {"clusterIP": config.ranges.kubernetes_service, "ports": [port]},
        },
    )
    _ensure(
        registry,
        "endpointslices.discovery.k8s.io",
        "default",
        {
            "metadata": {"name": "kubernetes", "labels": {SERVICE_NAME_LABEL: "kubernetes"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
            "ports": [{"name": "https", "protocol": "TCP", "port": config.fixed_ports.apiserver}],
        },
    )


def _ensure(registry: Registry, resource: str, namespace: str, document: Document) -> None:
    if registry.store.get(Key(resource, namespace, document["metadata"]["name"])) is None:
        registry.create(registry.resources[resource], namespace, document)


def _replace_if_moved(registry: Registry, config: ClusterConfig) -> None:
    """Remove the API server's Service and slice when ports or ranges are not those of the last start."""
    for resource, right in (
        ("services", _service_fits),
        ("endpointslices.discovery.k8s.io", _slice_fits),
    ):
        key = Key(resource, "default", "kubernetes")
        item = registry.store.get(key)
        if item is not None and not right(item.document(), config):
            registry.remove(key)


def _service_fits(document: Document, config: ClusterConfig) -> bool:
    spec = document["spec"]
    target = spec["ports"][0].get("targetPort")
    return bool(
        spec.get("clusterIP") == config.ranges.kubernetes_service and target == config.fixed_ports.apiserver
    )


def _slice_fits(document: Document, config: ClusterConfig) -> bool:
    return bool((document.get("ports") or [{}])[0].get("port") == config.fixed_ports.apiserver)
