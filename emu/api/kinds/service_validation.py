"""What is wrong with a Service, in the order in which upstream looks.

Source: `ValidateService`, `ValidateServiceUpdate` and `ValidateLoadBalancerStatus` in
`pkg/apis/core/validation`.
"""

from __future__ import annotations

from typing import Any

from emu.api.errors import FieldError, duplicate, forbidden, invalid, not_supported, required
from emu.api.kinds.ip_fields import check_cidr, check_endpoint_ip, check_ip, parse_ip
from emu.api.kinds.ports import check_port, check_port_number, check_protocol
from emu.api.kinds.services import (
    HEADLESS,
    WITH_NODE_PORTS,
    externally_accessible,
    is_headless,
    needs_health_check_port,
)
from emu.api.naming import (
    check,
    check_labels,
    dns_label_faults,
    dns_subdomain_faults,
    qualified_name_faults,
)
from emu.api.resource import Document

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_TRAFFIC_POLICIES = ("Cluster", "Local")
_DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
_AFFINITIES = ("ClientIP", "None")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_IP_MODES = ("Proxy", "VIP")
_KUBELET_PORT = 10250
_MAX_AFFINITY_SECONDS = 86400
_RANGES_ANNOTATION = "service.beta.kubernetes.io/load-balancer-source-ranges"
_HINTS_ANNOTATION = "service.kubernetes.io/topology-aware-hints"
_TOPOLOGY_ANNOTATION = "service.kubernetes.io/topology-mode"
_ONLY_BALANCED = "may only be used when `type` is 'LoadBalancer'"
_FIXED = "may not change once set"


def validate(document: Document) -> list[FieldError]:
    """Errors of a Service."""
    spec, annotations = document["spec"], document["metadata"].get("annotations") or {}
    return [
        *_check_topology_annotations(annotations),
        *_check_type_and_address(spec),
        *_check_ports(spec),
        *check_labels(spec.get("selector"), "spec.selector"),
        *_check_affinity(spec),
        *check_cluster_ips(spec),
        *_check_external_ips(spec),
        *_check_type(spec),
        *_check_port_pairs(spec),
        *_check_source_ranges(spec, annotations),
        *_check_balancer(spec),
        *_check_traffic(spec),
    ]


def _check_topology_annotations(annotations: Document) -> list[FieldError]:
    mode = annotations.get(_TOPOLOGY_ANNOTATION)
    hints = annotations.get(_HINTS_ANNOTATION)
    if mode is None or hints is None or mode == hints:
        return []
    path = f"metadata.annotations[{_TOPOLOGY_ANNOTATION}]"
    return [invalid(path, mode, f"must match annotations[{_HINTS_ANNOTATION}] when both are specified")]


def _check_type_and_address(spec: Document) -> list[FieldError]:
    errors: list[FieldError] = []
    kind, ports = spec["type"], spec.get("ports") or []
    if not ports and not is_headless(spec) and kind != "ExternalName":
        errors.append(required("spec.ports"))
    if kind == "LoadBalancer":
        errors += [
            invalid(
                f"spec.ports[{number}]",
                _KUBELET_PORT,
                f"may not expose port {_KUBELET_PORT} externally since it is used by kubelet",
            )
            for number, port in enumerate(ports)
            if port.get("port") == _KUBELET_PORT
        ]
    if kind in WITH_NODE_PORTS and is_headless(spec):
        errors.append(
            invalid("spec.clusterIPs[0]", HEADLESS, f"may not be set to 'None' for {kind} services")
        )
    if kind == "ExternalName":
        errors += [
            forbidden(f"spec.{key}", "may not be set for ExternalName services")
            for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
            if key in spec
        ]
        name = spec.get("externalName", "").removesuffix(".")
        errors += (
            check(name, "spec.externalName", dns_subdomain_faults)
            if name
            else [required("spec.externalName")]
        )
    return errors


# --- ports ---


def _check_ports(spec: Document) -> list[FieldError]:
    ports = spec.get("ports") or []
    errors: list[FieldError] = []
    names: set[str] = set()
    for number, port in enumerate(ports):
        path, name = f"spec.ports[{number}]", port.get("name", "")
        if name:
            errors += check(name, f"{path}.name", dns_label_faults)
            if name in names:
                errors.append(duplicate(f"{path}.name", name))
            names.add(name)
        elif len(ports) > 1:
            errors.append(required(f"{path}.name"))
        errors += check_port_number(port.get("port", 0), f"{path}.port")
        errors += check_protocol(port.get("protocol"), f"{path}.protocol")
        errors += check_port(port.get("targetPort", 0), f"{path}.targetPort")
        if "appProtocol" in port:
            errors += check(port["appProtocol"], f"{path}.appProtocol", qualified_name_faults)
    return errors


def _check_port_pairs(spec: Document) -> list[FieldError]:
    """Node ports, and service ports, are unique for each protocol."""
    ports = spec.get("ports") or []
    errors: list[FieldError] = []
    if spec["type"] == "ClusterIP":
        errors += [
            forbidden(f"spec.ports[{number}].nodePort", "may not be used when `type` is 'ClusterIP'")
            for number, port in enumerate(ports)
            if port.get("nodePort")
        ]
    seen: set[tuple[Any, Any]] = set()
    for number, port in enumerate(ports):
        if port.get("nodePort"):
            at = (port.get("protocol"), port["nodePort"])
            if at in seen:
                errors.append(duplicate(f"spec.ports[{number}].nodePort", port["nodePort"]))
            seen.add(at)
    seen.clear()
    for number, port in enumerate(ports):
        at = (port.get("protocol"), port.get("port", 0))
        if at in seen:
            errors.append(duplicate(f"spec.ports[{number}]", _shown_pair(*at)))
        seen.add(at)
    return errors


def _shown_pair(protocol: str, port: int) -> Document:
    """Upstream shows its internal ServicePort, of which these two fields are set."""
    return {
        "Name": "",
        "Protocol": protocol,
        "AppProtocol": None,
        "Port": port,
        "TargetPort": 0,
        "NodePort": 0,
    }


# --- addresses ---


def check_cluster_ips(spec: Document) -> list[FieldError]:
    """Errors of `clusterIPs`, `ipFamilies` and `ipFamilyPolicy`, each for itself and among them."""
    if spec["type"] == "ExternalName":
        return []
    errors: list[FieldError] = []
    path = "spec.clusterIPs"
    address, addresses = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    families = spec.get("ipFamilies") or []
    if address and not addresses:
        errors.append(required(path))
    elif address and addresses[0] != address:
        errors.append(invalid(path, addresses, "first value must match `clusterIP`"))
    elif addresses and not address:
        errors.append(invalid(path, addresses, "must be empty when `clusterIP` is not specified"))
    for number, family in enumerate(families):
        if family not in _FAMILIES:
            errors.append(not_supported(f"spec.ipFamilies[{number}]", family, _FAMILIES))
        if family in families[:number]:
            errors.append(duplicate(f"spec.ipFamilies[{number}]", family))
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in _FAMILY_POLICIES:
        errors.append(not_supported("spec.ipFamilyPolicy", policy, _FAMILY_POLICIES))
    wrong = _check_each_address(addresses, path)
    errors += wrong
    if len(addresses) > 2:
        errors.append(invalid(path, addresses, "may only hold up to 2 values"))
    return errors if wrong else errors + _check_address_families(spec, path)


def _check_each_address(addresses: list[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for number, address in enumerate(addresses):
        if number == 0 and address == HEADLESS:
            if len(addresses) > 1:
                errors.append(invalid(path, addresses, "'None' must be the first and only value"))
        else:
            errors += check_ip(address, f"{path}[{number}]")
    return errors


def _check_address_families(spec: Document, path: str) -> list[FieldError]:
    addresses = spec.get("clusterIPs") or []
    families = spec.get("ipFamilies") or []
    errors: list[FieldError] = []
    found = [family_of(address) for address in addresses]
    if len(addresses) > 1 and len(set(found)) < 2:
        errors.append(invalid(path, addresses, "may specify no more than one IP for each IP family"))
    if not is_headless(spec):
        errors += [
            invalid(
                f"{path}[{number}]",
                addresses[number],
                f"expected an {family} value as indicated by `ipFamilies[{number}]`",
            )
            for number, family in enumerate(families[: len(addresses)])
            if family in _FAMILIES and family != found[number]
        ]
    return errors


def family_of(address: str) -> str:
    """`IPv4` or `IPv6`; "" for what is no address."""
    found = parse_ip(address)
    return "" if found is None else f"IPv{found.version}"


def _check_external_ips(spec: Document) -> list[FieldError]:
    errors: list[FieldError] = []
    for number, address in enumerate(spec.get("externalIPs") or ()):
        path = f"spec.externalIPs[{number}]"
        errors += check_ip(address, path) or check_endpoint_ip(address, path)
    return errors


# --- the rest of the spec ---


def _check_type(spec: Document) -> list[FieldError]:
    return [] if spec["type"] in _TYPES else [not_supported("spec.type", spec["type"], _TYPES)]


def _check_affinity(spec: Document) -> list[FieldError]:
    affinity = spec["sessionAffinity"]
    if affinity not in _AFFINITIES:
        return [not_supported("spec.sessionAffinity", affinity, _AFFINITIES)]
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


def _check_source_ranges(spec: Document, annotations: Document) -> list[FieldError]:
    """The ranges, or else the annotation that came before them. Spaces around a range are allowed."""
    balanced = spec["type"] == "LoadBalancer"
    if ranges := spec.get("loadBalancerSourceRanges"):
        # Upstream writes this field with a capital letter.
        path = "spec.LoadBalancerSourceRanges"
        given = [(f"{path}[{number}]", text) for number, text in enumerate(ranges)]
    elif (text := annotations.get(_RANGES_ANNOTATION)) is not None:
        path = f"metadata.annotations[{_RANGES_ANNOTATION}]"
        given = [(path, part) for part in text.split(",")] if text.strip() else []
    else:
        return []
    errors = [] if balanced else [forbidden(path, _ONLY_BALANCED)]
    for here, text in given:
        errors += check_cidr(text.strip(), here)
    return errors


def _check_balancer(spec: Document) -> list[FieldError]:
    if spec["type"] != "LoadBalancer":
        return [
            forbidden(f"spec.{key}", _ONLY_BALANCED)
            for key in ("allocateLoadBalancerNodePorts", "loadBalancerClass")
            if key in spec
        ]
    if "loadBalancerClass" in spec:
        return check(spec["loadBalancerClass"], "spec.loadBalancerClass", qualified_name_faults)
    return []


def _check_traffic(spec: Document) -> list[FieldError]:
    errors: list[FieldError] = []
    policy, path = spec.get("externalTrafficPolicy"), "spec.externalTrafficPolicy"
    if policy and not externally_accessible(spec):
        errors.append(invalid(path, policy, "may only be set for externally-accessible services"))
    elif policy and policy not in _TRAFFIC_POLICIES:
        errors.append(not_supported(path, policy, _TRAFFIC_POLICIES))
    errors += _check_health_check(spec)
    internal = spec.get("internalTrafficPolicy")
    if internal is not None and internal not in _TRAFFIC_POLICIES:
        errors.append(not_supported("spec.internalTrafficPolicy", internal, _TRAFFIC_POLICIES))
    distribution = spec.get("trafficDistribution")
    if distribution is not None and distribution not in _DISTRIBUTIONS:
        errors.append(not_supported("spec.trafficDistribution", distribution, _DISTRIBUTIONS))
    return errors


def _check_health_check(spec: Document) -> list[FieldError]:
    port, path = spec.get("healthCheckNodePort", 0), "spec.healthCheckNodePort"
    if not needs_health_check_port(spec):
        if not port:
            return []
        return [
            invalid(
                path,
                port,
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            )
        ]
    return check_port_number(port, path) if port else [required(path)]


# --- updates ---


def validate_update(new: Document, old: Document) -> list[FieldError]:
    """What may not change."""
    spec, before = new["spec"], old["spec"]
    errors: list[FieldError] = []
    if "ExternalName" not in (spec["type"], before["type"]):
        errors += _check_fixed_addresses(spec, before)
        errors += _check_fixed_families(spec, before)
    if spec["type"] == before["type"] == "LoadBalancer":
        kind = spec.get("loadBalancerClass")
        if kind != before.get("loadBalancerClass"):
            errors.append(invalid("spec.loadBalancerClass", kind, _FIXED))
    held = needs_health_check_port(spec) and needs_health_check_port(before)
    if held and spec.get("healthCheckNodePort") != before.get("healthCheckNodePort"):
        errors.append(forbidden("spec.healthCheckNodePort", "field is immutable"))
    return errors


def _check_fixed_addresses(spec: Document, before: Document) -> list[FieldError]:
    was, now = before.get("clusterIPs") or [], spec.get("clusterIPs") or []
    if is_headless(spec) and is_headless(before):
        return []
    path = "spec.clusterIPs"
    if was and not now:
        return [invalid(f"{path}[0]", now, "primary clusterIP can not be unset")]
    compared = len(was) if len(was) == len(now) else min(1, len(was))
    return [
        invalid(f"{path}[{number}]", now, _FIXED) for number in range(compared) if was[number] != now[number]
    ]


def _check_fixed_families(spec: Document, before: Document) -> list[FieldError]:
    was, now = before.get("ipFamilies") or [], spec.get("ipFamilies") or []
    if is_headless(spec) or is_headless(before) or not was or not now or was[0] == now[0]:
        return []
    return [invalid("spec.ipFamilies[0]", now, _FIXED)]


# --- status ---


def validate_status(document: Document) -> list[FieldError]:
    """Errors of a Service's status."""
    ingresses = (document["status"].get("loadBalancer") or {}).get("ingress") or ()
    if not ingresses:
        return []
    if document["spec"].get("type") != "LoadBalancer":
        return [
            forbidden("status.loadBalancer.ingress", "may only be used when `spec.type` is 'LoadBalancer'")
        ]
    errors: list[FieldError] = []
    for number, ingress in enumerate(ingresses):
        path = f"status.loadBalancer.ingress[{number}]"
        address, mode, name = ingress.get("ip"), ingress.get("ipMode"), ingress.get("hostname")
        if address:
            errors += check_ip(address, f"{path}.ip")
            mode = ingress.setdefault("ipMode", "VIP")
        elif mode is not None:
            errors.append(forbidden(f"{path}.ipMode", "may not be specified when `ip` is not set"))
        if address and mode not in _IP_MODES:
            errors.append(not_supported(f"{path}.ipMode", mode, _IP_MODES))
        if name:
            errors += check(name, f"{path}.hostname", dns_subdomain_faults)
            if parse_ip(name) is not None:
                errors.append(invalid(f"{path}.hostname", name, "must be a DNS name, not an IP address"))
    return errors
