"""The evaluator of network policies: may this connection be made, and who may reach this pod port.

Each direction is decided by an ordered list of tiers; what none of them decides is allowed. Each changed
object costs what it touches: sets that depend on it are built anew when they are next asked for.
"""

from __future__ import annotations

import msgspec

from emu.core.addresses import bridge_address, to_int
from emu.core.objects import Namespace, NetworkPolicy, Node, Pod
from emu.core.policy.compiled import Direction
from emu.core.policy.index import PodEntry, PodIndex
from emu.core.policy.networkpolicy import NetworkPolicyTier
from emu.core.policy.tier import Connection, End, Judgement, Tier
from emu.core.ranges import EVERYONE, NOBODY, Ranges, complement, including, intersection, union


class Decision(msgspec.Struct, frozen=True):
    """Whether a connection may be made."""

    allowed: bool
    reason: str
    """One sentence: which policies isolate, and which rule allowed or came nearest."""
    policies: tuple[str, ...] = ()
    """`namespace/name` of the policies that decided."""


_NO_POLICY = Decision(True, "allowed: there is no NetworkPolicy")


class PolicyEngine:
    """Knows policies, pods, namespaces and nodes, and answers two questions about them.

    `set_*` and `remove_*` may be called in any order and again; each tells whether policies see a change.
    Pods without an address, on the host's network, or finished are neither subjects nor selected as peers.
    """

    def __init__(self) -> None:
        self._index = PodIndex()
        self._nodes: dict[str, tuple[int, ...]] = {}
        self._network_policies = NetworkPolicyTier(self._index)
        # In the order in which they decide.
        self._tiers: tuple[Tier, ...] = (self._network_policies,)

    @property
    def empty(self) -> bool:
        """Whether there is no policy at all: everything is allowed."""
        return all(tier.empty for tier in self._tiers)

    @property
    def errors(self) -> dict[str, str]:
        """What is wrong with policies that cannot be compiled, by their key; they admit nobody."""
        return self._network_policies.errors

    def set_pod(self, pod: Pod) -> bool:
        """Add or replace a pod."""
        return self._index.set(pod)

    def remove_pod(self, key: str) -> bool:
        """Forget a pod, by `namespace/name`."""
        return self._index.remove(key)

    def set_namespace(self, namespace: Namespace) -> bool:
        """Add or replace a namespace."""
        changed = self._index.namespaces.set(namespace)
        if changed:
            self._network_policies.namespaces_changed()
        return changed

    def remove_namespace(self, name: str) -> bool:
        """Forget a namespace's labels; its pods and policies are removed on their own."""
        changed = self._index.namespaces.remove(name)
        if changed:
            self._network_policies.namespaces_changed()
        return changed

    def set_node(self, node: Node) -> bool:
        """Add or replace a node."""
        addresses = _own_addresses(node)
        changed = self._nodes.get(node.name) != addresses
        self._nodes[node.name] = addresses
        return changed

    def remove_node(self, name: str) -> bool:
        """Forget a node."""
        return self._nodes.pop(name, None) is not None

    def set_policy(self, policy: NetworkPolicy) -> bool:
        """Add or replace a NetworkPolicy. One that cannot be compiled isolates its subjects: see `errors`."""
        return self._network_policies.set(policy)

    def remove_policy(self, key: str) -> bool:
        """Lift a NetworkPolicy, by `namespace/name`."""
        return self._network_policies.remove(key)

    def decide(self, source: str, destination: str, port: int, protocol: str = "TCP") -> Decision:
        """Whether `source` may connect to `port` of `destination`.

        Both ends are addresses; `destination` is the chosen endpoint, never a Service's virtual IP. An end
        that is no pod is never restricted itself.
        """
        if self.empty:
            return _NO_POLICY
        connection = Connection(self._end(source), self._end(destination), port, protocol)
        if source == destination and connection.source.pod is not None:
            return Decision(True, f"allowed: {connection.source.pod.key} may always reach itself")
        judgements = []
        for direction in (Direction.EGRESS, Direction.INGRESS):
            judgement = self._judge(connection, direction)
            if judgement is None:
                continue
            if not judgement.allowed:
                return Decision(False, f"dropped: {judgement.reason}", judgement.policies)
            judgements.append(judgement)
        if not judgements:
            return Decision(True, _unrestricted(connection))
        reason = "allowed: " + "; ".join(judgement.reason for judgement in judgements)
        return Decision(True, reason, tuple(key for judgement in judgements for key in judgement.policies))

    def decide_egress(self, source: str, destination: str, port: int, protocol: str = "TCP") -> Decision:
        """Whether `source` may send to `destination`, as `decide`, without asking the destination.

        For connections whose source is rewritten on the way: the destination judges the rewritten one.
        """
        if self.empty:
            return _NO_POLICY
        connection = Connection(self._end(source), self._end(destination), port, protocol)
        judgement = None if source == destination else self._judge(connection, Direction.EGRESS)
        if judgement is None:
            return Decision(True, _unrestricted(connection))
        verdict = "allowed" if judgement.allowed else "dropped"
        return Decision(judgement.allowed, f"{verdict}: {judgement.reason}", judgement.policies)

    def sources(self, destination: str, port: int, protocol: str = "TCP") -> Ranges:
        """All addresses that `decide` lets reach a port of `destination`; EVERYONE if nobody is kept out."""
        if self.empty:
            return EVERYONE
        end = self._end(destination)
        allowed = EVERYONE if end.pod is None else self._ingress_sources(end.pod, port, protocol)
        denied = self._denied_pods(end, port, protocol)
        if denied:
            allowed = intersection(allowed, complement(self._index.ranges(denied)))
        if end.pod is None or allowed == EVERYONE:
            return allowed
        return including(allowed, (end.address, *self._node_addresses(end.pod)))

    def senders(self, destination: str, port: int, protocol: str = "TCP") -> Ranges:
        """All addresses that `decide_egress` lets send to a port of `destination`."""
        if self.empty:
            return EVERYONE
        end = self._end(destination)
        denied = self._denied_pods(end, port, protocol)
        if not denied:
            return EVERYONE
        return including(complement(self._index.ranges(denied)), () if end.pod is None else (end.address,))

    def _end(self, address: str) -> End:
        try:
            number = to_int(address)
        except ValueError:
            return End(-1, address, None)
        return End(number, address, self._index.at(number))

    def _judge(self, connection: Connection, direction: Direction) -> Judgement | None:
        subject, peer = connection.ends(direction)
        if subject.pod is None:
            return None
        if direction is Direction.INGRESS and peer.address in self._node_addresses(subject.pod):
            name = subject.pod.node
            return Judgement(
                True, f"{peer.text} is node {name}, which may always reach its own pod {subject.pod.key}", ()
            )
        for tier in self._tiers:
            judgement = tier.judge(connection, direction)
            if judgement is not None:
                return judgement
        return None

    def _ingress_sources(self, pod: PodEntry, port: int, protocol: str) -> Ranges:
        undecided, allowed = EVERYONE, NOBODY
        for tier in self._tiers:
            split = tier.split_sources(pod, port, protocol)
            if split is None:
                continue
            accepted = intersection(undecided, split.accepted)
            allowed = union((*allowed, *accepted)) if allowed else accepted
            if split.denied == EVERYONE:
                return allowed
            undecided = intersection(undecided, complement(union((*split.accepted, *split.denied))))
        return union((*allowed, *undecided))

    def _denied_pods(self, destination: End, port: int, protocol: str) -> int:
        undecided, denied = self._index.everything, 0
        for tier in self._tiers:
            split = tier.split_pods(destination.pod, destination.address, port, protocol)
            if split is None:
                continue
            denied |= undecided & split.denied
            undecided &= ~(split.accepted | split.denied)
        return denied

    def _node_addresses(self, pod: PodEntry) -> tuple[int, ...]:
        known = self._nodes.get(pod.node)
        if known is not None or not pod.host_ip:
            return known or ()
        try:
            return (to_int(pod.host_ip),)
        except ValueError:
            return ()


def _own_addresses(node: Node) -> tuple[int, ...]:
    texts = [item.address for item in node.status.addresses if item.type == "InternalIP"]
    addresses = []
    for text in texts:
        try:
            addresses.append(to_int(text))
        except ValueError:
            # The node's address of the other IP family: no connection of this network comes from it.
            continue
    if node.spec.pod_cidr:
        try:
            addresses.append(to_int(bridge_address(node.spec.pod_cidr)))
        except ValueError:
            return tuple(addresses)
    return tuple(addresses)


def _unrestricted(connection: Connection) -> str:
    sides = []
    if connection.source.pod is not None:
        sides.append(f"egress of {connection.source.pod.key}")
    if connection.destination.pod is not None:
        sides.append(f"ingress of {connection.destination.pod.key}")
    if not sides:
        return "allowed: neither end is a pod"
    return f"allowed: no NetworkPolicy isolates {' or '.join(sides)}"
