"""errors: logs what went wrong with queries. See errors.md."""

from __future__ import annotations

import asyncio
import logging
import re

import msgspec

from emu.coredns import codec
from emu.coredns.chain import Plugin, Query, Reply
from emu.coredns.corefile import Directive, Line
from emu.coredns.environment import Environment
from emu.coredns.values import seconds

log = logging.getLogger(__name__)

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Group(msgspec.Struct):
    """Errors that are told of once in a while: those since the first one that was not told of yet."""

    regex: re.Pattern[str]
    period: str
    """As it was written."""
    seconds: float
    level: int = logging.ERROR
    show_first: bool = False
    count: int = 0
    timer: asyncio.TimerHandle | None = None

    def add(self, message: str) -> None:
        """Count an error; the first one begins the period."""
        self.count += 1
        if self.timer is None:
            if self.show_first:
                log.log(self.level, "%s", message)
            self.timer = asyncio.get_running_loop().call_later(self.seconds, self.tell)

    def tell(self) -> None:
        """End the period."""
        if self.timer is not None:
            self.timer.cancel()
        count, self.count, self.timer = self.count, 0, None
        if count > int(self.show_first):
            pattern = self.regex.pattern
            log.log(self.level, "%d errors like '%s' occurred in last %s", count, pattern, self.period)


class Errors(Plugin):
    """One line for each failure, or for many that are alike."""

    name = "errors"
    every_class = True

    def __init__(self, groups: list[Group]) -> None:
        self._groups = groups

    async def stop(self) -> None:
        """Tell of what was counted."""
        for group in self._groups:
            group.tell()

    def finish(self, query: Query, reply: Reply) -> Reply:
        """Log the error that made the reply a SERVFAIL."""
        if reply.error is None:
            return reply
        request = query.request
        cause = str(reply.error) or type(reply.error).__name__
        message = f"{reply.rcode} {codec.to_text(request.name)} {codec.type_name(request.type)}: {cause}"
        group = next((group for group in self._groups if group.regex.search(cause)), None)
        if group is None:
            log.error("%s", message)
        else:
            group.add(message)
        return reply


def setup(directive: Directive, environment: Environment) -> Errors:
    """`errors { consolidate DURATION REGEX [LEVEL] [show_first]; stacktrace }`."""
    if directive.args:
        raise directive.error("it takes no arguments")
    groups = []
    for line in directive.block:
        match line.name, line.args:
            case "consolidate", (period, pattern, *more) if len(more) <= 2:
                groups.append(_group(directive, line, period, pattern, more))
            case "stacktrace", ():
                pass  # a traceback of the server's own is logged where it happens
            case _:
                raise directive.error(f'"{" ".join((line.name, *line.args))}" is not an option', line.number)
    return Errors(groups)


def _group(directive: Directive, line: Line, period: str, pattern: str, more: list[str]) -> Group:
    try:
        group = Group(re.compile(pattern), period, seconds(directive, period, line.number))
    except re.error as error:
        raise directive.error(f'"{pattern}" is no regular expression: {error}', line.number) from None
    for word in more:
        if word == "show_first":
            group.show_first = True
        elif word in LEVELS:
            group.level = LEVELS[word]
        else:
            raise directive.error(f'"{word}" is no level; known are {", ".join(LEVELS)}', line.number)
    return group
