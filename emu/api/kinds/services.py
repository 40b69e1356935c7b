"""Services: defaults, what an update keeps and wipes, and columns.

Sources: `pkg/apis/core/v1/defaults.go`, and `pkg/registry/core/service` (`strategy.go`, `storage.go`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emu.api.kinds import cells
from emu.api.naming import dns_label
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
WITH_NODE_PORTS = ("NodePort", "LoadBalancer")
HEADLESS = "None"
"""The `clusterIP` of a Service that has no address."""
_WITH_INTERNAL_POLICY = ("ClusterIP", *WITH_NODE_PORTS)
_DEFAULT_AFFINITY_SECONDS = 10800
_OMITTED_WHEN_EMPTY = (
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "ipFamilies",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "ports",
    "publishNotReadyAddresses",
    "selector",
    "sessionAffinity",
    "type",
)
_OMITTED_WHEN_EMPTY_IN_A_PORT = ("name", "nodePort", "protocol")


def externally_accessible(spec: Mapping[str, Any]) -> bool:
    """Whether the Service can be reached from outside the cluster."""
    kind = spec.get("type")
    return kind in WITH_NODE_PORTS or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def needs_health_check_port(spec: Mapping[str, Any]) -> bool:
    """Whether the Service gets a health check node port."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def is_headless(spec: Mapping[str, Any]) -> bool:
    """Whether the Service has no address by wish."""
    return spec.get("clusterIPs") == [HEADLESS]


# --- defaults and updates ---


def _drop_empty(spec: Document) -> None:
    """Remove what Go's decoding cannot tell from a missing field."""
    for key in _OMITTED_WHEN_EMPTY:
        if not spec.get(key, True):
            del spec[key]
    for port in spec.get("ports") or ():
        for key in _OMITTED_WHEN_EMPTY_IN_A_PORT:
            if not port.get(key, True):
                del port[key]


def default(document: Document) -> None:
    """Defaults of a Service. Families and addresses are given out at admission."""
    spec = document.setdefault("spec", {})
    _drop_empty(spec)
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client_ip = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client_ip.setdefault("timeoutSeconds", _DEFAULT_AFFINITY_SECONDS)
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    if externally_accessible(spec):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] in _WITH_INTERNAL_POLICY:
        spec.setdefault("internalTrafficPolicy", "Cluster")
    balancer = document.setdefault("status", {}).setdefault("loadBalancer", {})
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        for ingress in balancer.get("ingress") or ():
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")


def keep(new: Document, old: Document) -> None:
    """Carry over allocated values that the writer left out; wipe what the new type has no use for."""
    spec, before = new.setdefault("spec", {}), old["spec"]
    _drop_empty(spec)
    spec.setdefault("type", "ClusterIP")
    _keep_allocated(spec, before)
    _match_cluster_ips(spec, before)
    _wipe_unused(spec, before)
    if spec["type"] != "LoadBalancer" and before.get("type") == "LoadBalancer":
        new["status"] = {**(new.get("status") or {}), "loadBalancer": {}}


def _keep_allocated(spec: Document, before: Document) -> None:
    if "ExternalName" not in (spec["type"], before.get("type")):
        for key in ("clusterIP", "clusterIPs"):
            if key in before:
                spec.setdefault(key, before[key])
    if spec["type"] in WITH_NODE_PORTS and before.get("type") in WITH_NODE_PORTS:
        _keep_node_ports(spec, before)
    if needs_health_check_port(spec) and needs_health_check_port(before):
        spec.setdefault("healthCheckNodePort", before.get("healthCheckNodePort", 0))


def _keep_node_ports(spec: Document, before: Document) -> None:
    """A port of the same name keeps its node port, unless that is asked for by another port."""
    used = _node_ports(spec) & _node_ports(before)
    by_name = {port.get("name", ""): port.get("nodePort", 0) for port in before.get("ports") or ()}
    for port in spec.get("ports") or ():
        kept = by_name.get(port.get("name", ""), 0)
        if kept and kept not in used and not port.get("nodePort"):
            port["nodePort"] = kept


def _match_cluster_ips(spec: Document, before: Document) -> None:
    """`clusterIPs` follows a writer who knows `clusterIP` only."""
    was, now = before.get("clusterIP", ""), spec.get("clusterIP", "")
    if was == now:
        if before.get("clusterIPs"):
            spec.setdefault("clusterIPs", before["clusterIPs"])
        return
    if spec.get("clusterIPs", []) != before.get("clusterIPs", []):
        return
    if now:
        spec["clusterIPs"] = [now]
    else:
        spec.pop("clusterIPs", None)


def _wipe_unused(spec: Document, before: Document) -> None:
    def wipe(*keys: str) -> None:
        if all(spec.get(key) == before.get(key) for key in keys):
            for key in keys:
                spec.pop(key, None)

    was, now = before.get("type"), spec["type"]
    if now == "ExternalName" and was != "ExternalName":
        wipe("clusterIP", "clusterIPs")
        wipe("ipFamilies")
        wipe("ipFamilyPolicy")
    if was in WITH_NODE_PORTS and now not in WITH_NODE_PORTS and _node_ports(spec) <= _node_ports(before):
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)
    if needs_health_check_port(before) and not needs_health_check_port(spec):
        wipe("healthCheckNodePort")
    if was == "LoadBalancer" and now != "LoadBalancer":
        wipe("allocateLoadBalancerNodePorts")
        wipe("loadBalancerClass")
    if externally_accessible(before) and not externally_accessible(spec):
        wipe("externalTrafficPolicy")


def _node_ports(spec: Mapping[str, Any]) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


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
