"""Reading manifests (YAML or JSON) and applying them, as `kubectl apply` does for a start.

Objects that are there already are changed by a strategic merge patch with the fields of the manifest; what a
manifest no longer says is not removed (`kubectl apply` does that from its last-applied annotation).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml

from emu.client.rest import STRATEGIC_MERGE_PATCH, ApiError, Client
from emu.core.errors import UserError
from emu.core.objects import ResourceName

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SUFFIXES = (".yaml", ".yml", ".json")


class ManifestError(UserError):
    """A manifest cannot be read or was refused. The message names file, object and reason."""


class Manifest(NamedTuple):
    """One object of a file."""

    document: dict[str, Any]
    origin: str
    """The file it came from, for messages."""

    @property
    def title(self) -> str:
        """`Kind name`, for messages."""
        return f"{self.document['kind']} {self.document['metadata'].get('name', '(no name)')}"


class Applied(NamedTuple):
    """What became of a manifest."""

    manifest: Manifest
    resource: ResourceName
    namespace: str
    outcome: str
    """`created`, `configured` or `unchanged`."""


def load_manifests(paths: Iterable[Path]) -> list[Manifest]:
    """All objects of files and directories (their .yaml, .yml and .json files, by name), Lists taken apart.

    Raises ManifestError.
    """
    manifests: list[Manifest] = []
    for path in paths:
        for file in _files(path):
            manifests += _load_file(file)
    return manifests


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise ManifestError(f"{path} does not exist: give a manifest or a directory of manifests")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    if not files:
        raise ManifestError(f"{path} has no manifests: it holds no .yaml, .yml or .json file")
    return files


def _load_file(file: Path) -> list[Manifest]:
    try:
        documents = list(yaml.load_all(file.read_bytes(), _Loader))
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ManifestError(
            f"{file}{line} is not YAML: {getattr(error, 'problem', None) or ' '.join(str(error).split())}"
        ) from None
    manifests = [
        manifest
        for document in documents
        if document is not None
        for manifest in _objects(document, str(file))
    ]
    if not manifests:
        raise ManifestError(f"{file} holds no object: give a file with at least one manifest")
    return manifests


def _objects(document: Any, origin: str) -> list[Manifest]:
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise ManifestError(f"{origin} holds something that is no Kubernetes object: `kind` is missing")
    if not isinstance(document.get("apiVersion"), str):
        raise ManifestError(f"{origin}: the {document['kind']} has no `apiVersion`")
    if document["kind"].endswith("List") and isinstance(document.get("items"), list):
        return [manifest for item in document["items"] for manifest in _objects(item, origin)]
    if not isinstance(document.get("metadata"), dict):
        raise ManifestError(f"{origin}: the {document['kind']} has no `metadata`")
    for field in ("name", "namespace"):
        value = document["metadata"].get(field, "")
        if not isinstance(value, str):
            raise ManifestError(
                f"{origin}: metadata.{field} of the {document['kind']} is {value!r}, not text: "
                "put it in quotes"
            )
    try:
        msgspec.json.encode(document)
    except (RecursionError, TypeError, ValueError) as error:
        raise ManifestError(
            f"{origin}: the {document['kind']} cannot be written as JSON ({error}): mind its keys and aliases"
        ) from None
    return [Manifest(document, origin)]


async def apply(
    client: Client, manifests: Iterable[Manifest], *, namespace: str = "default", field_manager: str = "emu"
) -> list[Applied]:
    """Create or change each object, in the order given. Raises ManifestError at the first that is refused.

    All kinds are looked up before anything is written.
    """
    kinds = _Kinds(client)
    planned = [(manifest, await kinds.resource(manifest)) for manifest in manifests]
    return [
        await _apply_one(client, manifest, resource, namespace, field_manager)
        for manifest, resource in planned
    ]


async def _apply_one(
    client: Client, manifest: Manifest, resource: ResourceName, namespace: str, field_manager: str
) -> Applied:
    metadata = dict(manifest.document["metadata"])
    if resource.namespaced:
        metadata.setdefault("namespace", namespace)
    document = {**manifest.document, "metadata": metadata}
    where = metadata.get("namespace", "") if resource.namespaced else ""
    params = {"fieldManager": field_manager, "fieldValidation": "Strict"}
    try:
        # Looked up first: a create that repeats fixed addresses is refused for them, not as a duplicate.
        before = await _existing(client, resource, where, metadata.get("name", ""))
        if before is None:
            await client.request("POST", resource.path(where), body=document, params=params)
            return Applied(manifest, resource, where, "created")
        path = resource.path(where, metadata["name"])
        after = msgspec.json.decode(
            await client.request(
                "PATCH", path, body=document, content_type=STRATEGIC_MERGE_PATCH, params=params
            )
        )
    except ApiError as error:
        raise ManifestError(f"{manifest.origin}: {manifest.title} was refused: {error.message}") from None
    same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
    return Applied(manifest, resource, where, "unchanged" if same else "configured")


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


class _Kinds:
    """The kinds that the server serves, by discovery."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._groups: dict[str, dict[str, ResourceName]] = {}

    async def resource(self, manifest: Manifest) -> ResourceName:
        api_version, kind = manifest.document["apiVersion"], manifest.document["kind"]
        if api_version not in self._groups:
            self._groups[api_version] = await self._discover(api_version)
        found = self._groups[api_version].get(kind)
        if found is None:
            raise ManifestError(
                f"{manifest.origin}: {manifest.title} cannot be applied: this cluster serves no {kind} in "
                f"{api_version} (see `kubectl api-resources`)"
            )
        return found

    async def _discover(self, api_version: str) -> dict[str, ResourceName]:
        group, _, version = api_version.rpartition("/")
        try:
            body = await self._client.request("GET", f"/apis/{api_version}" if group else f"/api/{version}")
        except ApiError as error:
            if error.not_found:
                return {}
            raise
        return {
            item["kind"]: ResourceName(group, version, item["name"], item["namespaced"])
            for item in msgspec.json.decode(body)["resources"]
            if "/" not in item["name"]
        }
