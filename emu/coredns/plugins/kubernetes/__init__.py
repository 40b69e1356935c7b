"""kubernetes: answers for Services, endpoints and pods of the cluster. See kubernetes.md."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from emu.coredns import codec
from emu.coredns.chain import Answer, Plugin, Query, Reply
from emu.coredns.codec import CNAME, NOERROR, NXDOMAIN, SERVFAIL, Record
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment
from emu.coredns.index import Key
from emu.coredns.plugins.kubernetes.explain import why
from emu.coredns.plugins.kubernetes.lookup import Lookup
from emu.coredns.plugins.kubernetes.options import Options, parse_options
from emu.coredns.plugins.kubernetes.records import UNKNOWN, Found

MAX_LINKS = 11
"""The longest chain of aliases that is followed (25)."""
MAX_ZONE = codec.MAX_NAME - len(b"\x0ahostmaster")
_REVERSE = (b"\x07in-addr\x04arpa\0", b"\x03ip6\x04arpa\0")


class Kubernetes(Plugin):
    """The plugin for one server block."""

    name = "kubernetes"

    def __init__(
        self,
        environment: Environment,
        zones: list[bytes],
        options: Options,
        fallthrough: tuple[bytes, ...],
    ) -> None:
        facts = environment.facts
        primary = next(zone for zone in zones if not zone.endswith(_REVERSE))
        self._index = facts.index
        self._options = options
        self._lookup = Lookup(facts.index, options, primary, facts.dns_pods)
        self._zones = tuple(sorted(set(zones), key=len, reverse=True))
        self._fallthrough = fallthrough
        self._verified = options.pods == "verified"
        if self._verified:
            self.search_zones = tuple(zone for zone in zones if not zone.endswith(_REVERSE))

    @property
    def ready(self) -> bool:
        """Once all objects are in."""
        return self._index.synced and (self._index.pods_synced or not self._verified)

    def answer(self, query: Query) -> Answer:
        """Answer names in the plugin's zones; others, and missing ones that may fall through, go on."""
        request = query.request
        key = request.key
        zone = self._zone_of(key)
        if zone is None:
            return None
        found = self._find(request.name, key, zone, request.type)
        if found.target:
            return self._follow(query, found)
        if found.answer:
            return _reply(list(found.answer), list(found.additional), found.services)
        if not found.exists and self._falls_through(key) and self._knows(found):
            return None
        return self._negative(request.name, zone, found, [], found.services)

    def finish(self, query: Query, reply: Reply) -> Reply:
        """Have nobody keep what others say of a name that fell through: it may come to be here any time."""
        if self._zone_of(query.request.key) is not None:
            reply.personal = True
        return reply

    def zone_names(self, zone: bytes) -> Iterable[bytes] | None:
        """The names of Services and of their ports; CoreDNS does not transfer names of pods."""
        if zone not in self._zones or zone.endswith(_REVERSE):
            return None
        names = []
        for (namespace, service), entry in self._index.services.items():
            labels = [service, namespace, b"svc"]
            paths = [[b"_" + port.name, b"_" + port.protocol, *labels] for port in entry.ports if port.name]
            names += [codec.join_labels(path)[:-1] + zone for path in [labels, *paths]]
        return names

    def explain(self, query: Query) -> str:
        """Which object a name meets, or which one is missing."""
        key = query.request.key
        zone = self._zone_of(key)
        if zone is None:
            return ""
        if not self._index.synced:
            return "the objects of the cluster are not all in yet, so what is not known may exist"
        reason = why(self._index, self._options, key, zone, query.request.type)
        passes = not reason.exists and self._falls_through(key)
        return reason.text + (", so the query falls through to the next plugin" if passes else "")

    def _zone_of(self, key: bytes) -> bytes | None:
        for zone in self._zones:
            if key.endswith(zone) and codec.is_below(key, zone):
                return zone
        return None

    def _knows(self, found: Found) -> bool:
        """Whether what was not found does not exist: before all objects are in, it may (43)."""
        return self._index.synced and found is not UNKNOWN

    def _falls_through(self, key: bytes) -> bool:
        return bool(self._fallthrough) and any(codec.is_below(key, zone) for zone in self._fallthrough)

    def _find(self, name: bytes, key: bytes, zone: bytes, qtype: int) -> Found:
        find = self._lookup.reverse if key.endswith(_REVERSE) else self._lookup.find
        return find(name, key, len(zone), qtype)

    def _negative(
        self, name: bytes, zone: bytes, found: Found, links: list[Record], services: tuple[Key, ...] | None
    ) -> Reply:
        """NODATA or NXDOMAIN, after the links that led to the name (RFC 6604, section 3)."""
        if not self._knows(found):
            error = LookupError("the objects of the cluster are not all in yet")
            return Reply(SERVFAIL, plugin=self.name, error=error)
        return Reply(
            NOERROR if found.exists else NXDOMAIN,
            links,
            [self._lookup.soa(name[len(name) - len(zone) :])],
            authoritative=True,
            plugin=self.name,
            constant=True,
            services=services,
        )

    def _follow(self, query: Query, found: Found) -> Answer:
        """Complete an alias: in these zones at once, elsewhere through the server (RFC 1034, 4.3.2)."""
        request = query.request
        links = list(found.answer)
        services = found.services
        while True:
            target = found.target
            key = target.lower()
            zone = self._zone_of(key)
            if zone is None:
                return self._outside(query, links, target)
            found = self._find(target, key, zone, request.type)
            if found.target and len(links) == MAX_LINKS:
                # Too long or a loop: the name exists, and has nothing.
                links, found = [], Found()
                target = request.name
                zone = self._zone_of(request.key) or zone
            if not found.exists and self._knows(found) and self._falls_through(key):
                return self._outside(query, links, target)
            services = None if services is None or found.services is None else services + found.services
            links += found.answer
            if found.target:
                continue
            if found.answer:
                return _reply(links, list(found.additional), services)
            return self._negative(target, zone, found, links, services)

    def _outside(self, query: Query, links: list[Record], target: bytes) -> Awaitable[Reply | None]:
        async def complete() -> Reply:
            reply = _reply(links, [], None)
            reply.constant = False
            reply.personal = True  # what is outside may be kept, by its own name
            if query.lookup is None or query.depth >= MAX_LINKS:
                return reply
            upstream = await query.lookup(query, target, query.request.type)
            if upstream.plugin:  # else nothing here is there for the name, and the alias is all that is known
                reply.rcode = upstream.rcode  # 27, RFC 6604
                reply.answer = links + upstream.answer
                reply.truncated = upstream.truncated  # 30
                if not upstream.answer or upstream.answer[-1].type == CNAME:
                    reply.authority = upstream.authority
            return reply

        return complete()


def _reply(answer: list[Record], additional: list[Record], services: tuple[Key, ...] | None) -> Reply:
    return Reply(
        NOERROR,
        answer,
        [],
        additional,
        authoritative=True,
        plugin=Kubernetes.name,
        constant=True,
        services=services,
    )


def setup(directive: Directive, environment: Environment) -> Kubernetes:
    """`kubernetes [ZONES...] { ... }`."""
    zones = [codec.to_wire(zone) for zone in environment.zones_of(directive, directive.args)]
    if all(zone.endswith(_REVERSE) for zone in zones):
        raise directive.error("at least one zone that is not a reverse zone is needed")
    if any(len(zone) > MAX_ZONE for zone in zones):
        raise directive.error("a zone is too long to have the names of its SOA record below it")
    options = parse_options(directive, [line for line in directive.block if line.name != "fallthrough"])
    fallthrough: tuple[bytes, ...] = ()
    for line in directive.block:
        if line.name == "fallthrough":
            names = environment.zones_of(directive, line.args) if line.args else ["."]
            fallthrough = tuple(codec.to_wire(name) for name in names)
    if options.pods == "verified":
        environment.facts.watch_pods()
    return Kubernetes(environment, zones, options, fallthrough)
