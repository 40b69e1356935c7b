import random
import re
from pathlib import Path

import pytest

import emu.coredns.plugins
from emu.coredns.caddyfile import lex
from emu.coredns.corefile import CorefileError, kubeadm_corefile, normalize_zones, parse_corefile
from emu.coredns.environment import Facts
from emu.coredns.index import Index
from emu.coredns.metrics import Metrics
from emu.coredns.plugins.order import ORDER
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


WORDS = [
    ("a b\tc", ["a", "b", "c"]),
    ('"a b" c"d', ["a b", 'c"d']),
    (r'"say \"a\"" "\." "c:\\d\\"', ['say "a"', r"\.", r"c:\\d\\"]),
    ('"" x', ["", "x"]),
    ("a#b\nc # d", ["a", "c"]),
    ('"a # b"', ["a # b"]),
    ("{$ONE} x{%ONE%}y {$NONE}", ["1 2", "x1 2y", ""]),
    ("a\r\nb", ["a", "b"]),
    ("\ufeffa", ["a"]),
    ("{ }", ["{", "}"]),
    ("{{ .Name }}", ["{{", ".Name", "}}"]),
]


@pytest.mark.parametrize(("text", "words"), WORDS)
def test_words_are_those_of_a_caddyfile(text, words):
    assert [token.text for token in lex(text, "Corefile", {"ONE": "1 2"})] == words


def test_a_word_in_quotes_may_go_over_lines():
    (block,) = parse_corefile('. {\n log "a\nb" c\n errors\n}\n')
    assert [(item.name, item.args, item.line) for item in block.directives] == [
        ("log", ("a\nb", "c"), 2), ("errors", (), 4),
    ]  # fmt: skip


SHAPES = [
    ("one block needs no braces", "example.org\nerrors\nlog\n", [("example.org.", ["errors", "log"])]),
    ("an opening brace on its own line", "example.org\n{\n errors\n}\n", [("example.org.", ["errors"])]),
    ("zones over lines", "a.org,\nb.org {\n log\n}\n", [("a.org.", ["log"]), ("b.org.", ["log"])]),
    ("a zone from the environment", "{$ZONE} {\n}\n", [("example.org.", [])]),
    ("an empty word is no zone", '"" a.org {\n}\n', [("a.org.", [])]),
    ("blocks from a snippet", "(b) {\na.org {\n log\n}\n}\nimport b\n", [("a.org.", ["log"])]),
    (
        "a snippet within a snippet",
        "(a) {\n log\n}\n(b) {\n import a\n errors\n}\n. {\n import b\n reload\n}\n",
        [(".", ["log", "errors", "reload"])],
    ),
]


@pytest.mark.parametrize(("text", "expected"), [pytest.param(*row[1:], id=row[0]) for row in SHAPES])
def test_server_blocks(text, expected):
    blocks = parse_corefile(text, environment={"ZONE": "example.org"})
    assert [
        (zone.name, [item.name for item in block.directives]) for block in blocks for zone in block.zones
    ] == expected


def test_import_within_the_block_of_a_plugin():
    (block,) = parse_corefile("(o) {\n disable success\n}\n. {\n cache 30 {\n import o\n success 9\n }\n}\n")
    assert [(line.name, line.args) for line in block.directives[0].block] == [
        ("disable", ("success",)), ("success", ("9",)),
    ]  # fmt: skip


def test_import_of_files_and_patterns(tmp_path):
    (tmp_path / "common").write_text("errors\nlog\n")
    (tmp_path / "zones").mkdir()
    for name in ("b", "a"):
        (tmp_path / "zones" / f"{name}.conf").write_text(f"{name}.org {{\n import ../common\n}}\n")
    main = tmp_path / "Corefile"
    blocks = parse_corefile(f"import zones/*.conf\n. {{\n import {tmp_path}/common\n}}\n", str(main))
    assert [(block.zones[0].name, len(block.directives)) for block in blocks] == [
        ("a.org.", 2), ("b.org.", 2), (".", 2),
    ]  # fmt: skip
    assert blocks[2].directives[1][3:] == (str(tmp_path / "common"), 2)
    assert parse_corefile(". {\n import nothing/*.conf\n}\n", str(main))[0].directives == ()


def test_import_of_other_keys_of_the_config_map():
    beside = {"Corefile": "", "extra.override": "log\n", "own.server": "a.org {\n bogus\n}\n"}
    text = ". {\n import *.override\n}\nimport /etc/coredns/*.server\n"
    blocks = parse_corefile(text, "ConfigMap kube-system/coredns Corefile", beside=beside)
    assert [block.zones[0].name for block in blocks] == [".", "a.org."]
    with pytest.raises(CorefileError, match=r"^ConfigMap kube-system/coredns own\.server:2: plugin/bogus"):
        configure(text, "ConfigMap kube-system/coredns Corefile", facts(), beside)


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
        ("(a) {\n import a\n}\n. {\n import a\n}", 'Corefile:2: import of "a": it imports itself'),
        ("(a) {\n}\n(a) {\n}\n. {\n}", 'Corefile:3: the snippet "a" is already there'),
        ("(a) {\n log\n", "Corefile:1: a snippet is not closed"),
        (". {\n import\n}", "Corefile:2: import takes one snippet, file or pattern"),
        (". {\n import a*b*\n}", 'Corefile:2: import of "a*b*": a pattern has one wildcard at most'),
        ("a, {\n}", "Corefile:1: another zone is expected after the comma"),
        ("{\n}", "Corefile:1: a server block needs a zone before its opening brace"),
        (". {\n}\n}", "Corefile:3: a closing brace without its opening one"),
        (".\nerrors\n}", "Corefile:3: a closing brace without its opening one"),
        (". {\n errors\n {\n }\n}", "Corefile:3: an opening brace without a plugin before it"),
        (". {\n cache {\n success 1\n", "Corefile:2: the block of cache is not closed"),
        (". {\n cache {\n a {\n }\n }\n}", "Corefile:3: the block of cache has a block within it"),
        (". {\n log . {\n }\n tls cert\n}", "Corefile:4: plugin/tls: there is no such plugin"),
    ],
)  # fmt: skip
def test_errors_name_file_and_line(text, message):
    with pytest.raises(CorefileError) as caught:
        configure(text, "Corefile", facts())
    assert message in str(caught.value)


SOUP = """
{ } { } , . a.org b.org: :53 10.0.0.0/24 fd00::/300 \u00fc.org \u00b2 a..b (x) import x * # " {$X}
{%X%} 0 1 5s -1 10% & ( [ {1} {{ .Name }} IN A ANY CH NXDOMAIN exact regex auto answer value
continue stop name type ttl rcode to success denial disable prefetch serve_stale verify match
fallthrough pods verified except policy random next class health_check domain consolidate lameduck
/etc/resolv.conf /nonexistent @kubernetes 10.0.0.1 10.0.0.1:53
"""
WORDS_OF_SOUP = [*SOUP.split(), "\n", "\n", "\n"]


def outcome(text):
    """What is wrong with a Corefile, None where it is one."""
    try:
        configure(text, "Corefile", facts(), beside={})
    except CorefileError as error:
        return str(error)
    return None


def test_any_words_are_a_corefile_or_an_error_with_file_and_line():
    """8,000 heaps of words, some in the shape of server blocks."""
    chance = random.Random(5)
    names = [*ORDER, *WORDS_OF_SOUP]
    taken = 0
    for _ in range(8_000):
        lines = [" ".join(chance.choices(names, k=chance.randrange(5))) for _ in range(chance.randrange(6))]
        if chance.random() < 0.8:
            name = chance.choice(list(ORDER))
            args = " ".join(chance.choices(WORDS_OF_SOUP, k=chance.randrange(4)))
            options = "\n".join(lines)
            text = (
                f". {{\n{name} {args} {{\n{options}\n}}\n}}"
                if chance.random() < 0.7
                else f".\n{name} {args}\n"
            )
        else:
            text = "\n".join(lines)
        wrong = outcome(text)
        assert wrong is None or re.match(r"\S+:\d+: ", wrong), text
        taken += wrong is None
    assert taken > 200


@pytest.mark.parametrize("name", ORDER)
def test_every_plugin_has_a_manual_page(name):
    folder = Path(emu.coredns.plugins.__file__).parent
    (page,) = [*folder.glob(f"{name}.md"), *folder.glob(f"{name}/{name}.md")]
    text = page.read_text()
    assert text.startswith(f"# {name}\n\n## Name\n\n*{name}* - ")
    for section in ("Syntax", "Examples"):
        assert f"\n## {section}\n" in text
