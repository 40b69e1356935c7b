"""Applying manifests, as `kubectl apply` does for a start.

Objects that are there already are changed by a strategic merge patch with the fields of the manifest; what a
manifest no longer says is not removed (`kubectl apply` does that from its last-applied annotation).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from emu.client.changes import Change, Reason
from emu.client.discovery import Kind, served_kinds
from emu.client.imports import Target, plan
from emu.client.manifests import Manifest, ManifestError
from emu.client.rest import STRATEGIC_MERGE_PATCH, ApiError, Client
from emu.core.addresses import Networks
from emu.core.objects import Namespace, Node, ResourceName, Service


class Applied(NamedTuple):
    """What became of a manifest that was taken."""

    manifest: Manifest
    kind: Kind
    namespace: str
    name: str
    outcome: str
    """`created`, `configured` or `unchanged`."""

    def __str__(self) -> str:
        """As kubectl says it; the namespace where it is not `default`."""
        where = f" (namespace {self.namespace})" if self.namespace not in ("", "default") else ""
        return f"{self.kind.full_name}/{self.name} {self.outcome}{where}"


class Refused(NamedTuple):
    """A manifest that the API server, or the lack of its kind, refused."""

    manifest: Manifest
    why: str

    def __str__(self) -> str:
        return f"{self.manifest.origin}: {self.manifest.title} {self.why}"


class Imported(NamedTuple):
    """The outcome of an import."""

    applied: list[Applied]
    refused: list[Refused]
    changes: list[Change]

    def require(self) -> None:
        """Raise ManifestError that names every object that was refused, if any was."""
        if len(self.refused) == 1:
            raise ManifestError(str(self.refused[0]))
        if self.refused:
            lines = "\n  ".join(str(refused) for refused in self.refused)
            raise ManifestError(f"{len(self.refused)} objects were refused:\n  {lines}")


async def apply(
    client: Client, manifests: Iterable[Manifest], *, namespace: str = "default", field_manager: str = "emu"
) -> list[Applied]:
    """Create or change each object as it is, in the order given.

    Raises ManifestError that names every object that was refused; all kinds are looked up before anything is
    written.
    """
    kinds = await served_kinds(client)
    manifests = list(manifests)
    unserved = [refusal for manifest in manifests if (refusal := _unserved(manifest, kinds)) is not None]
    Imported([], unserved, []).require()
    outcome = await _apply_all(client, manifests, kinds, namespace, field_manager)
    outcome.require()
    return outcome.applied


async def import_manifests(
    client: Client,
    networks: Networks,
    manifests: Iterable[Manifest],
    *,
    field_manager: str = "emu",
) -> Imported:
    """Make objects fit into the cluster (see `emu.client.imports`) and apply all of them.

    What is refused does not keep the rest from being applied.
    """
    kinds = await served_kinds(client)
    target = Target(
        kinds={key: kind.resource for key, kind in kinds.items()},
        networks=networks,
        nodes=frozenset(node.name for node in await client.list(Node)),
        namespaces=frozenset(space.name for space in await client.list(Namespace)),
        services=tuple(await _documents(client, Service.resource)),
    )
    planned = plan(manifests, target)
    outcome = await _apply_all(client, planned.manifests, kinds, target.default_namespace, field_manager)
    return Imported(outcome.applied, outcome.refused, [*planned.changes, *outcome.changes])


async def _apply_all(
    client: Client,
    manifests: Iterable[Manifest],
    kinds: Mapping[tuple[str, str], Kind],
    namespace: str,
    field_manager: str,
) -> Imported:
    outcome = Imported([], [], [])
    for manifest in manifests:
        refusal = _unserved(manifest, kinds)
        if refusal is not None:
            outcome.refused.append(refusal)
            continue
        kind = kinds[manifest.document["apiVersion"], manifest.document["kind"]]
        try:
            applied, changes = await _apply_one(client, manifest, kind, namespace, field_manager)
        except ApiError as error:
            outcome.refused.append(Refused(manifest, f"was refused: {error.message}"))
        else:
            outcome.applied.append(applied)
            outcome.changes.extend(changes)
    return outcome


def _unserved(manifest: Manifest, kinds: Mapping[tuple[str, str], Kind]) -> Refused | None:
    api_version, kind = manifest.document["apiVersion"], manifest.document["kind"]
    if (api_version, kind) in kinds:
        return None
    return Refused(
        manifest,
        f"cannot be applied: this cluster serves no {kind} in {api_version} (see `kubectl api-resources`)",
    )


async def _apply_one(
    client: Client, manifest: Manifest, kind: Kind, namespace: str, field_manager: str
) -> tuple[Applied, list[Change]]:
    metadata = dict(manifest.document["metadata"])
    resource = kind.resource
    if resource.namespaced:
        metadata.setdefault("namespace", namespace)
    document = {**manifest.document, "metadata": metadata}
    where = metadata.get("namespace", "") if resource.namespaced else ""
    params = {"fieldManager": field_manager, "fieldValidation": "Strict"}
    # Looked up first: a create that repeats fixed addresses is refused for them, not as a duplicate.
    before = await _existing(client, resource, where, metadata.get("name", ""))
    if before is None:
        body = await client.request("POST", resource.path(where), body=document, params=params)
        name = msgspec.json.decode(body)["metadata"]["name"]
        return Applied(manifest, kind, where, name, "created"), []
    document, changes = for_existing(document, before)
    path = resource.path(where, metadata["name"])
    body = await client.request(
        "PATCH", path, body=document, content_type=STRATEGIC_MERGE_PATCH, params=params
    )
    after = msgspec.json.decode(body)
    same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
    outcome = "unchanged" if same else "configured"
    return Applied(manifest, kind, where, metadata["name"], outcome), changes


def for_existing(document: dict[str, Any], before: dict[str, Any]) -> tuple[dict[str, Any], list[Change]]:
    """The document without the values that an object which is there already has, and cannot change.

    They are a pod's node and a Service's ClusterIPs. Only a ClusterIP that differs is worth telling.
    """
    spec, present = document.get("spec"), before.get("spec")
    if not isinstance(spec, dict) or not isinstance(present, dict):
        return document, []
    if document["kind"] == "Pod":
        return {**document, "spec": {key: value for key, value in spec.items() if key != "nodeName"}}, []
    if document["kind"] != "Service" or not _keeps_address(spec, present):
        return document, []
    left = {key: value for key, value in spec.items() if key not in ("clusterIP", "clusterIPs")}
    wanted = spec.get("clusterIP") or (spec.get("clusterIPs") or [""])[0]
    changes = []
    if wanted != present["clusterIP"]:
        metadata = before["metadata"]
        name = f"{metadata['namespace']}/{metadata['name']}"
        changes = [Change(Reason.ADDRESS_KEPT, "Service", name, f"{wanted} is {present['clusterIP']} here")]
    return {**document, "spec": left}, changes


def _keeps_address(spec: dict[str, Any], present: dict[str, Any]) -> bool:
    """Whether both name an address, neither being headless or a mere name."""
    named = spec.get("clusterIP") or spec.get("clusterIPs")
    headless = "None" in (spec.get("clusterIP"), present.get("clusterIP"))
    return bool(named and present.get("clusterIP")) and not headless


async def _existing(
    client: Client, resource: ResourceName, namespace: str, name: str
) -> dict[str, Any] | None:
    if not name:
        return None
    try:
        return await client.get_document(resource, namespace, name)
    except ApiError as error:
        if error.not_found:
            return None
        raise


async def _documents(client: Client, resource: ResourceName) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = msgspec.json.decode(await client.request("GET", resource.path()))["items"]
    return items
