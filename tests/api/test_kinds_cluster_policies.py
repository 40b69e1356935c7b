from typing import Any

import pytest

from emu.api import schemas
from emu.api.registry import Registry
from emu.api.resources import BY_NAME

from .kinds import create, refusal, row, update

NAME = "clusternetworkpolicies.policy.networking.k8s.io"
ALL = {"namespaces": {}}


def policy(**spec: Any) -> dict[str, Any]:
    return {"spec": {"tier": "Admin", "priority": 10, "subject": ALL, **spec}}


def ingress(**rule: Any) -> dict[str, Any]:
    return policy(ingress=[{"action": "Deny", "from": [ALL], **rule}])


def egress(*peers: dict[str, Any], **rule: Any) -> dict[str, Any]:
    return policy(egress=[{"action": "Accept", "to": list(peers or [ALL]), **rule}])


def tcp(**port: Any) -> list[dict[str, Any]]:
    return [{"tcp": {"destinationPort": port}}]


FULL = policy(
    subject={"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}},
    ingress=[
        {
            "name": "web",
            "action": "Pass",
            "from": [ALL],
            "protocols": [
                {"tcp": {"destinationPort": {"number": 80}}},
                {"udp": {"destinationPort": {"range": {"start": 1, "end": 9}}}},
                {"destinationNamedPort": "http"},
            ],
        }
    ],
    egress=[
        {
            "action": "Accept",
            "to": [
                {"networks": ["10.0.0.0/8", "fd00::/8"]},
                {"nodes": {}},
                {"domainNames": ["*.example.org", "example.org."]},
            ],
        }
    ],
)


def test_a_policy_has_the_structure_of_the_definition_and_is_stored_as_it_is(registry: Registry):
    assert schemas.check(BY_NAME[NAME], {"metadata": {"name": "x"}, **FULL}) == []
    made = create(registry, NAME, FULL)
    assert made["spec"] == FULL["spec"]
    assert "status" not in made
    assert made["metadata"]["generation"] == 1
    assert update(registry, NAME, priority=11)["metadata"]["generation"] == 2


IN, OUT = "spec.ingress[0]", "spec.egress[0]"
RANGE = f"{IN}.protocols[0].tcp.destinationPort.range"
DOMAIN = r"'^(\*\.)?([a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.)+[a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.?$'"
NAMED = [{"destinationNamedPort": "http"}]


@pytest.mark.parametrize(
    ("document", "errors"),
    [
        pytest.param({}, ["spec: Required value"], id="nothing"),
        pytest.param(
            {"spec": {}},
            ["spec.priority: Required value", "spec.subject: Required value", "spec.tier: Required value"],
            id="empty",
        ),
        pytest.param(
            policy(tier="X"),
            ['spec.tier: Unsupported value: "X": supported values: "Admin", "Baseline"'],
            id="tier",
        ),
        pytest.param(
            policy(priority=1001),
            [
                "spec.priority: Invalid value: 1001: spec.priority in body should be less than or equal to "
                "1000"
            ],
            id="priority",
        ),
        pytest.param(
            policy(priority=-1),
            ["spec.priority: Invalid value: -1: spec.priority in body should be greater than or equal to 0"],
            id="negative priority",
        ),
        pytest.param(
            policy(subject={}),
            ["spec.subject: Invalid value: 0: spec.subject in body should have at least 1 properties"],
            id="no subject",
        ),
        pytest.param(
            policy(subject={**ALL, "pods": {"podSelector": {}}}),
            ["spec.subject: Too many: 2: must have at most 1 items"],
            id="namespaces or pods",
        ),
        pytest.param(
            policy(subject={"pods": {}}),
            ["spec.subject.pods.podSelector: Required value"],
            id="pod selector",
        ),
        pytest.param(
            policy(ingress=[{"action": "Deny", "from": [ALL]}] * 26),
            ["spec.ingress: Too many: 26: must have at most 25 items"],
            id="rules",
        ),
        pytest.param(
            ingress(**{"from": [ALL] * 26}),
            [f"{IN}.from: Too many: 26: must have at most 25 items"],
            id="peers",
        ),
        pytest.param(
            ingress(**{"from": []}),
            [f"{IN}.from: Invalid value: 0: {IN}.from in body should have at least 1 items"],
            id="no peer",
        ),
        pytest.param(
            ingress(action="Allow"),
            [f'{IN}.action: Unsupported value: "Allow": supported values: "Accept", "Deny", "Pass"'],
            id="action",
        ),
        pytest.param(
            ingress(name="n" * 101), [f"{IN}.name: Too long: may not be more than 100 bytes"], id="name"
        ),
        pytest.param(
            ingress(protocols=[{"tcp": {"destinationPort": {"number": 1}}, "destinationNamedPort": "a"}]),
            [f"{IN}.protocols[0]: Too many: 2: must have at most 1 items"],
            id="one protocol",
        ),
        pytest.param(
            ingress(protocols=[{"udp": {}}]),
            [
                f"{IN}.protocols[0].udp: Invalid value: 0: {IN}.protocols[0].udp in body should have at "
                "least 1 properties"
            ],
            id="empty protocol",
        ),
        pytest.param(
            ingress(protocols=tcp(number=65536)),
            [
                f"{IN}.protocols[0].tcp.destinationPort.number: Invalid value: 65536: "
                f"{IN}.protocols[0].tcp.destinationPort.number in body should be less than or equal to 65535"
            ],
            id="port",
        ),
        pytest.param(
            ingress(protocols=tcp(number=1, range={"start": 1, "end": 2})),
            [f"{IN}.protocols[0].tcp.destinationPort: Too many: 2: must have at most 1 items"],
            id="number or range",
        ),
        pytest.param(
            ingress(protocols=tcp(range={"start": 5, "end": 5})),
            [f"{RANGE}: Invalid value: Start port must be less than End port"],
            id="range",
        ),
        pytest.param(
            egress({"networks": ["10.0.0.300/8"]}),
            [f'{OUT}.to[0].networks[0]: Invalid value: "10.0.0.300/8": Invalid CIDR format provided'],
            id="network",
        ),
        pytest.param(
            egress({"networks": ["10.0.0.1"]}),
            [f'{OUT}.to[0].networks[0]: Invalid value: "10.0.0.1": Invalid CIDR format provided'],
            id="address",
        ),
        pytest.param(
            egress({"networks": ["10.0.0.0/8", "10.0.0.0/8"]}),
            [f'{OUT}.to[0].networks[1]: Duplicate value: "10.0.0.0/8"'],
            id="networks are a set",
        ),
        pytest.param(
            egress({"domainNames": ["*"]}),
            [
                f'{OUT}.to[0].domainNames[0]: Invalid value: "*": {OUT}.to[0].domainNames[0] in body should '
                f"match {DOMAIN}"
            ],
            id="domain name",
        ),
        pytest.param(
            egress({"domainNames": ["example.org"]}, action="Deny"),
            [f"{OUT}: Invalid value: domainNames may only be used with Accept action"],
            id="domain names are accepted only",
        ),
        pytest.param(
            egress({"nodes": {}}, protocols=NAMED),
            [
                f"{OUT}: Invalid value: networks/nodes/domainNames peer cannot be set with "
                "namedPorts since there are no namedPorts for networks/nodes/domainNames"
            ],
            id="named ports of nodes",
        ),
        pytest.param(
            policy(subject={"namespaces": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}),
            [
                'spec.subject.namespaces.matchExpressions[0].operator: Invalid value: "Like": not a valid '
                "selector operator"
            ],
            id="selector",
        ),
    ],
)
def test_refused(registry: Registry, document: dict[str, Any], errors: list[str]):
    assert refusal(registry, NAME, document) == errors


def test_ingress_peers_are_pods_only(registry: Registry):
    document = {"metadata": {"name": "x"}, **ingress(**{"from": [{"networks": ["10.0.0.0/8"]}]})}
    assert schemas.check(BY_NAME[NAME], document) == [f"{IN}.from[0].networks"]


def test_rows():
    document = {"metadata": {"name": "x", "creationTimestamp": "1970-01-01T00:00:00Z"}, **policy()}
    assert row(NAME, document, now=60) == ["x", "Admin", "10", "60s"]
    assert [column.name for column in BY_NAME[NAME].columns] == ["Name", "Tier", "Priority", "Age"]
