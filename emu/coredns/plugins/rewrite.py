"""rewrite: changes questions on their way down, and replies on their way up. See rewrite.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from emu.coredns import codec
from emu.coredns.chain import Answer, Plugin, Query, Reply, Section, changed
from emu.coredns.codec import CodecError, Record
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment
from emu.coredns.presentation import parse_class, parse_name, parse_rcode, parse_type

MATCHES = ("exact", "prefix", "suffix", "substring", "regex")
_RENAMED_VALUES = (codec.NS, codec.CNAME, codec.DNAME, codec.SOA, codec.MX, codec.SRV)
"""Types whose (first) name `answer value` changes, as in CoreDNS."""
_MAX_TTL = (1 << 31) - 1

Text = Callable[[str], str]
"""From a name, as text in lower case, to another, or to itself."""
ReplyChange = Callable[[Reply], Reply]


class NameChange(NamedTuple):
    """What a rewrite of names in replies does: to owner names, or to names within records."""

    owners: bool
    values: bool
    text: Text


class Pattern(NamedTuple):
    """Names that a rule is for, compared as text in lower case with a final dot."""

    kind: str
    text: str
    regex: re.Pattern[str] | None = None

    def matches(self, name: str) -> bool:
        """Whether the rule is for a name."""
        match self.kind:
            case "exact":
                return name == self.text
            case "prefix":
                return name.startswith(self.text)
            case "suffix":
                return name.endswith(self.text)
            case "substring":
                return self.text in name
        return self.regex is not None and self.regex.search(name) is not None

    def replaced(self, name: str, by: str) -> str:
        """A name that matches, rewritten."""
        match self.kind:
            case "exact":
                return by
            case "prefix":
                return by + name.removeprefix(self.text)
            case "suffix":
                return name.removesuffix(self.text) + by
            case "substring":
                return name.replace(self.text, by)
        return _substituted(self.regex, by, name) if self.regex is not None else name


def _substituted(regex: re.Pattern[str], by: str, name: str) -> str:
    """The replacement with `{1}` and so on filled in, where the name matches; the match may be partial."""
    found = regex.search(name)
    if found is None:
        return name
    for number, group in enumerate((found[0], *found.groups())):
        by = by.replace(f"{{{number}}}", group or "")
    return by


class Rule:
    """One rule: which query to ask instead, and what to do with the reply. None where it does not apply."""

    def apply(self, query: Query) -> tuple[Query, ReplyChange] | None:
        """The query to go on with, and the change of its reply."""
        raise NotImplementedError


class NameRule(Rule):
    """`name`: asks for another name, and renames in the reply."""

    def __init__(self, pattern: Pattern, by: str, auto: bool, changes: tuple[NameChange, ...]) -> None:
        self._pattern = pattern
        self._by = by
        self._auto = auto or pattern.kind == "exact"
        self._changes = changes

    def apply(self, query: Query) -> tuple[Query, ReplyChange] | None:
        """Rename the question; a result that is no name raises CodecError, and so is a SERVFAIL."""
        request = query.request
        before = codec.to_text(request.key)
        if not self._pattern.matches(before):
            return None
        after = self._pattern.replaced(before, self._by)
        name = parse_name(after)
        asked = query.request.name
        rewritten = msgspec.structs.replace(
            query, request=request._replace(name=name, key=name.lower(), length=request.length)
        )
        changes = self._changes
        if self._auto:
            if self._pattern.kind == "suffix":
                back = partial(_resuffixed, self._by, self._pattern.text)
            else:
                back = partial(_remapped, codec.to_text(name.lower()), before)
            changes = (NameChange(True, True, back), *changes)
        return rewritten, partial(_renamed, changes, asked)


def _remapped(before: str, after: str, name: str) -> str:
    """A name, or one below it, renamed."""
    if name == before:
        return after
    return name.removesuffix(before) + after if name.endswith(f".{before}") else name


def _resuffixed(before: str, after: str, name: str) -> str:
    return name.removesuffix(before) + after if name.endswith(before) else name


def _renamed(changes: Sequence[NameChange], asked: bytes, reply: Reply) -> Reply:
    if not changes:
        return reply

    def section(records: Section) -> Section:
        return [_renamed_record(changes, asked, record) for record in records]

    return msgspec.structs.replace(
        reply,
        answer=section(reply.answer),
        authority=section(reply.authority),
        additional=section(reply.additional),
    )


def _renamed_record(changes: Sequence[NameChange], asked: bytes, record: Record) -> Record:
    for change in changes:
        if change.owners:
            name = _renamed_name(change.text, record.name)
            # The owner name of an answer keeps the spelling of the question.
            record = record._replace(name=asked if name.lower() == asked.lower() else name)
        if change.values and record.type in _RENAMED_VALUES:
            parts = codec.names_in_rdata(record)
            if parts is not None:
                before, (first, *others), after = parts
                renamed = _renamed_name(change.text, first)
                record = record._replace(rdata=before + renamed + b"".join(others) + after)
    return record


def _renamed_name(change: Text, name: bytes) -> bytes:
    before = codec.to_text(name.lower())
    after = change(before)
    return name if after == before else parse_name(after)


class FieldRule(Rule):
    """`type` and `class`: asks for another one."""

    def __init__(self, field: str, before: int, after: int) -> None:
        self._field = field
        self._before = before
        self._after = after

    def apply(self, query: Query) -> tuple[Query, ReplyChange] | None:
        """Change the field, where it is the one to change."""
        request = query.request
        if self._field == "type":
            if request.type != self._before:
                return None
            request = request._replace(type=self._after)
        else:
            if request.cls != self._before:
                return None
            request = request._replace(cls=self._after)
        return msgspec.structs.replace(query, request=request), _unchanged


class ReplyRule(Rule):
    """`ttl` and `rcode`: changes replies for some names."""

    def __init__(self, pattern: Pattern, change: ReplyChange) -> None:
        self._pattern = pattern
        self._change = change

    def apply(self, query: Query) -> tuple[Query, ReplyChange] | None:
        """The same query, and the change."""
        if not self._pattern.matches(codec.to_text(query.request.key)):
            return None
        return query, self._change


def _unchanged(reply: Reply) -> Reply:
    return reply


def _with_ttl(lowest: int, highest: int, reply: Reply) -> Reply:
    def section(records: Section) -> Section:
        return [record._replace(ttl=max(lowest, min(record.ttl, highest))) for record in records]

    return msgspec.structs.replace(
        reply,
        answer=section(reply.answer),
        authority=section(reply.authority),
        additional=section(reply.additional),
    )


def _with_rcode(before: int, after: int, reply: Reply) -> Reply:
    return msgspec.structs.replace(reply, rcode=after, error=None) if reply.rcode == before else reply


class Rewrite(Plugin):
    """One rule. A rule that says `stop` and applied is the last one to apply."""

    name = "rewrite"
    every_class = True

    def __init__(self, rule: Rule, stop: bool) -> None:
        self._rule = rule
        self._stop = stop

    def answer(self, query: Query) -> Answer:
        """What the plugins below reply to the query as rewritten, rewritten in turn."""
        if query.stopped:
            return None
        try:
            applied = self._rule.apply(query)
        except CodecError as error:
            return Reply(codec.SERVFAIL, plugin=self.name, error=error)
        if applied is None:
            return None
        rewritten, change = applied
        if rewritten is query:
            rewritten = msgspec.structs.replace(query)
        rewritten.stopped = self._stop
        return changed(self.below(rewritten), change)


def setup(directive: Directive, environment: Environment) -> Rewrite:
    """`rewrite [continue|stop] FIELD ...`, or with FIELD and its options in a block."""
    words = list(directive.args)
    for line in directive.block:
        words += [line.name, *line.args]
    stop = True
    if words and words[0] in ("continue", "stop"):
        stop = words.pop(0) == "stop"
    if not words:
        raise directive.error("it needs a field, such as name")
    field, *args = words
    return Rewrite(_rule(directive, field, args), stop)


def _rule(directive: Directive, field: str, args: list[str]) -> Rule:
    match field:
        case "name":
            return _name_rule(directive, args)
        case "type" | "class" if len(args) == 2:
            parse = parse_type if field == "type" else parse_class
            before, after = parse(args[0]), parse(args[1])
            if before is None or after is None:
                raise directive.error(f'"{args[0]} {args[1]}" are not two values of the DNS {field}')
            return FieldRule(field, before, after)
        case "ttl" if len(args) in (2, 3):
            *where, bounds = args
            return ReplyRule(_pattern(directive, where), partial(_with_ttl, *_ttl_bounds(directive, bounds)))
        case "rcode" if len(args) in (3, 4):
            *where, old, new = args
            codes = parse_rcode(old), parse_rcode(new)
            if codes[0] is None or codes[1] is None:
                raise directive.error(f'"{old} {new}" are not two response codes')
            return ReplyRule(_pattern(directive, where), partial(_with_rcode, codes[0], codes[1]))
        case "edns0" | "cname":
            raise directive.error(f"rewriting {field} is not supported here")
    raise directive.error(f'"{" ".join((field, *args))}" is no rule')


def _ttl_bounds(directive: Directive, text: str) -> tuple[int, int]:
    """`N`, `N-M`, `N-` or `-M`."""
    found = re.fullmatch(r"(\d*)(-?)(\d*)", text)
    if found is None or text in ("", "-"):
        raise directive.error(f'"{text}" is not a TTL, such as 30 or 30-300')
    lowest = int(found[1] or 0)
    highest = int(found[3] or _MAX_TTL) if found[2] else lowest
    if lowest > highest or highest > _MAX_TTL:
        raise directive.error(f'"{text}" is not a TTL')
    return lowest, highest


def _pattern(directive: Directive, words: list[str]) -> Pattern:
    """`[exact|prefix|suffix|substring|regex] TEXT`."""
    kind, text = words if len(words) == 2 else ("exact", words[0])
    kind = kind.lower()
    if kind not in MATCHES:
        raise directive.error(f'"{kind}" is no way to match; known are {", ".join(MATCHES)}')
    if kind == "regex":
        return Pattern(kind, text, _regex(directive, text))
    text = text.lower()
    return Pattern(kind, _dotted(text) if kind in ("exact", "suffix") else text)


def _dotted(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _regex(directive: Directive, text: str, replacement: str = "") -> re.Pattern[str]:
    try:
        regex = re.compile(text)
    except re.error as error:
        raise directive.error(f'"{text}" is no regular expression: {error}') from None
    if any(int(number) > regex.groups for number in re.findall(r"\{(\d+)\}", replacement)):
        raise directive.error(f'"{replacement}" has more groups than "{text}"')
    return regex


def _name_rule(directive: Directive, args: list[str]) -> NameRule:
    """`[KIND] FROM TO [answer auto|name FROM TO|value FROM TO]...`; KIND must be there before options."""
    if len(args) < 2:
        raise directive.error("name takes at least two arguments")
    where, rest = (["exact", args[0]], args[1:]) if len(args) == 2 else (args[:2], args[2:])
    pattern = _pattern(directive, where)
    by = rest[0].lower()
    if pattern.kind in ("exact", "suffix"):
        by = _dotted(by)
    if pattern.kind == "regex":
        _regex(directive, pattern.text, by)
    options = rest[1:]
    if options and options[0] != "answer":
        raise directive.error(f'"{options[0]}" is not expected; it may be followed by answer')
    auto = False
    changes: list[NameChange] = []
    while options:
        if options[0] == "answer":
            options = options[1:]
        match options:
            case ["auto", *options]:
                auto = True
            case ["name" | "value" as what, old, new, *options]:
                text = partial(_substituted, _regex(directive, old, new), _dotted(new.lower()))
                changes.append(NameChange(what == "name", what == "value", text))
            case _:
                raise directive.error(
                    f'"answer {" ".join(options)}" is not auto, name FROM TO or value FROM TO'
                )
    if auto and any(change.owners for change in changes):
        raise directive.error("answer auto and answer name exclude each other")
    return NameRule(pattern, by, auto, tuple(changes))
