"""Reading manifests: files and directories of YAML or JSON, taken apart into single objects.

Every error is one sentence with the file, the line where it is known, and the remedy.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from emu.client.yaml_reader import YamlError, read_documents
from emu.core.errors import UserError

MAX_OBJECT_BYTES = 3 << 20
"""The API server takes no larger body; Kubernetes' own limit."""
MAX_FILE_BYTES = 256 << 20

STANDARD_INPUT = Path("-")
SNAPSHOT_MARK = "# emu snapshot"
"""How a file begins that `emu snapshot save` wrote."""
_SUFFIXES = (".yaml", ".yml", ".json")
_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")


class ManifestError(UserError):
    """A manifest cannot be read or was refused. The message names file, object and reason."""


class Manifest(NamedTuple):
    """One object of a file."""

    document: dict[str, Any]
    origin: str
    """The file and line it came from, for messages."""
    of_snapshot: bool = False
    """Whether emu wrote the file: its addresses were given out by a cluster, not chosen by a person."""

    @property
    def title(self) -> str:
        """`Kind name` or `Kind namespace/name`, for messages."""
        metadata = self.document["metadata"]
        name = metadata.get("name") or metadata.get("generateName") or "(no name)"
        namespace = metadata.get("namespace")
        return (
            f"{self.document['kind']} {namespace}/{name}" if namespace else f"{self.document['kind']} {name}"
        )


def load_manifests(paths: Iterable[Path]) -> list[Manifest]:
    """All objects of files and directories (their .yaml, .yml and .json files, by name), Lists taken apart.

    `-` is the standard input. Raises ManifestError, also for an object that is there twice.
    """
    manifests = [manifest for path in paths for file in _files(path) for manifest in _load_file(file)]
    _refuse_duplicates(manifests)
    return manifests


def _files(path: Path) -> list[Path]:
    if path == STANDARD_INPUT:
        return [path]
    if not path.exists():
        raise ManifestError(f"{path} does not exist: give a manifest or a directory of manifests")
    if not path.is_dir():
        return [path]
    for name in _KUSTOMIZATIONS:
        if (path / name).exists():
            raise ManifestError(
                f"{path} holds a {name}, which has to be built first: "
                f"run `kubectl kustomize {path} > built.yaml` and give built.yaml"
            )
    try:
        files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and not file.is_dir())
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}): mind its permissions") from None
    if not files:
        raise ManifestError(f"{path} has no manifests: it holds no .yaml, .yml or .json file")
    return files


def _load_file(file: Path) -> list[Manifest]:
    name = "standard input" if file == STANDARD_INPUT else str(file)
    text = _read_text(file, name)
    manifests: list[Manifest] = []
    of_snapshot = text.startswith(SNAPSHOT_MARK)
    try:
        for value, line, item_lines in _documents(file, text):
            if value is not None:
                manifests += _objects(value, name, line, item_lines)
    except YamlError as error:
        where = f"{name}, line {error.line}" if error.line else name
        raise ManifestError(f"{where} is not YAML: {error.problem}") from None
    if not manifests:
        raise ManifestError(f"{name} holds no object: give a file with at least one manifest")
    return [manifest._replace(of_snapshot=of_snapshot) for manifest in manifests]


def _read_text(file: Path, name: str) -> str:
    try:
        if file == STANDARD_INPUT:
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"{name} cannot be read ({error.strerror}): mind its permissions") from None
    if len(data) > MAX_FILE_BYTES:
        raise ManifestError(f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB: split it into several files")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{name} is not YAML: octet {error.start + 1} is not UTF-8, so it is no text; give YAML or JSON"
        ) from None
    if "\0" in text:
        raise ManifestError(f"{name} is not YAML: it holds binary data; give YAML or JSON")
    return text


def _documents(file: Path, text: str) -> Iterable[tuple[Any, int, list[int]]]:
    """JSON is YAML, but its own decoder is ten times as fast; what it refuses, the YAML reader explains."""
    if text.lstrip()[:1] == "{":
        try:
            return [(msgspec.json.decode(text), 0, [])]
        except (msgspec.DecodeError, RecursionError):
            return read_documents(text)
    return read_documents(text)


def _objects(document: Any, name: str, line: int, item_lines: list[int]) -> list[Manifest]:
    origin = f"{name}, line {line}" if line else name
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise ManifestError(f"{origin} holds something that is no Kubernetes object: `kind` is missing")
    kind = document["kind"]
    if not isinstance(document.get("apiVersion"), str):
        raise ManifestError(f"{origin}: the {kind} has no `apiVersion`")
    if kind.endswith("List") and isinstance(document.get("items"), list):
        lines = item_lines or [0] * len(document["items"])
        return [
            manifest
            for item, at in zip(document["items"], lines, strict=False)
            for manifest in _objects(_typed(item, kind, document["apiVersion"]), name, at, [])
        ]
    if kind == "Kustomization" and document["apiVersion"].startswith("kustomize.config.k8s.io/"):
        raise ManifestError(
            f"{origin} is a Kustomization, which has to be built first: run `kubectl kustomize` in its "
            "directory and give what it prints"
        )
    if not isinstance(document.get("metadata"), dict):
        raise ManifestError(f"{origin}: the {kind} has no `metadata`")
    _check_names(document, origin)
    size = len(msgspec.json.encode(document))
    manifest = Manifest(document, origin)
    if size > MAX_OBJECT_BYTES:
        raise ManifestError(
            f"{origin}: {manifest.title} has {size / (1 << 20):.1f} MiB; the API takes objects of up to "
            f"{MAX_OBJECT_BYTES >> 20} MiB: make it smaller"
        )
    return [manifest]


def _typed(item: Any, list_kind: str, api_version: str) -> Any:
    """An item of a typed list, such as a PodList, which may leave its kind to the list."""
    if isinstance(item, dict) and "kind" not in item and list_kind != "List":
        return {"apiVersion": api_version, "kind": list_kind.removesuffix("List"), **item}
    return item


def _check_names(document: dict[str, Any], origin: str) -> None:
    for field in ("name", "namespace", "generateName"):
        value = document["metadata"].get(field)
        if value is None:
            document["metadata"].pop(field, None)
        elif not isinstance(value, str):
            raise ManifestError(
                f"{origin}: metadata.{field} of the {document['kind']} is {value!r}, not text: "
                "put it in quotes"
            )


def _refuse_duplicates(manifests: Iterable[Manifest]) -> None:
    seen: dict[tuple[str, str, str, str], Manifest] = {}
    for manifest in manifests:
        document, metadata = manifest.document, manifest.document["metadata"]
        if not metadata.get("name"):
            continue
        group = document["apiVersion"].rpartition("/")[0]
        key = (group, document["kind"], metadata.get("namespace") or "default", metadata["name"])
        other = seen.setdefault(key, manifest)
        if other is not manifest:
            raise ManifestError(
                f"{manifest.origin}: {manifest.title} is there already, in {other.origin}: "
                "remove one of the two"
            )
