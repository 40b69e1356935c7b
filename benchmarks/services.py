"""A Service against the pod behind it and against HAProxy, in each mode of kube-proxy.

Each sample has one of a direct connection right before it, and a ratio is the median of such pairs: what else
the machine does meanwhile strikes both.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmarks import haproxy
from benchmarks.closed_loops import connection_times, datagrams_per_second
from benchmarks.load import available, load
from emu.core.objects import ConfigMap, Node, Pod, Service
from emu.testing import Cluster, running_cluster

ROUNDS = 5
KERNEL_MODES = ("iptables", "ipvs", "nftables")
MODES = (*KERNEL_MODES, "userspace")
DIRECT, NODE_PORT, HAPROXY = "direct", "NodePort", "HAProxy"
# The rows that do not depend on the mode, or hardly, are measured in this one.
BASE_MODE = "iptables"
SUBJECTS = (*MODES, NODE_PORT, HAPROXY)
PODS = ("small", "bulk")
BULK_BYTES = 1_000_000
CONNECTIONS_TIMED = 300
UDP_SECONDS = 0.5
UDP_PORT = 8081
UDP = "UDP requests/s"

Address = tuple[str, int]


class Measure(NamedTuple):
    """One figure, and what it shall be as a ratio in the kernel modes."""

    title: str
    pod: str
    path: str
    connections: int
    close: bool
    of_direct: float
    of_haproxy: float


MEASURES = (
    Measure("requests/s, kept connections", "small", "/hostname", 32, False, 0.97, 2.0),
    Measure("new connections/s", "small", "/hostname", 32, True, 0.80, 1.3),
    Measure("bulk, MB/s", "bulk", "/", 8, False, 0.97, 4.0),
)


class Results:
    """Samples by measure and subject, each with the direct one that was taken right before it."""

    def __init__(self) -> None:
        self.pairs: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        self.times: defaultdict[str, list[float]] = defaultdict(list)
        self.costs: defaultdict[str, list[float]] = defaultdict(list)
        self.errors: Counter[str] = Counter()

    def figure(self, title: str, subject: str) -> float:
        return statistics.median(own for own, _ in self.pairs[title, subject])

    def direct_figure(self, title: str) -> float:
        return statistics.median(
            direct for (of, _), pairs in self.pairs.items() if of == title for _, direct in pairs
        )

    def of_direct(self, title: str, subject: str) -> float:
        return statistics.median(own / direct for own, direct in self.pairs[title, subject])


class Bench:
    """A running cluster, its addresses, and what has been measured of it so far."""

    def __init__(self, cluster: Cluster, proxied: haproxy.Running | None) -> None:
        services = {name: cluster.object(Service, name) for name in PODS}
        node = cluster.object(Node, "node-1", "").internal_ip
        self.cluster = cluster
        self.results = Results()
        self.pods = {name: (cluster.object(Pod, name).ip, 8080) for name in PODS}
        self.cluster_ips = {name: (service.spec.cluster_ip, 8080) for name, service in services.items()}
        self.node_ports = {
            name: (node, service.spec.ports[0].node_port) for name, service in services.items()
        }
        self.proxied = proxied
        self.servers = [
            process["pid"]
            for process in cluster.status()["processes"]
            if process["name"] in ("node-1", "proxy")
        ]
        if proxied:
            self.servers.append(proxied.pid)

    def round(self) -> None:
        for mode in MODES:
            _set_mode(self.cluster, mode)
            subjects = {mode: self.cluster_ips}
            if mode == BASE_MODE:
                subjects[NODE_PORT] = self.node_ports
                if self.proxied:
                    subjects[HAPROXY] = self.proxied.addresses
            for subject, addresses in subjects.items():
                if available():
                    for measure in MEASURES:
                        direct = self._load(measure, DIRECT, self.pods)
                        own = self._load(measure, subject, addresses)
                        self.results.pairs[measure.title, subject].append((own, direct))
                for name, dialled in ((DIRECT, self.pods), (subject, addresses)):
                    self.results.times[name] += connection_times(dialled["small"], CONNECTIONS_TIMED)
            self.results.pairs[UDP, mode].append((_datagrams(self.cluster_ips), _datagrams(self.pods)))

    def _load(self, measure: Measure, subject: str, addresses: dict[str, Address]) -> float:
        ip, port = addresses[measure.pod]
        url = f"http://{ip}:{port}{measure.path}"
        before = sum(map(_processor_seconds, self.servers))
        figures = load(url, connections=measure.connections, close=measure.close)
        if measure.close:
            spent = sum(map(_processor_seconds, self.servers)) - before
            self.results.costs[subject].append(spent / figures.requests)
        self.results.errors[measure.title] += figures.errors
        return figures.bytes_per_second / 1e6 if measure.pod == "bulk" else figures.requests_per_second


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _datagrams(addresses: dict[str, Address]) -> float:
    return datagrams_per_second((addresses["small"][0], UDP_PORT), UDP_SECONDS)


def manifests() -> list[dict[str, object]]:
    images = {
        "small": ("registry.k8s.io/e2e-test-images/agnhost:2.53", ["netexec", f"--udp-port={UDP_PORT}"]),
        "bulk": ("hashicorp/http-echo:1.0", ["-listen=:8080", f"-text={'x' * BULK_BYTES}"]),
    }
    ports = [
        {"name": "http", "port": 8080},
        {"name": "udp", "port": UDP_PORT, "protocol": "UDP"},
    ]
    documents: list[dict[str, object]] = []
    for name in PODS:
        image, arguments = images[name]
        documents += [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": name}},
                "spec": {
                    "nodeName": "node-1",
                    "containers": [{"name": "c", "image": image, "args": arguments}],
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"type": "NodePort", "selector": {"app": name}, "ports": ports},
            },
        ]
    return documents


def run(rounds: int = ROUNDS) -> None:
    print(f"a Service against its pod, and against HAProxy with one thread in TCP mode; rounds: {rounds}")
    if not available():
        print("  not measured: requests, connections and bulk; wrk is not installed (apt-get install wrk)")
    if not haproxy.available():
        print("  not measured: HAProxy; it is not installed (apt-get install haproxy)")
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        file = Path(directory) / "manifests.yaml"
        file.write_text(yaml.safe_dump_all(manifests()))
        cluster = stack.enter_context(running_cluster(file))
        proxied = None
        if haproxy.available():
            pods = {name: (cluster.object(Pod, name).ip, 8080) for name in PODS}
            proxied = stack.enter_context(haproxy.running(pods))
        bench = Bench(cluster, proxied)
        for _ in range(rounds):
            bench.round()
    if available():
        for measure in MEASURES:
            _print_ratios(bench.results, measure)
        _print_costs(bench.results)
    _print_latency(bench.results)
    _print_udp(bench.results)
    print()


def _set_mode(cluster: Cluster, mode: str) -> None:
    data = {"config.conf": f'kind: KubeProxyConfiguration\nmode: "{mode}"\n'}
    cluster.call(lambda client: client.patch(ConfigMap.resource, "kube-system", "kube-proxy", {"data": data}))
    port = cluster.settings.config.fixed_ports.proxy_metrics
    cluster.until(
        lambda: cluster.dial("127.0.0.1", "127.0.0.1", port, "/proxyMode").body.strip() == mode,
        what=f"mode {mode}",
    )


def _print_ratios(results: Results, measure: Measure) -> None:
    title, errors = measure.title, results.errors[measure.title]
    aims = f"aims: {measure.of_direct:.2f} of direct, {measure.of_haproxy:.1f} of HAProxy"
    print(f"  {title}   ({aims}{f'; {errors} errors' if errors else ''})")
    print(f"    {DIRECT:<10} {results.direct_figure(title):>10,.0f}")
    proxied = results.of_direct(title, HAPROXY) if results.pairs[title, HAPROXY] else None
    for subject in SUBJECTS:
        if not results.pairs[title, subject]:
            continue
        ratio = results.of_direct(title, subject)
        line = f"    {subject:<10} {results.figure(title, subject):>10,.0f}"
        line += f"   {_marked(ratio, measure.of_direct, subject)} of direct"
        if proxied and subject != HAPROXY:
            line += f"   {_marked(ratio / proxied, measure.of_haproxy, subject)} of HAProxy"
        print(line)


def _marked(ratio: float, aim: float, subject: str) -> str:
    """A ratio, with a mark where it misses its aim."""
    return f"{ratio:5.2f}{'!' if subject in KERNEL_MODES and ratio < aim else ' '}"


def _print_costs(results: Results) -> None:
    print("  processor time of a new connection in pod, proxy and HAProxy together; us")
    direct = statistics.median(results.costs[DIRECT])
    for subject in (DIRECT, *SUBJECTS):
        if costs := results.costs[subject]:
            cost = statistics.median(costs)
            print(f"    {subject:<10} {cost * 1e6:>10.1f}   {cost / direct:5.2f}  of direct")


def _print_latency(results: Results) -> None:
    print("  one new connection after another: connect, request, answer, end; ms   (p50, p99)")
    for subject in (DIRECT, *SUBJECTS):
        if times := results.times[subject]:
            percentiles = statistics.quantiles(times, n=100)
            print(f"    {subject:<10} {percentiles[49] * 1e3:>10.3f} {percentiles[98] * 1e3:>10.3f}")


def _print_udp(results: Results) -> None:
    print(f"  {UDP}   (relayed, no aim)")
    print(f"    {DIRECT:<10} {results.direct_figure(UDP):>10,.0f}")
    for mode in MODES:
        figure, ratio = results.figure(UDP, mode), results.of_direct(UDP, mode)
        print(f"    {mode:<10} {figure:>10,.0f}   {ratio:5.2f}  of direct")
