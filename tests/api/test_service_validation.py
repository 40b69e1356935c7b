from typing import Any

import msgspec
import pytest

from emu.api.allocation import NODE_PORTS
from emu.api.errors import InternalError, InvalidError
from emu.api.options import DeleteOptions, WriteOptions
from emu.api.registry import Registry
from emu.api.resources import BY_NAME
from emu.api.service_admission import ServiceAdmission
from emu.api.store import Store

from .conftest import NETWORKS
from .refusals import (
    BAD_CIDR,
    BAD_IP,
    LABEL,
    LABEL_VALUE,
    PORT_RANGE,
    QUALIFIED,
    SUBDOMAIN,
    Table,
    create,
    refused,
    replace,
    rows,
    update,
)

FIRST = "127.27.1.1"
"""What the allocator gives first: the start of the upper band."""
ONLY_BALANCED = "Forbidden: may only be used when `type` is 'LoadBalancer'"
ONE_STACK = "this cluster is not configured for dual-stack services"
TIMEOUT = "must be greater than 0 and less than 86400"
TIMEOUT_PATH = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
EXTERNAL_ONLY = "may only be set for externally-accessible services"
LOCAL_ONLY = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
OUT_OF_RANGE = "provided port is not in the valid range. The range of valid ports is 30000-32767"
TAKEN = "provided port is already allocated"


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def named(*ports: dict[str, Any]) -> dict[str, Any]:
    return {"ports": [{"name": f"p{number}", **port} for number, port in enumerate(ports)]}


def affinity(seconds: int) -> dict[str, Any]:
    return {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}}


def external(**spec: Any) -> dict[str, Any]:
    return {"type": "ExternalName", "ports": [], **spec}


def balanced(**spec: Any) -> dict[str, Any]:
    return {"type": "LoadBalancer", **spec}


# --- defaults ---


def test_a1_a3_defaults(registry: Registry):
    spec = create(registry, "services", service())["spec"]
    assert spec == {
        "type": "ClusterIP",
        "clusterIP": FIRST,
        "clusterIPs": [FIRST],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"type": "NodePort"}, {"externalTrafficPolicy": "Cluster"}, id="A1 eTP of NodePort"),
        pytest.param(
            balanced(),
            {"externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": True},
            id="A15 load balancer",
        ),
        pytest.param({"externalIPs": ["1.2.3.4"]}, {"externalTrafficPolicy": "Cluster"}, id="A1 externalIPs"),
        pytest.param(
            {"sessionAffinity": "ClientIP"},
            {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}},
            id="A18 ClientIP",
        ),
        pytest.param(
            {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}},
            {"sessionAffinityConfig": None},
            id="A18 None drops the configuration",
        ),
        pytest.param(
            {"type": "", "sessionAffinity": "", "clusterIP": "", "externalIPs": [], "selector": {}},
            {"type": "ClusterIP", "sessionAffinity": "None", "externalIPs": None, "selector": None},
            id="empty is unset",
        ),
        pytest.param(
            {"ports": [{"port": 80, "targetPort": 0, "nodePort": 0, "name": "", "protocol": ""}]},
            {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]},
            id="A3 empty fields of a port",
        ),
        pytest.param(
            {"ports": [{"port": 80, "targetPort": 9999}]},
            {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 9999}]},
            id="A3 a number is not checked against pods",
        ),
        pytest.param(
            named({"port": 53}, {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "SCTP"}),
            {},
            id="A2 one number for three protocols",
        ),
        pytest.param(
            {"clusterIP": "None", "ports": []}, {"clusterIPs": ["None"]}, id="A6 headless without ports"
        ),
        pytest.param(
            {"clusterIP": "None", "selector": {"a": "b"}},
            {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"},
            id="headless with a selector",
        ),
        pytest.param(
            {"clusterIP": "None"},
            {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"},
            id="headless without a selector is dual",
        ),
        pytest.param(
            {"clusterIP": "None", "ipFamilyPolicy": "SingleStack"},
            {"ipFamilies": ["IPv4"]},
            id="headless without a selector, one stack by wish",
        ),
        pytest.param(
            {"ipFamilyPolicy": "PreferDualStack"},
            {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "PreferDualStack", "clusterIPs": [FIRST]},
            id="A22 PreferDualStack on one stack",
        ),
        pytest.param(
            external(externalName="example.org."),
            {"clusterIP": None, "clusterIPs": None, "ipFamilies": None, "internalTrafficPolicy": None},
            id="A8 ExternalName with a dot at the end",
        ),
        pytest.param({"trafficDistribution": "PreferSameNode"}, {}, id="A22 PreferSameNode"),
        pytest.param({"trafficDistribution": "PreferSameZone"}, {}, id="A22 PreferSameZone"),
        pytest.param(
            balanced(loadBalancerSourceRanges=[" 10.0.0.0/8 "], loadBalancerClass="example.com/lb"),
            {"loadBalancerSourceRanges": [" 10.0.0.0/8 "]},
            id="A22 spaces around a source range",
        ),
        pytest.param(affinity(86400), {}, id="A18 longest timeout"),
        pytest.param({"externalIPs": ["127.0.0.9"]}, {}, id="A22 loopback is the plane's"),
    ],
)
def test_services_that_are_taken(registry: Registry, given: dict[str, Any], expected: dict[str, Any]):
    spec = create(registry, "services", service(**given))["spec"]
    assert {key: spec.get(key) for key in expected} == expected


# --- refusals ---

REFUSED: Table = [
    ("A2 ports required", {"ports": []}, ["spec.ports: Required value"]),
    (
        "A2 several ports have names",
        {"ports": [{"port": 80}, {"port": 81, "name": "b"}]},
        ["spec.ports[0].name: Required value"],
    ),
    (
        "A2 names are unique",
        {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]},
        ['spec.ports[1].name: Duplicate value: "a"'],
    ),
    (
        "A2 protocol and port are unique",
        named({"port": 80}, {"port": 80}),
        [
            'spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,'
            '"TargetPort":0,"NodePort":0}'
        ],
    ),
    (
        "A2 port range",
        {"ports": [{"port": 99999}]},
        [
            f"spec.ports[0].port: Invalid value: 99999: {PORT_RANGE}",
            f"spec.ports[0].targetPort: Invalid value: 99999: {PORT_RANGE}",
        ],
    ),
    (
        "A2 no number",
        {"ports": [{"targetPort": 80}]},
        [f"spec.ports[0].port: Invalid value: 0: {PORT_RANGE}"],
    ),
    (
        "A2 protocols",
        {"ports": [{"port": 80, "protocol": "tcp"}]},
        ['spec.ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"'],
    ),
    (
        "A20 port name",
        {"ports": [{"port": 80, "name": "Web"}]},
        [f'spec.ports[0].name: Invalid value: "Web": {LABEL}'],
    ),
    (
        "A20 port name with dots",
        {"ports": [{"port": 80, "name": "a.b"}]},
        ['spec.ports[0].name: Invalid value: "a.b": must not contain dots'],
    ),
    (
        "A20 named target port is short",
        {"ports": [{"port": 80, "targetPort": "sixteen-letters-"}]},
        [
            'spec.ports[0].targetPort: Invalid value: "sixteen-letters-": must be no more than 15 bytes',
            'spec.ports[0].targetPort: Invalid value: "sixteen-letters-": must not begin or end with a '
            "hyphen",
        ],
    ),
    (
        "A20 named target port has a letter",
        {"ports": [{"port": 80, "targetPort": "80"}]},
        ['spec.ports[0].targetPort: Invalid value: "80": must contain at least one letter (a-z)'],
    ),
    (
        "appProtocol",
        {"ports": [{"port": 80, "appProtocol": "a b"}]},
        [f'spec.ports[0].appProtocol: Invalid value: "a b": name part {QUALIFIED}'],
    ),
    (
        "A1 types",
        {"type": "Bogus"},
        [
            'spec.type: Unsupported value: "Bogus": supported values: "ClusterIP", "ExternalName", '
            '"LoadBalancer", "NodePort"'
        ],
    ),
    (
        "A5 selector",
        {"selector": {"a": "b c"}},
        [f'spec.selector: Invalid value: "b c": {LABEL_VALUE}'],
    ),
    ("A8 externalName required", external(), ["spec.externalName: Required value"]),
    (
        "A8 externalName is a subdomain",
        external(externalName="Example.org"),
        [f'spec.externalName: Invalid value: "Example.org": {SUBDOMAIN}'],
    ),
    (
        "A8 no addresses and families",
        external(
            externalName="a.b", clusterIP="127.27.0.9", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack"
        ),
        [
            "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
            "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
            "spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services",
        ],
    ),
    (
        "A6 headless has no node ports",
        {"type": "NodePort", "clusterIP": "None", "selector": {"a": "b"}},
        ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
    ),
    (
        "A6 headless has no balancer",
        balanced(clusterIP="None"),
        ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services"],
    ),
    (
        "A9 the plural alone",
        {"clusterIPs": ["127.27.0.9"]},
        ['spec.clusterIPs: Invalid value: ["127.27.0.9"]: must be empty when `clusterIP` is not specified'],
    ),
    (
        "A9 first of the plural",
        {"clusterIP": "127.27.0.9", "clusterIPs": ["127.27.0.8"]},
        ['spec.clusterIPs: Invalid value: ["127.27.0.8"]: first value must match `clusterIP`'],
    ),
    (
        "A9 None with another",
        {"clusterIP": "None", "clusterIPs": ["None", "127.27.0.9"]},
        ['spec.clusterIPs: Invalid value: ["None","127.27.0.9"]: \'None\' must be the first and only value'],
    ),
    (
        "A9 no address",
        {"clusterIP": "127.27.0"},
        [f'spec.clusterIPs[0]: Invalid value: "127.27.0": {BAD_IP}'],
    ),
    (
        "A9 leading zeros",
        {"clusterIP": "127.27.0.010"},
        ['spec.clusterIPs[0]: Invalid value: "127.27.0.010": must not have leading 0s'],
    ),
    (
        "A9 three addresses",
        {"clusterIP": "1.1.1.1", "clusterIPs": ["1.1.1.1", "fd00::1", "1.1.1.2"]},
        ['spec.clusterIPs: Invalid value: ["1.1.1.1","fd00::1","1.1.1.2"]: may only hold up to 2 values'],
    ),
    (
        "A9 two of one family",
        {"clusterIP": "1.1.1.1", "clusterIPs": ["1.1.1.1", "1.1.1.2"]},
        [
            'spec.clusterIPs: Invalid value: ["1.1.1.1","1.1.1.2"]: may specify no more than one IP for '
            "each IP family"
        ],
    ),
    (
        "A9 two stacks by address",
        {"clusterIP": "127.27.0.9", "clusterIPs": ["127.27.0.9", "fd00::1"]},
        [
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or "
            "'PreferDualStack' when multiple cluster IPs are specified"
        ],
    ),
    (
        "A9 address of a family that is not there",
        {"clusterIP": "fd00::1"},
        ['spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster'],
    ),
    (
        "A9 address of another family than said",
        {"clusterIP": "fd00::1", "ipFamilies": ["IPv4"]},
        [
            'spec.clusterIPs[0]: Invalid value: "fd00::1": expected an IPv4 value as indicated by '
            "`ipFamilies[0]`"
        ],
    ),
    (
        "A10 out of range names the address that would work",
        {"clusterIP": "10.96.0.100"},
        [
            'spec.clusterIPs: Invalid value: ["10.96.0.100"]: failed to allocate IP 10.96.0.100: the '
            "provided network does not match the current range 127.27.0.0/16; 127.27.0.100 would work"
        ],
    ),
    (
        "A10 network address",
        {"clusterIP": "127.27.0.0"},
        [
            'spec.clusterIPs: Invalid value: ["127.27.0.0"]: failed to allocate IP 127.27.0.0: the provided '
            "IP (127.27.0.0) is not in the valid range. The range of valid IPs is 127.27.0.0/16"
        ],
    ),
    (
        "A10 broadcast address",
        {"clusterIP": "127.27.255.255"},
        [
            'spec.clusterIPs: Invalid value: ["127.27.255.255"]: failed to allocate IP 127.27.255.255: the '
            "provided IP (127.27.255.255) is not in the valid range. The range of valid IPs is 127.27.0.0/16"
        ],
    ),
    (
        "A9 allocation errors win",
        {"clusterIP": "10.0.0.1", "type": "Bogus", "ports": []},
        [
            'spec.clusterIPs: Invalid value: ["10.0.0.1"]: failed to allocate IP 10.0.0.1: the provided '
            "network does not match the current range 127.27.0.0/16; 127.27.0.1 would work"
        ],
    ),
    (
        "A12 range",
        {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]},
        [f"spec.ports[0].nodePort: Invalid value: 80: {OUT_OF_RANGE}"],
    ),
    (
        "A12 on ClusterIP",
        {"ports": [{"port": 80, "nodePort": 30080}]},
        ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    ),
    (
        "A13 two entries of one protocol ask for one node port",
        {"type": "NodePort", **named({"port": 80, "nodePort": 30080}, {"port": 81, "nodePort": 30080})},
        [f"spec.ports[1].nodePort: Invalid value: 30080: {TAKEN}"],
    ),
    (
        "A15 kubelet's port",
        balanced(ports=[{"port": 10250}]),
        [
            "spec.ports[0]: Invalid value: 10250: may not expose port 10250 externally since it is used by "
            "kubelet"
        ],
    ),
    (
        "A15 health check port without Local",
        balanced(healthCheckNodePort=30500),
        [f"spec.healthCheckNodePort: Invalid value: 30500: {LOCAL_ONLY}"],
    ),
    (
        "A16 on other types",
        {"allocateLoadBalancerNodePorts": False},
        [f"spec.allocateLoadBalancerNodePorts: {ONLY_BALANCED}"],
    ),
    (
        "A17 on other types",
        {"loadBalancerClass": "example.com/lb"},
        [f"spec.loadBalancerClass: {ONLY_BALANCED}"],
    ),
    (
        "A17 form",
        balanced(loadBalancerClass="a/b/c"),
        [
            f'spec.loadBalancerClass: Invalid value: "a/b/c": a valid label key {QUALIFIED} with an optional '
            "DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ],
    ),
    ("A18 too long", affinity(86401), [f"{TIMEOUT_PATH}: Invalid value: 86401: {TIMEOUT}"]),
    ("A18 zero", affinity(0), [f"{TIMEOUT_PATH}: Invalid value: 0: {TIMEOUT}"]),
    (
        "A18 kinds",
        {"sessionAffinity": "Cookie"},
        ['spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"'],
    ),
    (
        "A22 externalTrafficPolicy on ClusterIP",
        {"externalTrafficPolicy": "Local"},
        [f'spec.externalTrafficPolicy: Invalid value: "Local": {EXTERNAL_ONLY}'],
    ),
    (
        "A22 externalTrafficPolicy values",
        {"type": "NodePort", "externalTrafficPolicy": "Global"},
        ['spec.externalTrafficPolicy: Unsupported value: "Global": supported values: "Cluster", "Local"'],
    ),
    (
        "A22 internalTrafficPolicy values",
        {"internalTrafficPolicy": "local"},
        ['spec.internalTrafficPolicy: Unsupported value: "local": supported values: "Cluster", "Local"'],
    ),
    (
        "A22 trafficDistribution values",
        {"trafficDistribution": "Auto"},
        [
            'spec.trafficDistribution: Unsupported value: "Auto": supported values: "PreferClose", '
            '"PreferSameNode", "PreferSameZone"'
        ],
    ),
    (
        "A22 source ranges on other types",
        {"loadBalancerSourceRanges": ["10.0.0.0/8"]},
        [f"spec.LoadBalancerSourceRanges: {ONLY_BALANCED}"],
    ),
    (
        "A22 source ranges are CIDRs",
        balanced(loadBalancerSourceRanges=["10.0.0.0/8", "10.0.0.1"]),
        [f'spec.LoadBalancerSourceRanges[1]: Invalid value: "10.0.0.1": {BAD_CIDR}'],
    ),
    (
        "A22 external address",
        {"externalIPs": ["1.2.3.4", "myhost"]},
        [f'spec.externalIPs[1]: Invalid value: "myhost": {BAD_IP}'],
    ),
    (
        "A22 unspecified external address",
        {"externalIPs": ["0.0.0.0"]},
        ['spec.externalIPs[0]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)'],
    ),
    (
        "A22 link-local external address",
        {"externalIPs": ["169.254.169.254"]},
        [
            'spec.externalIPs[0]: Invalid value: "169.254.169.254": may not be in the link-local range '
            "(169.254.0.0/16, fe80::/10)"
        ],
    ),
    (
        "A22 multicast external address",
        {"externalIPs": ["224.0.0.1"]},
        [
            'spec.externalIPs[0]: Invalid value: "224.0.0.1": may not be in the link-local multicast range '
            "(224.0.0.0/24, ff02::/10)"
        ],
    ),
    (
        "families",
        {"ipFamilies": ["IPv5", "IPv4", "IPv4"]},
        [
            'spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"',
            'spec.ipFamilies[2]: Duplicate value: "IPv4"',
        ],
    ),
    (
        "family that is not there",
        {"ipFamilies": ["IPv6"]},
        ['spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'],
    ),
    (
        "two families on one stack by default",
        {"ipFamilies": ["IPv4", "IPv6"]},
        [
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or "
            "'PreferDualStack' when multiple IP families are specified"
        ],
    ),
    (
        "family policies",
        {"ipFamilyPolicy": "Dual"},
        [
            'spec.ipFamilyPolicy: Unsupported value: "Dual": supported values: "PreferDualStack", '
            '"RequireDualStack", "SingleStack"'
        ],
    ),
    (
        "two stacks required",
        {"ipFamilyPolicy": "RequireDualStack"},
        [f'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": {ONE_STACK}'],
    ),
]


@pytest.mark.parametrize(("given", "errors"), rows(REFUSED))
def test_services_that_are_refused(registry: Registry, given: dict[str, Any], errors: list[str]):
    assert refused(lambda: create(registry, "services", service(**given))) == errors
    # A refused Service holds nothing: the next one gets the same address and node port.
    spec = create(registry, "services", service("first", type="NodePort"))["spec"]
    assert (spec["clusterIP"], spec["ports"][0]["nodePort"]) == (FIRST, 30086)


ANNOTATIONS: Table = [
    (
        "A22 source ranges by annotation",
        {"service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8,x"},
        [
            "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: "
            f'Invalid value: "x": {BAD_CIDR}'
        ],
    ),
    (
        "topology annotations agree",
        {
            "service.kubernetes.io/topology-mode": "Auto",
            "service.kubernetes.io/topology-aware-hints": "Disabled",
        },
        [
            'metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: "Auto": must match '
            "annotations[service.kubernetes.io/topology-aware-hints] when both are specified"
        ],
    ),
]


@pytest.mark.parametrize(("given", "errors"), rows(ANNOTATIONS))
def test_annotations_that_are_refused(registry: Registry, given: dict[str, Any], errors: list[str]):
    document = service(type="LoadBalancer")
    document["metadata"]["annotations"] = given
    assert refused(lambda: create(registry, "services", document)) == errors


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("1web", ""),
        ("a.b", "must not contain dots"),
        ("Web", LABEL),
        ("a" * 64, "must be no more than 63 bytes"),
    ],
)
def test_a20_names(registry: Registry, name: str, fault: str):
    if fault:
        errors = refused(lambda: create(registry, "services", service(name)))
        assert errors == [f'metadata.name: Invalid value: "{name}": {fault}']
    else:
        assert create(registry, "services", service(name))["metadata"]["name"] == name


# --- allocation ---


def test_a9_a_given_address_is_reserved(registry: Registry):
    create(registry, "services", service("a", clusterIP="127.27.0.77"))
    assert refused(lambda: create(registry, "services", service("b", clusterIP="127.27.0.77"))) == [
        'spec.clusterIPs: Invalid value: ["127.27.0.77"]: failed to allocate IP 127.27.0.77: provided IP is '
        "already allocated"
    ]


def test_a9_a_dry_run_takes_nothing(registry: Registry):
    tried = registry.create(
        BY_NAME["services"], "default", service(type="NodePort"), WriteOptions(dry_run=True)
    )["spec"]
    spec = create(registry, "services", service("other", type="NodePort"))["spec"]
    assert spec["clusterIP"] == tried["clusterIP"]
    assert spec["ports"] == tried["ports"]


def test_a10_a_range_that_is_full_is_a_500():
    networks = msgspec.structs.replace(NETWORKS, services="127.27.0.0/30")
    registry = Registry(
        Store(None), BY_NAME, {"services": ServiceAdmission(networks, choose=lambda count: 0)}
    )
    registry.create(BY_NAME["namespaces"], "", {"metadata": {"name": "default"}})
    given = [create(registry, "services", service(name))["spec"]["clusterIP"] for name in ("a", "b")]
    assert given == ["127.27.0.1", "127.27.0.2"]
    with pytest.raises(InternalError) as error:
        create(registry, "services", service("c"))
    assert error.value.code == 500
    assert error.value.message.endswith("failed to allocate a serviceIP: range is full")
    registry.delete(BY_NAME["services"], "default", "a", DeleteOptions())
    assert create(registry, "services", service("c"))["spec"]["clusterIP"] == "127.27.0.1"


def test_a14_static_node_ports_are_given_out_last(registry: Registry):
    def ports(first: int, count: int) -> list[dict[str, Any]]:
        return [{"name": f"p{n}", "port": n} for n in range(first, first + count)]

    numbers = []
    for name, count in (("a", 2000), ("b", 682)):
        spec = create(registry, "services", service(name, type="NodePort", ports=ports(1, count)))["spec"]
        numbers += [port["nodePort"] for port in spec["ports"]]
    assert numbers == list(range(30086, 32768))
    spec = create(registry, "services", service("c", type="NodePort", ports=ports(1, 86)))["spec"]
    assert [port["nodePort"] for port in spec["ports"]] == list(range(30000, 30086))
    with pytest.raises(InternalError) as error:
        create(registry, "services", service("d", type="NodePort"))
    assert error.value.message.endswith("failed to allocate a nodePort: range is full")


def test_a12_a_deleted_service_releases_all(registry: Registry):
    before = create(registry, "services", service(type="LoadBalancer", externalTrafficPolicy="Local"))["spec"]
    registry.delete(BY_NAME["services"], "default", "web", DeleteOptions())
    after = create(registry, "services", service(type="LoadBalancer", externalTrafficPolicy="Local"))["spec"]
    assert after == before


def test_a13_node_ports_conflict_across_services_and_are_shared_within_one(registry: Registry):
    ports = named({"port": 53}, {"port": 53, "protocol": "UDP"})
    spec = create(registry, "services", service(type="NodePort", **ports))["spec"]
    assert [port["nodePort"] for port in spec["ports"]] == [30086, 30086]
    for protocol in ("TCP", "UDP", "SCTP"):
        taken = {"port": 80, "nodePort": 30086, "protocol": protocol}
        assert refused(
            lambda: create(registry, "services", service("other", type="NodePort", ports=[taken]))  # noqa: B023
        ) == [f"spec.ports[0].nodePort: Invalid value: 30086: {TAKEN}"]


def test_a13_one_entry_names_the_node_port_of_both(registry: Registry):
    ports = named({"port": 53}, {"port": 53, "protocol": "UDP", "nodePort": 30053})
    spec = create(registry, "services", service(type="NodePort", **ports))["spec"]
    assert [port["nodePort"] for port in spec["ports"]] == [30053, 30053]


def test_a15_a_health_check_port_is_given_for_local_policy(registry: Registry):
    spec = create(registry, "services", service(type="LoadBalancer", externalTrafficPolicy="Local"))["spec"]
    assert spec["healthCheckNodePort"] in NODE_PORTS
    assert spec["healthCheckNodePort"] != spec["ports"][0]["nodePort"]


@pytest.mark.parametrize(("port", "why"), [(30100, TAKEN), (99, OUT_OF_RANGE)])
def test_a15_a_health_check_port_that_cannot_be_had_is_a_500(registry: Registry, port: int, why: str):
    create(registry, "services", service("a", type="NodePort", ports=[{"port": 80, "nodePort": 30100}]))
    with pytest.raises(InternalError) as error:
        create(
            registry, "services", service(**balanced(externalTrafficPolicy="Local", healthCheckNodePort=port))
        )
    assert error.value.code == 500
    assert error.value.message == (
        f"Internal error occurred: failed to allocate requested HealthCheck NodePort {port}: {why}"
    )


def test_a16_no_new_node_ports_and_old_ones_stay(registry: Registry):
    spec = create(registry, "services", service(**balanced(allocateLoadBalancerNodePorts=False)))["spec"]
    assert "nodePort" not in spec["ports"][0]
    spec = update(registry, "services", "web", allocateLoadBalancerNodePorts=True)["spec"]
    node_port = spec["ports"][0]["nodePort"]
    spec = update(registry, "services", "web", allocateLoadBalancerNodePorts=False)["spec"]
    assert spec["ports"][0]["nodePort"] == node_port


# --- updates ---


def test_a11_the_cluster_ip_is_for_good_and_may_be_left_out(registry: Registry):
    create(registry, "services", service())
    spec = replace(registry, "services", service())["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"], spec["ipFamilies"]) == (FIRST, [FIRST], ["IPv4"])
    error = ['spec.clusterIPs[0]: Invalid value: ["127.27.0.99"]: may not change once set']
    assert refused(lambda: replace(registry, "services", service(clusterIP="127.27.0.99"))) == error
    assert refused(lambda: update(registry, "services", "web", clusterIP="127.27.0.99")) == error
    both = service(clusterIP="127.27.0.99", clusterIPs=["127.27.0.99"])
    assert refused(lambda: replace(registry, "services", both)) == error


@pytest.mark.parametrize(("was", "now"), [("None", FIRST), ("", "None")])
def test_a11_headless_and_not_do_not_change_into_each_other(registry: Registry, was: str, now: str):
    create(registry, "services", service(clusterIP=was, selector={"a": "b"}))
    assert refused(lambda: replace(registry, "services", service(clusterIP=now, selector={"a": "b"}))) == [
        f'spec.clusterIPs[0]: Invalid value: ["{now}"]: may not change once set'
    ]


def test_a11_a_put_keeps_node_ports_by_the_name_of_the_port(registry: Registry):
    ports = named({"port": 80}, {"port": 81})
    create(registry, "services", service(type="NodePort", **ports))
    spec = replace(registry, "services", service(type="NodePort", **named({"port": 90}, {"port": 91})))[
        "spec"
    ]
    assert [port["nodePort"] for port in spec["ports"]] == [30086, 30087]


def test_a11_a_node_port_that_another_port_asks_for_is_not_kept(registry: Registry):
    create(registry, "services", service(type="NodePort", **named({"port": 80}, {"port": 81})))
    swapped = named({"port": 80, "nodePort": 30087}, {"port": 81})
    spec = replace(registry, "services", service(type="NodePort", **swapped))["spec"]
    assert [port["nodePort"] for port in spec["ports"]] == [30087, 30088]


def test_a11_a_put_keeps_the_health_check_port_and_it_is_for_good(registry: Registry):
    local = balanced(externalTrafficPolicy="Local")
    port = create(registry, "services", service(**local))["spec"]["healthCheckNodePort"]
    assert replace(registry, "services", service(**local))["spec"]["healthCheckNodePort"] == port
    changed = service(**local, healthCheckNodePort=31999)
    assert refused(lambda: replace(registry, "services", changed)) == [
        "spec.healthCheckNodePort: Forbidden: field is immutable"
    ]


def test_a12_a_node_port_of_another_service_is_refused_on_update(registry: Registry):
    create(registry, "services", service("a", type="NodePort"))
    create(registry, "services", service(type="NodePort"))
    ports = [{"port": 80, "nodePort": 30086}]
    assert refused(lambda: update(registry, "services", "web", ports=ports)) == [
        f"spec.ports[0].nodePort: Invalid value: 30086: {TAKEN}"
    ]


def test_a12_a_changed_node_port_is_released(registry: Registry):
    create(registry, "services", service(type="NodePort"))
    update(registry, "services", "web", ports=[{"port": 80, "nodePort": 31000}])
    assert (
        create(registry, "services", service("b", type="NodePort"))["spec"]["ports"][0]["nodePort"] == 30086
    )


def test_a7_a_change_of_type_wipes_and_keeps(registry: Registry):
    create(registry, "services", service(type="LoadBalancer", externalTrafficPolicy="Local"))
    status = {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}
    replace(registry, "services", {**service(), "status": status}, "status")

    changed = update(registry, "services", "web", type="NodePort")
    assert changed["status"] == {"loadBalancer": {}}
    spec = changed["spec"]
    assert not {"healthCheckNodePort", "allocateLoadBalancerNodePorts"} & set(spec)
    assert (spec["clusterIP"], spec["ports"][0]["nodePort"]) == (FIRST, 30086)
    assert spec["externalTrafficPolicy"] == "Local"

    spec = update(registry, "services", "web", type="ClusterIP")["spec"]
    assert "nodePort" not in spec["ports"][0]
    assert "externalTrafficPolicy" not in spec
    assert spec["clusterIP"] == FIRST

    spec = update(registry, "services", "web", type="ExternalName", externalName="example.org")["spec"]
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & set(spec)
    assert create(registry, "services", service("next", clusterIP=FIRST))["spec"]["clusterIP"] == FIRST

    spec = update(registry, "services", "web", type="ClusterIP", externalName=None)["spec"]
    assert spec["clusterIPs"] == [spec["clusterIP"]] == ["127.27.1.2"]


def test_a7_what_the_user_changes_as_well_is_refused(registry: Registry):
    create(registry, "services", service(type="NodePort"))
    ports = [{"port": 80, "nodePort": 30200}]
    assert refused(lambda: update(registry, "services", "web", type="ClusterIP", ports=ports)) == [
        "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"
    ]
    changed = {"type": "ExternalName", "externalName": "a.b", "clusterIP": "127.27.0.5"}
    assert refused(lambda: update(registry, "services", "web", **changed)) == [
        "spec.clusterIPs: Forbidden: may not be set for ExternalName services"
    ]


def test_a17_the_class_is_for_good_while_balanced(registry: Registry):
    create(registry, "services", service(**balanced(loadBalancerClass="a/b")))
    fixed = "may not change once set"
    assert refused(lambda: update(registry, "services", "web", loadBalancerClass="a/c")) == [
        f'spec.loadBalancerClass: Invalid value: "a/c": {fixed}'
    ]
    assert refused(lambda: update(registry, "services", "web", loadBalancerClass=None)) == [
        f"spec.loadBalancerClass: Invalid value: null: {fixed}"
    ]
    assert "loadBalancerClass" not in update(registry, "services", "web", type="NodePort")["spec"]
    update(registry, "services", "web", **balanced(loadBalancerClass="a/c"))


def test_a_refused_update_takes_nothing(registry: Registry):
    create(registry, "services", service(type="NodePort"))
    ports = [{"port": 80, "nodePort": 31000}]
    refused(lambda: update(registry, "services", "web", ports=ports, sessionAffinity="x"))
    create(registry, "services", service("other", type="NodePort", ports=ports))


# --- status ---

STATUS: Table = [
    ("A19 address", {"ip": "1.2.3"}, [f'[0].ip: Invalid value: "1.2.3": {BAD_IP}']),
    (
        "A19 hostname is no address",
        {"hostname": "1.2.3.4"},
        ['[0].hostname: Invalid value: "1.2.3.4": must be a DNS name, not an IP address'],
    ),
    ("A19 hostname", {"hostname": "a_b"}, [f'[0].hostname: Invalid value: "a_b": {SUBDOMAIN}']),
    (
        "A19 ipMode only with ip",
        {"hostname": "a.b", "ipMode": "VIP"},
        ["[0].ipMode: Forbidden: may not be specified when `ip` is not set"],
    ),
    (
        "A19 ipMode values",
        {"ip": "1.2.3.4", "ipMode": "DSR"},
        ['[0].ipMode: Unsupported value: "DSR": supported values: "Proxy", "VIP"'],
    ),
]


def status_of(ingress: dict[str, Any]) -> dict[str, Any]:
    return {**service(), "status": {"loadBalancer": {"ingress": [ingress]}}}


@pytest.mark.parametrize(("given", "errors"), rows(STATUS))
def test_statuses_that_are_refused(registry: Registry, given: dict[str, Any], errors: list[str]):
    create(registry, "services", service(type="LoadBalancer"))
    expected = [f"status.loadBalancer.ingress{error}" for error in errors]
    assert refused(lambda: replace(registry, "services", status_of(given), "status")) == expected


def test_a19_only_load_balancers_have_ingresses(registry: Registry):
    create(registry, "services", service())
    assert refused(lambda: replace(registry, "services", status_of({"ip": "1.2.3.4"}), "status")) == [
        "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
    ]


def test_a15_a19_status_and_spec_are_written_apart(registry: Registry):
    create(registry, "services", service(type="LoadBalancer"))
    written = replace(registry, "services", {**status_of({"ip": "1.2.3.4"}), "spec": {}}, "status")
    assert written["status"]["loadBalancer"]["ingress"] == [{"ip": "1.2.3.4", "ipMode": "VIP"}]
    assert written["spec"]["ports"][0]["port"] == 80
    again = replace(registry, "services", {**service(type="LoadBalancer"), "status": {}})
    assert again["status"] == written["status"]


def test_a21_a_stale_version_is_a_conflict_and_a_taken_name_too(registry: Registry):
    made = create(registry, "services", service())
    update(registry, "services", "web", type="NodePort")
    codes = []
    for call in (
        lambda: replace(registry, "services", made),
        lambda: create(registry, "services", service()),
    ):
        with pytest.raises(Exception, match=r"modified|already exists") as error:
            call()
        codes.append(error.value.code)  # type: ignore[attr-defined]
    assert codes == [409, 409]
    with pytest.raises(InvalidError, match=r'^Service "web" is invalid: spec\.type: Unsupported value'):
        update(registry, "services", "web", type="x")
