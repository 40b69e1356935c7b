"""Making objects of any cluster fit into this one: what to apply, in which order, and what had to change.

Everything here is a pure function of the documents and of what the target has. Dumps (`kubectl get -o yaml`)
lose what belongs to the cluster that they came from, and their addresses and node ports, and those of a
snapshot, are changed where they cannot be had. What a person wrote by hand and cannot have is theirs to
correct: the API server refuses it, here as on every cluster.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from emu.client.changes import Change, Reason
from emu.client.imports.draft import Draft, Target, World
from emu.client.imports.fitting import FITTING
from emu.client.imports.leaving_out import LEAVING_OUT, LEAVING_TO_CONTROLLERS
from emu.client.manifests import Manifest

__all__ = ["Plan", "Target", "plan"]

_WORKLOADS = frozenset(
    {"Pod", "ReplicationController", "ReplicaSet", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}
)


class Plan(NamedTuple):
    """What to apply, in this order, and what had to change to get there."""

    manifests: list[Manifest]
    changes: list[Change]


def plan(manifests: Iterable[Manifest], target: Target) -> Plan:
    """Decide on all objects of one import."""
    drafts = [Draft(manifest) for manifest in manifests]
    world = World(drafts, target)
    for steps in (LEAVING_OUT, LEAVING_TO_CONTROLLERS, FITTING):
        for draft in drafts:
            for step in steps:
                if draft.left_out is None:
                    step(draft, world)
    namespaces, made = _missing_namespaces(drafts, target)
    kept = [draft.manifest for draft in drafts if draft.left_out is None]
    changes = [change for draft in drafts for change in draft.changes]
    return Plan(sorted([*namespaces, *kept], key=_rank), [*made, *changes])


def _rank(manifest: Manifest) -> int:
    """Namespaces, then what pods use, then pods and their workloads; the order of the file otherwise.

    Services that name an address or node port come before those that are given one, which could take it.
    """
    document = manifest.document
    kind = document["kind"]
    if kind == "Namespace":
        return 0
    if kind in _WORKLOADS:
        return 3
    return 2 if kind == "Service" and not _names_values(document.get("spec")) else 1


def _names_values(spec: Any) -> bool:
    if not isinstance(spec, dict):
        return False
    ports = spec.get("ports")
    named = isinstance(ports, list) and any(isinstance(port, dict) and port.get("nodePort") for port in ports)
    given = spec.get("clusterIP") or spec.get("clusterIPs") or spec.get("type") == "ExternalName"
    return bool(given or named)


def _missing_namespaces(drafts: Iterable[Draft], target: Target) -> tuple[list[Manifest], list[Change]]:
    """Namespaces that a dump's objects are in, and that neither the dump nor the target has."""
    drafts = [draft for draft in drafts if draft.left_out is None]
    there = target.namespaces | {draft.name for draft in drafts if draft.kind == "Namespace"}
    wanted = {
        draft.namespace: draft for draft in reversed(drafts) if draft.dumped and draft.namespaced(target)
    }
    made = [name for name in sorted(wanted) if name not in there]
    manifests = [
        Manifest(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
            wanted[name].manifest.origin,
        )
        for name in made
    ]
    return manifests, [Change(Reason.NAMESPACE, "Namespace", name) for name in made]
