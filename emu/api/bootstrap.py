"""What the API server itself puts into a new cluster: the namespaces and its own Service."""

from __future__ import annotations

from emu.api.registry import Registry
from emu.api.resource import Document
from emu.api.store import Key
from emu.core.objects import SERVICE_NAME_LABEL

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
SKIP_MIRROR_LABEL = "endpointslice.kubernetes.io/skip-mirror"
"""On Endpoints that need no slice made of them, since there is one."""
BOUND_BY_ANNOTATION = "emu.network/bound-by"
_API_PORT = 443


def bootstrap(registry: Registry, address: str, api_port: int) -> None:
    """Create what is missing, and correct the API server's Service if it moved.

    `address` is the ClusterIP of default/kubernetes, `api_port` where the API server listens on 127.0.0.1.
    """
    for name in NAMESPACES:
        _ensure(registry, "namespaces", "", {"metadata": {"name": name}})
    _remove_if_moved(registry, address, api_port)
    port = {"name": "https", "protocol": "TCP", "port": _API_PORT, "targetPort": api_port}
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
            "spec": {"clusterIP": address, "ports": [port]},
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
            "ports": [{"name": "https", "protocol": "TCP", "port": api_port}],
        },
    )
    _ensure(
        registry,
        "endpoints",
        "default",
        {
            "metadata": {"name": "kubernetes", "labels": {SKIP_MIRROR_LABEL: "true"}},
            "subsets": [
                {
                    "addresses": [{"ip": "127.0.0.1"}],
                    "ports": [{"name": "https", "protocol": "TCP", "port": api_port}],
                }
            ],
        },
    )


def _ensure(registry: Registry, resource: str, namespace: str, document: Document) -> None:
    if registry.store.get(Key(resource, namespace, document["metadata"]["name"])) is None:
        registry.create(registry.resources[resource], namespace, document)


def _remove_if_moved(registry: Registry, address: str, api_port: int) -> None:
    """Remove the API server's Service, slice and Endpoints when they are not those of this start."""
    service = Key("services", "default", "kubernetes")
    item = registry.store.get(service)
    if item is not None:
        spec = item.document()["spec"]
        if (spec.get("clusterIP"), spec["ports"][0].get("targetPort")) != (address, api_port):
            registry.remove(service)
    slices = Key("endpointslices.discovery.k8s.io", "default", "kubernetes")
    item = registry.store.get(slices)
    if item is not None and (item.document().get("ports") or [{}])[0].get("port") != api_port:
        registry.remove(slices)
        registry.remove(slices._replace(resource="endpoints"))
