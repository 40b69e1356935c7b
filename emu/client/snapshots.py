"""Which objects of a running cluster a snapshot holds, in which form and order.

Pure functions over the documents as the API server lists them. Left out is what the target makes itself, and
what only a server sets. Kept are ClusterIPs, node ports and the nodes of pods that no workload made, and the
annotation from which `kubectl apply` knows what a manifest said before, so that it goes on pruning rightly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from emu.client.imports.draft import Draft, Target, World
from emu.client.imports.leaving_out import controlled, deleting, generated, nodes, records
from emu.client.manifests import Manifest
from emu.client.scrubbing import Document, mapping, remove_token_volumes, scrub
from emu.core.addresses import Networks
from emu.core.objects import ResourceName

_FIRST = (
    "Namespace",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "PersistentVolumeClaim",
    "NetworkPolicy",
    "Service",
    "Endpoints",
    "EndpointSlice",
)
_LAST = (
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
)


def snapshot(
    objects: Iterable[Document],
    kinds: Mapping[tuple[str, str], ResourceName],
    defaults: Sequence[Document] = (),
) -> list[Document]:
    """What to keep of all objects of a cluster, ready to be applied in this order.

    `defaults` are the system objects as a new cluster gets them: those that nobody changed are left out.
    """
    target = Target(kinds=kinds, networks=Networks(), nodes=frozenset(), namespaces=frozenset())
    drafts = [Draft(Manifest(document, "")) for document in objects]
    world = World(drafts, target)
    for steps in ((nodes, records, deleting, generated), (controlled,)):
        for draft in drafts:
            for step in steps:
                if draft.left_out is None:
                    step(draft, world)
    kept = [
        _bare(draft.document)
        for draft in drafts
        if draft.left_out is None and not any(unchanged(draft.document, default) for default in defaults)
    ]
    return sorted(kept, key=_place)


def _bare(document: Document) -> Document:
    scrub(document)
    # An owner gets another uid when it is made again.
    document["metadata"].pop("ownerReferences", None)
    if document["kind"] == "Pod":
        remove_token_volumes(mapping(document.get("spec")))
    return document


def unchanged(document: Document, default: Document) -> bool:
    """Whether a system object says what it did when it was made, but for what the server filled in."""
    if document["kind"] == "ConfigMap" and document.get("data") != default.get("data"):
        return False
    # A Deployment's generation counts every change of its spec.
    return document["metadata"].get("generation", 1) == 1 and _says(document, default)


def _says(present: Any, wanted: Any) -> bool:
    """Whether a document has every value of another one."""
    if isinstance(wanted, dict):
        return isinstance(present, dict) and all(_says(present.get(key), wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        if not isinstance(present, list) or len(present) != len(wanted):
            return False
        return all(_says(one, other) for one, other in zip(present, wanted, strict=True))
    return bool(present == wanted)


def _place(document: Document) -> tuple[int, str, str, str]:
    """Namespaces, what is not in one, what pods use, pods and workloads; by name within a kind."""
    kind, metadata = document["kind"], document["metadata"]
    if kind in _FIRST:
        rank = _FIRST.index(kind)
    elif kind in _LAST:
        rank = 100 + _LAST.index(kind)
    else:
        rank = 50
    return rank, kind, metadata.get("namespace", ""), metadata["name"]
