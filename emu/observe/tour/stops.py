"""The stops of the tour, in the order of the textbook chapter that emu brings to life."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter

from emu.core.addresses import contains
from emu.core.objects import ConfigMap, Namespace, NetworkPolicy, Node, Pod, Service
from emu.core.policy import PolicyEngine
from emu.observe.probe import Reply, http_get
from emu.observe.tour.visit import Stop, Visit

_REQUESTS = 30
_DENIED_AFTER_SECONDS = 1.0


async def three_networks(visit: Visit) -> None:
    """Nodes, pods and Services, each with addresses of its own network."""
    ranges = visit.config.ranges
    nodes = sorted(await visit.client.list(Node), key=lambda node: node.name)
    pods = sorted(await visit.client.list(Pod, "default"), key=lambda pod: pod.name)
    services = sorted(await visit.client.list(Service, "default"), key=lambda service: service.name)
    visit.say(f"Node network {ranges.nodes}")
    for node in nodes:
        visit.show(node.name, f"{node.internal_ip:<16} pods {node.spec.pod_cidr}")
        visit.expect(contains(ranges.nodes, node.internal_ip), f"{node.name} is not in the node network")
    visit.say(f"Pod network {ranges.pods}")
    cidrs = {node.name: node.spec.pod_cidr for node in nodes}
    for pod in pods:
        visit.show(pod.name, f"{pod.ip:<16} on {pod.spec.node_name}")
        visit.expect(
            contains(cidrs[pod.spec.node_name], pod.ip), f"{pod.name} is not in its node's pod range"
        )
    visit.say(f"Service network {ranges.services}")
    for service in services:
        visit.show(f"{service.name} ({service.spec.type})", service.spec.cluster_ip or "-")


async def pod_to_pod(visit: Visit) -> None:
    """Every pod reaches every pod by its IP, and is seen with its own."""
    frontend = await visit.pod("frontend")
    own_node = await visit.node_of(frontend)
    neighbours: dict[bool, Pod] = {}
    for pod in await visit.web_pods():
        neighbours.setdefault(pod.spec.node_name == own_node.name, pod)
    visit.expect(len(neighbours) == 2, "the pods of `web` are not spread over both nodes")
    for same, title in (
        (True, "On one node, over the bridge cni0"),
        (False, "Across nodes, through the overlay"),
    ):
        web = neighbours[same]
        reply = await visit.get(frontend, web.ip, 8080, "/clientip")
        seen = reply.body.rpartition(":")[0]
        flow = await visit.flow(frontend, web)
        visit.expect(flow.path is not None, "the flow record does not know the path")
        path = "cni0" if same else f"{own_node.internal_ip} => {(await visit.node_of(web)).internal_ip}"
        visit.say(f"{title}:")
        visit.show(f"frontend {frontend.ip} -> {web.name} {web.ip}:8080", f"{flow.path} ({path})")
        visit.show("the pod saw its client as", f"{seen}  no NAT")
        visit.expect(seen == frontend.ip, f"the pod saw {seen} instead of {frontend.ip}")
        expected = "local" if same else "overlay"
        visit.expect(flow.path == expected, f"the path of the flow is {flow.path}, not {expected}")


async def dns(visit: Visit) -> None:
    """Names resolve from a pod's search path."""
    frontend = await visit.pod("frontend")
    service = await visit.service("my-service")
    domain = visit.config.cluster_domain
    full = f"my-service.default.svc.{domain}"
    visit.say(f"From frontend, at {visit.config.ranges.dns_service} (Service kube-system/kube-dns):")
    for name in ("my-service", "my-service.default", full):
        addresses = await visit.resolver.resolve(name, source=frontend.ip, namespace="default")
        visit.show(name, ", ".join(addresses))
        visit.expect(addresses == [service.spec.cluster_ip], f"{name} is not {service.spec.cluster_ip}")
    web_addresses = {pod.ip for pod in await visit.web_pods()}
    headless = await visit.resolver.resolve("my-headless", source=frontend.ip, namespace="default")
    visit.show("my-headless (one address for each pod)", ", ".join(sorted(headless)))
    visit.expect(set(headless) == web_addresses, "my-headless does not give the addresses of the web pods")
    reverse = ".".join(reversed(service.spec.cluster_ip.split("."))) + ".in-addr.arpa"
    for name, kind, expected in (
        (f"_http._tcp.{full}", "SRV", f"80 {full}."),
        (reverse, "PTR", f"{full}."),
        (f"my-external.default.svc.{domain}", "CNAME", f"{full}."),
    ):
        records = await visit.resolver.query(name, kind, source=frontend.ip)
        data = [record[3] for record in records if record[1] == kind]
        visit.show(f"{kind} {name}", ", ".join(data) or "nothing")
        visit.expect(any(item.endswith(expected) for item in data), f"{kind} {name} is not {expected}")


async def services(visit: Visit) -> None:
    """One stable address before many pods, and the other ways in."""
    frontend = await visit.pod("frontend")
    my_service = await visit.service("my-service")
    if not visit.low_ports:
        visit.say("Ports below 1024 may not be bound here, so port 80 is reached through the gateway.")
        visit.say("To dial it directly: sudo sysctl net.ipv4.ip_unprivileged_port_start=0")
    visit.say(f"ClusterIP {my_service.spec.cluster_ip}:80, {_REQUESTS} requests from frontend:")
    answers = await visit.spread(_REQUESTS, lambda: visit.get_service(frontend, my_service, "/hostname"))
    _show_spread(visit, answers)
    web = {pod.name for pod in await visit.web_pods()}
    visit.expect(set(answers) == web, f"not every pod of web was chosen: {', '.join(sorted(answers))}")
    client = (await visit.get_service(frontend, my_service, "/clientip")).body.rpartition(":")[0]
    visit.show("the pod saw its client as", client)
    visit.expect(client == frontend.ip, f"the pod saw {client} instead of {frontend.ip}")

    node = (await visit.client.list(Node))[0]
    node_port = (await visit.service("my-nodeport")).spec.ports[0].node_port
    visit.say("NodePort, from outside the cluster:")
    for address in (node.internal_ip, "127.0.0.1"):
        reply = await visit.get("127.0.0.1", address, node_port, "/hostname")
        visit.show(f"{address}:{node_port}", reply.body)
        visit.expect(reply.body in web, f"{address}:{node_port} answered {reply.body}")
    balancer = await visit.service("my-loadbalancer")
    visit.expect(bool(balancer.status.load_balancer.ingress), "my-loadbalancer has no external IP")
    external = balancer.status.load_balancer.ingress[0].ip
    visit.say("LoadBalancer, from outside the cluster:")
    reply = await visit.get("127.0.0.1", external, 8080, "/hostname")
    visit.show(f"{external}:8080", reply.body)
    visit.expect(reply.body in web, f"{external}:8080 answered {reply.body}")


async def proxy_modes(visit: Visit) -> None:
    """kube-proxy changes its mode on the running cluster."""
    frontend = await visit.pod("frontend")
    my_service = await visit.service("my-service")
    even = {pod.name: _REQUESTS // 3 for pod in await visit.web_pods()}
    before = (await visit.client.get(ConfigMap, "kube-system", "kube-proxy")).data

    async def through_service() -> Reply:
        return await visit.get_service(frontend, my_service, "/hostname")

    try:
        for mode, scheduler, how in (
            ("iptables", "", "random"),
            ("ipvs", "rr", "round robin"),
            ("ipvs", "lc", "least connections"),
            ("nftables", "", "random"),
            ("userspace", "", "round robin"),
        ):
            await _set_mode(visit, mode, scheduler)
            if scheduler == "lc":
                answers = await _held_connections(visit, frontend, my_service)
                visit.expect(
                    set(answers.values()) == {2}, f"lc did not spread 6 held connections evenly: {answers}"
                )
                title = f"{mode} {scheduler}: {how}, 6 connections held open"
            else:
                answers = await visit.spread(_REQUESTS, through_service)
                title = f"{mode} {scheduler}".rstrip() + f": {how}"
            visit.say(f"{title}:")
            _show_spread(visit, answers)
            visit.expect(set(answers) == set(even), f"in mode {mode} not every pod was chosen")
            if how == "round robin":
                visit.expect(answers == even, f"{mode} {scheduler} is not even: {dict(answers)}")
            seen = (await visit.get_service(frontend, my_service, "/clientip")).body.rpartition(":")[0]
            visit.show("the pod saw its client as", seen + ("  the node" if seen != frontend.ip else ""))
            nodes = {node.internal_ip for node in await visit.client.list(Node)}
            expected = nodes if mode == "userspace" else {frontend.ip}
            visit.expect(seen in expected, f"in mode {mode} the pod saw {seen}")
    finally:
        await visit.client.patch(
            ConfigMap.resource, "kube-system", "kube-proxy", {"data": {"config.conf": before["config.conf"]}}
        )
    await _until_mode(visit, "iptables")


async def _set_mode(visit: Visit, mode: str, scheduler: str) -> None:
    document = (
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
        f'mode: "{mode}"\nipvs:\n  scheduler: "{scheduler}"\n'
    )
    await visit.client.patch(
        ConfigMap.resource, "kube-system", "kube-proxy", {"data": {"config.conf": document}}
    )
    await _until_mode(visit, mode, scheduler)


async def _until_mode(visit: Visit, mode: str, scheduler: str = "") -> None:
    """Wait until kube-proxy says that a mode, and the scheduler where one is named, is in force."""

    async def in_force() -> bool:
        port = visit.config.fixed_ports.proxy_metrics
        reply = await visit.get("127.0.0.1", "127.0.0.1", port, "/configz")
        configuration = json.loads(reply.body)["kubeproxy.config.k8s.io"]
        found: tuple[str, str] = configuration["mode"], configuration["ipvs"]["scheduler"]
        return found == (mode, scheduler or "rr")

    await visit.until(in_force, f"kube-proxy in mode {mode} {scheduler}".rstrip())


async def _held_connections(visit: Visit, source: Pod, service: Service) -> Counter[str]:
    """Which pod each of six connections reaches that are all open at the same time."""
    answers: Counter[str] = Counter()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(6):
            answers[await _hold(visit, stack, source, service)] += 1
    return answers


async def _hold(visit: Visit, stack: contextlib.AsyncExitStack, source: Pod, service: Service) -> str:
    async with asyncio.timeout(5.0):
        reader, writer = await visit.connect_service(source, service)
        stack.callback(writer.close)
        writer.write(b"GET /hostname HTTP/1.1\r\nHost: my-service\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split()[0])
        return (await reader.readexactly(length)).decode()


async def network_policy(visit: Visit) -> None:
    """`allow-frontend` lets one client through and drops the other, and says why."""
    frontend, other, backend = [await visit.pod(name) for name in ("frontend", "other", "backend")]
    service = await visit.service("backend")
    engine = await _engine(visit)
    for client, admitted in ((frontend, True), (other, False)):
        visit.say(f"{client.name} (app={client.metadata.labels['app']}):")
        for title, request in (
            (
                f"by pod IP {backend.ip}:8080",
                visit.get(client, backend.ip, 8080, "/hostname", seconds=_patience(admitted)),
            ),
            (
                f"through the Service {service.spec.cluster_ip}:80",
                visit.get_service(client, service, "/hostname", seconds=_patience(admitted)),
            ),
        ):
            try:
                reply = await request
                outcome = reply.body if reply.status == 200 else "timed out"
            except TimeoutError:
                outcome = "timed out"
            visit.show(title, outcome)
            expected = backend.name if admitted else "timed out"
            visit.expect(outcome == expected, f"{client.name} {title}: {outcome}, not {expected}")
        decision = engine.decide(client.ip, backend.ip, 8080)
        visit.say(decision.reason)
        visit.expect(decision.allowed is admitted, f"the engine judges {client.name} otherwise")
        visit.expect("allow-frontend" in decision.reason, "the reason does not name the policy")


def _patience(admitted: bool) -> float:
    return 5.0 if admitted else _DENIED_AFTER_SECONDS


async def _engine(visit: Visit) -> PolicyEngine:
    """An engine that knows what the cluster's own engines know."""
    engine = PolicyEngine()
    for namespace in await visit.client.list(Namespace):
        engine.set_namespace(namespace)
    for node in await visit.client.list(Node):
        engine.set_node(node)
    for pod in await visit.client.list(Pod):
        engine.set_pod(pod)
    for policy in await visit.client.list(NetworkPolicy):
        engine.set_policy(policy)
    return engine


async def node_dies(visit: Visit) -> None:
    """A node is killed; the Service goes on without its pods, and takes them back."""
    frontend = await visit.pod("frontend")
    my_service = await visit.service("my-service")
    victim = next(node.name for node in visit.config.nodes if node.name != frontend.spec.node_name)
    lost = {pod.ip for pod in await visit.web_pods() if pod.spec.node_name == victim}
    everyone = await visit.ready_endpoints("my-service")
    visit.expect(bool(lost) and lost < everyone, f"{victim} does not host some of the web pods")
    visit.processes.kill(victim, hold=True)
    visit.say(f"kill -9 of {victim}, which hosts {len(lost)} of the {len(everyone)} web pods:")

    async def endpoints_gone() -> bool:
        return await visit.ready_endpoints("my-service") == everyone - lost

    seconds = await visit.until(endpoints_gone, f"the endpoints of {victim} are gone")
    visit.show("its pods are endpoints no more after", f"{seconds:.1f} s")
    answers = await visit.spread(_REQUESTS, lambda: visit.get_service(frontend, my_service, "/hostname"))
    visit.show(f"{_REQUESTS} requests to my-service", f"all answered, by {', '.join(sorted(answers))}")
    survivors = {pod.name for pod in await visit.web_pods() if pod.ip not in lost}
    visit.expect(set(answers) <= survivors, f"a dead pod answered: {', '.join(sorted(answers))}")
    visit.processes.start(victim)

    async def back() -> bool:
        return await visit.ready_endpoints("my-service") == everyone

    seconds = await visit.until(back, f"the endpoints of {victim} are back")
    visit.show(f"{victim} is back, and its pods with the same addresses, after", f"{seconds:.1f} s")
    for pod in await visit.web_pods():
        reply = await http_get(visit.plane, frontend.ip, pod.ip, 8080, "/hostname")
        visit.expect(reply.body == pod.name, f"{pod.ip} answers as {reply.body}, not {pod.name}")


def _show_spread(visit: Visit, answers: Counter[str]) -> None:
    for name, count in sorted(answers.items()):
        visit.show(f"  {name}", f"{count:>3}  {'#' * count}")


STOPS: tuple[tuple[str, Stop], ...] = (
    ("Three networks", three_networks),
    ("Pod to pod, without NAT", pod_to_pod),
    ("Names", dns),
    ("Services", services),
    ("kube-proxy, mode by mode", proxy_modes),
    ("NetworkPolicy", network_policy),
    ("A node dies", node_dies),
)
