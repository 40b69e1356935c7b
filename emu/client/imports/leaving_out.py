"""The steps that decide which objects of another cluster are not taken, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from emu.client.changes import Reason
from emu.client.imports.draft import Draft, World
from emu.client.scrubbing import NAMESPACE_NAME_LABEL, mapping, mappings

Step = Callable[[Draft, World], None]

SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease"})
_MACHINERY = SYSTEM_NAMESPACES | {
    "local-path-storage",
    "kube-flannel",
    "calico-system",
    "calico-apiserver",
    "tigera-operator",
}
_ALWAYS_THERE = SYSTEM_NAMESPACES | {"default"}
_ADMIN_ROLES = frozenset({"cluster-admin", "admin", "edit", "view"})
_ROOT_CA = "kube-root-ca.crt"
_MIRROR_POD = "kubernetes.io/config.mirror"
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_SLICE_CONTROLLERS = frozenset(
    {"endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"}
)
# What the other kinds of owners made is taken as it is, since no controller of theirs makes it again here.
_OWNERS_THAT_ACT = frozenset({("apps/v1", "Deployment"), ("apps/v1", "ReplicaSet")})
_ENDPOINTS_MANAGED_BY = "endpoints.kubernetes.io/managed-by"
_ENDPOINTS_TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"
_SECRETS_OF_CLUSTERS = frozenset({"kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"})
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

# Kinds of Kubernetes that emu may not serve. Any other kind in a group of Kubernetes' own is a misspelling,
# which is refused, lest a test pass without the object.
_KUBERNETES_KINDS = frozenset(
    {
        *(
            "APIService",
            "ClusterRole",
            "ClusterRoleBinding",
            "ComponentStatus",
            "ControllerRevision",
            "CronJob",
        ),
        *(
            "CSIDriver",
            "CSINode",
            "CSIStorageCapacity",
            "CustomResourceDefinition",
            "DaemonSet",
            "FlowSchema",
        ),
        *("HorizontalPodAutoscaler", "IPAddress", "Ingress", "IngressClass", "Job", "LimitRange"),
        *("PersistentVolume", "PersistentVolumeClaim", "PodDisruptionBudget", "PodTemplate", "PriorityClass"),
        *("PriorityLevelConfiguration", "ReplicationController", "ResourceQuota", "Role", "RoleBinding"),
        *("RuntimeClass", "ServiceCIDR", "StatefulSet", "StorageClass", "VolumeAttachment"),
        *("VolumeAttributesClass", "CertificateSigningRequest", "MutatingWebhookConfiguration"),
        *("ValidatingWebhookConfiguration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
    }
)


def nodes(draft: Draft, _world: World) -> None:
    """Nodes come from the configuration, whoever wrote them."""
    if (draft.kind, draft.api_version) == ("Node", "v1"):
        draft.change(Reason.NODE)


def records(draft: Draft, _world: World) -> None:
    """Events and Leases tell of another cluster's past."""
    if draft.kind in ("Event", "Lease"):
        draft.change(Reason.RECORD)


def deleting(draft: Draft, _world: World) -> None:
    """What was on its way out is not brought back."""
    if draft.metadata.get("deletionTimestamp"):
        draft.change(Reason.DELETING)


def generated(draft: Draft, _world: World) -> None:
    """What every cluster has from its start, or makes for each namespace."""
    kind, name, in_default = draft.kind, draft.name, draft.namespace == "default"
    if (
        (kind == "ConfigMap" and name == _ROOT_CA)
        or (kind in ("Service", "Endpoints", "EndpointSlice") and name == "kubernetes" and in_default)
        or kind == "IPAddress"
        or (kind == "ServiceCIDR" and name == "kubernetes")
        or (kind == "ServiceAccount" and name == "default" and draft.dumped and not _edited(draft))
        or (kind == "Namespace" and name in _ALWAYS_THERE and draft.dumped and not _edited(draft))
        or (kind == "Secret" and draft.dumped and draft.document.get("type") in _SECRETS_OF_CLUSTERS)
    ):
        draft.change(Reason.GENERATED)


def _edited(draft: Draft) -> bool:
    """Whether somebody gave it labels, annotations or the keys to a registry."""
    labels = mapping(draft.metadata.get("labels")).keys() - {NAMESPACE_NAME_LABEL}
    annotations = mapping(draft.metadata.get("annotations")).keys() - {LAST_APPLIED}
    return bool(labels or annotations or draft.document.get("imagePullSecrets"))


def system(draft: Draft, world: World) -> None:
    """The other cluster's own parts. NetworkPolicies in its namespaces are people's, and are taken."""
    kind, name, labels = draft.kind, draft.name, mapping(draft.metadata.get("labels"))
    if kind == "Namespace":
        own = draft.dumped and name in _MACHINERY - _ALWAYS_THERE
    elif _namespaced(draft, world):
        dumped = draft.dumped and draft.namespace in _MACHINERY and kind != "NetworkPolicy"
        own = dumped or (draft.namespace == "kube-system" and (kind, name) == ("DaemonSet", "kube-proxy"))
    else:
        own = draft.dumped and (
            name.startswith(("system:", "system-", "kubeadm:"))
            or "kubernetes.io/bootstrapping" in labels
            or (kind in ("ClusterRole", "ClusterRoleBinding") and name in _ADMIN_ROLES)
        )
    if own or _MIRROR_POD in mapping(draft.metadata.get("annotations")):
        draft.change(Reason.SYSTEM)


def _namespaced(draft: Draft, world: World) -> bool:
    resource = world.target.kinds.get((draft.api_version, draft.kind))
    return bool(draft.metadata.get("namespace")) if resource is None else resource.namespaced


def unserved(draft: Draft, world: World) -> None:
    """Kinds that the target does not serve, unless the kind is a misspelling in a manifest by hand."""
    kinds = world.target.kinds
    if (draft.api_version, draft.kind) in kinds:
        return
    known_group = any(api_version == draft.api_version for api_version, _ in kinds)
    if draft.dumped or draft.kind in _KUBERNETES_KINDS or not known_group:
        draft.change(Reason.UNSERVED)


def controlled(draft: Draft, world: World) -> None:
    """What a controller makes from another object that is taken: pods, ReplicaSets, slices, Endpoints."""
    labels, annotations = mapping(draft.metadata.get("labels")), mapping(draft.metadata.get("annotations"))
    managed_slice = draft.kind == "EndpointSlice" and labels.get(_MANAGED_BY) in _SLICE_CONTROLLERS
    managed_endpoints = draft.kind == "Endpoints" and (
        draft.key in world.with_selector
        or _ENDPOINTS_MANAGED_BY in labels
        or _ENDPOINTS_TRIGGER in annotations
    )
    if managed_slice or managed_endpoints or _made_by_owner(draft, world):
        draft.change(Reason.CONTROLLED)


def _made_by_owner(draft: Draft, world: World) -> bool:
    for reference in mappings(draft.metadata.get("ownerReferences")):
        owner = world.owner(draft, reference) if reference.get("controller") else None
        if owner is not None and owner.left_out in (None, Reason.CONTROLLED):
            return (owner.api_version, owner.kind) in _OWNERS_THAT_ACT
    return False


LEAVING_OUT: tuple[Step, ...] = (nodes, records, deleting, generated, system, unserved)
"""Each asks about one object alone."""
LEAVING_TO_CONTROLLERS: tuple[Step, ...] = (controlled,)
"""Asked when it is known which owners are taken."""
