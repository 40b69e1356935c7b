"""transfer: sends whole zones to other servers. See transfer.md."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import msgspec

from emu.coredns import codec
from emu.coredns.chain import Answer, Plugin, Query, Reply
from emu.coredns.codec import AAAA, AXFR, CNAME, IXFR, NS, REFUSED, SOA, SRV, A, Record
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment

_TURN = 128
"""Names after which other queries have their turn."""


class Transfer(Plugin):
    """Answers AXFR, and IXFR as if it were AXFR, over TCP and to some addresses."""

    name = "transfer"
    opens = "transfers"

    def __init__(self, zones: list[bytes], allowed: list[IPv4Network | IPv6Network] | None) -> None:
        """`allowed`: None is everybody."""
        self._zones = zones
        self._allowed = allowed

    def answer(self, query: Query) -> Answer:
        """The zone, or REFUSED; whatever is no transfer goes on."""
        request = query.request
        if request.type not in (AXFR, IXFR):
            return None
        served = codec.matching_zone(request.key, self._zones) is not None
        if served and query.proto == "tcp" and self._may(query.client[0]) and self.chain is not None:
            for plugin in self.chain.plugins:
                names = plugin.zone_names(request.key)
                if names is not None:
                    return self._records(query, plugin, names)
        return Reply(REFUSED, plugin=self.name)

    def _may(self, client: str) -> bool:
        return self._allowed is None or any(ip_address(client) in network for network in self._allowed)

    async def _records(self, query: Query, plugin: Plugin, names: Iterable[bytes]) -> Reply:
        """SOA, NS, what each name has, and SOA again (RFC 5936, section 2.2)."""
        zone = query.request.name
        soa = _ask(query, plugin, zone, SOA)
        if not soa.answer:
            return soa
        records = dict.fromkeys(soa.answer + _all(_ask(query, plugin, zone, NS)))
        for number, name in enumerate(names):
            if number % _TURN == _TURN - 1:
                await asyncio.sleep(0)
            for qtype in (CNAME, A, AAAA, SRV):
                found = dict.fromkeys(_all(_ask(query, plugin, name, qtype)))
                records |= found
                if qtype == CNAME and found:
                    break
        answer = [*records, *soa.answer]
        return Reply(answer=answer, authoritative=True, plugin=self.name, personal=True, split=True)


def _ask(query: Query, plugin: Plugin, name: bytes, qtype: int) -> Reply:
    """What a plugin knows by itself, without waiting for anybody."""
    request = query.request._replace(name=name, key=name.lower(), type=qtype)
    found = plugin.answer(msgspec.structs.replace(query, request=request))
    return found if isinstance(found, Reply) else Reply(codec.SERVFAIL)


def _all(reply: Reply) -> list[Record]:
    return reply.answer + reply.additional


def setup(directive: Directive, environment: Environment) -> Transfer:
    """`transfer [ZONES...] { to ADDRESS... }`."""
    allowed: list[IPv4Network | IPv6Network] = []
    everybody = False
    for line in directive.block:
        if line.name != "to" or not line.args:
            raise directive.error(f'"{" ".join((line.name, *line.args))}" is not an option', line.number)
        for text in line.args:
            if text == "*":
                everybody = True
            else:
                allowed.append(_network(directive, text, line.number))
    if not allowed and not everybody:
        raise directive.error("it needs `to`: the addresses that may have the zone, or *")
    return Transfer(environment.wire_zones(directive, directive.args), None if everybody else allowed)


def _network(directive: Directive, text: str, line: int) -> IPv4Network | IPv6Network:
    """An address, an address with a port (which does not matter to who may ask), or a CIDR."""
    host, _, port = text.rpartition(":")
    with_port = port.isdecimal() and host and (host.startswith("[") or ":" not in host)
    try:
        return ip_network((host if with_port else text).strip("[]"), strict=False)
    except ValueError:
        raise directive.error(f'"{text}" is neither an address nor a CIDR', line) from None
