from typing import Any

import pytest

from emu.api.registry import Registry

from .refusals import BAD_CIDR, LABEL_VALUE, PORT_RANGE, QUALIFIED, Table, create, refused, replace, rows

POLICIES = "networkpolicies.networking.k8s.io"
FIRST_PORT = "spec.ingress[0].ports[0]"
FIRST_PEER = "spec.ingress[0].from[0]"
SUBSET = "must be a strict subset of `cidr`"
HOST_BITS = "must not have bits set beyond the prefix length"


def policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"podSelector": {}, **spec}}


def to_port(**port: Any) -> dict[str, Any]:
    return {"ingress": [{"ports": [port]}]}


def from_peer(**peer: Any) -> dict[str, Any]:
    return {"ingress": [{"from": [peer]}]}


def from_block(cidr: str, *without: str) -> dict[str, Any]:
    return from_peer(ipBlock={"cidr": cidr, "except": list(without)})


def selecting(*expressions: dict[str, Any], **labels: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": labels, "matchExpressions": list(expressions)}}


REFUSED: Table = [
    *(
        (
            f"35 protocol {protocol!r}",
            to_port(protocol=protocol),
            [
                f'{FIRST_PORT}.protocol: Unsupported value: "{protocol}": supported values: "TCP", "UDP", '
                '"SCTP"'
            ],
        )
        for protocol in ("tcp", "ICMP", "")
    ),
    *(
        (
            f"35 number {number}",
            to_port(port=number),
            [f"{FIRST_PORT}.port: Invalid value: {number}: {PORT_RANGE}"],
        )
        for number in (0, -1, 65536)
    ),
    *(
        (f"35 name {name!r}", to_port(port=name), [f'{FIRST_PORT}.port: Invalid value: "{name}": {fault}'])
        for name, fault in (
            ("80", "must contain at least one letter (a-z)"),
            ("sixteen-letters0", "must be no more than 15 bytes"),
            ("we_b", "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"),
            ("a--b", "must not contain consecutive hyphens"),
            ("-a", "must not begin or end with a hyphen"),
            ("a-", "must not begin or end with a hyphen"),
        )
    ),
    (
        "35 no name",
        to_port(port=""),
        [
            f'{FIRST_PORT}.port: Invalid value: "": must contain only alpha-numeric characters (a-z, 0-9), '
            "and hyphens (-)",
            f'{FIRST_PORT}.port: Invalid value: "": must contain at least one letter (a-z)',
        ],
    ),
    (
        "35 endPort alone, in egress",
        {"egress": [{"ports": [{"endPort": 9}]}]},
        [
            "spec.egress[0].ports[0].endPort: Invalid value: 9: may not be specified when `port` is not "
            "specified"
        ],
    ),
    (
        "35 endPort with a name",
        to_port(port="web", endPort=9),
        [f"{FIRST_PORT}.endPort: Invalid value: 9: may not be specified when `port` is non-numeric"],
    ),
    (
        "35 endPort below port",
        to_port(port=10, endPort=9),
        [f"{FIRST_PORT}.endPort: Invalid value: 9: must be greater than or equal to `port`"],
    ),
    (
        "35 endPort too high",
        to_port(port=10, endPort=65536),
        [f"{FIRST_PORT}.endPort: Invalid value: 65536: {PORT_RANGE}"],
    ),
    ("36 no field", from_peer(), [f"{FIRST_PEER}: Required value: must specify a peer"]),
    (
        "36 block and selector",
        {"egress": [{"to": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
        ["spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer"],
    ),
    (
        "36 block and namespaces",
        from_peer(namespaceSelector={}, ipBlock={"cidr": "10.0.0.0/8"}),
        [f"{FIRST_PEER}: Forbidden: may not specify both ipBlock and another peer"],
    ),
    ("37 no cidr", from_block(""), [f"{FIRST_PEER}.ipBlock.cidr: Required value"]),
    *(
        (
            f"37 cidr {cidr}",
            from_block(cidr),
            [f'{FIRST_PEER}.ipBlock.cidr: Invalid value: "{cidr}": {fault}'],
        )
        for cidr, fault in (
            ("10.0.0.0", BAD_CIDR),
            ("10.0.0.0/33", BAD_CIDR),
            ("10.0.0.0/255.0.0.0", BAD_CIDR),
            ("everyone", BAD_CIDR),
            ("192.168.0.5/24", HOST_BITS),
            ("fe80::1/64", HOST_BITS),
            ("010.0.0.0/8", "must not have leading 0s in IP or prefix length"),
            ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
            ("::ffff:10.0.0.0/104", "must not have an IPv4-mapped IPv6 address"),
        )
    ),
    *(
        (
            f"37 except {inner}",
            from_block("10.0.0.0/8", inner),
            [f'{FIRST_PEER}.ipBlock.except[0]: Invalid value: "{inner}": {fault}'],
        )
        for inner, fault in (
            ("10.0.0.0/8", SUBSET),
            ("11.0.0.0/16", SUBSET),
            ("0.0.0.0/0", SUBSET),
            ("fd00::/16", SUBSET),
            ("10.1.0.1", BAD_CIDR),
            ("10.1.0.1/16", HOST_BITS),
        )
    ),
    *(
        (
            f"38 {operator} without values",
            selecting({"key": "a", "operator": operator}),
            [
                "spec.podSelector.matchExpressions[0].values: Required value: must be specified when "
                "`operator` is 'In' or 'NotIn'"
            ],
        )
        for operator in ("In", "NotIn")
    ),
    *(
        (
            f"38 {operator} with values",
            selecting({"key": "a", "operator": operator, "values": ["b"]}),
            [
                "spec.podSelector.matchExpressions[0].values: Forbidden: may not be specified when "
                "`operator` is 'Exists' or 'DoesNotExist'"
            ],
        )
        for operator in ("Exists", "DoesNotExist")
    ),
    *(
        (
            f"38 operator {operator!r}",
            selecting({"key": "a", "operator": operator, "values": ["b"]}),
            [
                f'spec.podSelector.matchExpressions[0].operator: Invalid value: "{operator}": not a valid '
                "selector operator"
            ],
        )
        for operator in ("in", "Gt", "")
    ),
    (
        "38 key and value of an expression",
        selecting({"key": "a b", "operator": "In", "values": ["ok", "c d"]}),
        [
            f'spec.podSelector.matchExpressions[0].key: Invalid value: "a b": name part {QUALIFIED}',
            f'spec.podSelector.matchExpressions[0].values[1]: Invalid value: "c d": {LABEL_VALUE}',
        ],
    ),
    (
        "38 labels",
        selecting(**{"a/": "b", "ok": "c d"}),
        [
            'spec.podSelector.matchLabels: Invalid value: "a/": name part must be non-empty',
            f'spec.podSelector.matchLabels: Invalid value: "a/": name part {QUALIFIED}',
            f'spec.podSelector.matchLabels: Invalid value: "c d": {LABEL_VALUE}',
        ],
    ),
    (
        "38 selectors of a peer",
        from_peer(namespaceSelector={"matchLabels": {"a": "c d"}}),
        [f'{FIRST_PEER}.namespaceSelector.matchLabels: Invalid value: "c d": {LABEL_VALUE}'],
    ),
    (
        "39 types",
        {"policyTypes": ["ingress"]},
        ['spec.policyTypes[0]: Unsupported value: "ingress": supported values: "Ingress", "Egress"'],
    ),
    (
        "39 three types",
        {"policyTypes": ["Ingress"] * 3},
        [
            'spec.policyTypes: Invalid value: ["Ingress","Ingress","Ingress"]: may not specify more than two '
            "policyTypes"
        ],
    ),
]


@pytest.mark.parametrize(("given", "errors"), rows(REFUSED))
def test_policies_that_are_refused(registry: Registry, given: dict[str, Any], errors: list[str]):
    assert refused(lambda: create(registry, POLICIES, policy(**given))) == errors


def test_39_the_name_is_a_subdomain(registry: Registry):
    document = {**policy(), "metadata": {"name": "a_b"}}
    [error] = refused(lambda: create(registry, POLICIES, document))
    assert error.startswith('metadata.name: Invalid value: "a_b": a lowercase RFC 1123 subdomain')
    create(registry, POLICIES, {**policy(), "metadata": {"name": "a.b"}})


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="12 all pods"),
        pytest.param({"podSelector": None}, id="12 null"),
        pytest.param({"policyTypes": ["Egress", "Egress"]}, id="3 doubled type"),
        pytest.param({"ingress": [{}]}, id="9 empty rule"),
        pytest.param({"ingress": [{"from": [], "ports": []}]}, id="10 11 empty lists"),
        pytest.param(to_port(), id="11 empty port"),
        pytest.param(from_peer(podSelector={}, namespaceSelector={}), id="13 both selectors"),
        pytest.param(selecting(k=""), id="14 empty value"),
        pytest.param(to_port(protocol="SCTP", port=1), id="17 SCTP"),
        pytest.param(to_port(port="http-1"), id="19 name"),
        pytest.param(to_port(port=80, endPort=80), id="20 a range of one"),
        pytest.param(from_block("0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/8"), id="21 block"),
        pytest.param(from_block("fd00::/8", "fd00:1::/32"), id="21 block of the other family"),
        pytest.param(from_block("FD00:0::/8"), id="37 not canonical"),
    ],
)
def test_policies_that_are_taken(registry: Registry, given: dict[str, Any]):
    document = policy(**given)
    if document["spec"]["podSelector"] is None:
        del document["spec"]["podSelector"]
    assert create(registry, POLICIES, document)["spec"]["podSelector"] is not None


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, ["Ingress"]),
        ({"egress": []}, ["Ingress"]),
        ({"egress": [{}]}, ["Ingress", "Egress"]),
        ({"policyTypes": ["Egress"]}, ["Egress"]),
        ({"policyTypes": []}, ["Ingress"]),
    ],
)
def test_2_policy_types(registry: Registry, spec: dict[str, Any], types: list[str]):
    assert create(registry, POLICIES, policy(**spec))["spec"]["policyTypes"] == types


def test_34_updates_are_judged_as_well(registry: Registry):
    create(registry, POLICIES, policy())
    assert refused(lambda: replace(registry, POLICIES, policy(**from_peer()))) == [
        f"{FIRST_PEER}: Required value: must specify a peer"
    ]
