"""The cluster's zone as a pure function: from a name and a type to records.

Numbers in comments are those of the rules in tests/coredns/test_kubernetes.py. The answers are those of the
Kubernetes DNS specification 1.1.0 and of CoreDNS; where CoreDNS departs from an RFC, the RFC's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import NamedTuple

from emu.core.names import address_of_reverse, undashed
from emu.coredns import codec
from emu.coredns.codec import AAAA, ANY, CNAME, NS, PTR, SOA, SRV, TXT, A, Record
from emu.coredns.index import Index, Key, Port, ServiceEntry, Target

VERSION = b"1.1.0"
_VERSION_TTL = 28800
_SOA_TTL_LIMIT = 300
_SOA_TIMES = (7200, 1800, 86400)


class Options(NamedTuple):
    """The directive's options that change answers."""

    pods: str = "disabled"
    ttl: int = 5
    namespaces: frozenset[bytes] | None = None
    labels: Callable[[dict[str, str]], bool] | None = None
    endpoint_pod_names: bool = False
    ignore_empty_service: bool = False
    endpoints: bool = True


class Found(NamedTuple):
    """What a name has of the asked type. No records: the name exists and lacks the type (NODATA)."""

    answer: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    target: bytes = b""
    """The name is an alias of this one; `answer` is the CNAME."""


class Host(NamedTuple):
    """Something that SRV records point at: labels below the zone, and its addresses."""

    labels: tuple[bytes, ...]
    packed: tuple[bytes, ...]


NODATA = Found()


class Lookup:
    """Answers for the zones of one `kubernetes` directive."""

    def __init__(self, index: Index, options: Options, dns_pods: Callable[[], tuple[str, ...]]) -> None:
        self._index = index
        self._options = options
        self._dns_pods = dns_pods

    def find(self, name: bytes, zone_length: int, qtype: int) -> Found | None:
        """What the index has for a name, spelt as asked; None when the name does not exist (NXDOMAIN).

        The last `zone_length` octets of `name` are the zone.
        """
        question = _Question(name, name[len(name) - zone_length :], qtype, self._options.ttl)
        labels = codec.split_labels(name[: len(name) - zone_length].lower() + b"\0")
        return self._forward(question, labels)

    def soa(self, zone: bytes) -> Record:
        """The SOA of a zone, spelt as given (37)."""
        ttl = self._options.ttl
        rdata = (
            b"\x02ns\x03dns"
            + zone
            + b"\x0ahostmaster"
            + zone
            + struct.pack("!5I", self._index.serial & 0xFFFFFFFF, *_SOA_TIMES, ttl)
        )
        return Record(zone, SOA, min(ttl, _SOA_TTL_LIMIT), rdata)

    # --- names to addresses ---

    def _forward(self, question: _Question, labels: list[bytes]) -> Found | None:
        if not labels:
            return self._apex(question)
        *rest, kind = labels
        if kind == b"svc":
            return self._below_svc(question, rest)
        if kind == b"pod":
            return self._below_pod(question, rest)
        if labels == [b"dns-version"]:  # 41
            if question.type != TXT:
                return NODATA
            rdata = bytes((len(VERSION),)) + VERSION
            return Found((Record(question.name, TXT, _VERSION_TTL, rdata),))
        if labels == [b"ns", b"dns"]:  # 42: the SOA's MNAME has the addresses of the server
            return question.addresses(tuple(ip_address(text).packed for text in self._dns_pods()))
        return NODATA if labels == [b"dns"] else None

    def _apex(self, question: _Question) -> Found | None:
        if question.type == SOA:
            return Found((self.soa(question.zone),))
        if question.type != NS:
            return NODATA
        pods = self._dns_pods()
        keys = dict.fromkeys(key for pod in pods for key in self._index.services_at(pod))
        hosts = [
            Host((key[1], key[0], b"svc"), self._index.services[key].packed)
            for key in keys
            if key in self._index.services and self._visible(key[0])
        ]
        if not hosts and pods:
            hosts = [Host((b"ns", b"dns"), tuple(ip_address(pod).packed for pod in pods))]
        records = tuple(
            Record(question.zone, NS, self._options.ttl, question.full(host.labels)) for host in hosts
        )
        return Found(records, question.glue(hosts))

    def _visible(self, namespace: bytes) -> bool:
        options = self._options
        return namespace in self._index.namespaces and (
            options.namespaces is None or namespace in options.namespaces
        )

    def _service(self, key: Key) -> ServiceEntry | None:
        entry = self._index.services.get(key)
        if entry is None or not self._visible(key[0]):
            return None
        if self._options.labels is not None and not self._options.labels(dict(entry.labels)):
            return None
        return entry

    def _below_svc(self, question: _Question, labels: list[bytes]) -> Found | None:
        if not labels:
            return NODATA  # 38
        namespace = labels[-1]
        if not self._visible(namespace):
            return None
        if len(labels) == 1:
            return NODATA
        entry = self._service((namespace, labels[-2]))
        if entry is None:
            return None
        below = labels[:-2]
        if entry.external_name:
            return None if below else _alias(question, entry)  # 28
        hosts = self._hosts(entry)
        if not below:
            return self._at_service(question, entry, hosts)
        if len(below) == 1 and below[0].startswith(b"_"):  # 7: an empty non-terminal, RFC 8020
            known = any(
                b"_" + port.protocol == below[0] and port.name for _, ports in hosts for port in ports
            )
            return NODATA if known else None
        if len(below) == 1:
            return self._at_endpoint(question, entry, below[0])
        return _at_port(question, hosts, *below) if len(below) == 2 else None  # 2

    def _hosts(self, entry: ServiceEntry) -> list[tuple[Host, tuple[Port, ...]]]:
        """What the SRV records of a Service name: itself, or the endpoints of a headless one."""
        service = (entry.key[1], entry.key[0], b"svc")
        if not entry.headless:
            if self._options.ignore_empty_service and not self._targets(entry.key):
                return []  # 16
            return [(Host(service, (packed,)), entry.ports) for packed in entry.packed]
        names = self._options.endpoint_pod_names
        return [
            (Host((target.label(names), *service), (target.packed,)), target.ports)
            for target in self._targets(entry.key)
        ]

    def _targets(self, key: Key) -> tuple[Target, ...]:
        return self._index.targets(key) if self._options.endpoints else ()

    def _at_service(
        self, question: _Question, entry: ServiceEntry, hosts: list[tuple[Host, tuple[Port, ...]]]
    ) -> Found | None:
        if not hosts:
            return None  # 16, 17
        if question.type == SRV:
            return question.srv([(host, port) for host, ports in hosts for port in ports])  # 12
        return question.addresses(tuple(packed for host, _ in hosts for packed in host.packed))

    def _at_endpoint(self, question: _Question, entry: ServiceEntry, label: bytes) -> Found | None:
        names = self._options.endpoint_pod_names
        targets = [target for target in self._targets(entry.key) if target.label(names) == label]
        if not targets:
            return None
        if question.type == SRV:
            path = (label, entry.key[1], entry.key[0], b"svc")
            pairs = [(Host(path, (target.packed,)), port) for target in targets for port in target.ports]
            return question.srv(pairs)
        return question.addresses(tuple(target.packed for target in targets))

    def _below_pod(self, question: _Question, labels: list[bytes]) -> Found | None:
        if not labels:
            return NODATA
        if self._options.pods == "disabled" or not self._visible(labels[-1]):
            return None  # 31
        if len(labels) == 1:
            return NODATA
        if len(labels) > 2:
            return None  # 32 is a quirk: nothing is below a pod's name
        address = undashed(labels[0].decode("latin-1"))
        if address is None:
            return None
        if self._options.pods == "verified" and not self._index.has_pod(address, labels[1]):
            return None
        return question.addresses((ip_address(address).packed,))

    # --- addresses to names ---

    def pointers(self, name: bytes, qtype: int, zone: bytes) -> Found | None:
        """PTR records of a reverse name, naming Services and endpoints in `zone` (33)."""
        labels = tuple(label.decode("latin-1") for label in codec.split_labels(name.lower()))
        address = address_of_reverse(labels)
        if address is None:
            return None
        names = self._names_of(address)
        if not names:
            return None
        if qtype != PTR:
            return NODATA
        return Found(
            tuple(
                Record(name, PTR, self._options.ttl, codec.join_labels([*labels, *codec.split_labels(zone)]))
                for labels in names
            )
        )

    def _names_of(self, address: str) -> list[tuple[bytes, ...]]:
        key = self._index.by_cluster_ip.get(address)
        if key is not None and self._service(key) is not None:
            return [(key[1], key[0], b"svc")]
        names: dict[tuple[bytes, ...], None] = {}
        for key in self._index.services_at(address):
            if self._service(key) is None:
                continue
            for target in self._targets(key):
                if target.address == address:
                    label = target.label(self._options.endpoint_pod_names)
                    names[label, key[1], key[0], b"svc"] = None
        return list(names)


class _Question(NamedTuple):
    name: bytes
    zone: bytes
    type: int
    ttl: int

    def full(self, labels: tuple[bytes, ...]) -> bytes:
        """A name below the zone, which keeps the query's spelling of the zone (3)."""
        return b"".join(bytes((len(label),)) + label for label in labels) + self.zone

    def addresses(self, packed: tuple[bytes, ...]) -> Found:
        """The A or AAAA records among the addresses; NODATA for other types (9, 39)."""
        if self.type not in (A, AAAA):
            return NODATA
        size = 4 if self.type == A else 16
        return Found(
            tuple(
                Record(self.name, self.type, self.ttl, item)
                for item in dict.fromkeys(packed)
                if len(item) == size
            )
        )

    def srv(self, pairs: list[tuple[Host, Port]]) -> Found:
        """SRV records, weighted by their number before equal ones collapse (14), and their addresses."""
        weight = max(1, 100 // len(pairs)) if pairs else 0
        records: dict[bytes, Record] = {}
        for host, port in pairs:
            rdata = struct.pack("!HHH", 0, weight, port.number) + self.full(host.labels)
            records.setdefault(rdata, Record(self.name, SRV, self.ttl, rdata))
        return Found(tuple(records.values()), self.glue([host for host, _ in pairs]))

    def glue(self, hosts: list[Host]) -> tuple[Record, ...]:
        """The addresses of targets, for the additional section."""
        return tuple(
            dict.fromkeys(
                Record(self.full(host.labels), A if len(packed) == 4 else AAAA, self.ttl, packed)
                for host in hosts
                for packed in host.packed
            )
        )


def _at_port(
    question: _Question, hosts: list[tuple[Host, tuple[Port, ...]]], port: bytes, protocol: bytes
) -> Found | None:
    """`_port._protocol` below a Service: SRV records only (11, 13)."""
    pairs = [
        (host, item)
        for host, ports in hosts
        for item in ports
        if item.name and b"_" + item.name == port and b"_" + item.protocol == protocol
    ]
    if not pairs:
        return None
    return question.srv(pairs) if question.type == SRV else NODATA


def _alias(question: _Question, entry: ServiceEntry) -> Found | None:
    """An ExternalName Service (24); one that looks like an IPv4 address does not exist (29)."""
    text = entry.external_name.rstrip(".")
    if text.replace(".", "").isdigit() and text.count(".") == 3:
        return None
    try:
        target = codec.to_wire(text)
    except codec.CodecError:
        return None
    return Found(
        (Record(question.name, CNAME, question.ttl, target),),
        (),
        b"" if question.type in (CNAME, ANY) else target,
    )
