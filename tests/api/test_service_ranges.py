from pathlib import Path
from typing import Any

import msgspec
import pytest

from emu.api.address_ledger import ADDRESSES, RANGES, AddressLedger
from emu.api.options import DeleteOptions, WriteOptions
from emu.api.registry import Registry
from emu.api.resources import BY_NAME
from emu.api.service_admission import ServiceAdmission
from emu.api.store import Key, Store

from .conftest import NETWORKS, serving
from .refusals import BAD_CIDR, BAD_IP, Table, create, refused, rows, update

FIRST = "127.27.1.1"


class Cluster:
    """A registry as the API server starts it."""

    def __init__(self, path: Path | None = None, cidr: str = NETWORKS.services) -> None:
        self.store = Store(path)
        ledger = AddressLedger(self.store)
        admission = ServiceAdmission(NETWORKS, choose=lambda count: 0, ledger=ledger)
        self.registry = Registry(self.store, BY_NAME, {"services": admission})
        self.registry.load()
        ledger.start(cidr, admission.held)
        if self.store.get(Key("namespaces", "", "default")) is None:
            self.registry.create(BY_NAME["namespaces"], "", {"metadata": {"name": "default"}})

    @property
    def addresses(self) -> dict[str, str]:
        """The IPAddresses and the Services that have them."""
        return {
            item.key.name: item.document()["spec"]["parentRef"]["name"]
            for item in self.store.items(ADDRESSES)
        }


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def test_each_cluster_ip_is_an_object_as_long_as_it_is_held():
    cluster = Cluster()
    create(cluster.registry, "services", service("a"))
    create(cluster.registry, "services", service("headless", clusterIP="None"))
    cluster.registry.create(BY_NAME["services"], "default", service("tried"), WriteOptions(dry_run=True))
    assert cluster.addresses == {FIRST: "a"}
    made = cluster.registry.get(BY_NAME[ADDRESSES], "", FIRST).document()
    assert made["apiVersion"] == "networking.k8s.io/v1"
    assert made["kind"] == "IPAddress"
    assert made["metadata"]["labels"] == {
        "ipaddress.kubernetes.io/ip-family": "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    assert made["spec"] == {"parentRef": {"resource": "services", "namespace": "default", "name": "a"}}

    update(cluster.registry, "services", "a", type="ExternalName", externalName="a.b")
    assert cluster.addresses == {}
    update(cluster.registry, "services", "a", type="ClusterIP", externalName=None)
    assert cluster.addresses == {FIRST: "a"}
    version = cluster.registry.get(BY_NAME[ADDRESSES], "", FIRST).version
    update(cluster.registry, "services", "a", sessionAffinity="ClientIP")
    assert cluster.registry.get(BY_NAME[ADDRESSES], "", FIRST).version == version
    cluster.registry.delete(BY_NAME["services"], "default", "a", DeleteOptions())
    assert cluster.addresses == {}


def test_a_start_puts_right_what_a_crash_left(tmp_path: Path):
    cluster = Cluster(tmp_path / "db")
    for name in ("a", "b"):
        create(cluster.registry, "services", service(name))
    stray = {**cluster.store.items(ADDRESSES)[0].document()}
    cluster.store.put(Key(ADDRESSES, "", "127.27.9.9"), {**stray, "metadata": {**stray["metadata"]}})
    cluster.store.delete(Key(ADDRESSES, "", FIRST))
    by_hand = {"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"resource": "x", "name": "mine"}}}
    cluster.registry.create(BY_NAME[ADDRESSES], "", by_hand)
    cluster.store.close()

    again = Cluster(tmp_path / "db")
    assert again.addresses == {"10.0.0.1": "mine", FIRST: "a", "127.27.1.2": "b"}
    version = again.store.version
    again.store.close()
    assert Cluster(tmp_path / "db").store.version == version


def test_the_default_range_is_that_of_the_start(tmp_path: Path):
    Cluster(tmp_path / "db").store.close()
    cluster = Cluster(tmp_path / "db", "127.30.0.0/16")
    [item] = cluster.store.items(RANGES)
    document = item.document()
    assert (item.key.name, document["spec"]) == ("kubernetes", {"cidrs": ["127.30.0.0/16"]})
    [condition] = document["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("Ready", "True")


async def test_the_server_has_a_range_and_its_own_address(tmp_path: Path):
    async with serving(tmp_path) as server:
        group = "/apis/networking.k8s.io/v1"
        found = msgspec.json.decode(await server.client.request("GET", f"{group}/servicecidrs/kubernetes"))
        assert found["spec"] == {"cidrs": ["127.27.0.0/16"]}
        found = msgspec.json.decode(await server.client.request("GET", f"{group}/ipaddresses/127.27.0.1"))
        assert found["spec"]["parentRef"]["name"] == "kubernetes"


CIDRS: Table = [
    ("none", {}, ["spec.cidrs: Required value: at least one CIDR required"]),
    (
        "three",
        {"cidrs": ["10.0.0.0/8", "fd00::/64", "11.0.0.0/8"]},
        [
            'spec.cidrs: Invalid value: {"CIDRs":["10.0.0.0/8","fd00::/64","11.0.0.0/8"]}: may only hold up '
            "to 2 values"
        ],
    ),
    (
        "two of one family",
        {"cidrs": ["10.0.0.0/8", "11.0.0.0/8"]},
        [
            'spec.cidrs: Invalid value: {"CIDRs":["10.0.0.0/8","11.0.0.0/8"]}: may specify no more than one '
            "IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        ],
    ),
    ("form", {"cidrs": ["10.0.0.0"]}, [f'spec.cidrs[0]: Invalid value: "10.0.0.0": {BAD_CIDR}']),
    (
        "canonical form",
        {"cidrs": ["FD00::/64"]},
        ['spec.cidrs[0]: Invalid value: "FD00::/64": must be in canonical form ("fd00::/64")'],
    ),
]


@pytest.mark.parametrize(("given", "errors"), rows(CIDRS))
def test_ranges_that_are_refused(registry: Registry, given: dict[str, Any], errors: list[str]):
    assert refused(lambda: create(registry, RANGES, {"metadata": {"name": "r"}, "spec": given})) == errors


PARENTS: Table = [
    ("none", {}, ["spec.parentRef: Required value"]),
    (
        "resource and name",
        {"parentRef": {"group": "A"}},
        [
            'spec.parentRef.group: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower '
            "case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character "
            "(e.g. 'example.com', regex used for validation is "
            r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            "spec.parentRef.resource: Required value",
            "spec.parentRef.name: Required value",
        ],
    ),
    (
        "name",
        {"parentRef": {"resource": "services", "name": "a/b", "namespace": ".."}},
        [
            "spec.parentRef.name: Invalid value: \"a/b\": may not contain '/'",
            "spec.parentRef.namespace: Invalid value: \"..\": may not be '..'",
        ],
    ),
]


@pytest.mark.parametrize(("given", "errors"), rows(PARENTS))
def test_addresses_that_are_refused(registry: Registry, given: dict[str, Any], errors: list[str]):
    document = {"metadata": {"name": "10.0.0.1"}, "spec": given}
    assert refused(lambda: registry.create(BY_NAME[ADDRESSES], "", document)) == errors


@pytest.mark.parametrize(
    ("name", "fault"), [("web", BAD_IP), ("FD00::1", 'must be in canonical form ("fd00::1")')]
)
def test_the_name_of_an_address_is_the_address(registry: Registry, name: str, fault: str):
    spec = {"parentRef": {"resource": "services", "name": "a"}}
    document = {"metadata": {"name": name}, "spec": spec}
    assert refused(lambda: registry.create(BY_NAME[ADDRESSES], "", document)) == [
        f'metadata.name: Invalid value: "{name}": {fault}'
    ]


def test_both_are_for_good(registry: Registry):
    address = {"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"resource": "x", "name": "a"}}}
    made = registry.create(BY_NAME[ADDRESSES], "", address)
    made["spec"] = {"parentRef": {"resource": "x", "name": "b"}}
    assert refused(lambda: registry.update(BY_NAME[ADDRESSES], "", "10.0.0.1", lambda _: made)) == [
        'spec.parentRef: Invalid value: {"Group":"","Resource":"x","Namespace":"","Name":"b"}: field is '
        "immutable"
    ]
    cidrs = registry.create(
        BY_NAME[RANGES], "", {"metadata": {"name": "r"}, "spec": {"cidrs": ["10.0.0.0/8"]}}
    )
    cidrs["spec"] = {"cidrs": ["11.0.0.0/8"]}
    assert refused(lambda: registry.update(BY_NAME[RANGES], "", "r", lambda _: cidrs)) == [
        'spec.cidrs: Invalid value: ["11.0.0.0/8"]: field is immutable'
    ]


def test_rows_are_those_of_kubectl():
    cluster = Cluster()
    create(cluster.registry, "services", service("a"))
    address, cidr = BY_NAME[ADDRESSES], BY_NAME[RANGES]
    item = cluster.registry.get(address, "", FIRST).document()
    assert address.cells(item, 0)[:2] == [FIRST, "services/default/a"]
    item = cluster.registry.get(cidr, "", "kubernetes").document()
    assert cidr.cells(item, 0)[:2] == ["kubernetes", "127.27.0.0/16"]
