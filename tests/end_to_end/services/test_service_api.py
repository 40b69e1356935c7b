"""The Service object as a client of the API meets it, and what it opens and closes. Rules A1 to A22.

Every refusal word by word is in tests/api/test_service_validation.py.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from typing import Any

import dns.message
import dns.query
import dns.rdatatype
import pytest
from as_a_client import (
    OUTSIDE,
    Space,
    at_once,
    client_seen,
    connect,
    http,
    node_ip,
    outcome,
    service,
    spread,
)
from proxy_modes import every_mode

from emu.client.rest import ApiError, Client
from emu.core.objects import EndpointSlice, Event, Service

SERVICE = Service.resource
ENDPOINTS = {"one", "two"}


class Api:
    """Documents of Services, in one namespace."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def create(self, document: dict[str, Any]) -> dict[str, Any]:
        metadata = {**document["metadata"], "namespace": self.space.name}
        return self._call(lambda client: client.create(SERVICE, {**document, "metadata": metadata}))

    def get(self, name: str) -> dict[str, Any]:
        return self._call(lambda client: client.get_document(SERVICE, self.space.name, name))

    def put(self, document: dict[str, Any]) -> dict[str, Any]:
        metadata = {**document["metadata"], "namespace": self.space.name}
        return self._call(lambda client: client.replace(SERVICE, {**document, "metadata": metadata}))

    def patch(self, name: str, patch: dict[str, Any], subresource: str = "") -> dict[str, Any]:
        return self._call(
            lambda client: client.patch(SERVICE, self.space.name, name, patch, subresource=subresource)
        )

    def change(self, name: str, **spec: Any) -> dict[str, Any]:
        """The spec after a merge patch of it."""
        found: dict[str, Any] = self.patch(name, {"spec": spec})["spec"]
        return found

    def delete(self, name: str) -> None:
        self.space.delete(Service, name)

    def refused(self, attempt: Callable[[], Any]) -> str:
        """Code, reason and the fields that a refusal names."""
        with pytest.raises(ApiError) as caught:
            attempt()
        causes = (caught.value.details or {}).get("causes", [])
        fields = " ".join(sorted({cause["field"] for cause in causes if "field" in cause}))
        return f"{caught.value.code} {caught.value.reason} {fields}".strip()

    def _call(self, use: Callable[[Client], Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.space.cluster.call(use)
        return found


@pytest.fixture(scope="module")
def api(space: Space) -> Api:
    return Api(space)


def until_served(space: Space, address: str, port: int = 8080, source: str = OUTSIDE) -> None:
    space.cluster.until(
        lambda: spread(source, address, 1, port) and spread(source, address, port=port) == ENDPOINTS,
        what=f"{address}:{port} is served",
    )


def until_refused(space: Space, *addresses: tuple[str, int]) -> None:
    dials = [(OUTSIDE, *address) for address in addresses]
    space.cluster.until(
        lambda: set(at_once(outcome, dials)) == {"refused"}, what=f"nothing listens at {addresses}"
    )


def resolved(space: Space, name: str, rdtype: str = "A") -> list[str]:
    """What the cluster's DNS says of a name of the namespace."""
    question = dns.message.make_query(f"{name}.{space.name}.svc.cluster.local.", rdtype)
    port = space.cluster.settings.config.fixed_ports.dns
    reply = dns.query.udp(question, "127.0.0.1", timeout=3, port=port)
    return sorted(str(item) for rrset in reply.answer for item in rrset)


# --- what is filled in and given out ---


def test_a1_types_and_defaults(api: Api):
    spec = api.create(service("a1"))["spec"]
    assert spec["type"] == "ClusterIP"
    assert (spec["sessionAffinity"], spec["internalTrafficPolicy"]) == ("None", "Cluster")
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")
    assert spec["ports"] == [{"port": 8080, "protocol": "TCP", "targetPort": 8080}]
    assert "externalTrafficPolicy" not in spec
    for number, fields in enumerate(
        ({"type": "NodePort"}, {"type": "LoadBalancer"}, {"externalIPs": [api.space.outside("14.1")]})
    ):
        assert api.create(service(f"a1-{number}", **fields))["spec"]["externalTrafficPolicy"] == "Cluster"
    assert api.refused(lambda: api.create(service("a1-x", type="Other"))) == "422 Invalid spec.type"


def test_a2_ports(api: Api):
    two = [{"port": 80}, {"port": 81}]
    assert api.refused(lambda: api.create(service("a2", ports=[]))) == "422 Invalid spec.ports"
    assert "spec.ports[0].name" in api.refused(lambda: api.create(service("a2", ports=two)))
    same = [{"name": "a", "port": 80}, {"name": "b", "port": 80}]
    assert api.refused(lambda: api.create(service("a2", ports=same))) == "422 Invalid spec.ports[1]"
    names = [{"name": "a", "port": 80}, {"name": "a", "port": 81}]
    assert api.refused(lambda: api.create(service("a2", ports=names))) == "422 Invalid spec.ports[1].name"
    protocols = [{"name": p.lower(), "port": 80, "protocol": p} for p in ("TCP", "UDP", "SCTP")]
    assert len(api.create(service("a2", ports=protocols))["spec"]["ports"]) == 3


def test_a3_a_target_port_that_is_missing_is_the_port(api: Api):
    for name, port in (("a3", {"port": 8080}), ("a3-0", {"port": 8080, "targetPort": 0})):
        assert api.create(service(name, "web", ports=[port]))["spec"]["ports"][0]["targetPort"] == 8080
        until_served(api.space, api.space.vip(name))


@every_mode
def test_a6_c22_a_headless_service_is_its_pods(api: Api, mode: str):
    if mode == "iptables":
        api.create(service("a6", "web", clusterIP="None", ports=[{"port": 80, "targetPort": 8080}]))
        api.create(service("a6-without", "web", clusterIP="None", ports=[]))
    space = api.space
    pods = sorted(space.ip(name) for name in ENDPOINTS)
    for name in ("a6", "a6-without"):
        space.cluster.until(lambda name=name: resolved(space, name) == pods, what="DNS has both pods")
        assert api.get(name)["spec"]["clusterIP"] == "None"
    # Plain traffic between pods: no port mapping, and nothing changes the client's address.
    for address in pods:
        assert client_seen(space.ip("near"), address) == space.ip("near")
        assert outcome(space.ip("near"), address, 80) == "refused"


def test_a8_an_external_name_is_an_alias_and_nothing_else(api: Api):
    spec = api.create(service("a8", "web", type="ExternalName", externalName="db.example.com"))["spec"]
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "internalTrafficPolicy"} & set(spec)
    space = api.space
    space.cluster.until(
        lambda: resolved(space, "a8", "CNAME") == ["db.example.com."], what="DNS has the alias"
    )
    labels = "kubernetes.io/service-name=a8"
    assert space.cluster.objects(EndpointSlice, space.name, labels=labels) == []
    wrong = [
        ({}, "422 Invalid spec.externalName"),
        ({"externalName": "a_b"}, "422 Invalid spec.externalName"),
        ({"externalName": "a.b", "clusterIP": "127.96.0.99"}, "422 Invalid spec.clusterIPs"),
        ({"externalName": "a.b", "ipFamilies": ["IPv4"]}, "422 Invalid spec.ipFamilies"),
    ]
    for fields, expected in wrong:
        assert api.refused(lambda f=fields: api.create(service("a8-x", type="ExternalName", **f))) == expected


def test_a9_a_cluster_ip_may_be_asked_for_and_is_released_again(api: Api):
    network = ipaddress.ip_network(api.space.cluster.settings.config.ranges.services)
    wanted = str(network[99])
    # A create that fails gives back what it took.
    failing = service("a9", clusterIP=wanted, ports=[{"port": 99999}])
    assert api.refused(lambda: api.create(failing)).startswith("422")
    spec = api.create(service("a9", clusterIP=wanted))["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"]) == (wanted, [wanted])
    assert api.refused(lambda: api.create(service("a9-b", clusterIP=wanted))) == "422 Invalid spec.clusterIPs"
    api.delete("a9")
    assert api.create(service("a9-b", clusterIP=wanted))["spec"]["clusterIP"] == wanted


def test_a10_addresses_come_out_of_the_upper_band_of_the_range(api: Api):
    network = ipaddress.ip_network(api.space.cluster.settings.config.ranges.services)
    for number in range(5):
        given = ipaddress.ip_address(api.create(service(f"a10-{number}"))["spec"]["clusterIP"])
        assert int(given) - int(network[0]) > 256
    for wrong in (network[0], network[-1], "10.96.0.100"):
        refusal = api.refused(lambda w=wrong: api.create(service("a10", clusterIP=str(w))))
        assert refusal == "422 Invalid spec.clusterIPs"


def test_a11_a_cluster_ip_is_for_good(api: Api):
    before = api.create(service("a11", "web", type="NodePort"))["spec"]
    network = ipaddress.ip_network(api.space.cluster.settings.config.ranges.services)
    for other in (str(network[98]), "None"):
        changed = api.refused(lambda other=other: api.change("a11", clusterIP=other, clusterIPs=[other]))
        assert "422 Invalid spec.clusterIPs[0]" in changed
    # A PUT that leaves out what was given keeps it.
    after = api.put(service("a11", "web", type="NodePort"))["spec"]
    assert after["clusterIP"] == before["clusterIP"]
    assert after["ports"] == before["ports"]


def test_a12_a14_node_ports(api: Api):
    for wrong in (80, 29999, 32768):
        ports = [{"port": 80, "nodePort": wrong}]
        refusal = api.refused(lambda p=ports: api.create(service("a12", type="NodePort", ports=p)))
        assert refusal == "422 Invalid spec.ports[0].nodePort"
    ports = [{"port": 80, "nodePort": 30007}]
    assert (
        api.refused(lambda: api.create(service("a12", ports=ports))) == "422 Invalid spec.ports[0].nodePort"
    )
    api.create(service("a12", type="NodePort", ports=ports))
    # A13: whatever the protocol, a number belongs to one Service.
    taken = service("a13", type="NodePort", ports=[{**ports[0], "protocol": "UDP"}])
    assert api.refused(lambda: api.create(taken)) == "422 Invalid spec.ports[0].nodePort"
    api.change("a12", type="ClusterIP")
    api.create(taken)
    api.delete("a13")
    api.create(taken)
    for number in range(5):
        found = api.create(service(f"a14-{number}", type="NodePort"))["spec"]["ports"][0]["nodePort"]
        assert 30086 <= found <= 32767


# --- load balancers ---


def test_a15_load_balancers(api: Api):
    space = api.space
    made = api.create(service("a15", "web", type="LoadBalancer", externalTrafficPolicy="Local"))["spec"]
    assert made["allocateLoadBalancerNodePorts"] is True
    number = made["healthCheckNodePort"]
    assert 30000 <= number <= 32767
    assert number != made["ports"][0]["nodePort"]
    pool = ipaddress.ip_network(space.cluster.settings.config.ranges.load_balancers)
    assert ipaddress.ip_address(space.external_ip("a15")) in pool
    assert api.get("a15")["status"]["loadBalancer"]["ingress"][0]["ipMode"] == "VIP"
    assert api.refused(lambda: api.change("a15", healthCheckNodePort=31999)) == (
        "422 Invalid spec.healthCheckNodePort"
    )
    kubelet = service("a15-b", type="LoadBalancer", ports=[{"port": 10250}])
    assert api.refused(lambda: api.create(kubelet)) == "422 Invalid spec.ports[0]"
    taken = service("a15-b", type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=number)
    assert api.refused(lambda: api.create(taken)) == "500 InternalError"


@every_mode
def test_a16_a_load_balancer_without_node_ports(api: Api, mode: str):
    if mode == "iptables":
        api.create(service("a16", "web", type="LoadBalancer", allocateLoadBalancerNodePorts=False))
    assert "nodePort" not in api.get("a16")["spec"]["ports"][0]
    until_served(api.space, api.space.external_ip("a16"))


@every_mode
def test_a17_a19_c19_the_load_balancer_of_another_implementation(api: Api, mode: str):
    space, name = api.space, f"a17-{mode}"
    api.create(service(name, "web", type="LoadBalancer", loadBalancerClass="example.com/other"))
    api.create(service(f"{name}-own", "web", type="LoadBalancer"))
    # The one without a class has its address: the other would have had one, too.
    space.external_ip(f"{name}-own")
    assert api.get(name)["status"] == {"loadBalancer": {}}
    vip, proxied = space.outside("14.2"), space.outside("14.3")
    ingress = [{"ip": vip, "ipMode": "VIP"}, {"ip": proxied, "ipMode": "Proxy"}]
    api.patch(name, {"status": {"loadBalancer": {"ingress": ingress}}}, "status")
    until_served(space, vip)
    # An address of mode Proxy is the load balancer's own: kube-proxy lets its packets pass.
    assert outcome(OUTSIDE, proxied) == "refused"
    assert outcome(space.ip("near"), proxied) == "refused"
    assert api.refused(lambda: api.change(name, loadBalancerClass="example.com/third")).startswith("422")
    api.delete(name)
    until_refused(space, (vip, 8080))


def test_a18_affinity_and_its_timeout(api: Api):
    made = api.create(service("a18", sessionAffinity="ClientIP"))["spec"]
    assert made["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    for seconds in (0, 86401):
        config = {"clientIP": {"timeoutSeconds": seconds}}
        refusal = api.refused(lambda c=config: api.change("a18", sessionAffinityConfig=c))
        assert refusal == "422 Invalid spec.sessionAffinityConfig.clientIP.timeoutSeconds"
    config = {"clientIP": {"timeoutSeconds": 5}}
    assert "sessionAffinityConfig" not in api.create(service("a18-b", sessionAffinityConfig=config))["spec"]


def test_a19_status_and_spec_are_written_apart(api: Api):
    api.create(service("a19", type="LoadBalancer", loadBalancerClass="example.com/other"))
    address = api.space.outside("14.4")
    ingress = {"loadBalancer": {"ingress": [{"ip": address}]}}
    assert api.patch("a19", {"status": ingress})["status"] == {"loadBalancer": {}}
    found = api.patch("a19", {"spec": {"type": "ClusterIP"}, "status": ingress}, "status")
    assert found["spec"]["type"] == "LoadBalancer"
    assert found["status"]["loadBalancer"]["ingress"] == [{"ip": address, "ipMode": "VIP"}]
    for wrong in ({"ip": "x"}, {"hostname": "1.2.3.4"}, {"hostname": "a.b", "ipMode": "VIP"}):
        status = {"status": {"loadBalancer": {"ingress": [wrong]}}}
        assert api.refused(lambda s=status: api.patch("a19", s, "status")).startswith("422 Invalid status.")


def test_a20_a21_names_conflicts_and_what_is_missing(api: Api):
    for name in ("Abc", "a.b", "a" * 64, "-a"):
        assert api.refused(lambda n=name: api.create(service(n))) == "422 Invalid metadata.name"
    api.create(service("a" * 63))
    made = api.create(service("a21"))
    assert api.refused(lambda: api.create(service("a21"))) == "409 AlreadyExists"
    api.change("a21", sessionAffinity="ClientIP")
    assert api.refused(lambda: api.put(made)) == "409 Conflict"
    stranger = {**service("a21"), "metadata": {"name": "a21", "namespace": "missing"}}
    call = api.space.cluster.call
    assert api.refused(lambda: call(lambda client: client.create(SERVICE, stranger))) == "404 NotFound"
    assert api.refused(lambda: api.create(service("a21-b", ports="80"))) == "400 BadRequest"


def test_a22_policies_ranges_and_addresses(api: Api):
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"externalTrafficPolicy": "Local"}, "spec.externalTrafficPolicy"),
        ({"internalTrafficPolicy": "Near"}, "spec.internalTrafficPolicy"),
        ({"trafficDistribution": "Far"}, "spec.trafficDistribution"),
        ({"loadBalancerSourceRanges": ["10.0.0.0/8"]}, "spec.LoadBalancerSourceRanges"),
        (
            {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0"]},
            "spec.LoadBalancerSourceRanges[0]",
        ),
        ({"externalIPs": ["0.0.0.0"]}, "spec.externalIPs[0]"),
        ({"externalIPs": ["169.254.1.1"]}, "spec.externalIPs[0]"),
        ({"externalIPs": ["224.0.0.1"]}, "spec.externalIPs[0]"),
    ]
    for fields, field in wrong:
        assert api.refused(lambda f=fields: api.create(service("a22", **f))) == f"422 Invalid {field}"


# --- changes ---


@every_mode
def test_a7_a_change_of_type_opens_and_closes_addresses(api: Api, mode: str):
    space, name = api.space, f"a7-{mode}"
    address = api.create(service(name, "web"))["spec"]["clusterIP"]
    node = node_ip(space.cluster, "node-1")
    until_served(space, address)
    number = api.change(name, type="NodePort")["ports"][0]["nodePort"]
    until_served(space, node, number)
    assert api.change(name, type="LoadBalancer")["ports"][0]["nodePort"] == number
    balancer = space.external_ip(name)
    until_served(space, balancer)
    assert api.change(name, type="ClusterIP")["clusterIP"] == address
    until_refused(space, (node, number), (balancer, 8080))
    assert api.get(name)["status"] == {"loadBalancer": {}}
    assert http(OUTSIDE, address) in ENDPOINTS
    spec = api.change(name, type="ExternalName", externalName="example.com")
    assert not {"clusterIP", "clusterIPs", "ipFamilies"} & set(spec)
    until_refused(space, (address, 8080))
    spec = api.change(name, type="ClusterIP", externalName=None)
    until_served(space, spec["clusterIP"])


def test_c1_the_api_server_is_a_service(space: Space):
    config = space.cluster.settings.config
    found = space.cluster.object(Service, "kubernetes", "default").spec
    assert found.cluster_ip == str(ipaddress.ip_network(config.ranges.services)[1])
    context = ssl.create_default_context(cafile=str(space.cluster.settings.state.root / "pki" / "ca.crt"))
    try:
        with (
            connect(space.ip("near"), found.cluster_ip, 443) as sock,
            context.wrap_socket(sock, server_hostname=found.cluster_ip) as wrapped,
        ):
            wrapped.sendall(b"GET /version HTTP/1.0\r\n\r\n")
            assert b"HTTP/1." in wrapped.recv(1000)
    except ConnectionRefusedError:
        assert space.cluster.objects(Event, "default"), "nothing says why"
        pytest.skip("ports below 1024 may not be bound")
