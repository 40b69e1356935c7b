"""The tier of NetworkPolicy v1: policies that select a pod isolate it, and only add to what may pass.

Source of the rules: the API's field documentation, the Kubernetes documentation of network policies and the
conformance tests of SIG Network.
"""

from __future__ import annotations

from collections.abc import Hashable

from emu.core.objects import NetworkPolicy
from emu.core.policy.compiled import CompiledPolicy, Direction, Rule
from emu.core.policy.index import PodEntry, PodIndex, PodSelection, Profile
from emu.core.policy.tier import Connection, Judgement, PodSplit, SourceSplit
from emu.core.ranges import EVERYONE, contains, union

_REMEMBERED_PROFILES = 4096
_NAMED_POLICIES = 5

_Applied = tuple[tuple[CompiledPolicy, ...], tuple[CompiledPolicy, ...]]
"""The policies that isolate a pod: for ingress, for egress."""


class NetworkPolicyTier:
    """All NetworkPolicies. Final for each direction in which one selects the pod."""

    def __init__(self, index: PodIndex) -> None:
        self._index = index
        self._policies: dict[str, CompiledPolicy] = {}
        self._sources: dict[str, NetworkPolicy] = {}
        self._by_namespace: dict[str, dict[str, CompiledPolicy]] = {}
        self._versions: dict[str, int] = {}
        self._version = 0
        self._applied: dict[int, tuple[PodEntry, int, _Applied]] = {}
        self._egress = _EgressIndex(index)

    @property
    def empty(self) -> bool:
        """See Tier."""
        return not self._policies

    @property
    def errors(self) -> dict[str, str]:
        """What is wrong with the policies that cannot be compiled, by their key."""
        return {key: policy.error for key, policy in self._policies.items() if policy.error}

    def set(self, policy: NetworkPolicy) -> bool:
        """Add or replace a policy. Whether its meaning may have changed."""
        before = self._sources.get(policy.key)
        if before is not None and before.spec == policy.spec:
            return False
        self._sources[policy.key] = policy
        compiled = CompiledPolicy(policy, self._index)
        self._policies[policy.key] = compiled
        self._by_namespace.setdefault(policy.namespace, {})[policy.key] = compiled
        self._egress.set(compiled)
        self._touch(policy.namespace)
        return True

    def remove(self, key: str) -> bool:
        """Lift a policy. Whether it was there."""
        compiled = self._policies.pop(key, None)
        if compiled is None:
            return False
        del self._sources[key]
        siblings = self._by_namespace[compiled.namespace]
        del siblings[key]
        if not siblings:
            del self._by_namespace[compiled.namespace]
        self._egress.remove(key)
        self._touch(compiled.namespace)
        return True

    def namespaces_changed(self) -> None:
        """To be called when labels of a namespace changed."""
        self._egress.forget_profiles()

    def isolating(self, pod: PodEntry, direction: Direction) -> tuple[CompiledPolicy, ...]:
        """The policies that isolate a pod in a direction, in the order of their names."""
        version = self._versions.get(pod.namespace, 0)
        known = self._applied.get(pod.slot)
        if known is None or known[0] is not pod or known[1] != version:
            selecting = [
                policy
                for _, policy in sorted(self._by_namespace.get(pod.namespace, {}).items())
                if policy.subjects.matches(pod)
            ]
            applied = (
                tuple(policy for policy in selecting if policy.ingress is not None),
                tuple(policy for policy in selecting if policy.egress is not None),
            )
            known = (pod, version, applied)
            self._applied[pod.slot] = known
        return known[2][0] if direction is Direction.INGRESS else known[2][1]

    def judge(self, connection: Connection, direction: Direction) -> Judgement | None:
        """See Tier."""
        subject, peer = connection.ends(direction)
        assert subject.pod is not None
        isolating = self.isolating(subject.pod, direction)
        if not isolating:
            return None
        destination, port, protocol = connection.destination.pod, connection.port, connection.protocol
        for policy in isolating:
            for rule in policy.rules(direction) or ():
                if rule.matches_port(destination, port, protocol) and rule.matches_peer(
                    peer.pod, peer.address
                ):
                    return Judgement(True, _admitted(connection, direction, policy, rule), (policy.key,))
        reason = _refused(connection, direction, isolating)
        return Judgement(False, reason, tuple(policy.key for policy in isolating))

    def split_sources(self, destination: PodEntry, port: int, protocol: str) -> SourceSplit | None:
        """See Tier."""
        isolating = self.isolating(destination, Direction.INGRESS)
        if not isolating:
            return None
        pods = 0
        pairs: list[tuple[int, int]] = []
        for policy in isolating:
            for rule in policy.ingress or ():
                if not rule.matches_port(destination, port, protocol):
                    continue
                if rule.any_peer:
                    return SourceSplit(EVERYONE, EVERYONE)
                pairs.extend(rule.blocks)
                for selection in rule.selections:
                    pods |= selection.bits()
        accepted = self._index.ranges(pods)
        if pairs:
            accepted = union((*accepted, *pairs))
        return SourceSplit(accepted, EVERYONE)

    def split_pods(
        self, destination: PodEntry | None, address: int, port: int, protocol: str
    ) -> PodSplit | None:
        """See Tier."""
        isolated = self._egress.isolated()
        if not isolated:
            return None
        accepted = self._egress.admitted(destination, address, port, protocol)
        return PodSplit(accepted, isolated & ~accepted)

    def _touch(self, namespace: str) -> None:
        self._version += 1
        self._versions[namespace] = self._version


class _EgressGroup:
    """Equal egress rules of any number of policies, and the pods that they let out."""

    __slots__ = ("_bits", "_version", "rule", "subjects")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.subjects: dict[str, PodSelection] = {}
        self._bits = 0
        self._version = -1

    def add(self, key: str, subjects: PodSelection) -> None:
        self.subjects[key] = subjects
        self._version = -1

    def remove(self, key: str) -> None:
        self.subjects.pop(key, None)
        self._version = -1

    def bits(self, version: int) -> int:
        """The subjects of all its policies; `version` is the pod index's."""
        if self._version != version:
            self._version = version
            self._bits = 0
            for selection in self.subjects.values():
                self._bits |= selection.bits()
        return self._bits


class _EgressIndex:
    """Which pods policies let go to a destination.

    Policies tend to have the same egress rules (to the DNS, to everywhere but some block), so equal rules are
    held once. Selectors are tried once for each rule and each profile of a destination, and kept: a changed
    pod costs no selector at all, and a changed policy only its own.
    """

    def __init__(self, index: PodIndex) -> None:
        self._index = index
        self._policies: dict[str, CompiledPolicy] = {}
        self._groups: dict[Hashable, _EgressGroup] = {}
        self._with_blocks: dict[Hashable, _EgressGroup] = {}
        self._outwards: dict[Hashable, _EgressGroup] = {}
        self._towards: dict[Profile, tuple[PodEntry, dict[Hashable, _EgressGroup]]] = {}
        self._isolated: tuple[int, int] | None = None

    def set(self, policy: CompiledPolicy) -> None:
        self.remove(policy.key)
        if policy.egress is None:
            return
        self._policies[policy.key] = policy
        self._isolated = None
        for rule in policy.egress:
            signature = rule.signature
            group = self._groups.get(signature)
            if group is None:
                group = self._add_group(signature, rule)
            group.add(policy.key, policy.subjects)

    def remove(self, key: str) -> None:
        policy = self._policies.pop(key, None)
        if policy is None:
            return
        self._isolated = None
        for rule in policy.egress or ():
            signature = rule.signature
            group = self._groups.get(signature)
            if group is None:
                # Two rules of the policy are equal, and the first took the group away.
                continue
            group.remove(key)
            if not group.subjects:
                for groups in (self._groups, self._with_blocks, self._outwards):
                    groups.pop(signature, None)
                for _, towards in self._towards.values():
                    towards.pop(signature, None)

    def forget_profiles(self) -> None:
        self._towards.clear()

    def isolated(self) -> int:
        """All pods that some policy isolates for egress."""
        if not self._policies:
            return 0
        if self._isolated is None or self._isolated[0] != self._index.version:
            bits = 0
            for policy in self._policies.values():
                bits |= policy.subjects.bits()
            self._isolated = (self._index.version, bits)
        return self._isolated[1]

    def admitted(self, destination: PodEntry | None, address: int, port: int, protocol: str) -> int:
        """All pods that some policy lets go to a destination."""
        bits = 0
        version = self._index.version
        for group in self._selecting(destination).values():
            if group.rule.matches_port(destination, port, protocol):
                bits |= group.bits(version)
        for group in self._with_blocks.values():
            rule = group.rule
            if contains(rule.blocks, address) and rule.matches_port(destination, port, protocol):
                bits |= group.bits(version)
        return bits

    def _add_group(self, signature: Hashable, rule: Rule) -> _EgressGroup:
        group = self._groups[signature] = _EgressGroup(rule)
        if rule.blocks:
            self._with_blocks[signature] = group
        if rule.any_peer:
            self._outwards[signature] = group
        for pod, towards in self._towards.values():
            if rule.any_peer or rule.selects(pod):
                towards[signature] = group
        return group

    def _selecting(self, destination: PodEntry | None) -> dict[Hashable, _EgressGroup]:
        """The rules that admit a destination by selector, or as any other."""
        if destination is None:
            return self._outwards
        known = self._towards.get(destination.profile)
        if known is None:
            if len(self._towards) >= _REMEMBERED_PROFILES:
                self._towards.clear()
            towards = {
                signature: group
                for signature, group in self._groups.items()
                if group.rule.any_peer or group.rule.selects(destination)
            }
            known = (destination, towards)
            self._towards[destination.profile] = known
        return known[1]


def _admitted(connection: Connection, direction: Direction, policy: CompiledPolicy, rule: Rule) -> str:
    _, peer = connection.ends(direction)
    return (
        f"{direction} rule {rule.number} of NetworkPolicy {policy.key} admits the peer {peer} "
        f"on port {connection.port_text}"
    )


def _refused(connection: Connection, direction: Direction, isolating: tuple[CompiledPolicy, ...]) -> str:
    subject, _ = connection.ends(direction)
    assert subject.pod is not None
    names = ", ".join(policy.key for policy in isolating[:_NAMED_POLICIES])
    if len(isolating) > _NAMED_POLICIES:
        names += f" and {len(isolating) - _NAMED_POLICIES} more"
    kind = "NetworkPolicy" if len(isolating) == 1 else "NetworkPolicies"
    return (
        f"{direction} of {subject.pod.key} is isolated by {kind} {names}"
        f"{_nearest(connection, direction, isolating)}"
    )


def _nearest(connection: Connection, direction: Direction, isolating: tuple[CompiledPolicy, ...]) -> str:
    """What the rule that came nearest lacks: its port, else its peer, else both."""
    _, peer = connection.ends(direction)
    best: tuple[int, str] = (0, "")
    for policy in isolating:
        if policy.error:
            return f"; {policy.key} cannot be compiled and admits nobody ({policy.error})"
        for rule in policy.rules(direction) or ():
            whose = "its rule" if len(isolating) == 1 else f"of {policy.key}, rule"
            if rule.matches_peer(peer.pod, peer.address):
                ports = ", ".join(str(item) for item in rule.ports or ())
                found = f"; {whose} {rule.number} matches the peer {peer} but not port {connection.port_text}"
                return f"{found} (only {ports})"
            if rule.matches_port(connection.destination.pod, connection.port, connection.protocol):
                if best[0] < 2:
                    found = f"matches port {connection.port_text} but not the peer {peer}"
                    best = (2, f"; {whose} {rule.number} {found}")
            elif best[0] < 1:
                found = f"matches neither port {connection.port_text} nor the peer {peer}"
                best = (1, f"; {whose} {rule.number} {found}")
    if best[1]:
        return best[1]
    return f", which {'admits' if len(isolating) == 1 else 'admit'} nobody"
