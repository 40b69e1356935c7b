"""NetworkPolicies in the form that the evaluator reads: defaults applied, ports and blocks as numbers.

The API server refuses what cannot be compiled. Should such a policy reach the engine all the same, it still
isolates its subjects and admits nothing.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import StrEnum

from emu.core.addresses import cidr_bounds
from emu.core.objects import (
    IPBlock,
    NetworkPolicy,
    NetworkPolicyEgressRule,
    NetworkPolicyIngressRule,
    NetworkPolicyPeer,
    NetworkPolicyPort,
)
from emu.core.policy.index import PodEntry, PodIndex, PodSelection
from emu.core.ranges import NOBODY, Ranges, complement, contains, intersection, union
from emu.core.selectors import LabelSelector

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_EVERYTHING = LabelSelector()
_OPERATORS_WITH_VALUES = ("In", "NotIn")
_OPERATORS_WITHOUT_VALUES = ("Exists", "DoesNotExist")


class Direction(StrEnum):
    """A side of a connection: egress of its source, ingress of its destination."""

    INGRESS = "ingress"
    EGRESS = "egress"


class PolicyError(ValueError):
    """A policy has no meaning. The message names the field."""


class Ports:
    """One entry of `ports`: a named port of the destination pod, or an inclusive range of numbers."""

    __slots__ = ("first", "last", "name", "protocol")

    def __init__(self, protocol: str, first: int = 0, last: int = 65535, name: str = "") -> None:
        self.protocol = protocol
        self.first = first
        self.last = last
        self.name = name

    def match(self, destination: PodEntry | None, port: int, protocol: str) -> bool:
        """Whether a destination's port is among them; a name only ever means a pod's port."""
        if protocol != self.protocol:
            return False
        if self.name:
            return destination is not None and destination.serves(self.name, port, protocol)
        return self.first <= port <= self.last

    @property
    def signature(self) -> tuple[str, int, int, str]:
        """Equal for what matches the same."""
        return self.protocol, self.first, self.last, self.name

    def __str__(self) -> str:
        if self.name:
            return f"{self.name}/{self.protocol}"
        if (self.first, self.last) == (0, 65535):
            return f"*/{self.protocol}"
        numbers = f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"
        return f"{numbers}/{self.protocol}"


class Rule:
    """One rule: its peers AND its ports; None means every one."""

    __slots__ = ("any_peer", "blocks", "number", "ports", "selections")

    def __init__(
        self,
        number: int,
        ports: tuple[Ports, ...] | None,
        selections: tuple[PodSelection, ...],
        blocks: Ranges,
        any_peer: bool,
    ) -> None:
        self.number = number
        self.ports = ports
        self.selections = selections
        self.blocks = blocks
        self.any_peer = any_peer

    @property
    def signature(self) -> Hashable:
        """Equal for rules, of whichever policies, that have the same peers and ports."""
        ports = None if self.ports is None else tuple(item.signature for item in self.ports)
        selections = tuple(selection.signature for selection in self.selections)
        return ports, selections, self.blocks, self.any_peer

    def matches_port(self, destination: PodEntry | None, port: int, protocol: str) -> bool:
        """Whether the destination's port is one of the rule's."""
        return self.ports is None or any(item.match(destination, port, protocol) for item in self.ports)

    def matches_peer(self, peer: PodEntry | None, address: int) -> bool:
        """Whether the other side is one of the rule's peers; `peer` is None where no pod has the address."""
        return self.any_peer or self.selects(peer) or contains(self.blocks, address)

    def selects(self, peer: PodEntry | None) -> bool:
        """Whether one of the rule's selectors selects the pod."""
        return peer is not None and any(selection.matches(peer) for selection in self.selections)


class CompiledPolicy:
    """A NetworkPolicy ready to be evaluated. A direction that it does not isolate has None for rules."""

    __slots__ = ("egress", "error", "ingress", "key", "namespace", "subjects")

    def __init__(self, policy: NetworkPolicy, index: PodIndex) -> None:
        self.key = policy.key
        self.namespace = policy.namespace
        self.error = ""
        self.ingress: tuple[Rule, ...] | None
        self.egress: tuple[Rule, ...] | None
        spec = policy.spec
        subjects = spec.pod_selector or _EVERYTHING
        try:
            _check_selector(subjects, "spec.podSelector")
        except PolicyError as error:
            # Nobody can say whom it means, so it means every pod of its namespace.
            self.error = str(error)
            subjects = _EVERYTHING
        self.subjects = PodSelection(index, policy.namespace, subjects)
        try:
            types = _policy_types(policy)
        except PolicyError as error:
            self.error = self.error or str(error)
            types = ("Ingress", "Egress")
        try:
            if self.error:
                raise PolicyError(self.error)
            compiler = _RuleCompiler(policy.namespace, index)
            ingress = compiler.ingress(spec.ingress or ()) if "Ingress" in types else ()
            egress = compiler.egress(spec.egress or ()) if "Egress" in types else ()
        except PolicyError as error:
            self.error = str(error)
            ingress = egress = ()
        self.ingress = ingress if "Ingress" in types else None
        self.egress = egress if "Egress" in types else None

    def rules(self, direction: Direction) -> tuple[Rule, ...] | None:
        """The rules of a direction, None when the policy does not isolate it."""
        return self.ingress if direction is Direction.INGRESS else self.egress


def _policy_types(policy: NetworkPolicy) -> tuple[str, ...]:
    types = policy.spec.policy_types
    if not types:
        return ("Ingress", "Egress") if policy.spec.egress else ("Ingress",)
    for item in types:
        if item not in ("Ingress", "Egress"):
            raise PolicyError(f'spec.policyTypes: "{item}" is neither Ingress nor Egress')
    return types


class _RuleCompiler:
    def __init__(self, namespace: str, index: PodIndex) -> None:
        self._namespace = namespace
        self._index = index

    def ingress(self, rules: tuple[NetworkPolicyIngressRule, ...]) -> tuple[Rule, ...]:
        return tuple(
            self._rule(at, rule.from_, rule.ports, f"spec.ingress[{at}]", "from")
            for at, rule in enumerate(rules)
        )

    def egress(self, rules: tuple[NetworkPolicyEgressRule, ...]) -> tuple[Rule, ...]:
        return tuple(
            self._rule(at, rule.to, rule.ports, f"spec.egress[{at}]", "to") for at, rule in enumerate(rules)
        )

    def _rule(
        self,
        at: int,
        peers: tuple[NetworkPolicyPeer, ...] | None,
        ports: tuple[NetworkPolicyPort, ...] | None,
        path: str,
        peers_field: str,
    ) -> Rule:
        selections: list[PodSelection] = []
        blocks: list[tuple[int, int]] = []
        for number, peer in enumerate(peers or ()):
            where = f"{path}.{peers_field}[{number}]"
            if peer.ip_block is not None:
                if peer.pod_selector is not None or peer.namespace_selector is not None:
                    raise PolicyError(f"{where}: ipBlock cannot be combined with a selector")
                blocks.extend(_block(peer.ip_block, f"{where}.ipBlock"))
            else:
                selections.append(self._selection(peer, where))
        return Rule(
            number=at + 1,
            ports=tuple(_ports(item, f"{path}.ports[{number}]") for number, item in enumerate(ports))
            if ports
            else None,
            selections=tuple(selections),
            blocks=union(blocks) if blocks else NOBODY,
            any_peer=not peers,
        )

    def _selection(self, peer: NetworkPolicyPeer, where: str) -> PodSelection:
        if peer.pod_selector is None and peer.namespace_selector is None:
            raise PolicyError(f"{where}: names neither pods nor namespaces nor an ipBlock")
        if peer.pod_selector is not None:
            _check_selector(peer.pod_selector, f"{where}.podSelector")
        if peer.namespace_selector is not None:
            _check_selector(peer.namespace_selector, f"{where}.namespaceSelector")
        scope = self._namespace if peer.namespace_selector is None else peer.namespace_selector
        return PodSelection(self._index, scope, peer.pod_selector or _EVERYTHING)


def _block(block: IPBlock, where: str) -> Ranges:
    if ":" in block.cidr:
        return NOBODY
    try:
        allowed: Ranges = (cidr_bounds(_with_prefix(block.cidr)),)
    except ValueError as error:
        raise PolicyError(f"{where}.cidr: {error}") from None
    excluded = []
    for number, text in enumerate(block.except_):
        if ":" in text:
            continue
        try:
            excluded.append(cidr_bounds(_with_prefix(text)))
        except ValueError as error:
            raise PolicyError(f"{where}.except[{number}]: {error}") from None
    return intersection(allowed, complement(union(excluded))) if excluded else allowed


def _with_prefix(text: str) -> str:
    # The standard library reads a bare address as a /32; a CIDR without its length has no meaning here.
    if "/" not in text:
        raise ValueError(f'"{text}" is not a CIDR')
    return text


def _ports(item: NetworkPolicyPort, where: str) -> Ports:
    protocol = "TCP" if item.protocol is None else item.protocol
    if protocol not in _PROTOCOLS:
        raise PolicyError(f'{where}.protocol: "{protocol}" is none of {", ".join(_PROTOCOLS)}')
    if item.port is None:
        if item.end_port is not None:
            raise PolicyError(f"{where}.endPort: needs a port")
        return Ports(protocol)
    if isinstance(item.port, str):
        if item.end_port is not None:
            raise PolicyError(f"{where}.endPort: needs a numeric port")
        if not item.port:
            raise PolicyError(f"{where}.port: is empty")
        return Ports(protocol, name=item.port)
    last = item.port if item.end_port is None else item.end_port
    if not 1 <= item.port <= last <= 65535:
        raise PolicyError(f"{where}: ports {item.port} to {last} are no range within 1 to 65535")
    return Ports(protocol, item.port, last)


def _check_selector(selector: LabelSelector, where: str) -> None:
    for number, requirement in enumerate(selector.match_expressions):
        path = f"{where}.matchExpressions[{number}]"
        if requirement.operator in _OPERATORS_WITH_VALUES:
            if not requirement.values:
                raise PolicyError(f"{path}: {requirement.operator} needs values")
        elif requirement.operator not in _OPERATORS_WITHOUT_VALUES:
            raise PolicyError(f'{path}: "{requirement.operator}" is no operator')
        elif requirement.values:
            raise PolicyError(f"{path}: {requirement.operator} takes no values")
