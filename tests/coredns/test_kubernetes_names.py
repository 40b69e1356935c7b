"""What must hold of every name there is or is not: found by building many of them from parts."""

import random

import pytest

from emu.coredns import codec
from emu.coredns.codec import AAAA, CNAME, HINFO, MX, NS, SOA, SRV, TXT, A
from emu.coredns.plugins.kubernetes.lookup import Lookup
from emu.coredns.plugins.kubernetes.options import Options

from .test_kubernetes import populate

ZONE = codec.to_wire("cluster.local")
PARTS = [
    b"web", b"dual", b"bare", b"dns", b"head", b"unready", b"six", b"portless", b"alias", b"twins",
    b"default", b"empty", b"kube-system", b"svc", b"pod", b"ns", b"dns-version", b"_http", b"_https", b"_tcp",
    b"_udp", b"_dns", b"_", b"db-0", b"castor", b"pod-1", b"127-244-1-2", b"127-244-1-3", b"fd00--0", b"*",
    b"\xb2-1-1-1", b"address", b"web.default", b"\0", b"\xff" * 63, b" ", b"--", b"fe80--1%1", b"x",
]  # fmt: skip
TYPES = (A, AAAA, SRV, TXT, MX, NS, SOA, CNAME, HINFO, codec.ANY, 65280)


def names(rng, count):
    """Names below the zone as lists of labels: mere chance, and what makes sense with something odd in it."""
    for _ in range(count):
        labels = [rng.choice(PARTS) for _ in range(rng.randrange(6))]
        if rng.random() < 0.7:
            labels = [*labels[:3], rng.choice(PARTS[:11]), b"default", rng.choice([b"svc", b"svc", b"pod"])]
        if rng.random() < 0.3:
            labels = [*rng.choice([[b"_http", b"_tcp"], [b"_dns", b"_udp"], [b"127-244-1-3"]]), *labels[-3:]]
        yield labels


@pytest.mark.parametrize(
    "options",
    [
        Options(pods="insecure"),
        Options(pods="verified", endpoint_pod_names=True),
        Options(ignore_empty_service=True),
        Options(endpoints=False),
        Options(namespaces=frozenset([b"empty"])),
    ],
    ids=["insecure", "verified", "ignore empty_service", "noendpoints", "namespaces"],
)
def test_existence_is_the_same_for_every_type_and_inherited_by_what_is_above(cluster, options):
    populate(cluster)
    cluster.pod("a", "127.244.1.2")
    cluster.index.set_pods_synced()
    lookup = Lookup(cluster.index, options, ZONE, lambda: ("127.244.1.2",))

    def find(labels, qtype):
        name = codec.join_labels(labels)[:-1] + ZONE
        return lookup.find(name, name.lower(), len(ZONE), qtype)

    existing = 0
    for labels in names(random.Random(8020), 1500):
        found = [find(labels, qtype) for qtype in TYPES]
        assert len({item.exists for item in found}) == 1, labels
        if not found[0].exists:
            assert not any(item.answer or item.target for item in found), labels
            continue
        existing += 1
        assert not labels or find(labels[1:], A).exists, labels  # RFC 8020
        for item, qtype in zip(found, TYPES, strict=True):
            assert {record.type for record in item.answer} <= {qtype, CNAME}, labels
    assert existing > 10
