"""Lines of the `kubernetes` directive that are refused, and what is said of them."""

import pytest

from emu.coredns.corefile import CorefileError
from emu.coredns.environment import Facts
from emu.coredns.index import Index
from emu.coredns.metrics import Metrics
from emu.coredns.server import configure

from .test_kubernetes import COREFILE


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pods maybe", '"pods maybe" is not an option'),
        ("pods", '"pods" is not an option'),
        ("ttl", "ttl is a number of seconds from 0 to 3600"),
        ("ttl 3601", "ttl is a number of seconds from 0 to 3600"),
        ("ttl -1", "ttl is a number of seconds from 0 to 3600"),
        ("ttl 1s", "ttl is a number of seconds from 0 to 3600"),
        ("ttl ²", "ttl is a number of seconds from 0 to 3600"),
        ("namespaces", '"namespaces" is not an option'),
        ("namespaces a\n namespace_labels b=c", "namespaces and namespace_labels exclude each other"),
        ("labels a in", "unable to parse requirement"),
        ("ignore", '"ignore" is not an option'),
        ("noendpoints yes", '"noendpoints yes" is not an option'),
        ("endpoint_pod_names yes", '"endpoint_pod_names yes" is not an option'),
        ("endpoint https://127.0.0.1:6443", 'remove "endpoint": emu\'s DNS always reads the cluster'),
        ("kubeconfig /etc/kubeconfig", 'remove "kubeconfig": emu\'s DNS always reads the cluster'),
        ("tls a b c", 'remove "tls": emu\'s DNS always reads the cluster'),
        ("startup_timeout 5s", 'remove "startup_timeout": queries are answered at once'),
        ("upstream", 'remove "upstream": names outside are always looked up through the server itself'),
        ("color blue", '"color blue" is not an option'),
    ],
)
def test_a_line_is_refused_with_file_line_and_reason(line, message):
    with pytest.raises(CorefileError) as error:
        configure(COREFILE.replace("ttl 30", line), "Corefile", Facts(Index(), Metrics()))
    number = 6 if "\n" in line else 5
    assert str(error.value).startswith(f"Corefile:{number}: plugin/kubernetes: {message}")


def test_only_reverse_zones_are_refused():
    with pytest.raises(CorefileError, match="at least one zone that is not a reverse zone is needed"):
        configure(". {\n kubernetes 10.0.0.0/8\n}", "Corefile", Facts(Index(), Metrics()))


def test_a_zone_without_room_for_its_soa_is_refused():
    zone = ".".join(["z" * 62] * 3 + ["z" * 55])
    with pytest.raises(CorefileError, match="a zone is too long"):
        configure(f". {{\n kubernetes {zone}\n}}", "Corefile", Facts(Index(), Metrics()))
