"""autopath: follows the client's search path on the server. See autopath.md."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from emu.coredns import codec
from emu.coredns.chain import Answer, Pending, Plugin, Query, Reply
from emu.coredns.codec import CNAME, FORMERR, MAX_NAME, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL, Record
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment, Facts
from emu.coredns.families import Family
from emu.coredns.presentation import parse_name

log = logging.getLogger(__name__)

HOST = Path("/etc/resolv.conf")
KUBERNETES = "@kubernetes"
SUCCESS = Family("coredns_autopath_success", "Counter of requests that did autopath.", ("server",))

_GO_ON = (NXDOMAIN, SERVFAIL, REFUSED, FORMERR, NOTIMP)


class Autopath(Plugin):
    """Answers a query for the first name of a search path by the first name of it that exists."""

    name = "autopath"

    def __init__(
        self, zones: list[bytes], by_pod: bool, domains: list[bytes], facts: Facts, server: str
    ) -> None:
        """`domains` is the whole search path, or the host's part of it where the pod's comes before."""
        self._zones = zones
        self._by_pod = by_pod
        self._domains = [*domains, b"\0"]
        self._clients = facts.clients
        self._families = facts.metrics.families
        self._server = server
        if by_pod:
            facts.clients.want()

    async def start(self) -> None:
        """Say so where it cannot do anything."""
        plugins = self.chain.plugins if self.chain is not None else []
        if self._by_pod and not any(plugin.search_zones for plugin in plugins):
            log.warning("autopath does nothing: it needs the plugin kubernetes with `pods verified`")

    def answer(self, query: Query) -> Answer:
        """What the first existing name of the search path has; None where the path is not this client's."""
        request = query.request
        if codec.matching_zone(request.key, self._zones) is None:
            return None
        path = self._path(query)
        if not path or request.key == path[0] or not codec.is_below(request.key, path[0]):
            return None
        first = self.below(query)
        if isinstance(first, Reply) and first.rcode not in _GO_ON:
            return first  # the same for every client
        return self._walk(query, first, request.name[: -len(path[0])], path[1:])

    def finish(self, query: Query, reply: Reply) -> Reply:
        """Have a reply that would be another for another client kept by nobody."""
        if reply.rcode == NXDOMAIN and codec.matching_zone(query.request.key, self._zones) is not None:
            reply.constant = False
            reply.personal = reply.personal or self._by_pod
        return reply

    def _path(self, query: Query) -> Sequence[bytes]:
        if not self._by_pod:
            return self._domains
        pod = self._clients.pod_at(query.client[0])
        if pod is None or self.chain is None:
            return ()
        for plugin in self.chain.plugins:
            zone = codec.matching_zone(query.request.key, plugin.search_zones)
            if zone is not None:
                svc = b"\x03svc" + zone
                return (codec.join_labels([pod.namespace.encode()])[:-1] + svc, svc, zone, *self._domains)
        return ()

    async def _walk(self, query: Query, first: Pending, base: bytes, rest: Sequence[bytes]) -> Reply:
        original = first if isinstance(first, Reply) else await first
        reply = original
        for domain in rest:
            if reply.rcode not in _GO_ON or reply.error is not None:
                break
            name = base + domain
            if len(name) > MAX_NAME:
                continue
            request = query.request._replace(name=name, key=name.lower())
            found = self.below(msgspec.structs.replace(query, request=request))
            reply = found if isinstance(found, Reply) else await found
        if reply.rcode in _GO_ON and reply.error is None:
            reply = original
        elif reply is not original and reply.error is None:
            self._families.increase(SUCCESS, self._server)
        return msgspec.structs.replace(
            reply,
            answer=_aliased(reply.answer, query.request.name),
            constant=False,
            personal=self._by_pod,
        )


def _aliased(answer: list[Record], name: bytes) -> list[Record]:
    """The answer after a CNAME from the name that was asked for, where it is for another."""
    if not answer or answer[0].name.lower() == name.lower():
        return answer
    return [Record(name, CNAME, answer[0].ttl, answer[0].name), *answer]


def read_search(path: Path) -> list[bytes]:
    """The search domains of a resolv.conf(5): those of its last line `search` or `domain`."""
    domains: list[bytes] = []
    for line in path.read_text(errors="replace").splitlines():
        words = line.split()
        if words and words[0] in ("search", "domain"):
            domains = [parse_name(word).lower() for word in words[1:]]
    return [domain for domain in domains if domain != b"\0"]


def setup(directive: Directive, environment: Environment) -> Autopath:
    """`autopath [ZONES...] RESOLV-CONF|@kubernetes`."""
    if not directive.args or directive.block:
        raise directive.error("it takes zones and a file like resolv.conf, or @kubernetes")
    *names, source = directive.args
    zones = environment.wire_zones(directive, tuple(names))
    by_pod = source.startswith("@")
    if by_pod and source != KUBERNETES:
        raise directive.error(f'"{source}": only {KUBERNETES} knows search paths')
    path = HOST if by_pod else Path(source)
    try:
        domains = read_search(path)
    except (OSError, codec.CodecError) as error:
        if not by_pod:
            raise directive.error(f"{path}: {error}") from None
        domains = []  # a machine without the file has no search domains either
    return Autopath(zones, by_pod, domains, environment.facts, environment.server)
