"""Services: defaults, what an update keeps and wipes, validation and columns.

Sources: `pkg/apis/core/v1/defaults.go`, `pkg/registry/core/service/strategy.go`, and
`ValidateService` in `pkg/apis/core/validation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from emu.api.errors import FieldError, duplicate, forbidden, invalid, not_supported, required
from emu.api.kinds import cells
from emu.api.kinds.endpoints import check_ip
from emu.api.kinds.pods import PROTOCOLS, check_port
from emu.api.naming import check_labels, dns_label, dns_subdomain, port_name, qualified_name
from emu.api.resource import Column, Document

# Kubernetes 1.36 relaxes names of Services from RFC 1035 to RFC 1123 (KEP-5311).
name_rule = dns_label

COLUMNS = (
    cells.NAME,
    Column("Type"),
    Column("Cluster-IP"),
    Column("External-IP"),
    Column("Port(s)"),
    cells.AGE,
    Column("Selector", priority=1),
)
_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_WITH_NODE_PORTS = ("NodePort", "LoadBalancer")
_TRAFFIC_POLICIES = ("Cluster", "Local")
_DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
_KUBELET_PORT = 10250
_MAX_AFFINITY_SECONDS = 86400
_DEFAULT_AFFINITY_SECONDS = 10800


def externally_accessible(spec: Mapping[str, Any]) -> bool:
    """Whether the Service can be reached from outside the cluster."""
    kind = spec.get("type")
    return kind in _WITH_NODE_PORTS or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def needs_health_check_port(spec: Mapping[str, Any]) -> bool:
    """Whether the Service gets a health check node port."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


# --- defaults and updates ---


def default(document: Document) -> None:
    """Defaults of a Service."""
    spec = document.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client_ip = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client_ip.setdefault("timeoutSeconds", _DEFAULT_AFFINITY_SECONDS)
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, "") and "port" in port:
            port["targetPort"] = port["port"]
        if not port.get("nodePort"):
            port.pop("nodePort", None)
    if externally_accessible(spec):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    balancer = document.setdefault("status", {}).setdefault("loadBalancer", {})
    for ingress in balancer.get("ingress") or ():
        if ingress.get("ip"):
            ingress.setdefault("ipMode", "VIP")


def keep(new: Document, old: Document) -> None:
    """Carry over allocated values that the writer left out; wipe what the new type has no use for."""
    spec, before = new.setdefault("spec", {}), old["spec"]
    spec.setdefault("type", "ClusterIP")
    _keep_allocated(spec, before)
    _wipe_unused(spec, before)
    if spec["type"] != "LoadBalancer" and before.get("type") == "LoadBalancer":
        new["status"] = {**(new.get("status") or {}), "loadBalancer": {}}


def _keep_allocated(spec: Document, before: Document) -> None:
    if spec["type"] != "ExternalName" and before.get("type") != "ExternalName":
        if not spec.get("clusterIP"):
            spec["clusterIP"] = before.get("clusterIP", "")
        if not spec.get("clusterIPs") and spec["clusterIP"] == before.get("clusterIP"):
            spec["clusterIPs"] = before.get("clusterIPs", [])
    if spec["type"] in _WITH_NODE_PORTS and before.get("type") in _WITH_NODE_PORTS:
        had = {
            (port.get("protocol", "TCP"), port.get("port")): port.get("nodePort", 0)
            for port in before.get("ports") or ()
        }
        used = {port.get("nodePort") for port in spec.get("ports") or ()}
        for port in spec.get("ports") or ():
            kept = had.get((port.get("protocol", "TCP"), port.get("port")))
            if kept and not port.get("nodePort") and kept not in used:
                port["nodePort"] = kept
    if needs_health_check_port(spec) and before.get("healthCheckNodePort"):
        spec.setdefault("healthCheckNodePort", before["healthCheckNodePort"])


def _wipe_unused(spec: Document, before: Document) -> None:
    def wipe(*keys: str) -> None:
        for key in keys:
            if spec.get(key) == before.get(key):
                spec.pop(key, None)

    was, now = before.get("type"), spec["type"]
    if now == "ExternalName" and was != "ExternalName":
        if spec.get("clusterIP") in ("", before.get("clusterIP")):
            spec.pop("clusterIP", None)
            spec.pop("clusterIPs", None)
        wipe("ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")
    if was in _WITH_NODE_PORTS and now not in _WITH_NODE_PORTS and _node_ports(spec) <= _node_ports(before):
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)
    if needs_health_check_port(before) and not needs_health_check_port(spec):
        wipe("healthCheckNodePort")
    if was == "LoadBalancer" and now != "LoadBalancer":
        wipe("allocateLoadBalancerNodePorts", "loadBalancerClass")
    if externally_accessible(before) and not externally_accessible(spec):
        wipe("externalTrafficPolicy")


def _node_ports(spec: Mapping[str, Any]) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


# --- validation ---


def validate(document: Document) -> list[FieldError]:
    """Errors of a Service."""
    spec = document["spec"]
    if spec["type"] not in _TYPES:
        return [not_supported("spec.type", spec["type"], _TYPES)]
    return [
        *_validate_ports(spec),
        *_validate_addresses(spec),
        *_validate_affinity(spec),
        *_validate_traffic(spec),
        *_validate_balancer(spec),
        *check_labels(spec.get("selector"), "spec.selector"),
    ]


def _validate_ports(spec: Document) -> list[FieldError]:
    ports, headless = spec.get("ports") or [], spec.get("clusterIP") == "None"
    errors: list[FieldError] = []
    if not ports and not headless and spec["type"] != "ExternalName":
        errors.append(required("spec.ports"))
    names: set[str] = set()
    services: set[tuple[Any, Any]] = set()
    node_ports: set[tuple[Any, Any]] = set()
    for number, port in enumerate(ports):
        path = f"spec.ports[{number}]"
        errors += _validate_port(port, path, named=len(ports) > 1, names=names)
        if spec["type"] == "LoadBalancer" and port.get("port") == _KUBELET_PORT:
            errors.append(
                invalid(
                    f"{path}.port",
                    _KUBELET_PORT,
                    "may not expose port 10250 externally since it is used by kubelet",
                )
            )
        if port.get("nodePort") and spec["type"] not in _WITH_NODE_PORTS:
            errors.append(forbidden(f"{path}.nodePort", f"may not be used when `type` is '{spec['type']}'"))
        at = (port.get("protocol"), port.get("port"))
        if at in services:
            errors.append(duplicate(path, {"port": at[1], "protocol": at[0]}))
        services.add(at)
        if port.get("nodePort"):
            node = (port.get("protocol"), port["nodePort"])
            if node in node_ports:
                errors.append(duplicate(f"{path}.nodePort", port["nodePort"]))
            node_ports.add(node)
    return errors


def _validate_port(port: Document, path: str, *, named: bool, names: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    name = port.get("name", "")
    if named and not name:
        errors.append(required(f"{path}.name"))
    elif name:
        if wrong := dns_label(name):
            errors.append(invalid(f"{path}.name", name, wrong))
        elif name in names:
            errors.append(duplicate(f"{path}.name", name))
        names.add(name)
    errors += check_port(port.get("port", 0), f"{path}.port")
    if port.get("protocol") not in PROTOCOLS:
        errors.append(not_supported(f"{path}.protocol", port.get("protocol"), PROTOCOLS))
    target = port.get("targetPort", 0)
    if isinstance(target, str):
        if wrong := port_name(target):
            errors.append(invalid(f"{path}.targetPort", target, wrong))
    else:
        errors += check_port(target, f"{path}.targetPort")
    if port.get("appProtocol") and (wrong := qualified_name(port["appProtocol"])):
        errors.append(invalid(f"{path}.appProtocol", port["appProtocol"], wrong))
    return errors


def _validate_addresses(spec: Document) -> list[FieldError]:
    errors: list[FieldError] = []
    addresses = spec.get("clusterIPs") or []
    if spec["type"] == "ExternalName":
        errors += [
            forbidden(f"spec.{key}", "may not be set for ExternalName services")
            for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
            if spec.get(key)
        ]
        return errors + _validate_external_name(spec)
    if spec["type"] in _WITH_NODE_PORTS and spec.get("clusterIP") == "None":
        errors.append(
            invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {spec['type']} services")
        )
    if addresses and addresses[0] != spec.get("clusterIP"):
        errors.append(invalid("spec.clusterIPs", addresses, "first value must match `clusterIP`"))
    if len(addresses) > 1:
        errors.append(
            invalid(
                "spec.clusterIPs", addresses, "this cluster has one address family, so there is one address"
            )
        )
    for number, address in enumerate(addresses):
        if address != "None":
            errors += _check_address(address, f"spec.clusterIPs[{number}]")
    for number, address in enumerate(spec.get("externalIPs") or ()):
        errors += check_ip(address, f"spec.externalIPs[{number}]")
    if spec.get("ipFamilies") not in (None, ["IPv4"]):
        families = spec["ipFamilies"]
        errors.append(invalid("spec.ipFamilies[0]", families[0], "not configured on this cluster"))
    policies = ("SingleStack", "PreferDualStack", "RequireDualStack")
    if spec.get("ipFamilyPolicy") not in policies:
        errors.append(not_supported("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), policies))
    elif spec["ipFamilyPolicy"] == "RequireDualStack" and spec.get("clusterIP") != "None":
        errors.append(
            invalid(
                "spec.ipFamilyPolicy",
                "RequireDualStack",
                "this cluster is not configured for dual-stack services",
            )
        )
    return errors


def _validate_external_name(spec: Document) -> list[FieldError]:
    name = spec.get("externalName", "").removesuffix(".")
    if not name:
        return [required("spec.externalName")]
    wrong = dns_subdomain(name)
    return [invalid("spec.externalName", name, wrong)] if wrong else []


def _check_address(address: str, path: str) -> list[FieldError]:
    try:
        ip_address(address)
    except ValueError:
        return [invalid(path, address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    return []


def _validate_affinity(spec: Document) -> list[FieldError]:
    affinity = spec["sessionAffinity"]
    if affinity not in ("ClientIP", "None"):
        return [not_supported("spec.sessionAffinity", affinity, ("ClientIP", "None"))]
    if affinity == "ClientIP":
        timeout = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
        if not 0 < timeout <= _MAX_AFFINITY_SECONDS:
            return [
                invalid(
                    "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                    timeout,
                    f"must be greater than 0 and less than {_MAX_AFFINITY_SECONDS}",
                )
            ]
    return []


def _validate_traffic(spec: Document) -> list[FieldError]:
    errors: list[FieldError] = []
    policy = spec.get("externalTrafficPolicy")
    if policy:
        if not externally_accessible(spec):
            errors.append(
                invalid(
                    "spec.externalTrafficPolicy",
                    policy,
                    "may only be set for externally-accessible services",
                )
            )
        elif policy not in _TRAFFIC_POLICIES:
            errors.append(not_supported("spec.externalTrafficPolicy", policy, _TRAFFIC_POLICIES))
    internal = spec.get("internalTrafficPolicy")
    if internal and internal not in _TRAFFIC_POLICIES:
        errors.append(not_supported("spec.internalTrafficPolicy", internal, _TRAFFIC_POLICIES))
    distribution = spec.get("trafficDistribution")
    if distribution and distribution not in _DISTRIBUTIONS:
        errors.append(not_supported("spec.trafficDistribution", distribution, _DISTRIBUTIONS))
    health_check = spec.get("healthCheckNodePort")
    if health_check and not needs_health_check_port(spec):
        errors.append(
            invalid(
                "spec.healthCheckNodePort",
                health_check,
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            )
        )
    return errors


def _validate_balancer(spec: Document) -> list[FieldError]:
    balanced = spec["type"] == "LoadBalancer"
    errors = [
        forbidden(f"spec.{key}", "may only be used when `type` is 'LoadBalancer'")
        for key in ("allocateLoadBalancerNodePorts", "loadBalancerClass", "loadBalancerSourceRanges")
        if spec.get(key) not in (None, []) and not balanced
    ]
    if balanced:
        if spec.get("loadBalancerClass") and (wrong := qualified_name(spec["loadBalancerClass"])):
            errors.append(invalid("spec.loadBalancerClass", spec["loadBalancerClass"], wrong))
        for number, text in enumerate(spec.get("loadBalancerSourceRanges") or ()):
            try:
                if "/" not in text:
                    raise ValueError(text)
                ip_network(text.strip(), strict=False)
            except ValueError:
                errors.append(
                    invalid(
                        f"spec.loadBalancerSourceRanges[{number}]",
                        text,
                        "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                    )
                )
    return errors


def validate_update(new: Document, old: Document) -> list[FieldError]:
    """What may not change."""
    spec, before = new["spec"], old["spec"]
    errors: list[FieldError] = []
    if "ExternalName" not in (spec["type"], before["type"]):
        had = before.get("clusterIP")
        if had and spec.get("clusterIP") != had:
            errors.append(
                invalid(
                    "spec.clusterIPs[0]",
                    spec.get("clusterIPs") or [spec.get("clusterIP")],
                    "may not change once set",
                )
            )
    if needs_health_check_port(spec) and needs_health_check_port(before):
        port = spec.get("healthCheckNodePort")
        if before.get("healthCheckNodePort") and port != before["healthCheckNodePort"]:
            errors.append(invalid("spec.healthCheckNodePort", port, "field is immutable"))
    if spec["type"] == before["type"] == "LoadBalancer":
        kind = spec.get("loadBalancerClass")
        if kind != before.get("loadBalancerClass"):
            errors.append(invalid("spec.loadBalancerClass", kind, "may not change once set"))
    return errors


def validate_status(document: Document) -> list[FieldError]:
    """Errors of a Service's status."""
    errors: list[FieldError] = []
    ingresses = (document["status"].get("loadBalancer") or {}).get("ingress") or ()
    if ingresses and document["spec"].get("type") != "LoadBalancer":
        errors.append(
            forbidden("status.loadBalancer.ingress", "may only be used when `spec.type` is LoadBalancer")
        )
    for number, ingress in enumerate(ingresses):
        path = f"status.loadBalancer.ingress[{number}]"
        if ingress.get("ip"):
            ingress.setdefault("ipMode", "VIP")
            errors += _check_address(ingress["ip"], f"{path}.ip")
            if ingress["ipMode"] not in ("Proxy", "VIP"):
                errors.append(not_supported(f"{path}.ipMode", ingress["ipMode"], ("Proxy", "VIP")))
        elif ingress.get("ipMode"):
            errors.append(forbidden(f"{path}.ipMode", "may not be specified when `ip` is not set"))
        if ingress.get("hostname"):
            errors += _check_ingress_hostname(ingress["hostname"], f"{path}.hostname")
    return errors


def _check_ingress_hostname(hostname: str, path: str) -> list[FieldError]:
    if wrong := dns_subdomain(hostname):
        return [invalid(path, hostname, wrong)]
    if not _check_address(hostname, path):
        return [invalid(path, hostname, "must be a DNS name, not an IP address")]
    return []


# --- selectors and columns ---


def fields(document: Document) -> Mapping[str, str]:
    """What field selectors see."""
    spec = document["spec"]
    return {"spec.clusterIP": spec.get("clusterIP", ""), "spec.type": spec.get("type", "")}


def row(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get services`."""
    spec = document["spec"]
    ports = [
        f"{port['port']}:{port['nodePort']}/{port['protocol']}"
        if port.get("nodePort")
        else f"{port['port']}/{port['protocol']}"
        for port in spec.get("ports") or ()
    ]
    return [
        document["metadata"]["name"],
        spec["type"],
        spec.get("clusterIP") or cells.NONE,
        _external_ip(document),
        ",".join(ports) or cells.NONE,
        cells.age(document, now),
        cells.labels(spec.get("selector")),
    ]


def _external_ip(document: Document) -> str:
    spec = document["spec"]
    external = list(spec.get("externalIPs") or ())
    if spec["type"] == "ExternalName":
        return str(spec.get("externalName", cells.NONE))
    if spec["type"] == "LoadBalancer":
        ingresses = ((document.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        shown = sorted({entry.get("ip") or entry.get("hostname", "") for entry in ingresses})
        return ",".join([*shown, *external]) or "<pending>"
    return ",".join(external) or cells.NONE
