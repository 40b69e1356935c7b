import pytest

from emu.core.names import (
    address_of_reverse,
    candidates,
    dashed,
    endpoint_name,
    pod_name,
    port_name,
    reverse_name,
    search_path,
    service_name,
    undashed,
)

SEARCH = search_path("shop", "cluster.local")


def test_search_path_is_that_of_the_kubelet():
    assert SEARCH == ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(
            "web",
            ["web.shop.svc.cluster.local.", "web.svc.cluster.local.", "web.cluster.local.", "web."],
            id="few dots: search path first",
        ),
        pytest.param(
            "web.shop.svc.cluster.local.", ["web.shop.svc.cluster.local."], id="trailing dot: as it is"
        ),
        pytest.param(
            "a.b.c.d.e.f",
            [
                "a.b.c.d.e.f.",
                "a.b.c.d.e.f.shop.svc.cluster.local.",
                "a.b.c.d.e.f.svc.cluster.local.",
                "a.b.c.d.e.f.cluster.local.",
            ],
            id="ndots dots: as it is first",
        ),
    ],
)
def test_candidates(name, expected):
    assert candidates(name, SEARCH) == expected


@pytest.mark.parametrize(
    ("label", "address"),
    [
        ("10-0-0-1", "10.0.0.1"),
        ("10-0-0-256", None),
        ("10-0-0", None),
        ("fd00--1", "fd00::1"),
        ("web", None),
        ("1-2-3-4-5", None),
        ("", None),
    ],
)
def test_undashed(label, address):
    assert undashed(label) == address


def test_dashed_ipv6_never_ends_in_a_dash():
    assert dashed("fd00::") == "fd00--0"
    assert undashed(dashed("fd00::")) == "fd00::"


@pytest.mark.parametrize("address", ["127.96.0.10", "fd00::12:1"])
def test_reverse_names_lead_back(address):
    assert address_of_reverse(tuple(reverse_name(address).rstrip(".").split("."))) == address


@pytest.mark.parametrize(
    "name",
    [
        "1.0.96.in-addr.arpa",
        "01.0.96.127.in-addr.arpa",
        "x.0.96.127.in-addr.arpa",
        "9.1.0.96.127.in-addr.arpa",
    ],
)
def test_odd_reverse_names_have_no_address(name):
    assert address_of_reverse(tuple(name.split("."))) is None


def test_names_of_the_specification():
    assert service_name("shop", "web", "cluster.local") == "web.shop.svc.cluster.local."
    assert endpoint_name("shop", "web", "db-0", "cluster.local") == "db-0.web.shop.svc.cluster.local."
    assert (
        port_name("shop", "web", "http", "TCP", "cluster.local") == "_http._tcp.web.shop.svc.cluster.local."
    )
    assert pod_name("shop", "127.244.1.2", "cluster.local") == "127-244-1-2.shop.pod.cluster.local."
