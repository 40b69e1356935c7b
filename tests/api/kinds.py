"""What the tests of single kinds share."""

from copy import deepcopy
from typing import Any

import pytest

from emu.api.errors import InvalidError
from emu.api.registry import Registry
from emu.api.resources import BY_NAME

TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "nginx:1.27"}]},
}
SELECTOR = {"matchLabels": {"app": "web"}}


def create(registry: Registry, name: str, document: dict[str, Any]) -> dict[str, Any]:
    """Create in the namespace `default`, or cluster-wide."""
    document = deepcopy({**document, "metadata": {"name": "x", **document.get("metadata", {})}})
    return registry.create(BY_NAME[name], "default", document)


def update(registry: Registry, name: str, **fields: Any) -> dict[str, Any]:
    """Update the object `x`: each keyword replaces a field of the spec, or of the object if it has none."""

    def change(document: dict[str, Any]) -> dict[str, Any]:
        target = document.get("spec", document)
        target.update(deepcopy(fields))
        return document

    namespace = "default" if BY_NAME[name].namespaced else ""
    return registry.update(BY_NAME[name], namespace, "x", change)


def causes(error: InvalidError) -> list[str]:
    """The errors of a 422, each as `field: message`."""
    return [f"{cause['field']}: {cause['message']}" for cause in error.details["causes"]]


def refusal(registry: Registry, name: str, document: dict[str, Any]) -> list[str]:
    """The errors with which a create is refused."""
    with pytest.raises(InvalidError) as refused:
        create(registry, name, document)
    return causes(refused.value)


def update_refusal(registry: Registry, name: str, **fields: Any) -> list[str]:
    """The errors with which an update is refused."""
    with pytest.raises(InvalidError) as refused:
        update(registry, name, **fields)
    return causes(refused.value)


def row(name: str, document: dict[str, Any], now: float = 0) -> list[Any]:
    """The cells of an object of a kind."""
    return BY_NAME[name].cells(document, now)
