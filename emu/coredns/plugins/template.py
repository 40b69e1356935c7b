"""template: answers by records that are made from the query. See template.md."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from emu.coredns import codec
from emu.coredns.chain import Answer, Plugin, Query, Reply
from emu.coredns.codec import CodecError, Record
from emu.coredns.corefile import Directive, Line
from emu.coredns.environment import Environment, Facts
from emu.coredns.families import Family
from emu.coredns.gotemplate import Template, TemplateError, parse
from emu.coredns.presentation import parse_class, parse_rcode, parse_record, parse_type

FIELDS = frozenset(("Zone", "Name", "Class", "Type", "Match", "Group", "Message", "Question", "Remote"))
_MAX_DEPTH = 8
_PERSONAL = re.compile(r"\.(Remote|Message)\b")
_LABELS = ("server", "zone", "view", "class", "type")

MATCHES = Family("coredns_template_matches", "Counter of template regex matches.", _LABELS)
FAILURES = Family(
    "coredns_template_template_failures",
    "Counter of go template failures.",
    (*_LABELS, "section", "template"),
)
RR_FAILURES = Family(
    "coredns_template_rr_failures",
    "Counter of mis-templated RRs.",
    (*_LABELS, "section", "template"),
)


class Wanted(NamedTuple):
    """A record to make: for which section, and from what."""

    section: str
    text: str
    template: Template


class Templates(Plugin):
    """One `template` directive."""

    name = "template"
    every_class = True

    def __init__(
        self,
        kinds: tuple[int, int],
        zones: list[bytes],
        patterns: list[re.Pattern[str]],
        records: list[Wanted],
        rcode: int,
        fallthrough: list[bytes],
        facts: Facts,
        server: str,
    ) -> None:
        self._class, self._type = kinds
        self._zones = zones
        self._patterns = patterns
        self._records = records
        self._rcode = rcode
        self._fallthrough = fallthrough
        self._families = facts.metrics.families
        self._server = server
        self._personal = any(_PERSONAL.search(record.text) for record in records)

    def answer(self, query: Query) -> Answer:
        """The records for the first pattern that matches; SERVFAIL where none does, unless it may pass on."""
        request = query.request
        if self._class not in (codec.ANY, request.cls) and request.cls != codec.ANY:
            return None
        if self._type not in (codec.ANY, request.type) and request.type != codec.ANY:
            return None
        zone = codec.matching_zone(request.key, self._zones)
        if zone is None:
            return None
        name = codec.to_text(request.key)
        match = next((found for pattern in self._patterns if (found := pattern.search(name))), None)
        if match is None:
            if codec.matching_zone(request.key, self._fallthrough) is not None:
                return None
            return Reply(codec.SERVFAIL, plugin=self.name)
        self._families.increase(MATCHES, *self._labels(query, zone))
        return self._make(query, zone, _data(query, zone, match))

    def _make(self, query: Query, zone: bytes, data: dict[str, Any]) -> Answer:
        reply = Reply(self._rcode, authoritative=True, plugin=self.name, personal=self._personal)
        if self._rcode == codec.SERVFAIL:
            return reply
        labels = self._labels(query, zone)
        for line in self._records:
            try:
                text = line.template.render(data)
            except TemplateError as error:
                self._families.increase(FAILURES, *labels, line.section, line.text)
                return Reply(codec.SERVFAIL, plugin=self.name, error=error)
            try:
                record = parse_record(text)
            except CodecError as error:
                self._families.increase(RR_FAILURES, *labels, line.section, line.text)
                return Reply(codec.SERVFAIL, plugin=self.name, error=error)
            if record.name.lower() == query.request.key:
                record = record._replace(name=query.request.name)
            getattr(reply, line.section).append(record)
        alias = reply.answer[-1] if reply.answer else None
        if alias is None or alias.type != codec.CNAME or query.request.type in (codec.CNAME, codec.ANY):
            return reply
        return self._followed(query, reply, alias)

    async def _followed(self, query: Query, reply: Reply, alias: Record) -> Reply:
        """The reply with what its alias points at, as far as the server knows it."""
        if query.lookup is not None and query.depth < _MAX_DEPTH:
            found = await query.lookup(query, alias.rdata, query.request.type)
            reply.answer += found.answer
            reply.truncated = found.truncated
            reply.personal = reply.personal or found.personal
        return reply

    def _labels(self, query: Query, zone: bytes) -> tuple[str, ...]:
        request = query.request
        kind = codec.type_name(request.type) if request.type in codec.COUNTED_TYPES else "other"
        return self._server, codec.to_text(zone), "", codec.class_name(self._class), kind


def _data(query: Query, zone: bytes, match: re.Match[str]) -> dict[str, Any]:
    """What a template may refer to, under Go's names."""
    request = query.request
    groups = {str(number): text or "" for number, text in enumerate((match[0], *match.groups()))}
    question = {"Name": codec.to_text(request.name), "Qtype": request.type, "Qclass": request.cls}
    return {
        "Zone": codec.to_text(zone),
        "Name": codec.to_text(request.key),
        "Class": codec.class_name(request.cls),
        "Type": codec.type_name(request.type),
        "Match": list(groups.values()),
        "Group": groups | {name: text or "" for name, text in match.groupdict().items()},
        "Message": {
            "Id": request.id,
            "Response": False,
            "Opcode": 0,
            "RecursionDesired": bool(request.flags & codec.RD),
            "AuthenticatedData": bool(request.flags & codec.AD),
            "CheckingDisabled": bool(request.flags & codec.CD),
            "Question": [question],
        },
        "Question": question,
        "Remote": query.client[0],
    }


def setup(directive: Directive, environment: Environment) -> Templates:
    """`template CLASS TYPE [ZONES...] { match|answer|additional|authority|rcode|fallthrough }`."""
    if len(directive.args) < 2:
        raise directive.error("it needs a class and a type, such as IN A")
    kinds = parse_class(directive.args[0]), parse_type(directive.args[1])
    if kinds[0] is None or kinds[1] is None:
        raise directive.error(f'"{" ".join(directive.args[:2])}" are not a class and a type')
    zones = environment.wire_zones(directive, directive.args[2:])
    patterns: list[re.Pattern[str]] = []
    records: list[Wanted] = []
    rcode = codec.NOERROR
    fallthrough: list[bytes] = []
    for line in directive.block:
        match line.name, line.args:
            case "match", (_, *_):
                patterns += [_pattern(directive, line, text) for text in line.args]
            case "answer" | "additional" | "authority", (_, *_):
                records += [_record(directive, line, text) for text in line.args]
            case "rcode", (text,) if (found := parse_rcode(text)) is not None:
                rcode = found
            case "fallthrough", names:
                fallthrough = environment.fallthrough(directive, names)
            case "ederror", _:
                raise directive.error("extended DNS errors are not supported here", line.number)
            case _:
                raise directive.error(f'"{" ".join((line.name, *line.args))}" is not an option', line.number)
    return Templates(
        (kinds[0], kinds[1]),
        zones,
        patterns or [re.compile("")],
        records,
        rcode,
        fallthrough,
        environment.facts,
        environment.server,
    )


def _pattern(directive: Directive, line: Line, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise directive.error(f'"{text}" is no regular expression: {error}', line.number) from None


def _record(directive: Directive, line: Line, text: str) -> Wanted:
    try:
        if "{{" not in text:
            parse_record(text)
        return Wanted(line.name, text, parse(text, FIELDS))
    except (TemplateError, CodecError) as error:
        if ".Meta" in text:
            raise directive.error(
                ".Meta needs the plugin metadata, which is not there", line.number
            ) from None
        raise directive.error(f'"{text}": {error}', line.number) from None
