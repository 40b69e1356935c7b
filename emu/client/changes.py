"""What had to change so that objects of another cluster fit into this one, and how that is told."""

from __future__ import annotations

import enum
import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_WIDTH = 110
_MOST_NAMES = 24


class Reason(enum.Enum):
    """Why an object was left out or changed; in the order of the report."""

    NODE = "Nodes: this cluster's come from its own configuration"
    SYSTEM = "Parts of the other cluster's own machinery: this cluster brings its own"
    GENERATED = "Made by every cluster itself"
    CONTROLLED = "Made again by their controllers"
    RECORD = "Records of what happened in the other cluster"
    DELETING = "Being deleted when they were written down"
    UNSERVED = "Kinds that this cluster does not serve"

    NAMESPACE = "Namespaces made, since objects are in them and no file has them (their labels are not known)"
    ADDRESS_MOVED = "ClusterIPs moved into this cluster's Service network"
    ADDRESS_DROPPED = "ClusterIPs given up: the API server gives out new ones"
    ADDRESS_KEPT = "Services that are there already: they keep their ClusterIPs"
    NODE_PORT = "Node ports given up: the API server gives out new ones"
    FAMILY = "IPv6 left out: this cluster has IPv4 only"
    NODE_NAME = "Set free from nodes that this cluster does not have: the scheduler places them"
    OWNER = "Owners left out, since they are not there: the objects stand alone"
    FINALIZER = "Finalizers left out: the controllers that would remove them are not here"
    TOKEN = "Service account tokens left out, that the other cluster mounted"
    VOLUME = "Volumes of the other cluster left out"
    NETWORK = "Notes of the other cluster's network plugin left out"
    SERVER_FIELDS = "Fields that only a server sets, such as status, uid and resourceVersion, left out"

    @property
    def leaves_out(self) -> bool:
        """Whether the object is not applied at all."""
        return self in _LEFT_OUT


_LEFT_OUT = frozenset(
    {
        Reason.NODE,
        Reason.SYSTEM,
        Reason.GENERATED,
        Reason.CONTROLLED,
        Reason.RECORD,
        Reason.DELETING,
        Reason.UNSERVED,
    }
)


class Change(NamedTuple):
    """One object that was left out or changed."""

    reason: Reason
    kind: str
    name: str
    """`name`, or `namespace/name`."""
    detail: str = ""
    """What became of a value, such as `10.96.0.7 -> 127.96.0.7`."""


def report(changes: Iterable[Change]) -> list[str]:
    """Lines that tell all changes, by reason, then by kind, in an order that depends on nothing else."""
    by_reason: dict[Reason, list[Change]] = {}
    for change in changes:
        by_reason.setdefault(change.reason, []).append(change)
    lines: list[str] = []
    for heading, leaves_out in (("Left out", True), ("Changed", False)):
        reasons = [reason for reason in Reason if reason.leaves_out is leaves_out and reason in by_reason]
        if reasons:
            objects = {(change.kind, change.name) for reason in reasons for change in by_reason[reason]}
            lines.append(f"{heading}, {counted(len(objects), 'object')}:")
            for reason in reasons:
                lines += _section(reason, sorted(set(by_reason[reason])))
    return lines


def _section(reason: Reason, changes: Sequence[Change]) -> list[str]:
    if reason is Reason.SERVER_FIELDS:
        return [f"  {reason.value}: {counted(len(changes), 'object')}"]
    lines = [f"  {reason.value}"]
    by_kind: dict[str, list[Change]] = {}
    for change in changes:
        by_kind.setdefault(change.kind, []).append(change)
    for kind, of_kind in sorted(by_kind.items()):
        if reason is Reason.UNSERVED:
            lines.append(f"    {kind}: {counted(len(of_kind), 'object')}")
        elif any(change.detail for change in of_kind):
            lines += [f"    {kind} {change.name}: {change.detail}" for change in of_kind[:_MOST_NAMES]]
            if len(of_kind) > _MOST_NAMES:
                lines.append(f"    ... and {len(of_kind) - _MOST_NAMES} more of kind {kind}")
        else:
            lines += _wrapped(kind, [change.name for change in of_kind])
    return lines


def _wrapped(kind: str, names: list[str]) -> list[str]:
    shown = names[:_MOST_NAMES]
    if len(names) > len(shown):
        shown.append(f"and {len(names) - len(shown)} more")
    return textwrap.wrap(
        f"{kind} {', '.join(shown)}",
        _WIDTH,
        initial_indent="    ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def counted(number: int, noun: str) -> str:
    """`1 object`, `2 objects`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
