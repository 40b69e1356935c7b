"""The cluster's zone as a pure function: from a name and a type to records.

Numbers in comments are those of the rules in tests/coredns/test_kubernetes.py. The answers are those of the
Kubernetes DNS specification 1.1.0 and of CoreDNS; where CoreDNS departs from an RFC, the RFC's.
"""

from __future__ import annotations

from collections.abc import Callable

from emu.core.names import address_of_reverse, undashed
from emu.coredns import codec
from emu.coredns.codec import AAAA, ANY, CNAME, MAX_NAME, NS, PTR, SOA, SRV, TXT, A, Record
from emu.coredns.index import (
    NO_ENDPOINTS,
    Endpoints,
    Index,
    Key,
    Port,
    ServiceEntry,
    by_type,
    packed_address,
)
from emu.coredns.plugins.kubernetes.options import Options
from emu.coredns.plugins.kubernetes.records import MISSING, NODATA, UNKNOWN, Found, Host, Question, soa

VERSION = b"1.1.0"
_VERSION_TTL = 28800

Offer = tuple[Host, tuple[Port, ...]]
"""A target of SRV records with the ports that it has."""


class Lookup:
    """Answers for the zones of one `kubernetes` directive."""

    def __init__(
        self, index: Index, options: Options, primary: bytes, dns_pods: Callable[[], tuple[str, ...]]
    ) -> None:
        """`primary` is the zone that PTR and NS records of reverse zones name things in."""
        self._index = index
        self._options = options
        self._primary = primary
        self._dns_pods = dns_pods
        self._shows_all = options.shows_all
        self._soa = soa(b"\0", options.ttl, -1)
        self._soa_serial = -1

    def find(self, name: bytes, key: bytes, zone_length: int, qtype: int) -> Found:
        """What the index has for a name below a zone that is no reverse zone.

        `name` is spelt as asked, `key` is the same in lower case, and their last `zone_length` octets are
        the zone.
        """
        cut = len(key) - zone_length
        question = Question(name, name[cut:], qtype, self._options.ttl)
        entry = self._index.by_name.get(key[:cut])
        if entry is not None:
            if self._shows(entry):
                return self._at_service(question, entry)
            return Found((), (), False, (entry.key,))
        labels = codec.split_labels(key[:cut] + b"\0")
        if not labels:
            return self._apex(question)
        kind = labels.pop()
        if kind == b"svc":
            return self._below_svc(question, labels)
        if kind == b"pod":
            return self._below_pod(question, labels)
        if kind == b"dns-version" and not labels:  # 41
            rdata = bytes((len(VERSION),)) + VERSION
            return Found((Record(name, TXT, _VERSION_TTL, rdata),)) if qtype == TXT else NODATA
        if kind == b"dns" and labels in ([], [b"ns"]):  # the SOA's MNAME has the addresses of the server
            hosts = self._name_servers() if labels else []
            return question.addresses(by_type([host.packed for host in hosts]), None)
        return MISSING

    def reverse(self, name: bytes, key: bytes, zone_length: int, qtype: int) -> Found:
        """What the index has for a reverse name: PTR records that name Services and endpoints (33)."""
        apex = len(key) == zone_length
        if apex and qtype == SOA:
            return Found((self.soa(name),))
        question = Question(name, self._primary, qtype, self._options.ttl)
        if apex and qtype == NS:
            return self._apex(question)
        address = address_of_reverse(tuple(label.decode("latin-1") for label in codec.split_labels(key)))
        packed = None if address is None else packed_address(address)
        names = [] if packed is None else [question.full(labels) for labels in self._names_of(packed)]
        targets = [target for target in names if len(target) <= MAX_NAME]
        if not targets:
            return Found(exists=apex, services=None)
        if qtype != PTR:
            return Found(services=None)
        return Found(tuple(Record(name, PTR, question.ttl, target) for target in targets), services=None)

    def soa(self, zone: bytes) -> Record:
        """The SOA of a zone, spelt as given."""
        serial = self._index.serial
        if self._soa.name != zone or self._soa_serial != serial:
            self._soa, self._soa_serial = soa(zone, self._options.ttl, serial), serial
        return self._soa

    # --- the apex ---

    def _apex(self, question: Question) -> Found:
        if question.type == SOA:
            return Found((self.soa(question.zone),))
        if question.type != NS:
            return NODATA
        hosts = dict.fromkeys(self._name_servers())
        records = {
            target: Record(question.name, NS, question.ttl, target)
            for target in (question.full(host.labels) for host in hosts)
            if len(target) <= MAX_NAME
        }
        return Found(tuple(records.values()), question.glue(hosts), True, None)

    def _name_servers(self) -> list[Host]:
        """The DNS pods by the names of their Services, or else as ns.dns.ZONE (42)."""
        pods = [packed for text in self._dns_pods() if (packed := packed_address(text)) is not None]
        keys = dict.fromkeys(key for pod in pods for key in self._index.services_at(pod))
        entries = [entry for key in keys if (entry := self._index.services.get(key)) is not None]
        hosts = [host for entry in entries if self._shows(entry) for host, _ in self._offers(entry)]
        return hosts or [Host((b"ns", b"dns"), pod) for pod in pods]

    # --- Services ---

    def _visible(self, namespace: bytes) -> bool:
        labels = self._index.namespaces.get(namespace)
        options = self._options
        if labels is None or (options.namespaces is not None and namespace not in options.namespaces):
            return False
        return options.namespace_labels is None or options.namespace_labels(labels)

    def _shows(self, entry: ServiceEntry) -> bool:
        if self._shows_all:
            return entry.key[0] in self._index.namespaces
        labels = self._options.labels
        return self._visible(entry.key[0]) and (labels is None or labels(entry.labels))

    def _endpoints(self, key: Key) -> Endpoints:
        return self._index.endpoints(key) if self._options.endpoints else NO_ENDPOINTS

    def _at_service(self, question: Question, entry: ServiceEntry) -> Found:
        key = entry.key
        if entry.external_name:
            return _alias(question, entry)
        if entry.headless:
            addresses = self._endpoints(key).by_type
        elif self._options.ignore_empty_service and not self._endpoints(key).targets:
            return Found(exists=False, services=(key,))  # 16
        else:
            addresses = entry.by_type
        if not (addresses[A] or addresses[AAAA]):
            return Found(exists=False, services=(key,))  # 17
        if question.type == SRV:
            offers = self._offers(entry)
            return question.srv([(host, port) for host, ports in offers for port in ports], (key,))  # 12
        return question.addresses(addresses, (key,))

    def _offers(self, entry: ServiceEntry) -> list[Offer]:
        """What the SRV records of a Service name: itself, or the endpoints of a headless one."""
        key = entry.key
        service = (key[1], key[0], b"svc")
        if entry.external_name:
            return []
        if not entry.headless:
            if self._options.ignore_empty_service and not self._endpoints(key).targets:
                return []
            return [(Host(service, packed), entry.ports) for packed in entry.packed]
        pod_names = self._options.endpoint_pod_names
        return [
            (Host((target.label(pod_names), *service), target.packed), target.ports)
            for target in self._endpoints(key).targets
        ]

    def _below_svc(self, question: Question, labels: list[bytes]) -> Found:
        """Names below svc.ZONE that are no Service's own; `labels` without `svc`."""
        if not labels:
            return NODATA  # 38
        if not self._visible(labels[-1]):
            return MISSING
        if len(labels) == 1:
            return NODATA
        key = (labels[-1], labels[-2])
        entry = self._index.services.get(key)
        if entry is None or len(labels) > 4 or entry.external_name or not self._shows(entry):  # 2, 28
            return Found((), (), False, (key,))
        if len(labels) == 4:
            return _at_port(question, key, self._offers(entry), labels[0], labels[1])
        if labels[0].startswith(b"_"):  # 7: an empty non-terminal, RFC 8020
            known = any(
                port.name and b"_" + port.protocol == labels[0]
                for _, ports in self._offers(entry)
                for port in ports
            )
            return Found(exists=known, services=(key,))
        return self._at_endpoint(question, key, labels[0])

    def _at_endpoint(self, question: Question, key: Key, label: bytes) -> Found:
        targets = self._endpoints(key).named(self._options.endpoint_pod_names).get(label)
        if targets is None:
            return Found(exists=False, services=(key,))
        if question.type == SRV:
            path = (label, key[1], key[0], b"svc")
            pairs = [(Host(path, target.packed), port) for target in targets for port in target.ports]
            return question.srv(pairs, (key,))
        return question.addresses(by_type([target.packed for target in targets]), (key,))

    # --- pods and reverse names ---

    def _below_pod(self, question: Question, labels: list[bytes]) -> Found:
        if not labels:
            return NODATA
        pods = self._options.pods
        if pods == "disabled" or not self._visible(labels[-1]):
            return MISSING  # 31
        if len(labels) == 1:
            return NODATA
        if len(labels) > 2 or b"." in labels[0]:
            return MISSING  # 32 is a quirk: nothing is below a pod's name
        address = undashed(labels[0].decode("latin-1"))
        packed = None if address is None else packed_address(address)
        if packed is None:
            return MISSING
        if pods == "verified" and labels[1] not in self._index.pod_namespaces(packed):
            return Found(exists=False, services=None) if self._index.pods_synced else UNKNOWN
        return question.addresses(by_type([packed]), () if pods == "insecure" else None)

    def _names_of(self, packed: bytes) -> list[tuple[bytes, ...]]:
        """The names of an address, as labels below the zone."""
        key = self._index.by_cluster_ip.get(packed)
        if key is not None and self._shows(self._index.services[key]):
            return [(key[1], key[0], b"svc")]
        names: dict[tuple[bytes, ...], None] = {}
        for key in self._index.services_at(packed):
            entry = self._index.services.get(key)
            if entry is None or entry.external_name or not self._shows(entry):
                continue
            for target in self._endpoints(key).targets:
                if target.packed == packed:
                    label = target.label(self._options.endpoint_pod_names)
                    names[label, key[1], key[0], b"svc"] = None
        return list(names)


def _at_port(question: Question, key: Key, offers: list[Offer], port: bytes, protocol: bytes) -> Found:
    """`_port._protocol` below a Service: SRV records only (11, 13)."""
    pairs = [
        (host, item)
        for host, ports in offers
        for item in ports
        if item.name and b"_" + item.name == port and b"_" + item.protocol == protocol
    ]
    if not pairs:
        return Found(exists=False, services=(key,))
    return question.srv(pairs, (key,)) if question.type == SRV else Found(services=(key,))


def _alias(question: Question, entry: ServiceEntry) -> Found:
    """An ExternalName Service (24); one that is an address does not exist (29)."""
    text = entry.external_name.rstrip(".")
    services = (entry.key,)
    try:
        target = codec.to_wire(text)
    except codec.CodecError:
        target = b"\0"
    if target == b"\0" or packed_address(text) is not None:
        return Found(exists=False, services=services)
    alias = Record(question.name, CNAME, question.ttl, target)
    return Found((alias,), services=services, target=b"" if question.type in (CNAME, ANY) else target)
