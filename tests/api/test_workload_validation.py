from typing import Any

import pytest

from emu.api.errors import InvalidError
from emu.api.registry import Registry
from emu.api.resources import BY_NAME

from .conftest import pod


def create(registry: Registry, kind: str, document: dict[str, Any]) -> dict[str, Any]:
    return registry.create(BY_NAME[kind], "default", document)


def update(registry: Registry, kind: str, name: str, **spec: Any) -> dict[str, Any]:
    def change(document: dict[str, Any]) -> dict[str, Any]:
        document["spec"].update(spec)
        document["spec"] = {key: value for key, value in document["spec"].items() if value is not None}
        return document

    return registry.update(BY_NAME[kind], "default", name, change)


def workload(labels: dict[str, str], selector: dict[str, Any] | None, **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": labels}, "spec": pod()["spec"]}
    given = {} if selector is None else {"selector": selector}
    return {"metadata": {"name": "web"}, "spec": {"template": template, **given, **spec}}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (workload({"a": "b"}, None), "spec.selector"),
        (workload({"a": "b"}, {}), "spec.selector"),
        (workload({"a": "b"}, {"matchLabels": {"a": "c"}}), "spec.template.metadata.labels"),
        (workload({"a": "b"}, {"matchLabels": {"a": "b"}}, replicas=-1), "spec.replicas"),
    ],
)
def test_deployments_that_are_refused(registry: Registry, document: dict[str, Any], field: str):
    with pytest.raises(InvalidError) as refused:
        create(registry, "deployments.apps", document)
    assert [cause["field"] for cause in refused.value.details["causes"]] == [field]


def test_a_deployment_has_defaults_and_an_immutable_selector(registry: Registry):
    made = create(registry, "deployments.apps", workload({"a": "b"}, {"matchLabels": {"a": "b"}}))
    assert made["spec"]["replicas"] == 1
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": "25%", "maxSurge": "25%"}
    assert made["metadata"]["generation"] == 1
    assert update(registry, "deployments.apps", "web", replicas=3)["metadata"]["generation"] == 2
    with pytest.raises(InvalidError, match="field is immutable"):
        update(registry, "deployments.apps", "web", selector={"matchLabels": {"a": "b", "c": "d"}})
