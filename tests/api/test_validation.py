from typing import Any

import pytest

from emu.api.allocation import NODE_PORTS, Band, pick, service_addresses
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


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def test_a1_a3_defaults_of_a_service(registry: Registry):
    spec = create(registry, "services", service())["spec"]
    assert spec["type"] == "ClusterIP"
    assert spec["sessionAffinity"] == "None"
    assert spec["internalTrafficPolicy"] == "Cluster"
    assert "externalTrafficPolicy" not in spec
    assert spec["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert spec["clusterIPs"] == [spec["clusterIP"]]


IMMUTABLE = "may not change once set"


@pytest.mark.parametrize(
    ("spec", "errors"),
    [
        pytest.param({"ports": []}, ["spec.ports: Required value"], id="A2 ports required"),
        pytest.param(
            {"ports": [{"port": 80}, {"port": 81, "name": "b"}]},
            ["spec.ports[0].name: Required value"],
            id="A2 several ports have names",
        ),
        pytest.param(
            {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]},
            ['spec.ports[1].name: Duplicate value: "a"'],
            id="A2 names are unique",
        ),
        pytest.param(
            {"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]},
            ['spec.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"}'],
            id="A2 protocol and port are unique",
        ),
        pytest.param(
            {"ports": [{"port": 99999}]},
            [
                "spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 99999: must be between 1 and 65535, inclusive",
            ],
            id="port range",
        ),
        pytest.param(
            {"type": "Bogus"},
            [
                'spec.type: Unsupported value: "Bogus": supported values: "ClusterIP", "ExternalName", '
                '"LoadBalancer", "NodePort"'
            ],
            id="A1 types",
        ),
        pytest.param({"type": "ExternalName", "ports": []}, ["spec.externalName: Required value"], id="A8"),
        pytest.param(
            {"clusterIP": "10.96.0.100"},
            [
                'spec.clusterIPs: Invalid value: ["10.96.0.100"]: failed to allocate IP 10.96.0.100: the '
                "provided network does not match the current range 127.27.0.0/16; 127.27.0.100 would work"
            ],
            id="A10 out of range names the address that would work",
        ),
        pytest.param(
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]},
            [
                "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The "
                "range of valid ports is 30000-32767"
            ],
            id="A12 range",
        ),
        pytest.param(
            {"ports": [{"port": 80, "nodePort": 30080}]},
            ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
            id="A12 on ClusterIP",
        ),
        pytest.param(
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}},
            [
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater "
                "than 0 and less than 86400"
            ],
            id="A18",
        ),
        pytest.param(
            {"externalTrafficPolicy": "Local"},
            [
                'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for '
                "externally-accessible services"
            ],
            id="A22",
        ),
        pytest.param(
            {"type": "NodePort", "clusterIP": "None"},
            ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
            id="A6 headless has no node ports",
        ),
        pytest.param(
            {"type": "LoadBalancer", "ports": [{"port": 10250}]},
            [
                "spec.ports[0].port: Invalid value: 10250: may not expose port 10250 externally since it is "
                "used by kubelet"
            ],
            id="A15 kubelet's port",
        ),
    ],
)
def test_services_that_are_refused(registry: Registry, spec: dict[str, Any], errors: list[str]):
    with pytest.raises(InvalidError) as refused:
        create(registry, "services", service(**spec))
    found = [f"{cause['field']}: {cause['message']}" for cause in refused.value.details["causes"]]
    assert found == errors
    # A refused Service holds nothing: the next one gets the same address.
    first = create(registry, "services", service("first"))
    assert first["spec"]["clusterIP"] == "127.27.1.1"


def test_a11_the_cluster_ip_is_immutable_and_may_be_left_out(registry: Registry):
    address = create(registry, "services", service())["spec"]["clusterIP"]
    assert (
        update(registry, "services", "web", clusterIP=None, clusterIPs=None)["spec"]["clusterIP"] == address
    )
    with pytest.raises(InvalidError, match=IMMUTABLE):
        update(registry, "services", "web", clusterIP="127.27.0.99", clusterIPs=["127.27.0.99"])


def test_a7_a_change_of_type_wipes_and_keeps(registry: Registry):
    address = create(registry, "services", service(type="NodePort"))["spec"]["clusterIP"]
    spec = update(registry, "services", "web", type="ClusterIP")["spec"]
    assert "nodePort" not in spec["ports"][0]
    assert "externalTrafficPolicy" not in spec
    assert spec["clusterIP"] == address
    spec = update(registry, "services", "web", type="ExternalName", externalName="example.org")["spec"]
    assert "clusterIP" not in spec
    assert create(registry, "services", service("next", clusterIP=address))["spec"]["clusterIP"] == address


def test_a13_node_ports_conflict_across_services_and_are_shared_within_one(registry: Registry):
    ports = [{"name": "a", "port": 53, "protocol": "TCP"}, {"name": "b", "port": 53, "protocol": "UDP"}]
    spec = create(registry, "services", service(type="NodePort", ports=ports))["spec"]
    assert spec["ports"][0]["nodePort"] == spec["ports"][1]["nodePort"] == 30086
    taken = {"port": 80, "nodePort": 30086}
    with pytest.raises(InvalidError, match="provided port is already allocated"):
        create(registry, "services", service("other", type="NodePort", ports=[taken]))


def test_a15_health_check_port_is_given_for_local_policy(registry: Registry):
    spec = create(registry, "services", service(type="LoadBalancer", externalTrafficPolicy="Local"))["spec"]
    assert spec["healthCheckNodePort"] in NODE_PORTS
    assert spec["healthCheckNodePort"] != spec["ports"][0]["nodePort"]


@pytest.mark.parametrize(
    ("band", "taken", "value"),
    [
        (Band(1, 10, 3), set(), 4),
        (Band(1, 10, 3), {4, 5}, 6),
        (Band(1, 10, 3), set(range(4, 11)), 1),
        (Band(1, 10, 3), set(range(1, 11)), None),
        (Band(1, 2, 0), {1}, 2),
    ],
)
def test_pick_prefers_the_upper_band(band: Band, taken: set[int], value: int | None):
    assert pick(band, taken, lambda count: 0) == value


@pytest.mark.parametrize(
    ("cidr", "static"), [("127.96.0.0/12", 256), ("127.1.0.0/24", 16), ("127.1.0.0/28", 0)]
)
def test_static_band(cidr: str, static: int):
    assert service_addresses(cidr).static == static


def policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"podSelector": {}, **spec}}


def from_block(cidr: str, *without: str) -> dict[str, Any]:
    return {"ingress": [{"from": [{"ipBlock": {"cidr": cidr, "except": list(without)}}]}]}


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"ingress": [{"ports": [{"protocol": "tcp"}]}]}, "spec.ingress[0].ports[0].protocol", "Unsupported"),
        ({"ingress": [{"ports": [{"port": 0}]}]}, "spec.ingress[0].ports[0].port", "between 1 and 65535"),
        ({"ingress": [{"ports": [{"port": "80"}]}]}, "spec.ingress[0].ports[0].port", "at least one letter"),
        ({"egress": [{"ports": [{"endPort": 9}]}]}, "spec.egress[0].ports[0].port", "must be specified when"),
        (
            {"ingress": [{"ports": [{"port": "web", "endPort": 9}]}]},
            "spec.ingress[0].ports[0].endPort",
            "non-numeric",
        ),
        (
            {"ingress": [{"ports": [{"port": 10, "endPort": 9}]}]},
            "spec.ingress[0].ports[0].endPort",
            "greater than or equal",
        ),
        ({"ingress": [{"from": [{}]}]}, "spec.ingress[0].from[0]", "must specify a peer"),
        (
            {"egress": [{"to": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
            "spec.egress[0].to[0]",
            "may not specify both",
        ),
        (from_block("10.0.0.0"), "spec.ingress[0].from[0].ipBlock.cidr", "valid CIDR"),
        (from_block("192.168.0.5/24"), "spec.ingress[0].from[0].ipBlock.cidr", "beyond the prefix"),
        (
            from_block("10.0.0.0/8", "10.0.0.0/8"),
            "spec.ingress[0].from[0].ipBlock.except[0]",
            "strict subset",
        ),
        (
            from_block("10.0.0.0/8", "11.0.0.0/16"),
            "spec.ingress[0].from[0].ipBlock.except[0]",
            "strict subset",
        ),
        (
            {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
            "spec.podSelector.matchExpressions[0].values",
            "must be specified",
        ),
        (
            {"podSelector": {"matchExpressions": [{"key": "a", "operator": "in", "values": ["b"]}]}},
            "spec.podSelector.matchExpressions[0].operator",
            "not a valid selector operator",
        ),
        ({"policyTypes": ["ingress"]}, "spec.policyTypes[0]", "Unsupported"),
        ({"policyTypes": ["Ingress"] * 3}, "spec.policyTypes", "more than two"),
    ],
)
def test_policies_that_are_refused(registry: Registry, spec: dict[str, Any], field: str, message: str):
    with pytest.raises(InvalidError) as refused:
        create(registry, "networkpolicies.networking.k8s.io", policy(**spec))
    [cause] = refused.value.details["causes"]
    assert cause["field"] == field
    assert message in cause["message"]


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, ["Ingress"]),
        ({"egress": []}, ["Ingress"]),
        ({"egress": [{}]}, ["Ingress", "Egress"]),
        ({"policyTypes": ["Egress"]}, ["Egress"]),
    ],
)
def test_rule_2_policy_types(registry: Registry, spec: dict[str, Any], types: list[str]):
    created = create(registry, "networkpolicies.networking.k8s.io", policy(**spec))
    assert created["spec"]["policyTypes"] == types


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


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (pod("Upper"), "metadata.name"),
        (pod(containers=[]), "spec.containers"),
        (pod(containers=[{"name": "a", "image": "x"}] * 2), "spec.containers[1].name"),
        (pod(containers=[{"name": "a"}]), "spec.containers[0].image"),
        (
            pod(containers=[{"name": "a", "image": "x", "ports": [{"containerPort": 70000}]}]),
            "spec.containers[0].ports[0].containerPort",
        ),
        (pod(restartPolicy="Sometimes"), "spec.restartPolicy"),
        ({**pod(), "metadata": {"name": "a", "labels": {"-": "x"}}}, "metadata.labels"),
    ],
)
def test_pods_that_are_refused(registry: Registry, document: dict[str, Any], field: str):
    with pytest.raises(InvalidError) as refused:
        create(registry, "pods", document)
    assert [cause["field"] for cause in refused.value.details["causes"]] == [field]
