"""resolv.conf by dnsPolicy and dnsConfig."""

import msgspec
import pytest

from emu.core.objects import PodSpec
from emu.core.resolv_conf import resolv_conf

SERVICE = "127.96.0.10"
SEARCH = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local")


@pytest.mark.parametrize(
    ("spec", "nameservers", "search", "ndots"),
    [
        pytest.param({}, (SERVICE,), SEARCH, 5, id="ClusterFirst is the default"),
        pytest.param({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, (), (), 1, id="host network"),
        pytest.param(
            {"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True},
            (SERVICE,),
            SEARCH,
            5,
            id="with host",
        ),
        pytest.param({"dnsPolicy": "Default"}, (), (), 1, id="Default"),
        pytest.param(
            {
                "dnsPolicy": "None",
                "dnsConfig": {"nameservers": ["9.9.9.9"], "searches": ["corp.example"]},
            },
            ("9.9.9.9",),
            ("corp.example",),
            1,
            id="None",
        ),
        pytest.param(
            {"dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}}, (SERVICE,), SEARCH, 2, id="ndots"
        ),
        pytest.param(
            {"dnsConfig": {"options": [{"name": "ndots", "value": "99"}]}}, (SERVICE,), SEARCH, 15, id="limit"
        ),
        pytest.param(
            {"dnsConfig": {"searches": ["svc.cluster.local", "corp.example"]}},
            (SERVICE,),
            (*SEARCH, "corp.example"),
            5,
            id="searches are added once",
        ),
        pytest.param(
            {"dnsConfig": {"nameservers": ["1.1.1.1", SERVICE, "8.8.8.8", "9.9.9.9"]}},
            (SERVICE, "1.1.1.1", "8.8.8.8"),
            SEARCH,
            5,
            id="three servers at most",
        ),
    ],
)
def test_resolv_conf(spec, nameservers, search, ndots):
    conf = resolv_conf(msgspec.convert(spec, PodSpec), "shop", "cluster.local", SERVICE)
    assert (conf.nameservers, conf.search, conf.ndots) == (nameservers, search, ndots)


def test_options_are_replaced_by_name_and_may_lack_a_value():
    spec = msgspec.convert(
        {"dnsConfig": {"options": [{"name": "ndots", "value": "1"}, {"name": "single-request-reopen"}]}},
        PodSpec,
    )
    conf = resolv_conf(spec, "shop", "cluster.local", SERVICE)
    assert conf.options == (("ndots", "1"), ("single-request-reopen", ""))
