"""Why a name of the cluster's zone is what it is: in words, for `emu dns explain`.

Pure. It reads the index as `lookup` does and says which object a name meets, or which one is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from emu.core.names import address_of_reverse, undashed
from emu.coredns import codec
from emu.coredns.codec import AAAA, SRV, A
from emu.coredns.index import Index, Key, Port, ServiceEntry, Target, packed_address
from emu.coredns.plugins.kubernetes.options import Options

_MAX_NAMED = 5
_FAMILIES = {A: "IPv4", AAAA: "IPv6"}
_SIZES = {A: 4, AAAA: 16}
_REVERSE = (b"\x07in-addr\x04arpa\0", b"\x03ip6\x04arpa\0")


class Reason(NamedTuple):
    """Whether a name exists, and why or why not."""

    exists: bool
    text: str


def why(index: Index, options: Options, key: bytes, zone: bytes, qtype: int) -> Reason:
    """The reason for the answer to a lower-case name that lies in `zone`."""
    labels = codec.split_labels(key[: len(key) - len(zone)] + b"\0")
    explanation = _Explanation(index, options, codec.to_text(zone), qtype)
    if zone.endswith(_REVERSE):
        return explanation.reverse(codec.split_labels(key)) if labels else _yes("the reverse zone itself")
    return explanation.forward(labels)


def _yes(text: str) -> Reason:
    return Reason(True, text)


def _no(text: str) -> Reason:
    return Reason(False, text)


def _text(labels: Iterable[bytes]) -> str:
    return ".".join(label.decode("ascii", "backslashreplace") for label in labels)


def _named(items: Iterable[str], nothing: str) -> str:
    """A short list in words."""
    found = list(items)
    if not found:
        return nothing
    more = f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
    return ", ".join(found[:_MAX_NAMED]) + more


def _port(port: Port) -> str:
    name = f"{_text((port.name,))} " if port.name else "unnamed "
    return f"{name}({port.number}/{_text((port.protocol,)).upper()})"


def _addresses(packed: Iterable[bytes], nothing: str = "") -> str:
    return _named((str(ip_address(item)) for item in dict.fromkeys(packed)), nothing)


def _one(label: bytes) -> str:
    return _text((label,))


def _key(key: Key) -> str:
    return f"{_one(key[0])}/{_one(key[1])}"


class _Explanation:
    def __init__(self, index: Index, options: Options, zone: str, qtype: int) -> None:
        self._index = index
        self._options = options
        self._zone = zone
        self._qtype = qtype

    # --- what is asked of the index ---

    def _targets(self, key: Key) -> tuple[Target, ...]:
        return self._index.endpoints(key).targets if self._options.endpoints else ()

    def _has_pod(self, address: str, namespace: bytes) -> bool:
        packed = packed_address(address)
        return packed is not None and namespace in self._index.pod_namespaces(packed)

    def _owners(self, address: str) -> tuple[Key | None, list[Key]]:
        """The Service that has an address as ClusterIP, and those that have it as a ready endpoint."""
        packed = packed_address(address)
        if packed is None:
            return None, []
        return self._index.by_cluster_ip.get(packed), list(dict.fromkeys(self._index.services_at(packed)))

    # --- names ---

    def forward(self, labels: list[bytes]) -> Reason:
        if not labels:
            return _yes(f"{self._zone} is the zone itself, which has SOA and NS records")
        *rest, kind = labels
        if kind == b"svc":
            return self._below_svc(rest)
        if kind == b"pod":
            return self._below_pod(rest)
        if labels == [b"dns-version"]:
            return _yes("the version of the DNS schema, a TXT record")
        if labels in ([b"ns", b"dns"], [b"dns"]):
            return _yes("the name of the DNS server itself")
        return _no(f'below {self._zone} there are only svc and pod, not "{_text((kind,))}"')

    def _hidden(self, namespace: bytes) -> str:
        """Why nothing is to be seen of a namespace; "" where it is seen."""
        shown = self._options.namespaces
        if namespace not in self._index.namespaces:
            return f'there is no namespace "{_text((namespace,))}"'
        if shown is not None and namespace not in shown:
            return f'the Corefile\'s `namespaces` hides the namespace "{_text((namespace,))}"'
        labels = self._options.namespace_labels
        if labels is not None and not labels(self._index.namespaces[namespace]):
            return f'the Corefile\'s `namespace_labels` hides the namespace "{_text((namespace,))}"'
        return ""

    def _below_svc(self, labels: list[bytes]) -> Reason:
        if not labels:
            return _yes("svc is above the namespaces and has no records")
        hidden = self._hidden(labels[-1])
        if hidden:
            return _no(hidden)
        if len(labels) == 1:
            return _yes(f'the namespace "{_text(labels)}" exists and has no records itself')
        key = (labels[-1], labels[-2])
        entry = self._index.services.get(key)
        if entry is None:
            return _no(self._no_service(key))
        if self._options.labels is not None and not self._options.labels(entry.labels):
            return _no(f"the Corefile's `labels` hides the Service {_key(entry.key)}")
        return self._service(entry, labels[:-2])

    def _no_service(self, key: Key) -> str:
        namespace, name = key
        elsewhere = sorted(other for other, service in self._index.services if service == name)
        hint = f"; there is one in {_named(map(_one, elsewhere), '')}" if elsewhere else ""
        return f'there is no Service "{_one(name)}" in namespace "{_one(namespace)}"{hint}'

    def _service(self, entry: ServiceEntry, below: list[bytes]) -> Reason:
        if entry.external_name:
            return self._external(entry, below)
        targets = self._targets(entry.key)
        if entry.headless:
            what = f"the headless Service {_key(entry.key)}"
            if not self._options.endpoints:
                return _no(f"the Corefile's `noendpoints` hides the endpoints of {what}")
            if not targets:
                return _no(f"{what} has no ready endpoint")
        else:
            what = f"the Service {_key(entry.key)}"
            if self._options.ignore_empty_service and not targets:
                return _no(f"{what} has no ready endpoint, and the Corefile says `ignore empty_service`")
        if not below:
            return _yes(self._at_service(what, entry, targets))
        return self._below_service(what, entry, targets, below)

    def _external(self, entry: ServiceEntry, below: list[bytes]) -> Reason:
        what = f"the Service {_key(entry.key)} is an ExternalName for {entry.external_name}"
        if below:
            return _no(f"{what}, and nothing is below it")
        target = entry.external_name.rstrip(".")
        if target.replace(".", "").isdigit() and target.count(".") == 3:
            return _no(f"{what}, which is an address and so no name")
        return _yes(what)

    def _at_service(self, what: str, entry: ServiceEntry, targets: tuple[Target, ...]) -> str:
        if entry.headless:
            packed = tuple(target.packed for target in targets)
            ports = tuple(dict.fromkeys(port for target in targets for port in target.ports))
            has = f"the ready endpoints {_addresses(packed)}"
        else:
            packed, ports = tuple(entry.packed), entry.ports
            has = f"the ClusterIP {_addresses(packed, 'that is not allocated yet')}"
        if self._qtype in _FAMILIES and not any(len(item) == _SIZES[self._qtype] for item in packed):
            return f"{what} has no {_FAMILIES[self._qtype]} address, only {has}"
        if self._qtype == SRV:
            return f"{what} has the ports {_named(map(_port, ports), '(none)')}"
        if self._qtype in _FAMILIES:
            return f"{what} has {has}"
        return f"{what} exists, and has no {codec.type_name(self._qtype)} records"

    def _below_service(
        self, what: str, entry: ServiceEntry, targets: tuple[Target, ...], below: list[bytes]
    ) -> Reason:
        ports = [port for target in targets for port in target.ports] if entry.headless else entry.ports
        named = dict.fromkeys(port for port in ports if port.name)
        if len(below) == 2:
            if any(below == [b"_" + port.name, b"_" + port.protocol] for port in named):
                return _yes(f"{what} has the port {_text(below)}, which has SRV records only")
            return _no(
                f'{what} has no port "{_text(below)}"; it has {_named(map(_port, named), "none named")}'
            )
        if len(below) > 2:
            return _no(f"{what} is there, but nothing is so far below it")
        if below[0].startswith(b"_"):
            if any(b"_" + port.protocol == below[0] for port in named):
                return _yes(f"{what} has named ports of this protocol, one label further down")
            return _no(f'{what} has no named port of "{_one(below[0])}"')
        labels = dict.fromkeys(target.label(self._options.endpoint_pod_names) for target in targets)
        if below[0] not in labels:
            ready = _named(map(_one, labels), "none")
            return _no(f'{what} has no ready endpoint named "{_one(below[0])}"; ready are {ready}')
        packed = [
            target.packed for target in targets if target.label(self._options.endpoint_pod_names) == below[0]
        ]
        return _yes(f"{what} has this ready endpoint at {_addresses(packed)}")

    def _below_pod(self, labels: list[bytes]) -> Reason:
        mode = self._options.pods
        if not labels:
            return _yes("pod is above the namespaces and has no records")
        if mode == "disabled":
            return _no("the Corefile's `pods disabled` means that pods have no names")
        hidden = self._hidden(labels[-1])
        if hidden:
            return _no(hidden)
        if len(labels) == 1:
            return _yes(f'the namespace "{_text(labels)}" exists and has no records itself')
        if len(labels) > 2:
            return _no("nothing is below the name of a pod")
        address = undashed(labels[0].decode("latin-1"))
        if address is None:
            return _no(f'"{_one(labels[0])}" is no address with dashes')
        if mode == "verified":
            if not self._has_pod(address, labels[1]):
                return _no(f'no pod in namespace "{_one(labels[1])}" has the address {address}')
            return _yes(f'a pod in namespace "{_one(labels[1])}" has the address {address}')
        return _yes(f"the name of a pod at {address}; by `pods insecure` nobody checks that there is one")

    def reverse(self, labels: list[bytes]) -> Reason:
        address = address_of_reverse(tuple(label.decode("latin-1") for label in labels))
        if address is None:
            return _no("this is no reverse name of a whole address")
        service, endpoint_of = self._owners(address)
        if service is not None:
            return _yes(f"{address} is the ClusterIP of the Service {_key(service)}")
        if not endpoint_of:
            return _no(f"no Service and no ready endpoint of one has the address {address}")
        return _yes(f"{address} is a ready endpoint of {_named(map(_key, endpoint_of), '')}")
