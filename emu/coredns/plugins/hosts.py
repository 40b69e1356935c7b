"""hosts: answers from a file like /etc/hosts, and from lines in the Corefile. See hosts.md."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

import msgspec

from emu.core.addresses import is_ip
from emu.core.names import address_of_reverse
from emu.coredns import codec
from emu.coredns.chain import Answer, Plugin, Query, Reply
from emu.coredns.codec import AAAA, PTR, A, CodecError, Record
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment, Facts
from emu.coredns.families import Family
from emu.coredns.presentation import parse_name
from emu.coredns.values import natural, seconds

log = logging.getLogger(__name__)

DEFAULT_FILE = Path("/etc/hosts")
DEFAULT_TTL = 3600
DEFAULT_RELOAD = 5.0
_MAX_TTL = 65535
_WILDCARD = b"\x01*"

ENTRIES = Family(
    "coredns_hosts_entries", "The combined number of entries in hosts and Corefile.", (), "gauge"
)
RELOADED = Family(
    "coredns_hosts_reload_timestamp_seconds", "The timestamp of the last reload of hosts file.", (), "gauge"
)


class Options(msgspec.Struct):
    """The directive's options."""

    zones: list[bytes]
    ttl: int = DEFAULT_TTL
    reverse: bool = True
    reload: float = DEFAULT_RELOAD
    fallthrough: list[bytes] = []


class Table:
    """Names and addresses of one source."""

    def __init__(self, lines: Iterable[str], zones: list[bytes]) -> None:
        self.addresses: dict[bytes, list[bytes]] = {}
        self.names: dict[str, list[bytes]] = {}
        self.entries = 0
        for line in lines:
            self._add(line.partition("#")[0].split(), zones)

    def _add(self, words: list[str], zones: list[bytes]) -> None:
        if len(words) < 2:
            return
        try:
            address = ip_address(words[0].partition("%")[0])
            names = [parse_name(word).lower() for word in words[1:]]
        except (ValueError, CodecError):
            return  # as hosts(5) does with what it does not understand
        for name in names:
            if codec.matching_zone(name, zones) is None:
                continue
            self.entries += 1
            self.addresses.setdefault(name, []).append(address.packed)
            if not name.startswith(_WILDCARD):
                self.names.setdefault(str(address), []).append(name)


class Hosts(Plugin):
    """Answers A, AAAA and PTR queries; the file is read again when it changes."""

    name = "hosts"

    def __init__(self, path: Path, inline: list[str], options: Options, facts: Facts) -> None:
        self._path = path
        self._options = options
        self._families = facts.metrics.families
        self._tables = [Table(inline, options.zones), Table((), options.zones)]
        self._version: tuple[int, int] | None = None
        self._task: asyncio.Task[None] | None = None
        self.read()

    async def start(self) -> None:
        """Look at the file from time to time."""
        if self._options.reload:
            self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._options.reload)
            self.read()

    def read(self) -> None:
        """Take up the file where it is another than before; where it is gone, only inline lines are left."""
        try:
            stat = self._path.stat()
            version = (stat.st_mtime_ns, stat.st_size)
            if version == self._version:
                return
            lines = self._path.read_text(errors="replace").splitlines()
        except OSError:
            version, lines = None, []
        self._version = version
        self._tables[1] = Table(lines, self._options.zones)
        self._families.set(ENTRIES, value=sum(table.entries for table in self._tables))
        self._families.set(RELOADED, value=time.time())

    def answer(self, query: Query) -> Answer:
        """Records, or nothing for a known name without that type (NODATA); others may fall through."""
        request = query.request
        if request.type == PTR:
            return self._pointers(request.name) if self._options.reverse else None
        if codec.matching_zone(request.key, self._options.zones) is None:
            return None
        packed = self._addresses(request.key)
        if not packed:
            if codec.matching_zone(request.key, self._options.fallthrough) is not None:
                return None
            # There is no SOA that an NXDOMAIN could carry; CoreDNS says SERVFAIL too.
            return Reply(codec.SERVFAIL, plugin=self.name)
        size = {A: 4, AAAA: 16}.get(request.type, 0)
        records = [
            Record(request.name, request.type, self._options.ttl, item)
            for item in packed
            if len(item) == size
        ]
        return Reply(answer=records, authoritative=True, plugin=self.name)

    def _addresses(self, key: bytes) -> list[bytes]:
        """Of a name, or of the wildcard that stands for its first label."""
        for name in (key, _WILDCARD + key[1 + key[0] :]):
            found = [item for table in self._tables for item in table.addresses.get(name, ())]
            if found:
                return list(dict.fromkeys(found))
        return []

    def _pointers(self, name: bytes) -> Answer:
        labels = tuple(label.decode("latin-1") for label in codec.split_labels(name.lower()))
        address = address_of_reverse(labels)
        names = dict.fromkeys(item for table in self._tables for item in table.names.get(address or "", ()))
        if not names:
            return None
        records = [Record(name, PTR, self._options.ttl, item) for item in names]
        return Reply(answer=records, authoritative=True, plugin=self.name)


def setup(directive: Directive, environment: Environment) -> Hosts:
    """`hosts [FILE [ZONES...]] { [INLINE]...; ttl|no_reverse|reload|fallthrough }`."""
    path = Path(directive.args[0]) if directive.args else DEFAULT_FILE
    options = Options(environment.wire_zones(directive, directive.args[1:]))
    inline: list[str] = []
    for line in directive.block:
        match line.name, line.args:
            case "ttl", (text,):
                options.ttl = natural(directive, text, line.number)
                if not 0 < options.ttl <= _MAX_TTL:
                    raise directive.error(f"a TTL is between 1 and {_MAX_TTL}", line.number)
            case "no_reverse", ():
                options.reverse = False
            case "reload", (text,):
                options.reload = seconds(directive, text, line.number)
            case "fallthrough", names:
                options.fallthrough = environment.fallthrough(directive, names)
            case address, names if names and is_ip(address):
                inline.append(" ".join((address, *names)))
            case _:
                raise directive.error(
                    f'"{" ".join((line.name, *line.args))}" is neither an option nor an address with names',
                    line.number,
                )
    if not path.exists():
        log.warning("%s:%d: hosts: %s does not exist", directive.file, directive.line, path)
    return Hosts(path, inline, options, environment.facts)
