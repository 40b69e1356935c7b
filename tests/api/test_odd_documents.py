"""Documents of every kind, of the right structure and with odd values: refused or stored, never a failure."""

from random import Random
from typing import Any

import pytest

from emu.api import schemas
from emu.api.errors import StatusError
from emu.api.registry import Registry
from emu.api.resource import Resource
from emu.api.resources import RESOURCES

STORED = [resource for resource in RESOURCES if "update" in resource.verbs]
COUNT = 40
TEXTS = (
    *("", "a", "A b", "-1", "10%", "1Gi", "x/y", "0", "None", "*", "10.0.0.0/8", "TCP", "Always", "Never"),
    *("Exists", "In", "ClusterIP", "IPv4"),
)
NUMBERS = (0, 1, -1, 5, 100, (1 << 31) - 1)
AMOUNTS = (0, -1, 5, 1.5, "x", "10%", "5", "1Gi")
WITHOUT = ("apiVersion", "kind", "metadata", "status")
DEEPEST = 9


def odd_value(random: Random, node: schemas.Node, depth: int = 0) -> Any:
    """A value of the structure of a node. Objects are fuller near the root."""
    if node.get("$ref", "").endswith(("meta.v1.Time", "meta.v1.MicroTime")):
        return "2026-01-01T00:00:00Z"
    node = schemas.resolved(node)
    if node.get("x-kubernetes-int-or-string"):
        return random.choice(AMOUNTS)
    if "properties" in node:
        share = 0.9 if depth < 2 else 0.45
        return {
            key: odd_value(random, below, depth + 1)
            for key, below in node["properties"].items()
            if depth < DEEPEST and random.random() < share and not (depth == 0 and key in WITHOUT)
        }
    if "additionalProperties" in node:
        keys = random.sample(TEXTS, random.randint(0, 2))
        return {key: odd_value(random, node["additionalProperties"], depth + 1) for key in keys}
    match node.get("type"):
        case "array":
            return [odd_value(random, node["items"], depth + 1) for _ in range(random.randint(0, 2))]
        case "string":
            return random.choice([*node.get("enum", ()), *TEXTS])
        case "integer":
            return random.choice(NUMBERS)
        case "boolean":
            return random.random() < 0.5
        case "number":
            return 1.5
    return {"a": 1}


@pytest.mark.parametrize("resource", STORED, ids=lambda resource: f"{resource.api_version} {resource.kind}")
def test_odd_documents_are_refused_or_stored(registry: Registry, resource: Resource):
    random, node = Random(resource.kind), schemas.root(resource)
    namespace = "default" if resource.namespaced else ""

    def odd(name: str) -> dict[str, Any]:
        document = {"metadata": {"name": name}, **odd_value(random, node)}
        schemas.check(resource, document)
        return resource.to_store(document)

    codes = set()
    for number in range(COUNT):
        name = f"x{number}"
        try:
            made = registry.create(registry.row_of(resource, creates=True), namespace, odd(name))
            assert len(resource.cells(resource.show(made), 1.8e9)) == len(resource.columns)
            row = registry.row_of(resource, creates=False)
            registry.update(row, namespace, name, lambda _, name=name: odd(name))
        except StatusError as refused:
            codes.add(refused.code)
    assert all(code < 500 for code in codes)
