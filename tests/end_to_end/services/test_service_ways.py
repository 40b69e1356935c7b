"""Every way into a Service: who answers, whose address the pod sees, and what becomes of those who may not.

Rules C1 to C20 of the data path, and what the modes make of them (E8, E9, F5, F7, G1). A flow is written as
`pods < client`: the pods that answer, and the client that they see; or as the fate of its connection.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from as_a_client import (
    DROPPED_SECONDS,
    OUTSIDE,
    Space,
    at_once,
    node_ip,
    outcome,
    pod,
    service,
    udp,
    udp_outcome,
    visit,
)
from proxy_modes import ProxyInForce, every_mode, in_modes, kernel_modes

from emu.core.objects import Service

NODES = ("node-1", "node-2", "node-3")
PODS = {"near": "node-1", "far": "node-2", "third": "node-3"}
"""Clients, and their nodes. Endpoints are `one` on node-1 and `two` on node-2; node-3 has none."""
EVERYBODY = (*PODS, *NODES, "outside")
AT_NODES = ("node-1:", "node-2:", "node-3:")
WAYS_FROM_OUTSIDE = ("node-1:", "load balancer", "external IP")


class Row(NamedTuple):
    client: str
    way: str
    """`ClusterIP`, `node-N:` for the node port there, `load balancer` or `external IP`."""
    service: str


Table = dict[Row, str]


def rows(service_: str, *table: tuple[str, str, str]) -> Table:
    """Rows (client, way, expected) of one Service."""
    return {Row(client, way, service_): expected for client, way, expected in table}


class Ways:
    """The addresses of everybody, and of every way into the Services."""

    def __init__(self, space: Space, services: list[str]) -> None:
        self.space = space
        cluster = space.cluster
        self.sources = {name: node_ip(cluster, name) for name in NODES}
        self.sources |= {name: space.ip(name) for name in PODS}
        self.sources["outside"] = OUTSIDE
        self.names = {address: name for name, address in self.sources.items()}
        for name, node in PODS.items():
            self.names[space.ip(name).rpartition(".")[0] + ".1"] = f"bridge of {node}"
        self.targets: dict[tuple[str, str], tuple[str, int]] = {}
        for found in [cluster.object(Service, name, space.name) for name in services]:
            port, number = found.spec.ports[0].port, found.spec.ports[0].node_port
            ways = {
                "ClusterIP": (found.spec.cluster_ip, port),
                "load balancer": (space.external_ip(found.name), port),
                "external IP": (found.spec.external_ips[0], port),
                **{f"{node}:": (self.sources[node], number) for node in NODES},
            }
            self.targets |= {(found.name, way): target for way, target in ways.items()}

    def flow(self, row: Row, expected: str) -> str:
        """What becomes of a row; of a choice among pods so many connections that each comes to light."""
        source, target = self.sources[row.client], self.targets[row.service, row.way]
        if "<" not in expected:
            return outcome(source, *target, DROPPED_SECONDS if expected == "dropped" else 5.0)
        pods: set[str] = set()
        clients: set[str] = set()
        wanted = set(expected.partition(" < ")[0].split())
        for tried in range(40):
            if tried >= 6 and pods == wanted:
                break
            try:
                seen = visit(source, *target)
            except TimeoutError:
                return "dropped"
            except OSError as error:
                return type(error).__name__
            pods.add(seen.pod)
            clients.add(self.names.get(seen.client, seen.client))
        shown = "a node" if len(clients) > 1 and clients <= set(NODES) else " ".join(sorted(clients))
        return f"{' '.join(sorted(pods))} < {shown}"

    def found(self, table: Table) -> Table:
        """What becomes of all rows of a table.

        The clients of one address go one after the other: two that take turns with each other would each
        meet the same endpoint for ever.
        """
        targets: dict[tuple[str, ...], list[Row]] = {}
        for row, expected in table.items():
            key = (row.service, row.way) if "<" in expected else row
            targets.setdefault(key, []).append(row)

        def flows(rows: list[Row]) -> Table:
            return {row: self.flow(row, table[row]) for row in rows}

        return {
            row: fate
            for part in at_once(flows, [(rows,) for rows in targets.values()])
            for row, fate in part.items()
        }

    def until(self, table: Table) -> None:
        """Wait until a table is in force."""
        self.space.cluster.until(lambda: self.found(table) == table, what="the table is in force")


BOTH_PROTOCOLS = [
    {"name": "tcp", "port": 8080},
    {"name": "udp", "port": 8080, "targetPort": 8081, "protocol": "UDP"},
]
SERVICES = {
    "cluster": {},
    "local": {"externalTrafficPolicy": "Local"},
    "internal": {"internalTrafficPolicy": "Local"},
    "itself": {"selector": "near", "externalTrafficPolicy": "Local"},
    "hosted": {"selector": "hosted", "ports": [{"port": 8080, "targetPort": 18080}]},
    "guarded": {"loadBalancerSourceRanges": ["127.220.0.0/24"]},
    "nobody": {"selector": "nobody"},
    "nobody-local": {
        "selector": "nobody",
        "externalTrafficPolicy": "Local",
        "internalTrafficPolicy": "Local",
    },
}


@pytest.fixture(scope="module")
def ways(space: Space) -> Ways:
    """All Services, of type LoadBalancer with an external IP, in force."""
    # Clusters side by side share 127.0.0.1: a node port of its own, from the band that is given out last.
    node_port = 30020 + space.cluster.settings.config.slot
    cluster = {"ports": [{**port, "nodePort": node_port} for port in BOTH_PROTOCOLS]}
    hosted = pod("hosted", "netexec", "--http-port=18080", "--udp-port=-1", node="node-3")
    hosted["spec"]["hostNetwork"] = True
    space.apply(
        hosted,
        *(
            service(
                name,
                type="LoadBalancer",
                externalIPs=[space.outside(f"11.{number}")],
                **{"selector": "web", "ports": BOTH_PROTOCOLS, **spec},
            )
            for number, (name, spec) in enumerate({**SERVICES, "cluster": cluster}.items(), 1)
        ),
    )
    ways = Ways(space, list(SERVICES))
    ways.until(rows("guarded", ("outside", "load balancer", "one two < a node")))
    return ways


def masqueraded(way: str, client: str) -> str:
    """Whom a pod sees where kube-proxy masquerades: the node where the connection enters."""
    if way.endswith(":"):
        return way.removesuffix(":")
    if client == "outside":
        return "a node" if way == "load balancer" else "node-1"
    return PODS.get(client, client)


# --- ClusterIP ---


@every_mode
def test_c1_c8_c9_every_node_and_pod_uses_a_cluster_ip_and_is_seen_as_itself(ways: Ways, mode: str):
    seen = PODS if mode == "userspace" else {}
    table = rows(
        "cluster",
        *((client, "ClusterIP", f"one two < {seen.get(client, client)}") for client in (*PODS, *NODES)),
    )
    assert ways.found(table) == table


@every_mode
def test_c11_outside_clients_reach_a_cluster_ip(ways: Ways, mode: str):
    seen = "node-1" if mode == "userspace" else "outside"
    table = rows("cluster", ("outside", "ClusterIP", f"one two < {seen}"))
    assert ways.found(table) == table


@every_mode
def test_c2_a_match_is_on_address_protocol_and_port(ways: Ways, mode: str):
    address, source = ways.space.vip("cluster"), ways.sources["near"]
    assert visit(source, address).pod in ("one", "two")
    answer = udp(source, address, 8080)
    assert answer.text in ("one", "two")
    assert answer.sender == (address, 8080)


@every_mode
def test_c5_e8_f5_an_undefined_port_of_a_cluster_ip_refuses(ways: Ways, mode: str):
    sources = [ways.sources[name] for name in ("near", "node-2", "outside")]
    dials = [(source, ways.space.vip("cluster"), 9) for source in sources]
    assert at_once(outcome, dials) == ["refused"] * 3
    assert at_once(udp_outcome, dials) == ["refused"] * 3


@every_mode
def test_c10_hairpin_shows_the_pod_another_address_than_its_own(ways: Ways, mode: str):
    seen = "node-1" if mode == "userspace" else "bridge of node-1"
    table = rows(
        "itself",
        ("near", "ClusterIP", f"near < {seen}"),
        ("near", "node-1:", f"near < {seen}"),
        ("near", "load balancer", f"near < {seen}"),
        ("near", "external IP", f"near < {seen}"),
    )
    assert ways.found(table) == table
    answer = udp(ways.sources["near"], ways.space.vip("itself"), 8080, "clientip")
    assert ways.names[answer.text.rpartition(":")[0]] == seen


@every_mode
def test_c9_c10_a_pod_in_the_host_network_is_its_node(ways: Ways, mode: str):
    table = rows(
        "hosted",
        *(
            (client, "ClusterIP", f"node-3 < {PODS.get(client, client) if mode == 'userspace' else client}")
            for client in ("near", "third", "node-1", "node-3")
        ),
        ("node-3", "load balancer", "node-3 < node-3"),
        ("near", "load balancer", "node-3 < node-1"),
    )
    assert ways.found(table) == table


@kernel_modes
def test_c8_masquerade_all_shows_the_node_where_a_connection_enters(
    ways: Ways, mode: str, proxy: ProxyInForce
):
    proxy.use(mode, **{mode: {"masqueradeAll": True}})
    table: Table = {}
    for name, endpoints in (("cluster", "one two"), ("internal", "one")):
        table |= rows(
            name,
            *(
                (client, "ClusterIP", f"{endpoints} < {masqueraded('ClusterIP', client)}")
                for client in ("near", "node-1", "outside")
            ),
        )
    table |= rows("cluster", ("third", "ClusterIP", "one two < node-3"))
    assert ways.found(table) == table


# --- internalTrafficPolicy ---


@in_modes("iptables", "nftables")
def test_c4_c16_internal_policy_local_serves_from_the_own_node_or_drops(ways: Ways, mode: str):
    table = rows(
        "internal",
        ("near", "ClusterIP", "one < near"),
        ("far", "ClusterIP", "two < far"),
        ("node-1", "ClusterIP", "one < node-1"),
        ("node-2", "ClusterIP", "two < node-2"),
        ("third", "ClusterIP", "dropped"),
        ("node-3", "ClusterIP", "dropped"),
        ("outside", "ClusterIP", "one < outside"),
    )
    assert ways.found(table) == table


@in_modes("ipvs")
def test_c16_internal_policy_local_refuses_in_ipvs_mode_where_no_endpoint_is(ways: Ways, mode: str):
    table = rows(
        "internal",
        ("near", "ClusterIP", "one < near"),
        ("node-2", "ClusterIP", "two < node-2"),
        # The proxy has accepted by then: what is a refusal on a cluster is a reset here.
        ("third", "ClusterIP", "reset"),
        ("node-3", "ClusterIP", "reset"),
    )
    assert ways.found(table) == table


@kernel_modes
def test_c16_internal_policy_local_is_for_cluster_ips_only(ways: Ways, mode: str):
    table = rows(
        "internal",
        *(
            (client, way, f"one two < {masqueraded(way, client)}")
            for client, way in (
                ("outside", "node-3:"),
                ("outside", "load balancer"),
                ("third", "load balancer"),
                ("third", "external IP"),
            )
        ),
    )
    assert ways.found(table) == table


# --- node ports, load balancers, external IPs ---


@every_mode
def test_c14_c19_external_policy_cluster_uses_all_endpoints_and_masquerades(ways: Ways, mode: str):
    table = rows(
        "cluster",
        *(
            (client, way, f"one two < {masqueraded(way, client)}")
            for client in EVERYBODY
            for way in (*AT_NODES, "load balancer", "external IP")
        ),
    )
    assert ways.found(table) == table


@kernel_modes
def test_c15_external_policy_local_keeps_outside_clients_at_local_endpoints(ways: Ways, mode: str):
    table = rows(
        "local",
        ("outside", "node-1:", "one < outside"),
        ("outside", "node-2:", "two < outside"),
        # Health checks keep a load balancer from nodes without endpoints.
        ("outside", "load balancer", "one two < outside"),
        ("outside", "external IP", "one < outside"),
        # From another node a client is as one from outside.
        ("near", "node-2:", "two < near"),
        ("node-1", "node-2:", "two < node-1"),
    )
    assert ways.found(table) == table


@kernel_modes
def test_c4_e9_external_policy_local_drops_where_no_endpoint_is(ways: Ways, mode: str):
    table = rows("local", *((client, "node-3:", "dropped") for client in ("outside", "near", "node-1")))
    assert ways.found(table) == table


@kernel_modes
def test_c15_external_policy_local_does_not_concern_cluster_ips(ways: Ways, mode: str):
    table = rows(
        "local",
        *(
            (client, "ClusterIP", f"one two < {client}")
            for client in ("near", "third", "node-1", "node-3", "outside")
        ),
    )
    assert ways.found(table) == table


@in_modes("iptables", "nftables")
def test_c17_clients_of_the_own_node_are_short_circuited_to_all_endpoints(ways: Ways, mode: str):
    table = rows(
        "local",
        *(
            (client, way, f"one two < {client}")
            for client, node in (
                ("near", "node-1"),
                ("third", "node-3"),
                ("node-1", "node-1"),
                ("node-3", "node-3"),
            )
            for way in (f"{node}:", "load balancer", "external IP")
        ),
    )
    assert ways.found(table) == table


@in_modes("ipvs")
def test_c17_ipvs_mode_has_no_short_circuit(ways: Ways, mode: str):
    table = rows(
        "local",
        *(
            (client, way, f"one < {client}")
            for client in ("near", "node-1")
            for way in ("node-1:", "load balancer", "external IP")
        ),
    )
    assert ways.found(table) == table


@in_modes("ipvs")
def test_e9_ipvs_mode_gives_clients_of_a_node_without_endpoints_all_of_them(ways: Ways, mode: str):
    table = rows(
        "local",
        *(
            (client, way, f"one two < {client}")
            for client in ("third", "node-3")
            for way in ("node-3:", "load balancer", "external IP")
        ),
    )
    assert ways.found(table) == table


@in_modes("iptables", "nftables")
def test_c17_without_a_local_detector_only_nodes_are_short_circuited(
    ways: Ways, mode: str, proxy: ProxyInForce
):
    proxy.use(mode, detectLocalMode="ClusterCIDR", clusterCIDR="")
    ways.until(
        rows(
            "local",
            ("near", "node-1:", "one < near"),
            ("near", "load balancer", "one < near"),
            ("third", "node-3:", "dropped"),
            ("node-1", "node-1:", "one two < node-1"),
            ("node-3", "node-3:", "one two < node-3"),
            ("near", "ClusterIP", "one two < near"),
        )
    )


@every_mode
def test_c18_f7_node_ports_at_127_0_0_1(ways: Ways, mode: str):
    number = ways.targets["cluster", "node-1:"][1]
    served = mode in ("iptables", "userspace")
    expected = "ok" if served else "refused"
    sources = [ways.sources[name] for name in ("outside", "node-1")]
    assert at_once(outcome, [(source, "127.0.0.1", number) for source in sources]) == [expected] * 2
    assert udp_outcome("127.0.0.1", "127.0.0.1", number) == expected


@kernel_modes
def test_c18_node_port_addresses_are_those_of_the_configuration(ways: Ways, mode: str, proxy: ProxyInForce):
    at_node, number = ways.targets["cluster", "node-1:"]
    dials = [(OUTSIDE, at_node, number), (OUTSIDE, "127.0.0.1", number)]
    nodes = ways.space.cluster.settings.config.ranges.nodes
    proxy.use(mode, nodePortAddresses=[nodes])
    assert at_once(outcome, dials) == ["ok", "refused"]
    proxy.use(mode, nodePortAddresses=["10.0.0.0/8"])
    assert at_once(outcome, dials) == ["refused", "refused"]
    assert outcome(OUTSIDE, ways.space.vip("cluster")) == "ok"


@kernel_modes
def test_c20_source_ranges_guard_the_load_balancers_address_only(ways: Ways, mode: str):
    near, stranger = ways.sources["near"], "127.220.5.5"
    balancer, vip = ways.targets["guarded", "load balancer"], ways.targets["guarded", "ClusterIP"]
    dials = {
        (OUTSIDE, *balancer): "ok",
        (stranger, *balancer): "dropped",
        (near, *balancer): "dropped",
        (ways.sources["node-1"], *balancer): "dropped",
        (stranger, *vip): "ok",
        (near, *vip): "ok",
        **{
            (source, *ways.targets["guarded", way]): "ok"
            for source in (stranger, near)
            for way in (*AT_NODES, "external IP")
        },
    }
    assert dict(zip(dials, at_once(outcome, dials), strict=True)) == dials
    assert udp_outcome(stranger, *balancer) == "dropped"
    assert udp_outcome(OUTSIDE, *balancer) == "ok"


@kernel_modes
def test_c20_a_node_is_let_through_when_its_own_address_is_in_range(ways: Ways, mode: str):
    ranges = [f"{ways.sources['node-1']}/32"]
    ways.space.apply(service("for-node-1", "web", type="LoadBalancer", loadBalancerSourceRanges=ranges))
    address = ways.space.external_ip("for-node-1")
    ways.space.cluster.until(
        lambda: outcome(ways.sources["node-1"], address) == "ok", what="the load balancer is in force"
    )
    dials = [(ways.sources[name], address) for name in ("node-2", "near", "outside")]
    assert at_once(outcome, dials) == ["dropped"] * 3


@in_modes("userspace")
def test_c20_g1_userspace_mode_knows_no_source_ranges(ways: Ways, mode: str):
    stranger, balancer = "127.220.5.5", ways.targets["guarded", "load balancer"]
    assert outcome(stranger, *balancer) == "ok"
    assert udp_outcome(stranger, *balancer) == "ok"


# --- nobody there ---


@kernel_modes
def test_c3_without_endpoints_every_way_refuses_at_once_whatever_the_policies(ways: Ways, mode: str):
    found = {
        (name, way, client): (outcome(source, *target), udp_outcome(source, *target))
        for (name, way), target in ways.targets.items()
        if name.startswith("nobody")
        for client in ("near", "node-3", "outside")
        for source in (ways.sources[client],)
    }
    assert set(found.values()) == {("refused", "refused")}, found


@in_modes("userspace")
def test_c3_g1_without_endpoints_userspace_mode_accepts_and_closes(ways: Ways, mode: str):
    targets = [target for (name, _), target in ways.targets.items() if name.startswith("nobody")]
    sources = [ways.sources[name] for name in ("near", "outside")]
    dials = [(source, *target) for target in targets for source in sources]
    assert set(at_once(outcome, dials)) == {"reset"}
    assert set(at_once(udp_outcome, dials)) == {"dropped"}


# --- userspace mode ---


@in_modes("userspace")
def test_g1_userspace_mode_knows_no_policies_and_shows_the_node_that_took_the_connection(
    ways: Ways, mode: str
):
    table: Table = {}
    for name in ("local", "internal"):
        table |= rows(
            name,
            *(
                (client, way, f"one two < {masqueraded(way, client)}")
                for client in ("near", "third", "node-3", "outside")
                for way in ("ClusterIP", "node-3:", "load balancer", "external IP")
            ),
        )
    assert ways.found(table) == table
