from typing import Any

import pytest

from emu.api.registry import Registry
from emu.api.resources import BY_NAME

from .kinds import create, refusal, row, update, update_refusal

META = {"name": "x", "creationTimestamp": "1970-01-01T00:00:00Z"}
BACKEND = {"service": {"name": "web", "port": {"number": 80}}}


def path(**fields: Any) -> dict[str, Any]:
    return {"path": "/", "pathType": "Prefix", "backend": BACKEND, **fields}


def ingress(*paths: dict[str, Any], host: str = "example.org", **spec: Any) -> dict[str, Any]:
    return {"spec": {"rules": [{"host": host, "http": {"paths": list(paths or [path()])}}], **spec}}


def ingress_class(**spec: Any) -> dict[str, Any]:
    return {"spec": {"controller": "example.org/ingress", **spec}}


def test_an_ingress_is_stored_as_it_is(registry: Registry):
    made = create(registry, "ingresses.networking.k8s.io", ingress())
    assert made["spec"] == ingress()["spec"]
    assert made["status"] == {"loadBalancer": {}}
    assert made["metadata"]["generation"] == 1


def test_parameters_of_a_class_are_cluster_wide_by_default(registry: Registry):
    parameters = {"kind": "Config", "name": "c", "apiGroup": "example.org"}
    made = create(registry, "ingressclasses.networking.k8s.io", ingress_class(parameters=parameters))
    assert made["spec"]["parameters"] == {**parameters, "scope": "Cluster"}
    assert made["metadata"]["generation"] == 1


AT = "spec.rules[0].http.paths[0]"
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


@pytest.mark.parametrize(
    ("document", "errors"),
    [
        pytest.param(
            {"spec": {}},
            ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
            id="nothing",
        ),
        pytest.param(
            ingress(path(pathType=None)),
            [f"{AT}.pathType: Required value: pathType must be specified"],
            id="path type left out",
        ),
        pytest.param(
            ingress(path(pathType="Glob")),
            [
                f'{AT}.pathType: Unsupported value: "Glob": supported values: "Exact", '
                '"ImplementationSpecific", "Prefix"'
            ],
            id="path type",
        ),
        pytest.param(
            ingress(path(path="a")),
            [f'{AT}.path: Invalid value: "a": must be an absolute path'],
            id="relative",
        ),
        pytest.param(
            ingress(path(path="/a//b/..")),
            [
                f"{AT}.path: Invalid value: \"/a//b/..\": must not contain '//'",
                f"{AT}.path: Invalid value: \"/a//b/..\": cannot end with '/..'",
            ],
            id="sequences",
        ),
        pytest.param(
            ingress(path(backend={})),
            [f'{AT}.backend: Invalid value: "": resource or service backend is required'],
            id="no backend",
        ),
        pytest.param(
            ingress(path(backend={"service": {"name": "web"}})),
            [f"{AT}.backend: Required value: port name or number is required"],
            id="no port",
        ),
        pytest.param(
            ingress(path(backend={"service": {"name": "web", "port": {"number": 80, "name": "http"}}})),
            [f'{AT}.backend: Invalid value: "": cannot set both port name & port number'],
            id="two ports",
        ),
        pytest.param(
            ingress(path(backend={**BACKEND, "resource": {"kind": "A", "name": "b"}})),
            [f'{AT}.backend: Invalid value: "": cannot set both resource and service backends'],
            id="two backends",
        ),
        pytest.param(
            ingress(path(backend={"service": {"port": {"number": 70000}}})),
            [
                f"{AT}.backend.service.name: Required value",
                f"{AT}.backend.service.port.number: Invalid value: 70000: must be between 1 and 65535, "
                "inclusive",
            ],
            id="port and name of the service",
        ),
        pytest.param(
            {"spec": {"rules": [{"http": {"paths": []}}]}},
            ["spec.rules[0].http.paths: Required value"],
            id="no paths",
        ),
        pytest.param(
            ingress(host="10.0.0.1"),
            ['spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address'],
            id="address as host",
        ),
        pytest.param(
            ingress(host="*.*.org"),
            [
                'spec.rules[0].host: Invalid value: "*.*.org": a wildcard DNS-1123 subdomain must start with '
                "'*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric "
                "characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex "
                r"used for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
                "')"
            ],
            id="wildcard",
        ),
        pytest.param(
            ingress(tls=[{"hosts": ["A"], "secretName": "a_b"}]),
            [
                f'spec.tls[0].hosts[0]: Invalid value: "A": {SUBDOMAIN}',
                f'spec.tls[0].secretName: Invalid value: "a_b": {SUBDOMAIN}',
            ],
            id="tls",
        ),
        pytest.param(
            {
                "metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}},
                **ingress(ingressClassName="b"),
            },
            [
                'annotations.kubernetes.io/ingress.class: Invalid value: "a": must match `ingressClassName` '
                "when both are specified"
            ],
            id="two classes",
        ),
    ],
)
def test_refused_ingresses(registry: Registry, document: dict[str, Any], errors: list[str]):
    for rule in document["spec"].get("rules") or ():
        for entry in rule["http"]["paths"]:
            if entry["pathType"] is None:
                del entry["pathType"]
    assert refusal(registry, "ingresses.networking.k8s.io", document) == errors


def test_wildcard_hosts_and_resource_backends_are_accepted(registry: Registry):
    backend = {"resource": {"apiGroup": "example.org", "kind": "Bucket", "name": "b"}}
    create(registry, "ingresses.networking.k8s.io", ingress(path(backend=backend), host="*.example.org"))


CLASS = "spec.parameters"


@pytest.mark.parametrize(
    ("document", "errors"),
    [
        pytest.param({"spec": {}}, ["spec.controller: Required value"], id="controller left out"),
        pytest.param(
            ingress_class(controller="nginx"),
            [
                'spec.controller: Invalid value: "nginx": must be a domain-prefixed path (such as '
                '"acme.io/foo")'
            ],
            id="controller",
        ),
        pytest.param(
            ingress_class(parameters={"scope": "Namespace"}),
            [
                f"{CLASS}.kind: Required value",
                f"{CLASS}.name: Required value",
                f"{CLASS}.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ],
            id="namespace left out",
        ),
        pytest.param(
            ingress_class(parameters={"kind": "A", "name": "b", "namespace": "c"}),
            [f"{CLASS}.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"],
            id="namespace",
        ),
        pytest.param(
            ingress_class(parameters={"kind": "A", "name": "b", "scope": "World"}),
            [f'{CLASS}.scope: Unsupported value: "World": supported values: "Cluster", "Namespace"'],
            id="scope",
        ),
    ],
)
def test_refused_classes(registry: Registry, document: dict[str, Any], errors: list[str]):
    assert refusal(registry, "ingressclasses.networking.k8s.io", document) == errors


def test_the_controller_of_a_class_is_immutable(registry: Registry):
    create(registry, "ingressclasses.networking.k8s.io", ingress_class())
    assert update_refusal(registry, "ingressclasses.networking.k8s.io", controller="example.org/b") == [
        'spec.controller: Invalid value: "example.org/b": field is immutable'
    ]
    changed = update(registry, "ingressclasses.networking.k8s.io", parameters={"kind": "A", "name": "b"})
    assert changed["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("name", "document", "cells"),
    [
        (
            "ingresses.networking.k8s.io",
            {
                **ingress(ingressClassName="nginx", tls=[{}]),
                "status": {"loadBalancer": {"ingress": [{"ip": "127.0.113.2"}, {"hostname": "a.org"}]}},
            },
            ["nginx", "example.org", "127.0.113.2,a.org", "80, 443"],
        ),
        ("ingresses.networking.k8s.io", {"spec": {"defaultBackend": BACKEND}}, ["<none>", "*", "", "80"]),
        (
            "ingresses.networking.k8s.io",
            {"spec": {"rules": [{"host": host} for host in "abcde"]}},
            ["<none>", "a,b,c + 2 more...", "", "80"],
        ),
        ("ingressclasses.networking.k8s.io", ingress_class(), ["example.org/ingress", "<none>"]),
        (
            "ingressclasses.networking.k8s.io",
            ingress_class(parameters={"kind": "Config", "apiGroup": "example.org", "name": "c"}),
            ["example.org/ingress", "Config.example.org/c"],
        ),
    ],
)
def test_rows(name: str, document: dict[str, Any], cells: list[Any]):
    assert row(name, {"metadata": META, **document}, now=60) == ["x", *cells, "60s"]
    assert len(BY_NAME[name].columns) == len(cells) + 2
