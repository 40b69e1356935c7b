import pytest

from emu.coredns.corefile import CorefileError, kubeadm_corefile, normalize_zones, parse_corefile
from emu.coredns.environment import Facts
from emu.coredns.index import Index
from emu.coredns.metrics import Metrics
from emu.coredns.server import configure


def facts():
    return Facts(Index(), Metrics())


def test_kubeadms_corefile_is_taken_unchanged():
    configuration = configure(kubeadm_corefile("cluster.local"), "Corefile", facts())
    (chain,) = configuration.chains[53].values()
    assert [plugin.name for plugin in chain.plugins] == [
        "reload", "ready", "health", "prometheus", "errors", "loadbalance", "cache",
        "kubernetes", "loop", "forward",
    ]  # fmt: skip
    assert {(page.port, page.path) for page in configuration.endpoints} == {
        (8080, "/health"), (8181, "/ready"), (9153, "/metrics"),
    }  # fmt: skip


def test_zones_ports_quotes_comments_and_environment():
    text = """
    # a comment
    example.org:1053, Example.NET. 10.0.0.0/24 {
        forward . {$UPSTREAM} # another
        log "quoted word.org" { }
    }
    """
    (block,) = parse_corefile(text, environment={"UPSTREAM": "1.1.1.1"})
    assert [(zone.name, zone.port) for zone in block.zones] == [
        ("example.org.", 1053), ("example.net.", 53), ("0.0.10.in-addr.arpa.", 53),
    ]  # fmt: skip
    assert [(item.name, item.args, item.line) for item in block.directives] == [
        ("forward", (".", "1.1.1.1"), 4), ("log", ("quoted word.org",), 5),
    ]  # fmt: skip


def test_a_snippet_is_inserted():
    (block,) = parse_corefile(
        "(common) {\n errors\n cache 30 {\n disable success\n }\n}\n. {\n import common\n log\n}\n"
    )
    assert [item.name for item in block.directives] == ["errors", "cache", "log"]


@pytest.mark.parametrize(
    ("cidr", "zones"),
    [
        ("127.96.0.0/16", ["96.127.in-addr.arpa."]),
        ("10.0.0.0/23", ["0.0.10.in-addr.arpa.", "1.0.10.in-addr.arpa."]),
        ("fd00::/8", ["d.f.ip6.arpa."]),
    ],
)
def test_a_cidr_is_its_reverse_zones(cidr, zones):
    assert normalize_zones(cidr) == zones


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (". {\n bogus\n}", "Corefile:2: plugin/bogus: there is no such plugin"),
        (". {\n errors", 'Corefile:1: the server block "." is not closed'),
        ("", "Corefile:1: there is no server block"),
        (". {\n errors\n}\n. {\n}", "Corefile:4: the zone .:53 is already served by the block in line 1"),
        (". {\n kubernetes x {\n pods some\n }\n}", 'Corefile:3: plugin/kubernetes: "pods some" is not'),
        (". {\n log \"x\n}", "Corefile:2: a quote is not closed"),
        (". {\n import x\n}", "Corefile:2: import of \"x\""),
        (". {\n errors\n errors\n}", "Corefile:3: plugin/errors: it is there twice"),
        (". {\n forward .\n}", "Corefile:2: plugin/forward: it needs a zone"),
        ("tls://. {\n}", 'Corefile:1: "tls://.": only dns:// is served here'),
        (".:99999 {\n}", 'Corefile:1: "99999" is not a port'),
        ("(a) {\n import a\n}\n. {\n import a\n}", "a snippet imports itself"),
    ],
)  # fmt: skip
def test_errors_name_file_and_line(text, message):
    with pytest.raises(CorefileError) as caught:
        configure(text, "Corefile", facts())
    assert message in str(caught.value)
