"""docs/reference/api.md, made from the resource table: `python -m emu.api.reference` prints it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from emu.api.discovery import GIT_VERSION, group_versions
from emu.api.resource import ALL_VERBS, Resource
from emu.api.resources import RESOURCES

_HEAD = f"""# The API: kinds, verbs and subresources

This page is made from the resource table (`emu/api/resources/`) by `make docs`.

The API server speaks the Kubernetes API, with the schemas and rules of Kubernetes 1.36. It calls itself
`{GIT_VERSION}`, since that is the newest minor version for which kubectl's dispatchers have a binary.

## What every kind can

- Verbs: {", ".join(f"`{verb}`" for verb in ALL_VERBS)}, where the table does not name
  fewer.
- Reading: JSON and YAML, Tables (what `kubectl get` prints), PartialObjectMetadata; label and field
  selectors; `limit` and `continue` over one consistent snapshot; `resourceVersion` with
  `resourceVersionMatch`.
- Watching: from any retained version, bookmarks, `timeoutSeconds`, WatchList (`sendInitialEvents`), as
  Tables too; a version that is no longer retained ends the stream with 410 Expired.
- Writing: JSON, YAML and protobuf bodies; `dryRun=All`; `fieldValidation` Strict, Warn and Ignore;
  preconditions.
- Patching: JSON patch, merge patch, strategic merge patch (not for custom resources), server-side apply
  with managedFields, conflicts and `force`.
- Deleting: finalizers, ownerReferences, propagation `Background`, `Foreground` and `Orphan`,
  `deletecollection`.
- Fields for selectors: `metadata.name` and `metadata.namespace`, and those of the table.

Subresources in the last column are known, and answered with 501 and a sentence, since nothing is behind them
yet. RBAC objects are stored and not evaluated: whoever has a valid token may do everything, and the reviews
of `authorization.k8s.io` say so.
"""


def reference() -> str:
    """The page as Markdown."""
    parts = [_HEAD]
    for group, versions in group_versions().items():
        for version in versions:
            served = [row for row in RESOURCES if (row.group, row.version) == (group, version)]
            parts.append(f"## {group or 'core'}/{version}\n\n" + "\n".join(_table(served)) + "\n")
    return "\n".join(parts)


def _table(resources: Iterable[Resource]) -> Iterator[str]:
    yield "| kind | resource | scope | subresources | fields for selectors | answered with 501 |"
    yield "|---|---|---|---|---|---|"
    for resource in resources:
        cells = (
            resource.kind + _remarks(resource),
            _resource(resource),
            "namespace" if resource.namespaced else "cluster",
            _listed(resource.subresources),
            _listed(resource.field_labels),
            _listed(resource.unserved_subresources),
        )
        yield f"| {' | '.join(cells)} |"


def _resource(resource: Resource) -> str:
    return _listed((resource.plural, *resource.short_names))


def _remarks(resource: Resource) -> str:
    remarks = []
    if resource.verbs != ALL_VERBS:
        remarks.append(f"{', '.join(resource.verbs)} only")
    if resource.view is not None:
        remarks.append(f"another form of `{resource.view.of}`")
    return f" ({'; '.join(remarks)})" if remarks else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    print(reference(), end="")
