"""kubernetes: answers for Services, endpoints and pods of the cluster. See README.md."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from emu.core.selectors import parse_label_selector
from emu.coredns import codec
from emu.coredns.chain import Answer, Plugin, Query, Reply
from emu.coredns.codec import CNAME, NXDOMAIN, SERVFAIL, SOA, Record
from emu.coredns.corefile import Directive, Line
from emu.coredns.environment import Environment
from emu.coredns.plugins.kubernetes.lookup import Found, Lookup, Options

MAX_ALIASES = 10
_REVERSE = (b"\x07in-addr\x04arpa\0", b"\x03ip6\x04arpa\0")
_IGNORED = ("endpoint", "tls", "kubeconfig", "namespace_labels", "apiserver_qps", "apiserver_burst")


class Kubernetes(Plugin):
    """The plugin for one server block."""

    name = "kubernetes"

    def __init__(
        self,
        environment: Environment,
        zones: list[bytes],
        options: Options,
        fallthrough: tuple[bytes, ...] | None,
    ) -> None:
        facts = environment.facts
        self._index = facts.index
        self._lookup = Lookup(facts.index, options, facts.dns_pods)
        self._zones = sorted(zones, key=len, reverse=True)
        self._primary = next(zone for zone in zones if not zone.endswith(_REVERSE))
        self._fallthrough = fallthrough
        if options.pods == "verified":
            self.search_zones = tuple(zone for zone in zones if not zone.endswith(_REVERSE))

    @property
    def ready(self) -> bool:
        """Once all objects are in."""
        return self._index.synced

    def answer(self, query: Query) -> Answer:
        """Answer names in the plugin's zones; others, and missing ones that may fall through, go on."""
        request = query.request
        zone = self._zone_of(request.key)
        if zone is None:
            return None
        found = self._find(request.name, zone, request.type)
        if found is None:
            if self._index.synced and self._falls_through(request.key):
                return None
            return self._negative(request.name, zone, NXDOMAIN)
        if found.target:
            return self._follow(query, zone, found)
        if not found.answer:
            return self._negative(request.name, zone, codec.NOERROR)
        return self._reply(list(found.answer), list(found.additional))

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

    def _zone_of(self, key: bytes) -> bytes | None:
        return next((zone for zone in self._zones if codec.is_below(key, zone)), None)

    def _falls_through(self, key: bytes) -> bool:
        zones = self._fallthrough
        return zones is not None and any(codec.is_below(key, zone) for zone in zones)

    def _find(self, name: bytes, zone: bytes, qtype: int) -> Found | None:
        if not zone.endswith(_REVERSE):
            return self._lookup.find(name, len(zone), qtype)
        if len(name) == len(zone):
            return Found((self._lookup.soa(name),)) if qtype == SOA else Found()
        return self._lookup.pointers(name, qtype, self._primary)

    def _reply(self, answer: list[Record], additional: list[Record]) -> Reply:
        return Reply(
            answer=answer, additional=additional, authoritative=True, plugin=self.name, constant=True
        )

    def _negative(self, name: bytes, zone: bytes, rcode: int, answer: list[Record] | None = None) -> Reply:
        if not self._index.synced:  # what is not known yet may exist
            error = LookupError("the objects of the cluster are not all in yet")
            return Reply(SERVFAIL, plugin=self.name, error=error)
        soa = self._lookup.soa(name[len(name) - len(zone) :])
        return Reply(rcode, answer or [], [soa], authoritative=True, plugin=self.name, constant=True)

    def _follow(self, query: Query, zone: bytes, found: Found) -> Answer:
        """Complete an alias: in these zones at once, elsewhere through the server (RFC 1034, 4.3.2)."""
        records = list(found.answer)
        for _ in range(MAX_ALIASES):
            target = found.target
            inner = self._zone_of(target.lower())
            if inner is None:
                return self._outside(query, records, target)
            nxt = self._find(target, inner, query.request.type)
            if nxt is None:
                return self._negative(target, inner, NXDOMAIN, records)  # RFC 6604, section 3
            if not nxt.target:
                if not nxt.answer:
                    return self._negative(target, inner, codec.NOERROR, records)
                return self._reply(records + list(nxt.answer), list(nxt.additional))
            records += nxt.answer
            found = nxt
        return self._negative(query.request.name, zone, codec.NOERROR)

    def _outside(self, query: Query, records: list[Record], target: bytes) -> Awaitable[Reply | None]:
        async def complete() -> Reply:
            reply = self._reply(records, [])
            reply.constant = False
            if query.lookup is None or query.depth >= MAX_ALIASES:
                return reply
            upstream = await query.lookup(query, target, query.request.type)
            if upstream.rcode in (codec.NOERROR, NXDOMAIN):
                reply.rcode = upstream.rcode
                reply.answer = records + upstream.answer
                reply.truncated = upstream.truncated
                if not upstream.answer or upstream.answer[-1].type == CNAME:
                    reply.authority = upstream.authority
            return reply

        return complete()


def setup(directive: Directive, environment: Environment) -> Kubernetes:
    """`kubernetes [ZONES...] { ... }`."""
    zones = [codec.to_wire(zone) for zone in environment.zones_of(directive, directive.args)]
    if all(zone.endswith(_REVERSE) for zone in zones):
        raise directive.error("at least one zone that is not a reverse zone is needed")
    options = Options()
    fallthrough: tuple[bytes, ...] | None = None
    for line in directive.block:
        if line.name == "fallthrough":
            names = environment.zones_of(directive, line.args) if line.args else ["."]
            fallthrough = tuple(codec.to_wire(name) for name in names)
        elif line.name in _IGNORED:
            raise directive.error(f'"{line.name}" has no meaning here: remove it', line.number)
        else:
            options = _option(directive, line, options)
    if options.pods == "verified":
        environment.facts.watch_pods()
    return Kubernetes(environment, zones, options, fallthrough)


def _option(directive: Directive, line: Line, options: Options) -> Options:
    args = line.args
    match line.name, args:
        case "pods", ("disabled" | "insecure" | "verified" as mode,):
            return options._replace(pods=mode)
        case "ttl", (text,) if text.isdigit() and int(text) <= 3600:
            return options._replace(ttl=int(text))
        case "namespaces", (_, *_):
            return options._replace(namespaces=frozenset(name.encode() for name in args))
        case "labels", (_, *_):
            try:
                return options._replace(labels=parse_label_selector(" ".join(args)).matches)
            except ValueError as error:
                raise directive.error(str(error), line.number) from None
        case "endpoint_pod_names", ():
            return options._replace(endpoint_pod_names=True)
        case "ignore", ("empty_service",):
            return options._replace(ignore_empty_service=True)
        case "noendpoints", ():
            return options._replace(endpoints=False)
    raise directive.error(f'"{" ".join((line.name, *args))}" is not an option', line.number)
