"""`emu dns explain`: a name's search path walked through the server as it runs, and each step explained.

`walk` asks the chains in force, so that every option of the Corefile counts; `report` is pure and puts what
was found into words. The steps are those of glibc's resolver; where musl's does otherwise, it says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from dnslib import QTYPE, DNSError, DNSRecord
from dnslib.label import DNSLabelError

from emu.core.names import candidates
from emu.coredns import codec
from emu.coredns.chain import Chain, Dropped, Plugin, Query, Reply
from emu.coredns.codec import (
    AAAA,
    ANY,
    AXFR,
    CNAME,
    IXFR,
    NOERROR,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    A,
    CodecError,
    Request,
)
from emu.coredns.responder import Responder

_MAX_RECORDS = 12


class InquiryError(ValueError):
    """What is asked for cannot be explained. The message is one sentence."""


class Inquiry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client would ask, and how its resolv.conf has it search."""

    name: str
    type: str = "A"
    client: str = "127.0.0.1"
    """The address that it asks from."""
    search: tuple[str, ...] = ()
    ndots: int = 5


class Step(NamedTuple):
    """One query of a walk."""

    query: Query
    reply: Reply | None
    """None where the query was dropped."""
    reasons: tuple[str, ...]
    """What the plugins made of it, in the order in which they met it."""


def type_number(text: str) -> int:
    """The number of a type as zone files write it. Raises InquiryError."""
    upper = text.upper()
    number = QTYPE.reverse.get(upper)
    if number is None and upper.startswith("TYPE") and upper[4:].isdigit():
        number = int(upper[4:])
    if number is None or not 0 < number < 1 << 16 or number in (AXFR, IXFR):
        raise InquiryError(f'"{text}" is not a type of records to ask for, such as A, AAAA or SRV')
    return int(number)


async def walk(inquiry: Inquiry, responder: Responder, chains: Mapping[bytes, Chain]) -> list[Step]:
    """Ask for the names of the search path until one settles it. `chains` are those of the responder."""
    qtype = type_number(inquiry.type)
    steps: list[Step] = []
    if not inquiry.name:
        raise InquiryError("a name is needed")
    for candidate in candidates(inquiry.name, inquiry.search, inquiry.ndots):
        try:
            name = codec.to_wire(candidate)
        except (CodecError, UnicodeError) as error:
            raise InquiryError(f'"{candidate}" cannot be asked for: {error}') from None
        request = codec.parse_request(codec.encode_query(0, name, qtype))
        chain = _chain_of(request.key, chains)
        query, reply = await _ask(inquiry, request, chain, responder, "udp")
        if reply is not None and reply.truncated:
            query, reply = await _ask(inquiry, request, chain, responder, "tcp")
        steps.append(Step(query, reply, tuple(_reasons(query, reply, chains))))
        if _is_settled(steps[-1]) or reply is None or reply.rcode not in (NOERROR, NXDOMAIN, SERVFAIL):
            break
    return steps


async def _ask(
    inquiry: Inquiry, request: Request, chain: Chain | None, responder: Responder, proto: str
) -> tuple[Query, Reply | None]:
    """The query that goes down a chain, and what comes of it."""
    local = ("", 0)
    query = Query(request, (inquiry.client, 0), proto, local, lookup=responder.lookup, asked=[])
    if chain is None:
        return query, Reply(REFUSED)
    query.zone = chain.zone
    try:
        found = chain.resolve(query)
        return query, found if isinstance(found, Reply) else await found
    except Dropped:
        return query, None


def _chain_of(key: bytes, chains: Mapping[bytes, Chain]) -> Chain | None:
    zone = max((zone for zone in chains if codec.is_below(key, zone)), key=len, default=None)
    return None if zone is None else chains[zone]


def _reasons(query: Query, reply: Reply | None, chains: Mapping[bytes, Chain]) -> list[str]:
    """What the plugins say of a query, and of the target where it is an alias that leads nowhere."""
    chain = _chain_of(query.request.key, chains)
    plugins = [] if chain is None else chain.plugins
    if reply is None:
        return _said(plugins, query)[:1]
    names = [plugin.name for plugin in plugins]
    if reply.plugin in names:  # those below it have not met the query
        plugins = plugins[: len(names) - names[::-1].index(reply.plugin)]
    asked = query.asked or []
    first = plugins.index(asked[0][0]) if asked else len(plugins)
    found = _said(plugins[:first], query)
    for plugin, request in asked:
        inner = msgspec.structs.replace(query, request=request)
        texts = _said(plugins[plugins.index(plugin) + 1 :], inner)
        if request != query.request:
            question = f"{codec.to_text(request.name)} {codec.type_name(request.type)}"
            texts = [f"the plugin {plugin.name} asks for {question}: {text}" for text in texts]
        found += texts
    if reply.error is not None:
        found.append(str(reply.error) or type(reply.error).__name__)
    if not found:
        found.append(f"the plugin {reply.plugin} answers" if reply.plugin else "no plugin answers for it")
    alias = reply.answer[-1] if reply.answer else None
    if alias is not None and alias.type == CNAME and query.request.type not in (CNAME, ANY):
        key = alias.rdata.lower()
        inner = msgspec.structs.replace(query, request=query.request._replace(name=alias.rdata, key=key))
        chain = _chain_of(key, chains)
        texts = _said([] if chain is None else chain.plugins, inner)
        found += [f"{codec.to_text(alias.rdata)}: {text}" for text in texts[:1]]
    return found


def _said(plugins: list[Plugin], query: Query) -> list[str]:
    return [text for plugin in plugins if (text := plugin.explain(query))]


# --- in words ---


def _is_settled(step: Step) -> bool:
    """Whether a resolver has what it wants."""
    qtype = step.query.request.type
    if step.reply is None or step.reply.rcode != NOERROR:
        return False
    return any(qtype in (record.type, ANY) for record in step.reply.answer)


def report(inquiry: Inquiry, steps: list[Step]) -> str:
    """The walk in words, a paragraph for each step and one for what it came to."""
    paragraphs = [_step(number, step, last=number == len(steps)) for number, step in enumerate(steps, 1)]
    return "\n\n".join([*paragraphs, _summary(inquiry, steps)]) + "\n"


def _step(number: int, step: Step, *, last: bool) -> str:
    request, reply = step.query.request, step.reply
    lines = [f"{number}. {codec.to_text(request.name)} {codec.type_name(request.type)}: {_outcome(step)}"]
    lines += [f"   {text}" for text in step.reasons]
    if reply is None:
        lines.append("   every resolver waits here, 5 seconds by default, and asks again")
        return "\n".join(lines)
    lines += [f"   {text}" for text in _records(request, reply)]
    if not last and reply.rcode != NXDOMAIN:
        lines.append("   musl stops here and has no answer; glibc goes on")
    return "\n".join(lines)


def _outcome(step: Step) -> str:
    reply = step.reply
    if reply is None:
        return "no reply"
    if reply.rcode == NOERROR and not _is_settled(step):
        return "NODATA (NOERROR without such a record)"
    return codec.rcode_name(reply.rcode)


def _records(request: Request, reply: Reply) -> list[str]:
    records = reply.answer
    if not records:
        return []
    wire = codec.encode_reply(request, reply.rcode, 0, (records[:_MAX_RECORDS], [], []), codec.TCP_MAXIMUM)
    try:
        shown = [
            f"{record.rname} {record.ttl} IN {QTYPE.get(record.rtype)} {record.rdata}"
            for record in DNSRecord.parse(wire).rr
        ]
    except (DNSError, DNSLabelError, UnicodeError, RecursionError):
        return [f"{len(records)} records that cannot be shown"]
    more = len(records) - len(shown)
    return [*shown, *([f"and {more} more records"] if more > 0 else [])]


def _summary(inquiry: Inquiry, steps: list[Step]) -> str:
    count = len(steps)
    queries = "1 query" if count == 1 else f"{count} queries"
    qtype = steps[0].query.request.type
    last = codec.to_text(steps[-1].query.request.name)
    settled = _is_settled(steps[-1])
    if settled:
        wasted = f"{count - 1} of them wasted" if count > 1 else "none wasted"
        sentences = [f"{inquiry.name} is found as {last}: {queries}, {wasted}."]
    else:
        sentences = [f"{inquiry.name} has no {codec.type_name(qtype)} record: {queries}, in vain."]
    if count > 1 and qtype in (A, AAAA):
        sentences.append("Clients that ask for both A and AAAA send twice as many.")
    dots = inquiry.name.count(".")
    if count > 1 and dots >= inquiry.ndots:
        sentences.append("musl asks for the first name only.")
    elif count > 1 and settled and dots and last == f"{inquiry.name}.":
        sentences.append(f"With a final dot ({last}), or ndots:{dots} in the pod's dnsConfig, it takes one.")
    return "\n".join(sentences)
