"""Names as the real kube-proxy makes them: rules D3 and F2, checked against a real cluster and its tests."""

import pytest

from emu.proxy.rules.names import endpoint_chain, nft_endpoint_base, nft_port_base, port_hash


@pytest.mark.parametrize(
    ("name", "hashed"),
    [
        ("ns1/svc1:p80", "XPGD46QRK7WJZT7O"),
        ("default/kubernetes:https", "NPX46M4PTMTKRN6Y"),
        ("kube-system/kube-dns:dns-tcp", "ERIFXISQEP7F7OF4"),
        ("default/web", "LOLE4ISW44XBNF3G"),
    ],
)
def test_d3_service_port(name, hashed):
    assert port_hash(name, "tcp") == hashed


def test_d3_protocol_is_part_of_it():
    assert port_hash("kube-system/kube-dns:dns", "udp") == "TCOU7JCQXEZGVUNU"


def test_d3_endpoint():
    assert endpoint_chain("ns1/svc1:p80", "tcp", "10.180.0.1:80") == "KUBE-SEP-SXIVWICOYRO3J4NJ"


@pytest.mark.parametrize(
    ("service", "hashed"),
    [
        ("ns1/svc1", "ULMVA6XW"),
        ("ns2/svc2", "42NFTM6N"),
        ("ns3/svc3", "4AT6LBPK"),
        ("ns4/svc4", "LAUZTJTB"),
        ("ns5/svc5", "HVFWP5L3"),
    ],
)
def test_f2_service_port(service, hashed):
    namespace, _, name = service.partition("/")
    assert nft_port_base(namespace, name, "tcp", "p80") == f"{hashed}-{service}/tcp/p80"


@pytest.mark.parametrize(
    ("service", "address", "hashed"),
    [
        ("ns1/svc1", "10.180.0.1", "5OJB2KTY"),
        ("ns2/svc2", "10.180.0.2", "SGOXE6O3"),
        ("ns3/svc3", "10.180.0.3", "UEIP74TE"),
        ("ns4/svc4", "10.180.0.5", "5RFCDDV7"),
        ("ns5/svc5", "10.180.0.3", "GTK6MW7G"),
    ],
)
def test_f2_endpoint(service, address, hashed):
    namespace, _, name = service.partition("/")
    base = nft_endpoint_base(namespace, name, "tcp", "p80", f"{address}:80")
    assert base == f"{hashed}-{service}/tcp/p80__{address}/80"


def test_f2_long_names_are_cut():
    base = nft_endpoint_base("n" * 63, "s" * 63, "sctp", "p" * 63, "203.0.113.100:65535")
    assert len(base) <= 240
    longer = nft_port_base("n" * 100, "s" * 100, "sctp", "p" * 63)
    assert len(longer) == 240
    assert longer.endswith("...")
