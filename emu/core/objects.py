"""Typed views of API objects: the fields that emu's components read, and nothing else.

A view is decoded straight from JSON (`msgspec.json.decode(body, type=Pod)`); fields that it does not name
are skipped without being built. Names are those of the Kubernetes API in snake_case. Views are read-only;
what a component writes is a plain JSON document or a patch.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import msgspec

from emu.core.addresses import is_ipv4
from emu.core.selectors import LabelSelector


class ResourceName(NamedTuple):
    """Where a kind is served: API group ("" is core), version, plural, and whether it is namespaced."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, an object, or a subresource of one."""
        parts = ["/apis" if self.group else "/api", self.api_version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


class View(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A part of an API object."""


class OwnerReference(View, frozen=True):
    """`metadata.ownerReferences[]`."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(View, frozen=True):
    """`metadata`."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that manages this object, if any."""
        return next((owner for owner in self.owner_references if owner.controller), None)


class Object(View, frozen=True):
    """What all API objects share. `resource` says where the kind is served."""

    resource: ClassVar[ResourceName]
    kind: ClassVar[str]

    metadata: ObjectMeta = ObjectMeta()

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """`metadata.namespace`, "" for cluster-scoped kinds."""
        return self.metadata.namespace

    @property
    def key(self) -> str:
        """`namespace/name`, or `name` for cluster-scoped kinds."""
        return (
            f"{self.metadata.namespace}/{self.metadata.name}"
            if self.metadata.namespace
            else self.metadata.name
        )


class Condition(View, frozen=True):
    """An entry of `status.conditions`."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    last_update_time: str | None = None


def condition(conditions: tuple[Condition, ...], kind: str) -> Condition | None:
    """The condition of a type, or None."""
    for item in conditions:
        if item.type == kind:
            return item
    return None


# --- core/v1 ---


class Namespace(Object, frozen=True):
    """core/v1 Namespace."""

    resource = ResourceName("", "v1", "namespaces", namespaced=False)
    kind = "Namespace"


class Taint(View, frozen=True):
    """`spec.taints[]` of a Node."""

    key: str
    value: str = ""
    effect: str = ""


class NodeSpec(View, frozen=True):
    """`spec` of a Node."""

    pod_cidr: str = msgspec.field(default="", name="podCIDR")
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeAddress(View, frozen=True):
    """`status.addresses[]` of a Node."""

    type: str
    address: str


class NodeStatus(View, frozen=True):
    """`status` of a Node."""

    allocatable: dict[str, str | float] = {}
    addresses: tuple[NodeAddress, ...] = ()
    conditions: tuple[Condition, ...] = ()


class Node(Object, frozen=True):
    """core/v1 Node."""

    resource = ResourceName("", "v1", "nodes", namespaced=False)
    kind = "Node"

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def internal_ip(self) -> str:
        """The first InternalIP of IPv4, "" when there is none yet. Nobody has checked what a Node says."""
        addresses = (item.address for item in self.status.addresses if item.type == "InternalIP")
        return next(filter(is_ipv4, addresses), "")

    @property
    def ready(self) -> bool:
        """Whether the Ready condition is True."""
        found = condition(self.status.conditions, "Ready")
        return found is not None and found.status == "True"

    @property
    def zone(self) -> str:
        """The label `topology.kubernetes.io/zone`, "" when it is missing."""
        return self.metadata.labels.get("topology.kubernetes.io/zone", "")


class ContainerPort(View, frozen=True):
    """`ports[]` of a container."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0


class EnvVar(View, frozen=True):
    """`env[]` of a container; `valueFrom` is not read here."""

    name: str
    value: str = ""


class HTTPGetAction(View, frozen=True):
    """`httpGet` of a probe."""

    port: int | str = 0
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"


class TCPSocketAction(View, frozen=True):
    """`tcpSocket` of a probe."""

    port: int | str = 0
    host: str = ""


class Probe(View, frozen=True):
    """A readiness, liveness or startup probe, with Kubernetes' defaults (seconds)."""

    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3


class SleepAction(View, frozen=True):
    """`sleep` of a life-cycle handler (KEP-3960)."""

    seconds: int = 0


class ExecAction(View, frozen=True):
    """`exec` of a life-cycle handler."""

    command: tuple[str, ...] = ()


class LifecycleHandler(View, frozen=True):
    """`lifecycle.preStop` of a container."""

    sleep: SleepAction | None = None
    exec: ExecAction | None = None


class Lifecycle(View, frozen=True):
    """`lifecycle` of a container."""

    pre_stop: LifecycleHandler | None = None


class Container(View, frozen=True):
    """An entry of `spec.containers` or `spec.initContainers`."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    env: tuple[EnvVar, ...] = ()
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    restart_policy: str = ""


class Toleration(View, frozen=True):
    """`spec.tolerations[]` of a Pod."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class PodDnsOption(View, frozen=True):
    """`spec.dnsConfig.options[]` of a Pod."""

    name: str = ""
    value: str | None = None


class PodDnsConfig(View, frozen=True):
    """`spec.dnsConfig` of a Pod."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[PodDnsOption, ...] = ()


class PodSpec(View, frozen=True):
    """`spec` of a Pod."""

    node_name: str = ""
    host_network: bool = False
    hostname: str = ""
    subdomain: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    dns_policy: str = "ClusterFirst"
    dns_config: PodDnsConfig | None = None


class PodIP(View, frozen=True):
    """`status.podIPs[]`."""

    ip: str = ""


class ContainerStatus(View, frozen=True):
    """`status.containerStatuses[]`."""

    name: str
    ready: bool = False
    restart_count: int = 0


class PodStatus(View, frozen=True):
    """`status` of a Pod."""

    phase: str = "Pending"
    pod_ip: str = msgspec.field(default="", name="podIP")
    host_ip: str = msgspec.field(default="", name="hostIP")
    start_time: str = ""
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    reason: str = ""


class Pod(Object, frozen=True):
    """core/v1 Pod."""

    resource = ResourceName("", "v1", "pods")
    kind = "Pod"

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ip(self) -> str:
        """`status.podIP`, "" before there is one."""
        return self.status.pod_ip

    @property
    def ready(self) -> bool:
        """Whether the Ready condition is True."""
        found = condition(self.status.conditions, "Ready")
        return found is not None and found.status == "True"

    @property
    def terminating(self) -> bool:
        """Whether deletion was asked for."""
        return self.metadata.deletion_timestamp is not None

    @property
    def finished(self) -> bool:
        """Whether the pod has ended for good; it has no address any more."""
        return self.status.phase in ("Succeeded", "Failed")


class ServicePort(View, frozen=True):
    """`spec.ports[]` of a Service."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str = 0
    node_port: int = 0
    app_protocol: str = ""


class ClientIPConfig(View, frozen=True):
    """`sessionAffinityConfig.clientIP`."""

    timeout_seconds: int = 10800


class SessionAffinityConfig(View, frozen=True):
    """`spec.sessionAffinityConfig`."""

    client_ip: ClientIPConfig = msgspec.field(default=ClientIPConfig(), name="clientIP")


class ServiceSpec(View, frozen=True):
    """`spec` of a Service."""

    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    selector: dict[str, str] = {}
    ports: tuple[ServicePort, ...] = ()
    external_ips: tuple[str, ...] = msgspec.field(default=(), name="externalIPs")
    external_name: str = ""
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    internal_traffic_policy: str = "Cluster"
    external_traffic_policy: str = "Cluster"
    traffic_distribution: str = ""
    health_check_node_port: int = 0
    publish_not_ready_addresses: bool = False
    load_balancer_class: str | None = None
    load_balancer_ip: str = msgspec.field(default="", name="loadBalancerIP")
    load_balancer_source_ranges: tuple[str, ...] = ()
    allocate_load_balancer_node_ports: bool = True
    ip_families: tuple[str, ...] = ()


class LoadBalancerIngress(View, frozen=True):
    """`status.loadBalancer.ingress[]`."""

    ip: str = ""
    hostname: str = ""
    ip_mode: str = "VIP"


class LoadBalancerStatus(View, frozen=True):
    """`status.loadBalancer`."""

    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(View, frozen=True):
    """`status` of a Service."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Service(Object, frozen=True):
    """core/v1 Service."""

    resource = ResourceName("", "v1", "services")
    kind = "Service"

    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()

    @property
    def headless(self) -> bool:
        """Whether clusterIP is "None"."""
        return self.spec.cluster_ip == "None"

    @property
    def has_cluster_ip(self) -> bool:
        """Whether the Service has a virtual IP."""
        return self.spec.cluster_ip not in ("", "None") and self.spec.type != "ExternalName"


class EndpointAddress(View, frozen=True):
    """`subsets[].addresses[]` of an Endpoints object."""

    ip: str
    hostname: str = ""
    node_name: str | None = None
    target_ref: ObjectReference | None = None


class EndpointsPort(View, frozen=True):
    """`subsets[].ports[]` of an Endpoints object."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""


class EndpointSubset(View, frozen=True):
    """`subsets[]` of an Endpoints object."""

    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[EndpointsPort, ...] = ()


class Endpoints(Object, frozen=True):
    """core/v1 Endpoints (deprecated upstream since 1.33)."""

    resource = ResourceName("", "v1", "endpoints")
    kind = "Endpoints"

    subsets: tuple[EndpointSubset, ...] = ()


class ConfigMap(Object, frozen=True):
    """core/v1 ConfigMap."""

    resource = ResourceName("", "v1", "configmaps")
    kind = "ConfigMap"

    data: dict[str, str] = {}


class Event(Object, frozen=True):
    """core/v1 Event; written by components, read by people."""

    resource = ResourceName("", "v1", "events")
    kind = "Event"

    reason: str = ""
    message: str = ""
    count: int = 0
    last_timestamp: str | None = None


# --- discovery.k8s.io/v1 ---


class EndpointConditions(View, frozen=True):
    """`endpoints[].conditions`; None means: ready true, serving as ready, terminating false."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForZone(View, frozen=True):
    """`hints.forZones[]`."""

    name: str


class ForNode(View, frozen=True):
    """`hints.forNodes[]`."""

    name: str


class EndpointHints(View, frozen=True):
    """`endpoints[].hints`."""

    for_zones: tuple[ForZone, ...] = ()
    for_nodes: tuple[ForNode, ...] = ()


class ObjectReference(View, frozen=True):
    """A reference to another object, such as `endpoints[].targetRef`."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    field_path: str = ""


class Endpoint(View, frozen=True):
    """`endpoints[]` of an EndpointSlice."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str | None = None
    node_name: str | None = None
    zone: str | None = None
    hints: EndpointHints | None = None
    target_ref: ObjectReference | None = None

    @property
    def ready(self) -> bool:
        """`conditions.ready`; unset means true."""
        return self.conditions.ready is not False

    @property
    def serving(self) -> bool:
        """`conditions.serving`; unset means as ready."""
        return self.ready if self.conditions.serving is None else self.conditions.serving

    @property
    def terminating(self) -> bool:
        """`conditions.terminating`; unset means false."""
        return self.conditions.terminating is True


class EndpointPort(View, frozen=True):
    """`ports[]` of an EndpointSlice. No port number means all ports."""

    port: int | None = None
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""


SERVICE_NAME_LABEL = "kubernetes.io/service-name"


class EndpointSlice(Object, frozen=True):
    """discovery.k8s.io/v1 EndpointSlice."""

    resource = ResourceName("discovery.k8s.io", "v1", "endpointslices")
    kind = "EndpointSlice"

    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

    @property
    def service_key(self) -> str:
        """`namespace/name` of the Service it belongs to, "" when its label names none."""
        name = self.metadata.labels.get(SERVICE_NAME_LABEL, "")
        return f"{self.metadata.namespace}/{name}" if name else ""


# --- networking.k8s.io/v1 ---


class IPBlock(View, frozen=True):
    """`ipBlock` of a policy peer."""

    cidr: str
    except_: tuple[str, ...] = msgspec.field(default=(), name="except")


class NetworkPolicyPeer(View, frozen=True):
    """`from[]` and `to[]`: an address block, or pods by their labels and those of their namespace."""

    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    ip_block: IPBlock | None = None


class NetworkPolicyPort(View, frozen=True):
    """`ports[]` of a rule. No protocol means TCP; no port means all of the protocol."""

    protocol: str | None = None
    port: int | str | None = None
    end_port: int | None = None


class NetworkPolicyIngressRule(View, frozen=True):
    """`spec.ingress[]`."""

    from_: tuple[NetworkPolicyPeer, ...] | None = msgspec.field(default=None, name="from")
    ports: tuple[NetworkPolicyPort, ...] | None = None


class NetworkPolicyEgressRule(View, frozen=True):
    """`spec.egress[]`."""

    to: tuple[NetworkPolicyPeer, ...] | None = None
    ports: tuple[NetworkPolicyPort, ...] | None = None


class NetworkPolicySpec(View, frozen=True):
    """`spec` of a NetworkPolicy."""

    pod_selector: LabelSelector | None = None
    policy_types: tuple[str, ...] | None = None
    ingress: tuple[NetworkPolicyIngressRule, ...] | None = None
    egress: tuple[NetworkPolicyEgressRule, ...] | None = None


class NetworkPolicy(Object, frozen=True):
    """networking.k8s.io/v1 NetworkPolicy."""

    resource = ResourceName("networking.k8s.io", "v1", "networkpolicies")
    kind = "NetworkPolicy"

    spec: NetworkPolicySpec = NetworkPolicySpec()


# --- coordination.k8s.io/v1 ---


class LeaseSpec(View, frozen=True):
    """`spec` of a Lease."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    renew_time: str | None = None


class Lease(Object, frozen=True):
    """coordination.k8s.io/v1 Lease."""

    resource = ResourceName("coordination.k8s.io", "v1", "leases")
    kind = "Lease"

    spec: LeaseSpec = LeaseSpec()


# --- apps/v1 ---


class PodTemplate(View, frozen=True):
    """`spec.template` of a workload; its spec is carried over as it is."""

    metadata: ObjectMeta = ObjectMeta()
    spec: msgspec.Raw = msgspec.Raw(b"{}")


class ReplicaSetSpec(View, frozen=True):
    """`spec` of a ReplicaSet."""

    replicas: int = 1
    min_ready_seconds: int = 0
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()


class ReplicaSetStatus(View, frozen=True):
    """`status` of a ReplicaSet."""

    replicas: int = 0
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    observed_generation: int = 0


class ReplicaSet(Object, frozen=True):
    """apps/v1 ReplicaSet."""

    resource = ResourceName("apps", "v1", "replicasets")
    kind = "ReplicaSet"

    spec: ReplicaSetSpec = ReplicaSetSpec()
    status: ReplicaSetStatus = ReplicaSetStatus()


class RollingUpdate(View, frozen=True):
    """`spec.strategy.rollingUpdate`: counts, or percentages such as "25%"."""

    max_surge: int | str = "25%"
    max_unavailable: int | str = "25%"


class DeploymentStrategy(View, frozen=True):
    """`spec.strategy`."""

    type: str = "RollingUpdate"
    rolling_update: RollingUpdate | None = None


class DeploymentSpec(View, frozen=True):
    """`spec` of a Deployment."""

    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    strategy: DeploymentStrategy = DeploymentStrategy()
    min_ready_seconds: int = 0
    revision_history_limit: int = 10
    paused: bool = False
    progress_deadline_seconds: int = 600


class DeploymentStatus(View, frozen=True):
    """`status` of a Deployment."""

    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()


class Deployment(Object, frozen=True):
    """apps/v1 Deployment."""

    resource = ResourceName("apps", "v1", "deployments")
    kind = "Deployment"

    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()
