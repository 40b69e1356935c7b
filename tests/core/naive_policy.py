"""A second NetworkPolicy evaluator, slow and written straight from the rules, over plain JSON documents.

It shares no code with the engine. The rule numbers are those of tests/core/test_policy_rules.py.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

Document = dict[str, Any]


class NaiveWorld:
    def __init__(self) -> None:
        self.pods: dict[str, Document] = {}
        self.namespaces: dict[str, Document] = {}
        self.nodes: dict[str, Document] = {}
        self.policies: dict[str, Document] = {}

    def allowed(self, source: str, destination: str, port: int, protocol: str) -> bool:
        source_pod, destination_pod = self._pod(source), self._pod(destination)
        if source == destination and source_pod is not None:
            return True  # 28
        if source_pod is not None and not self._side(
            "Egress",
            "egress",
            "to",
            source_pod,
            destination,
            destination_pod,
            destination_pod,
            port,
            protocol,
        ):
            return False  # 6
        if destination_pod is None:
            return True  # 7
        if source in self._node_addresses(destination_pod):
            return True  # 29
        return self._side(
            "Ingress", "ingress", "from", destination_pod, source, source_pod, destination_pod, port, protocol
        )

    def _pod(self, address: str) -> Document | None:
        for pod in self.pods.values():
            status = pod.get("status", {})
            if pod.get("spec", {}).get("hostNetwork"):
                continue  # 31
            if status.get("phase") in ("Succeeded", "Failed"):
                continue  # 33
            if status.get("podIP") == address:
                return pod
        return None

    def _node_addresses(self, pod: Document) -> list[str]:
        node = self.nodes.get(pod["spec"].get("nodeName", ""))
        if node is None:
            host = pod["status"].get("hostIP")
            return [host] if host else []
        addresses = [item["address"] for item in node["status"]["addresses"] if item["type"] == "InternalIP"]
        if node["spec"].get("podCIDR"):
            addresses.append(str(IPv4Network(node["spec"]["podCIDR"])[1]))
        return addresses

    def _side(
        self,
        policy_type: str,
        section: str,
        peers_field: str,
        subject: Document,
        peer: str,
        peer_pod: Document | None,
        destination_pod: Document | None,
        port: int,
        protocol: str,
    ) -> bool:
        isolated = False
        for policy in self.policies.values():
            spec = policy["spec"]
            namespace = policy["metadata"]["namespace"]
            if namespace != subject["metadata"]["namespace"]:
                continue  # 1
            if not selects(spec.get("podSelector") or {}, labels_of(subject)):
                continue  # 12
            types = spec.get("policyTypes") or (
                ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
            )  # 2
            if policy_type not in types:
                continue  # 3
            isolated = True
            for rule in spec.get(section) or []:
                ports, peers = rule.get("ports"), rule.get(peers_field)
                port_fits = not ports or any(
                    port_matches(item, destination_pod, port, protocol) for item in ports
                )  # 11
                peer_fits = not peers or any(
                    self._peer_matches(item, namespace, peer, peer_pod) for item in peers
                )  # 10
                if port_fits and peer_fits:
                    return True  # 8, 5
        return not isolated  # 4

    def _peer_matches(self, item: Document, namespace: str, address: str, pod: Document | None) -> bool:
        block = item.get("ipBlock")
        if block is not None:
            if address_in(block["cidr"], address):
                return not any(address_in(text, address) for text in block.get("except") or [])
            return False  # 21
        if pod is None:
            return False  # 22
        pod_namespace = pod["metadata"]["namespace"]
        if item.get("namespaceSelector") is None:
            if pod_namespace != namespace:
                return False  # 13
        else:
            known = self.namespaces.get(pod_namespace, {"metadata": {}})
            labels = {**labels_of(known), "kubernetes.io/metadata.name": pod_namespace}  # 15
            if not selects(item["namespaceSelector"], labels):
                return False
        return selects(item.get("podSelector") or {}, labels_of(pod))


def labels_of(document: Document) -> dict[str, str]:
    return document["metadata"].get("labels") or {}


def address_in(cidr: str, address: str) -> bool:
    if ":" in cidr:
        return False
    return IPv4Address(address) in IPv4Network(cidr, strict=False)


def selects(selector: Document, labels: dict[str, str]) -> bool:
    for key, value in (selector.get("matchLabels") or {}).items():
        if key not in labels or labels[key] != value:
            return False
    for expression in selector.get("matchExpressions") or []:
        key, operator = expression["key"], expression["operator"]
        present = key in labels
        if operator == "In":
            fits = present and labels[key] in expression["values"]
        elif operator == "NotIn":
            fits = not (present and labels[key] in expression["values"])  # 14
        elif operator == "Exists":
            fits = present
        else:
            fits = not present
        if not fits:
            return False
    return True


def port_matches(item: Document, destination_pod: Document | None, port: int, protocol: str) -> bool:
    if (item.get("protocol") or "TCP") != protocol:
        return False  # 17
    wanted = item.get("port")
    if wanted is None:
        return True  # 18
    if isinstance(wanted, int):
        return wanted <= port <= (item.get("endPort") or wanted)  # 20
    if destination_pod is None:
        return False
    return any(
        (entry.get("name"), entry["containerPort"], entry.get("protocol", "TCP")) == (wanted, port, protocol)
        for container in destination_pod["spec"].get("containers", [])
        for entry in container.get("ports", [])
    )  # 19
