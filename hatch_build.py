"""Build hook: takes from the published Kubernetes OpenAPI what the API server needs of it.

The package `kubernetes-validate` carries the OpenAPI definitions of each Kubernetes version. Those that the
kinds in `emu/api/resources/` reach, and those of custom resources in `schemas/`, are written to
`emu/api/data/`:

- `types.json`: the structure without words, for validation and for merging patches,
- `openapi.json`: OpenAPI v3 schemas with descriptions, for `/openapi/v3`.
"""

from __future__ import annotations

import ast
import json
from importlib import resources
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KUBERNETES_VERSION = "1.36"
SOURCE = "kubernetes-json-schema/v1.36.0-local/_definitions.json"
CUSTOM = "schemas"
TABLE = "emu/api/resources"
TARGET = "emu/api/data"

# Kinds that requests and answers carry, and that are no resource of their own.
OTHER_ROOTS = (
    "io.k8s.api.authentication.v1.TokenRequest",
    "io.k8s.api.autoscaling.v1.Scale",
    "io.k8s.api.core.v1.Binding",
    "io.k8s.api.policy.v1.Eviction",
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
)
_REFERENCE = "#/$defs/"
_STRUCTURE = (
    "x-kubernetes-group-version-kind",
    "x-kubernetes-patch-strategy",
    "x-kubernetes-patch-merge-key",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
)
# What the definitions of custom resources say about values, and the published ones do not.
_CONSTRAINTS = (
    "required",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
)
_LIST_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
_PATCH = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
# What the published documents say of these two, and their source in the package leaves out.
_SCALARS: dict[str, dict[str, Any]] = {
    _INT_OR_STRING: {
        "description": "A number, or a string that holds one or names something, such as a port.",
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
    },
    _QUANTITY: {
        "description": "An amount with an optional suffix: 100m, 1.5, 2Gi.",
        "oneOf": [{"type": "string"}, {"type": "number"}],
    },
}
_DEFAULTS = {
    "io.k8s.api.core.v1.ContainerPort": {"protocol": "TCP"},
    "io.k8s.api.core.v1.ServicePort": {"protocol": "TCP"},
}
_UNTYPED = {name: {"x-kubernetes-int-or-string": True} for name in _SCALARS}


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs for wheels and for editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the data files and put them into the wheel."""
        generate(Path(self.root))
        build_data["artifacts"].append(f"{TARGET}/*.json")


def generate(root: Path) -> None:
    """Write the data files of the tree at `root`."""
    custom = _read_custom(root / CUSTOM)
    definitions = {**_read_definitions(), **custom}
    names = _reachable(definitions, _roots(definitions, _served(root / TABLE)))
    documented = _documented(definitions, names)
    kept = {name: _STRUCTURE + (_CONSTRAINTS if name in custom else ()) for name in documented}
    types = {name: _structure(name, definitions[name], kept[name]) for name in names}
    openapi = {name: _openapi(name, definitions[name], kept[name]) for name in documented}
    (root / TARGET).mkdir(exist_ok=True)
    for file, content in (("types.json", types), ("openapi.json", openapi)):
        _write(root / TARGET / file, json.dumps(content, separators=(",", ":"), sort_keys=True))


def _read_definitions() -> dict[str, Any]:
    text = (resources.files("kubernetes_validate") / SOURCE).read_text()
    definitions: dict[str, Any] = json.loads(text)["$defs"]
    return definitions


def _read_custom(folder: Path) -> dict[str, Any]:
    """The definitions of kinds that Kubernetes knows from CustomResourceDefinitions only."""
    found: dict[str, Any] = {}
    for file in sorted(folder.glob("*.json")):
        found.update(json.loads(file.read_text()))
    return found


def _served(table: Path) -> set[tuple[str, str, str]]:
    """Group, version and kind of each row of the resource table, read without importing it."""
    served = set()
    nodes = (
        node for module in sorted(table.glob("*.py")) for node in ast.walk(ast.parse(module.read_text()))
    )
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Resource":
            constant = [word for word in node.keywords if isinstance(word.value, ast.Constant)]
            given = {word.arg: word.value.value for word in constant}
            served.add((given.get("group", ""), given.get("version", "v1"), given["kind"]))
    return served


def _roots(definitions: dict[str, Any], served: set[tuple[str, str, str]]) -> list[str]:
    found = {}
    for name, definition in definitions.items():
        for entry in definition.get("x-kubernetes-group-version-kind", ()):
            found.setdefault((entry["group"], entry["version"], entry["kind"]), name)
    missing = served - found.keys()
    if missing:
        raise ValueError(f"Kubernetes {KUBERNETES_VERSION} has no {sorted(missing)}; correct {TABLE}")
    return [*(found[kind] for kind in sorted(served)), *OTHER_ROOTS]


def _reachable(definitions: dict[str, Any], roots: list[str]) -> list[str]:
    found: set[str] = set()
    pending = list(roots)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += _references(definitions[name])
    return sorted(found)


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [name for item in node for name in _references(item)]
    if not isinstance(node, dict):
        return []
    found = [node["$ref"].removeprefix(_REFERENCE)] if isinstance(node.get("$ref"), str) else []
    return found + [name for value in node.values() for name in _references(value)]


def _type(node: dict[str, Any]) -> str | None:
    """The one type of a node; the source lists `null` next to it."""
    given = node.get("type")
    if isinstance(given, list):
        return next(kind for kind in given if kind != "null")
    return given


def _structure(name: str, node: dict[str, Any], kept: tuple[str, ...] = _STRUCTURE) -> dict[str, Any]:
    """A node without descriptions and formats."""
    if name in _UNTYPED:
        return dict(_UNTYPED[name])
    result: dict[str, Any] = {key: node[key] for key in kept if key in node}
    if "$ref" in node:
        reference = node["$ref"].removeprefix(_REFERENCE)
        return {**result, **_UNTYPED.get(reference, {"$ref": node["$ref"]})}
    kind = _type(node)
    if kind:
        result["type"] = kind
    if kind == "integer" and "format" in node:
        result["format"] = node["format"]
    if "properties" in node:
        result["properties"] = {key: _structure("", value, kept) for key, value in node["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            result[key] = _structure("", node[key], kept)
    return result


def _documented(definitions: dict[str, Any], names: list[str]) -> list[str]:
    """What documents need besides: the list of each kind, and the body of patches.

    Adds to `definitions` the lists that it lacks, as those of custom resources.
    """
    found = {_LIST_META, _PATCH, *names}
    for name in names:
        node = definitions[name]
        is_kind = "x-kubernetes-group-version-kind" in node and "metadata" in node["properties"]
        if is_kind and name not in OTHER_ROOTS:
            definitions.setdefault(f"{name}List", _list_of(name, node))
            found.add(f"{name}List")
    return sorted(found)


def _list_of(name: str, node: dict[str, Any]) -> dict[str, Any]:
    kinds = [{**entry, "kind": f"{entry['kind']}List"} for entry in node["x-kubernetes-group-version-kind"]]
    properties = {
        "apiVersion": node["properties"]["apiVersion"],
        "items": {"type": "array", "items": {"$ref": _REFERENCE + name}},
        "kind": node["properties"]["kind"],
        "metadata": {"$ref": _REFERENCE + _LIST_META},
    }
    return {
        "description": f"{kinds[0]['kind']} is a list of {kinds[0]['kind'].removesuffix('List')}",
        "type": "object",
        "required": ["items"],
        "properties": properties,
        "x-kubernetes-group-version-kind": kinds,
    }


def _openapi(name: str, node: dict[str, Any], kept: tuple[str, ...] = _STRUCTURE) -> dict[str, Any]:
    """A node in the form of OpenAPI v3.0."""
    if name in _SCALARS:
        return _SCALARS[name]
    result: dict[str, Any] = {
        key: node[key] for key in ("description", "format", "required", "default", *kept) if key in node
    }
    if "$ref" in node:
        reference = {"$ref": node["$ref"].replace(_REFERENCE, "#/components/schemas/")}
        return {**result, "allOf": [reference]} if result else reference
    kind = _type(node)
    if kind:
        result["type"] = kind
    if "properties" in node:
        result["properties"] = {key: _openapi("", value, kept) for key, value in node["properties"].items()}
        for key, default in _DEFAULTS.get(name, {}).items():
            result["properties"][key]["default"] = default
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            result[key] = _openapi("", node[key], kept)
    return result


def _write(file: Path, text: str) -> None:
    """Replace a file in one step: a running cluster may be reading it."""
    partial = file.with_suffix(".partial")
    partial.write_text(text + "\n")
    partial.replace(file)


if __name__ == "__main__":
    generate(Path(__file__).parent)
