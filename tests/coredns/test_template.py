"""template and the records it reads, over the wire. The examples are those of CoreDNS's manual page."""

import dns.rcode
import pytest

from emu.coredns import codec
from emu.coredns.codec import CodecError
from emu.coredns.corefile import CorefileError
from emu.coredns.environment import Facts
from emu.coredns.index import Index
from emu.coredns.metrics import Metrics
from emu.coredns.presentation import parse_name, parse_record
from emu.coredns.server import configure

ADDRESSES = r"""
template IN A example {
  match (^|[.])ip-(?P<a>[0-9]*)-(?P<b>[0-9]*)-(?P<c>[0-9]*)-(?P<d>[0-9]*)[.]example[.]$
  answer "{{ .Name }} 60 IN A {{ .Group.a }}.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}"
  authority "example. 60 IN NS ns0.example."
  additional "ns0.example. 60 IN A 203.0.113.8"
  fallthrough
}
template IN MX example {
  match ^ip-10-(?P<b>[0-9]*)[.]example[.]$
  answer "{{ .Name }} 60 IN MX 10 {{ .Name }}"
}
template IN PTR in-addr.arpa {
  match ^(?P<d>[0-9]*)[.](?P<c>[0-9]*)[.](?P<b>[0-9]*)[.](?P<a>[0-9]*)[.]in-addr[.]arpa[.]$
  answer "{{ .Name }} 60 IN PTR ip-{{ .Group.a }}-{{ .Group.b }}-{{ .Group.c }}-{{ .Group.d }}.example."
}
template ANY ANY invalid {
  rcode NXDOMAIN
  authority "invalid. 60 {{ .Class }} SOA ns.invalid. hostmaster.invalid. (1 60 60 60 60)"
}
template IN A hex {
  match "^ip0a(?P<b>[a-f0-9]{2})(?P<c>[a-f0-9]{2})(?P<d>[a-f0-9]{2})[.]hex[.]$"
  answer "{{ .Name }} 60 IN A 10.{{ parseInt .Group.b 16 8 }}.{{ parseInt .Group.c 16 8 }}.{{ parseInt .Group.d 16 8 }}"
}
template IN ANY alias {
  match "^alias\.$"
  answer "alias 60 IN CNAME ip-10-1-2-3.example"
}
template IN TXT seen {
  answer "{{ .Name }} 0 IN TXT \"{{ .Remote }}\" \"{{ .Type }} {{ .Class }} {{ .Zone }}\" \"{{ .Question.Name }}\""
}
template IN A broken {
  answer "{{ .Name }} 60 IN A {{ .Remote }}.{{ .Remote }}"
}
template IN A broken2 {
  answer "{{ .Name }} 60 IN A {{ index .Match 3 }}"
}
"""  # noqa: E501


@pytest.fixture
async def served(start):
    return await start(f". {{\n cache\n prometheus\n {ADDRESSES}\n}}")


async def test_template_makes_records_for_all_sections(served):
    reply = await served.ask("Ip-10-1-2-3.Example.")
    assert [rrset.to_text() for rrset in reply.answer] == ["Ip-10-1-2-3.Example. 60 IN A 10.1.2.3"]
    assert [rrset.to_text() for rrset in reply.authority] == ["example. 60 IN NS ns0.example."]
    assert [rrset.to_text() for rrset in reply.additional] == ["ns0.example. 60 IN A 203.0.113.8"]
    reply = await served.ask("4.3.2.10.in-addr.arpa.", "PTR")
    assert reply.answer[0][0].to_text() == "ip-10-2-3-4.example."
    assert (await served.ask("ip0a7b0102.hex.")).answer[0][0].address == "10.123.1.2"


async def test_template_rcode_fallthrough_and_no_match(served):
    reply = await served.ask("a.invalid.", "TXT")
    assert reply.rcode() == dns.rcode.NXDOMAIN
    assert reply.authority[0].name.to_text() == "invalid."
    assert (await served.ask("x.hex.")).rcode() == dns.rcode.SERVFAIL
    assert (await served.ask("ip-10-4.example.", "MX")).answer[0][0].to_text() == "10 ip-10-4.example."
    assert (await served.ask("else.example.")).rcode() == dns.rcode.SERVFAIL  # nobody is next


async def test_template_follows_a_cname(served):
    reply = await served.ask("alias.")
    assert [rrset[0].to_text() for rrset in reply.answer] == ["ip-10-1-2-3.example.", "10.1.2.3"]


async def test_template_knows_the_client_and_the_question(served):
    reply = await served.ask("Seen.", "TXT")
    assert reply.answer[0][0].to_text() == '"127.0.0.1" "TXT IN seen." "Seen."'


async def test_template_failures_are_servfail_and_counted(served):
    for name in ("broken.", "broken2."):
        assert (await served.ask(name)).rcode() == dns.rcode.SERVFAIL
    _, _, page = served.server.facts.metrics.serve()
    assert b"coredns_template_rr_failures_total{" in page
    assert b"coredns_template_template_failures_total{" in page
    assert (
        b'coredns_template_matches_total{class="IN",server="dns://:53",type="A",view="",zone="broken."} 1'
        in page
    )


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("template IN", "Corefile:2: plugin/template: it needs a class and a type"),
        ("template IN NOPE", "Corefile:2: plugin/template: \"IN NOPE\" are not a class and a type"),
        ("template IN A {\n match (\n}", "Corefile:3: plugin/template: \"(\" is no regular expression"),
        ("template IN A {\n answer {{.Meta}}\n}", "Corefile:3: plugin/template: .Meta needs the plugin"),
        ("template IN A {\n answer \"{{ .Nope }}\"\n}", "there is no field .Nope"),
        ("template IN A {\n answer \"a. 60 IN A nope\"\n}", "plugin/template: \"a. 60 IN A nope\""),
        ("template IN A {\n ederror 21\n}", "extended DNS errors are not supported here"),
        ("template IN A {\n rcode NOPE\n}", "\"rcode NOPE\" is not an option"),
    ],
)  # fmt: skip
def test_template_errors_name_file_and_line(block, message):
    with pytest.raises(CorefileError) as caught:
        configure(f". {{\n {block}\n}}", "Corefile", Facts(Index(), Metrics()))
    assert message in str(caught.value)


RECORDS = [
    ("a.org. 60 IN A 1.2.3.4", (codec.A, 60, b"\1\2\3\4")),
    ("a.org IN 1h30m AAAA ::1", (codec.AAAA, 5400, b"\0" * 15 + b"\1")),
    ("a.org CNAME b.", (codec.CNAME, 3600, b"\1b\0")),
    ("a.org 0 MX 10 b.c.", (codec.MX, 0, b"\0\x0a\1b\1c\0")),
    ("a.org 0 SRV 1 2 80 .", (codec.SRV, 0, b"\0\1\0\2\0\x50\0")),
    (r'a.org 0 TXT "a \"b\"; c" d\032e', (codec.TXT, 0, b'\x08a "b"; c\3d e')),
    (
        "a.org 0 SOA m. r. (1 60 60 ; a comment\n 60 1m)",
        (codec.SOA, 0, b"\1m\0\1r\0" + b"\0\0\0\1" + b"\0\0\0\x3c" * 4),
    ),
    ("a.org 0 HINFO x y", (codec.HINFO, 0, b"\1x\1y")),
    (r"a.org 0 TYPE65280 \# 3 0102 03", (65280, 0, b"\1\2\3")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), RECORDS, ids=[row[0] for row in RECORDS])
def test_records_are_read_as_in_master_files(text, expected):
    record = parse_record(text)
    assert (record.type, record.ttl, record.rdata) == expected
    assert record.name == codec.to_wire("a.org")


@pytest.mark.parametrize(
    "text",
    [
        "", "a.org", "a.org A", "a.org A 1.2.3", "a.org MX x b.", "a.org TXT", f"a.org TXT {'x' * 256}",
        "a..b A 1.2.3.4", "a.org SRV 70000 1 1 .", "a.org TYPE9 1", r"a.org TYPE9 \# 2 01", '"a',
        "a.org A 1.2.3.4 5", r"a\999b A 1.2.3.4",
    ],
)  # fmt: skip
def test_what_is_no_record_is_one_error(text):
    with pytest.raises(CodecError):
        parse_record(text)


def test_names_with_escapes():
    assert parse_name(r"a\.b.c\032d.") == b"\3a.b\3c d\0"
    assert parse_name(".") == b"\0"
    assert codec.to_text(parse_name(r"a\.b\010.org")) == r"a\.b\010.org."


@pytest.mark.parametrize("octet", range(256))
def test_a_name_of_any_octets_is_one_word_of_a_record(octet):
    """Whoever asks chooses the name that a template puts into a record, and must not choose the record."""
    name = codec.join_labels([b"a" + bytes((octet,)) + b"b", b"org"])
    assert parse_record(f"{codec.to_text(name)} 60 IN A 1.2.3.4") == codec.Record(
        name, codec.A, 60, b"\1\2\3\4"
    )
