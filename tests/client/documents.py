"""Objects as a server or a person writes them, for tests of imports and snapshots."""

from typing import Any

from emu.core.objects import ResourceName

KINDS = {
    "v1": "Namespace* Node* Pod Service Endpoints ConfigMap Secret ServiceAccount Event",
    "apps/v1": "Deployment ReplicaSet DaemonSet StatefulSet",
    "batch/v1": "Job",
    "discovery.k8s.io/v1": "EndpointSlice",
    "networking.k8s.io/v1": "NetworkPolicy IPAddress* ServiceCIDR*",
    "rbac.authorization.k8s.io/v1": "ClusterRole* Role",
    "coordination.k8s.io/v1": "Lease",
}
SERVED = {
    (version, kind.strip("*")): ResourceName(
        version.rpartition("/")[0], version.rpartition("/")[2], kind.lower(), not kind.endswith("*")
    )
    for version, kinds in KINDS.items()
    for kind in kinds.split()
}


def obj(kind: str, name: str = "a", version: str = "v1", *, dump: bool = True, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", **more.pop("metadata", {})}
    if dump:
        metadata = {"uid": f"uid-{kind}-{name}", "resourceVersion": "7", **metadata}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def service(name: str = "a", *, dump: bool = True, **spec: Any) -> dict[str, Any]:
    return obj("Service", name, dump=dump, spec={"ports": [{"port": 80}], **spec})


def owned(kind: str, name: str, by: dict[str, Any], version: str = "v1", **more: Any) -> dict[str, Any]:
    reference = {
        "apiVersion": by["apiVersion"],
        "kind": by["kind"],
        "name": by["metadata"]["name"],
        "uid": by["metadata"]["uid"],
        "controller": True,
    }
    return obj(kind, name, version, metadata={"ownerReferences": [reference]}, **more)
