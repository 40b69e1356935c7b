from typing import Any

import pytest

from emu.api.registry import Registry

from .refusals import (
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
)

SLICES = "endpointslices.discovery.k8s.io"
PROTOCOLS = 'supported values: "SCTP", "TCP", "UDP"'


def slice_of(*addresses: str, **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "s"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": list(addresses or ("10.0.0.1",))}],
        **fields,
    }


def endpoint(**fields: Any) -> dict[str, Any]:
    return {"endpoints": [{"addresses": ["10.0.0.1"], **fields}]}


SLICES_REFUSED: Table = [
    ("B13 addressType required", {"addressType": ""}, ["addressType: Required value"]),
    (
        "B13 addressType values",
        {"addressType": "IP"},
        ['addressType: Unsupported value: "IP": supported values: "FQDN", "IPv4", "IPv6"'],
    ),
    (
        "B13 an address",
        {"endpoints": [{}]},
        ["endpoints[0].addresses: Required value: must contain at least 1 address"],
    ),
    (
        "B13 100 addresses",
        {"endpoints": [{"addresses": ["10.0.0.1"] * 101}]},
        ["endpoints[0].addresses: Too many: 101: must have at most 100 items"],
    ),
    (
        "B13 1000 endpoints",
        {"endpoints": [{"addresses": ["10.0.0.1"]}] * 1001},
        ["endpoints: Too many: 1001: must have at most 1000 items"],
    ),
    (
        "B13 form of addresses",
        {"endpoints": [{"addresses": ["10.0.0.1", "x"]}]},
        [f'endpoints[0].addresses[1]: Invalid value: "x": {BAD_IP}'],
    ),
    (
        "B13 family",
        {"endpoints": [{"addresses": ["fd00::1"]}]},
        ['endpoints[0].addresses[0]: Invalid value: "fd00::1": must be an IPv4 address'],
    ),
    (
        "B13 other family",
        {"addressType": "IPv6"},
        ['endpoints[0].addresses[0]: Invalid value: "10.0.0.1": must be an IPv6 address'],
    ),
    (
        "B13 leading zeros",
        {"endpoints": [{"addresses": ["10.0.0.01"]}]},
        ['endpoints[0].addresses[0]: Invalid value: "10.0.0.01": must not have leading 0s'],
    ),
    (
        "B13 unspecified",
        {"endpoints": [{"addresses": ["0.0.0.0"]}]},
        ['endpoints[0].addresses[0]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)'],
    ),
    (
        "B13 link-local",
        {"endpoints": [{"addresses": ["169.254.1.1"]}]},
        [
            'endpoints[0].addresses[0]: Invalid value: "169.254.1.1": may not be in the link-local range '
            "(169.254.0.0/16, fe80::/10)"
        ],
    ),
    (
        "B13 domain name",
        {"addressType": "FQDN", "endpoints": [{"addresses": ["a_b.org", "org", ""]}]},
        [
            f'endpoints[0].addresses[0]: Invalid value: "a_b.org": {SUBDOMAIN}',
            'endpoints[0].addresses[1]: Invalid value: "org": should be a domain with at least two segments '
            "separated by dots",
            "endpoints[0].addresses[2]: Required value",
        ],
    ),
    (
        "nodeName",
        endpoint(nodeName="A"),
        [f'endpoints[0].nodeName: Invalid value: "A": {SUBDOMAIN}'],
    ),
    ("hostname", endpoint(hostname="A"), [f'endpoints[0].hostname: Invalid value: "A": {LABEL}']),
    (
        "zone hints are unique labels",
        endpoint(hints={"forZones": [{"name": "a"}, {"name": "a"}, {"name": "b c"}]}),
        [
            'endpoints[0].hints.forZones[1].name: Duplicate value: "a"',
            f'endpoints[0].hints.forZones[2].name: Invalid value: "b c": {LABEL_VALUE}',
        ],
    ),
    (
        "node hints are unique names",
        endpoint(hints={"forNodes": [{"name": "a"}, {"name": "a"}, {"name": "B"}]}),
        [
            'endpoints[0].hints.forNodes[1].name: Duplicate value: "a"',
            f'endpoints[0].hints.forNodes[2].name: Invalid value: "B": {SUBDOMAIN}',
        ],
    ),
    (
        "eight hints",
        endpoint(hints={"forZones": [{"name": f"z{n}"} for n in range(9)]}),
        ["endpoints[0].hints.forZones: Too many: 9: must have at most 8 items"],
    ),
    (
        "B13 unique port names",
        {"ports": [{"port": 80}, {"port": 81}, {"name": "a", "port": 82}, {"name": "a", "port": 83}]},
        ['ports[1].name: Duplicate value: ""', 'ports[3].name: Duplicate value: "a"'],
    ),
    ("port name", {"ports": [{"name": "A", "port": 80}]}, [f'ports[0].name: Invalid value: "A": {LABEL}']),
    (
        "B13 protocol",
        {"ports": [{"port": 80, "protocol": "ICMP"}]},
        [f'ports[0].protocol: Unsupported value: "ICMP": {PROTOCOLS}'],
    ),
    (
        "B13 empty protocol",
        {"ports": [{"port": 80, "protocol": ""}]},
        [f'ports[0].protocol: Unsupported value: "": {PROTOCOLS}'],
    ),
    ("port number", {"ports": [{"port": 70000}]}, [f"ports[0].port: Invalid value: 70000: {PORT_RANGE}"]),
    (
        "appProtocol",
        {"ports": [{"port": 80, "appProtocol": "/"}]},
        [
            'ports[0].appProtocol: Invalid value: "/": prefix part must be non-empty',
            'ports[0].appProtocol: Invalid value: "/": name part must be non-empty',
            f'ports[0].appProtocol: Invalid value: "/": name part {QUALIFIED}',
        ],
    ),
]


@pytest.mark.parametrize(("given", "errors"), rows(SLICES_REFUSED))
def test_slices_that_are_refused(registry: Registry, given: dict[str, Any], errors: list[str]):
    assert refused(lambda: create(registry, SLICES, slice_of(**given))) == errors


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"endpoints": []}, id="no endpoints"),
        pytest.param({"endpoints": [{"addresses": ["127.0.0.1"]}]}, id="loopback is the plane's"),
        pytest.param({"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"]}]}, id="IPv6"),
        pytest.param({"addressType": "FQDN", "endpoints": [{"addresses": ["a.org."]}]}, id="FQDN"),
        pytest.param({"ports": [{}]}, id="a port without a number is all ports"),
        pytest.param(
            endpoint(nodeName="n.1", zone="z", hostname="h", conditions={}), id="what else there is"
        ),
        pytest.param(
            endpoint(targetRef={"kind": "Pod", "name": "p", "namespace": "default"}), id="a reference"
        ),
    ],
)
def test_slices_that_are_taken(registry: Registry, given: dict[str, Any]):
    assert create(registry, SLICES, slice_of(**given))["addressType"]


def test_slices_have_port_names_and_protocols_and_no_deprecated_topology(registry: Registry):
    made = create(registry, SLICES, slice_of(**endpoint(deprecatedTopology={"a": "b"}), ports=[{"port": 1}]))
    assert made["ports"] == [{"name": "", "port": 1, "protocol": "TCP"}]
    assert made["endpoints"] == [{"addresses": ["10.0.0.1"]}]


def test_b13_the_address_type_is_for_good(registry: Registry):
    create(registry, SLICES, slice_of())
    assert refused(lambda: replace(registry, SLICES, slice_of("fd00::1", addressType="IPv6"))) == [
        'addressType: Invalid value: "IPv6": field is immutable'
    ]


def subset(address: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"addresses": [address or {"ip": "10.0.0.1"}], **fields}


ENDPOINTS_REFUSED: Table = [
    (
        "an address",
        {},
        ["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"],
    ),
    (
        "form of addresses",
        subset({"ip": "x"}),
        [
            f'subsets[0].addresses[0].ip: Invalid value: "x": {BAD_IP}',
            'subsets[0].addresses[0].ip: Invalid value: "x": must be a valid IP address',
        ],
    ),
    (
        "addresses that are not ready",
        {"notReadyAddresses": [{"ip": "224.0.0.1"}]},
        [
            'subsets[0].notReadyAddresses[0].ip: Invalid value: "224.0.0.1": may not be in the link-local '
            "multicast range (224.0.0.0/24, ff02::/10)"
        ],
    ),
    (
        "hostname and node name",
        subset({"ip": "10.0.0.1", "hostname": "A", "nodeName": "B"}),
        [
            f'subsets[0].addresses[0].hostname: Invalid value: "A": {LABEL}',
            f'subsets[0].addresses[0].nodeName: Invalid value: "B": {SUBDOMAIN}',
        ],
    ),
    (
        "several ports have names",
        subset(ports=[{"port": 80, "name": "a"}, {"port": 81}]),
        ["subsets[0].ports[1].name: Required value"],
    ),
    (
        "ports",
        subset(ports=[{"port": 0, "name": "A", "protocol": "x"}]),
        [
            f'subsets[0].ports[0].name: Invalid value: "A": {LABEL}',
            f"subsets[0].ports[0].port: Invalid value: 0: {PORT_RANGE}",
            f'subsets[0].ports[0].protocol: Unsupported value: "x": {PROTOCOLS}',
        ],
    ),
    (
        "appProtocol",
        subset(ports=[{"port": 80, "appProtocol": "a b"}]),
        [f'subsets[0].ports[0].appProtocol: Invalid value: "a b": name part {QUALIFIED}'],
    ),
]


@pytest.mark.parametrize(("given", "errors"), rows(ENDPOINTS_REFUSED))
def test_endpoints_that_are_refused(registry: Registry, given: dict[str, Any], errors: list[str]):
    document = {"metadata": {"name": "e"}, "subsets": [given]}
    assert refused(lambda: create(registry, "endpoints", document)) == errors


def test_endpoints_of_every_kind_are_taken(registry: Registry):
    ports = [{"port": 80, "name": "a"}, {"port": 80, "name": "b", "protocol": "UDP"}]
    document = {"metadata": {"name": "e"}, "subsets": [subset(ports=ports), subset({"ip": "127.0.0.1"})]}
    made = create(registry, "endpoints", document)
    assert [port["protocol"] for port in made["subsets"][0]["ports"]] == ["TCP", "UDP"]


def test_the_generation_of_a_slice_counts_all_but_its_metadata(registry: Registry):
    generations = [create(registry, SLICES, slice_of(ports=[{"port": 80}]))["metadata"]["generation"]]
    for fields in (
        {"ports": [{"port": 80}], "metadata": {"name": "s", "labels": {"a": "b"}}},
        {"ports": [{"port": 81}]},
        {"ports": [{"port": 81}], **endpoint(conditions={"ready": False})},
    ):
        made = replace(registry, SLICES, {**slice_of(), **fields})
        generations.append(made["metadata"]["generation"])
    assert generations == [1, 1, 2, 3]
