"""cache (rule 54): what is kept, for how long, and what is asked again. With a clock that the tests move."""

import asyncio

import pytest

from emu.coredns import codec
from emu.coredns.chain import Chain, Plugin, Query, Reply
from emu.coredns.corefile import CorefileError, parse_corefile
from emu.coredns.environment import Environment, Facts
from emu.coredns.families import Families
from emu.coredns.index import Index
from emu.coredns.metrics import Metrics
from emu.coredns.plugins import cache as module
from emu.coredns.plugins.cache import Cache
from emu.coredns.presentation import parse_name, parse_record
from emu.coredns.server import configure

SOA = ". 900 IN SOA ns. hostmaster. 1 2 3 4 60"


class Upstream(Plugin):
    """Replies what the test wants, and counts how often it is asked."""

    name = "upstream"
    every_class = True

    def __init__(self):
        self.asked = 0
        self.rcode = codec.NOERROR
        self.answers = ["a.org. 300 IN A 1.2.3.4"]
        self.authority = []
        self.change = {}

    def answer(self, query):
        self.asked += 1
        reply = Reply(self.rcode, [parse_record(text) for text in self.answers], plugin=self.name)
        reply.authority = [parse_record(text) for text in self.authority]
        for field, value in self.change.items():
            setattr(reply, field, value)
        return reply


class Bench:
    """A cache over an upstream."""

    def __init__(self, text):
        (block,) = parse_corefile(f". {{\n {text}\n}}")
        self.now = 1000.0
        self.families = Families()
        made = module.setup(block.directives[0], Environment(block.zones, Facts(Index(), Metrics())))
        self.cache = Cache(made._zones, made._options, self.families, "s", lambda: self.now)
        self.upstream = Upstream()
        self.chain = Chain(".", [self.cache, self.upstream])

    async def ask(self, name="a.org.", qtype=codec.A, **options):
        request = codec.parse_request(codec.encode_query(1, parse_name(name), qtype, **options))
        found = self.chain.resolve(Query(request, ("127.0.0.1", 9), "udp", ("127.0.0.1", 53)))
        return found if isinstance(found, Reply) else await found

    async def ttl(self, **options):
        return (await self.ask(**options)).answer[0].ttl

    def counted(self, family, *labels):
        return self.families.value(family, "s", *labels, ".", "")


LIMITS = [
    ("cache", 7200, 3600),
    ("cache 30", 300, 30),
    ("cache 7200", 7200, 3600),
    ("cache", 1, 5),
    ("cache 30 {\n success 100 50 2\n}", 300, 50),
    ("cache 30 {\n success 100 50 2\n}", 1, 2),
]


@pytest.mark.parametrize(("text", "ttl", "shown"), LIMITS)
async def test_rule_54_ttls_are_brought_within_limits_and_count_down(text, ttl, shown):
    bench = Bench(text)
    bench.upstream.answers = [f"a.org. {ttl} IN A 1.2.3.4", "a.org. 9000 IN A 1.2.3.5"]
    assert await bench.ttl() == shown
    bench.now += shown - 1
    reply = await bench.ask()
    assert [record.ttl for record in reply.answer] == [1, 1]
    assert reply.authoritative
    assert reply.plugin == "cache"
    assert bench.upstream.asked == 1
    bench.now += 1
    assert await bench.ttl() == shown
    assert bench.upstream.asked == 2


DENIALS = [
    (codec.NXDOMAIN, [SOA], 60),  # the SOA's minimum
    (codec.NOERROR, [SOA], 60),
    (codec.NXDOMAIN, [SOA.replace(" 60", " 9000")], 900),  # the SOA's TTL
    (codec.NXDOMAIN, [SOA.replace(" 60", " 9000").replace(" 900 ", " 9000 ")], 1800),
    (codec.SERVFAIL, [], 5),
    (codec.NXDOMAIN, [], 0),  # without SOA not at all
    (codec.REFUSED, [], 0),
]


@pytest.mark.parametrize(("rcode", "authority", "kept"), DENIALS)
async def test_rule_54_denials_are_kept_for_their_own_time(rcode, authority, kept):
    bench = Bench("cache")
    bench.upstream.rcode, bench.upstream.authority, bench.upstream.answers = rcode, authority, []
    assert (await bench.ask()).rcode == rcode
    if kept:
        bench.now += kept - 1
        assert (await bench.ask()).rcode == rcode
        assert bench.upstream.asked == 1
        bench.now += 1
    await bench.ask()
    assert bench.upstream.asked == 2


async def test_rule_54_the_key_is_name_type_class_do_and_cd():
    bench = Bench("cache")
    different = [
        {}, {"name": "b.org."}, {"qtype": codec.AAAA}, {"qclass": codec.CH},
        {"edns": codec.Edns(1232, 0, True)}, {"flags": codec.RD | codec.CD},
    ]  # fmt: skip
    for options in different:
        await bench.ask(**options)
    assert bench.upstream.asked == len(different)
    for options in [*different, {"name": "A.Org."}, {"edns": codec.Edns(1232)}, {"flags": 0}]:
        await bench.ask(**options)
    assert bench.upstream.asked == len(different)


@pytest.mark.parametrize(
    "change",
    [
        {"constant": True},
        {"personal": True},
        {"truncated": True},
        {"error": OSError(), "rcode": codec.SERVFAIL},
    ],
    ids=["kubernetes", "one client", "truncated", "own failure"],
)
async def test_rule_54_what_is_never_kept(change):
    bench = Bench("cache")
    bench.upstream.change = change
    await bench.ask()
    await bench.ask()
    assert bench.upstream.asked == 2


async def test_rule_54_disable_and_zones():
    for text in ("cache {\n disable success org\n}", "cache example.net"):
        bench = Bench(text)
        await bench.ask()
        await bench.ask()
        assert bench.upstream.asked == 2
    bench = Bench("cache {\n disable denial org\n}")
    await bench.ask()
    await bench.ask()
    assert bench.upstream.asked == 1


async def test_rule_54_the_oldest_makes_room():
    bench = Bench("cache {\n success 2\n}")
    for name in ("a.org.", "b.org.", "c.org.", "b.org.", "a.org."):
        await bench.ask(name)
    assert bench.upstream.asked == 4
    assert bench.counted(module.EVICTIONS, "success") == 2
    assert bench.counted(module.ENTRIES, "success") == 2


async def test_a_new_answer_replaces_a_denial():
    bench = Bench("cache {\n serve_stale\n}")
    bench.upstream.rcode, bench.upstream.authority, bench.upstream.answers = codec.NXDOMAIN, [SOA], []
    await bench.ask()
    bench.now += 60
    bench.upstream.rcode, bench.upstream.answers = codec.NOERROR, ["a.org. 300 IN A 1.2.3.4"]
    assert (await bench.ask()).rcode == codec.NXDOMAIN
    await asyncio.sleep(0)
    assert (await bench.ask()).answer
    assert bench.counted(module.ENTRIES, "denial") == 0


async def test_servfail_and_keepttl():
    bench = Bench("cache {\n servfail 0\n}")
    bench.upstream.rcode, bench.upstream.answers = codec.SERVFAIL, []
    await bench.ask()
    await bench.ask()
    assert bench.upstream.asked == 2
    bench = Bench("cache 30 {\n keepttl\n}")
    assert await bench.ttl() == 300
    bench.now += 29
    assert await bench.ttl() == 300
    assert bench.upstream.asked == 1


async def test_prefetch_asks_again_for_what_is_popular_and_nearly_over():
    bench = Bench("cache {\n prefetch 2 1m 10%\n}")
    await bench.ask()
    bench.now += 271
    await bench.ask()  # after a pause
    await asyncio.sleep(0)
    assert bench.upstream.asked == 1
    await bench.ask()
    await bench.ask()
    await asyncio.sleep(0)
    assert bench.upstream.asked == 2  # once at a time
    assert await bench.ttl() == 300
    assert bench.counted(module.PREFETCHES) == 1


async def test_serve_stale_at_once():
    bench = Bench("cache {\n serve_stale 1m\n}")
    await bench.ask()
    bench.now += 300
    bench.upstream.answers = ["a.org. 300 IN A 5.6.7.8"]
    reply = await bench.ask()
    assert (reply.answer[0].ttl, reply.answer[0].rdata) == (0, b"\1\2\3\4")
    await asyncio.sleep(0)
    assert (await bench.ask()).answer[0].rdata == b"\5\6\7\x08"
    assert bench.counted(module.STALE) == 1
    bench.now += 360
    bench.upstream.rcode, bench.upstream.answers = codec.SERVFAIL, []
    assert (await bench.ask()).rcode == codec.SERVFAIL  # too stale


async def test_serve_stale_after_verification():
    bench = Bench("cache {\n serve_stale 1h verify\n}")
    await bench.ask()
    bench.now += 300
    bench.upstream.answers = ["a.org. 300 IN A 5.6.7.8"]
    assert (await bench.ask()).answer[0].rdata == b"\5\6\7\x08"
    bench.now += 300
    bench.upstream.rcode, bench.upstream.answers = codec.SERVFAIL, []
    reply = await bench.ask()
    assert (reply.answer[0].ttl, reply.answer[0].rdata) == (0, b"\5\6\7\x08")


async def test_hits_and_misses_are_counted():
    bench = Bench("cache")
    for _ in range(3):
        await bench.ask()
    assert bench.counted(module.REQUESTS) == 3
    assert bench.counted(module.HITS, "success") == 2
    assert bench.counted(module.MISSES) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cache 0", "Corefile:2: plugin/cache: a TTL is at least 1 second"),
        ("cache {\n success\n}", 'Corefile:3: plugin/cache: "success" is not an option'),
        ("cache {\n servfail 6m\n}", "servfail is 5 minutes at most"),
        ("cache {\n prefetch 2 1m 5%\n}", '"5%" is not between 10% and 90%'),
        ("cache {\n serve_stale 1h never\n}", '"never" is neither verify nor immediate'),
        ("cache {\n disable all\n}", '"disable all" is not an option'),
    ],
)
def test_errors_name_file_and_line(text, message):
    with pytest.raises(CorefileError) as caught:
        configure(f". {{\n {text}\n}}", "Corefile", Facts(Index(), Metrics()))
    assert message in str(caught.value)
