"""The DNS servers that are compared, each a process of its own with the same names.

emu and the real CoreDNS serve the Services of one API server; unbound and dnsmasq serve them as local data.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dns.message
import dns.query

from emu.client.kubeconfig import read_kubeconfig
from emu.client.rest import Client
from emu.cluster.config import component_environment
from emu.core.objects import EndpointSlice, Service

ADDRESS = "127.0.0.1"
ZONE = "cluster.local"
_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
_START_SECONDS = 60.0
_AT_ONCE = 32


class World(NamedTuple):
    """A running API server with Services, and their names with addresses."""

    directory: Path
    dns_port: int
    names: dict[str, str]


class Running(NamedTuple):
    """A server under test."""

    pid: int
    port: int


@contextlib.contextmanager
def world(directory: Path, services: int) -> Iterator[World]:
    """An API server with so many Services of one port and two endpoints."""
    api_port, dns_port = _free_port(), _free_port()
    config = {"ports": {"apiserver": api_port, "dns": dns_port, "dnsFallback": dns_port}}
    (directory / "emu.yaml").write_text(json.dumps(config))
    with _process(_emu(directory, "apiserver")) as process:
        kubeconfig = directory / "state" / "kubeconfig"
        while not kubeconfig.exists():
            if process.poll() is not None:
                raise RuntimeError("the API server has ended")
            time.sleep(0.01)
        yield World(directory, dns_port, asyncio.run(_fill(kubeconfig, services)))


async def _fill(kubeconfig: Path, count: int) -> dict[str, str]:
    names = {}
    numbers = iter(range(count))
    async with Client(read_kubeconfig(kubeconfig), agent="benchmark") as client:
        await client.wait_until_ready()

        async def create() -> None:
            for number in numbers:
                name = f"service-{number}"
                made = await client.create(Service.resource, _service(name))
                await client.create(EndpointSlice.resource, _slice(name, number))
                names[f"{name}.default.svc.{ZONE}"] = made["spec"]["clusterIP"]

        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_ONCE):
                tasks.create_task(create())
    return names


def _service(name: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "labels": {"app.kubernetes.io/name": name}},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }


def _slice(name: str, number: int) -> dict[str, object]:
    labels = {"kubernetes.io/service-name": name}
    addresses = [f"127.244.{number // 120}.{number % 120 * 2 + host + 2}" for host in range(2)]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-abcde", "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }


# --- the servers ---


@contextlib.contextmanager
def emu(there: World) -> Iterator[Running]:
    """emu's own, with kubeadm's Corefile, as `emu up` starts it."""
    with _serving(_emu(there.directory, "coredns"), there.dns_port, there) as running:
        yield running


@contextlib.contextmanager
def coredns(there: World) -> Iterator[Running]:
    """The real one, with the plugins of kubeadm's Corefile that a query passes, on one processor."""
    port = _free_port()
    corefile = there.directory / "Corefile"
    corefile.write_text(
        f".:{port} {{\n bind {ADDRESS}\n errors\n kubernetes {ZONE} in-addr.arpa ip6.arpa {{\n"
        f"  kubeconfig {there.directory / 'state' / 'kubeconfig'}\n  pods insecure\n  ttl 30\n }}\n"
        f" prometheus {ADDRESS}:{_free_port()}\n loadbalance\n}}\n"
    )
    command = ["env", "GOMAXPROCS=1", _program("coredns"), "-conf", str(corefile), "-quiet"]
    with _serving(command, port, there) as running:
        yield running


@contextlib.contextmanager
def unbound(there: World) -> Iterator[Running]:
    """unbound with one thread and local data."""
    port = _free_port()
    data = "".join(f'local-data: "{name}. 30 A {address}"\n' for name, address in there.names.items())
    file = there.directory / "unbound.conf"
    file.write_text(
        f"server:\nnum-threads: 1\ninterface: {ADDRESS}\nport: {port}\nusername: ''\nchroot: ''\n"
        f"directory: {there.directory}\npidfile: ''\ndo-daemonize: no\nuse-syslog: no\nlogfile: unbound.log\n"
        f"access-control: 127.0.0.0/8 allow\nlocal-zone: {ZONE}. static\n{data}remote-control:\n"
        "control-enable: no\n"
    )
    with _serving([_program("unbound"), "-d", "-c", str(file)], port, there) as running:
        yield running


@contextlib.contextmanager
def dnsmasq(there: World) -> Iterator[Running]:
    """dnsmasq with a hosts file."""
    port = _free_port()
    hosts = there.directory / "hosts"
    hosts.write_text("".join(f"{address} {name}\n" for name, address in there.names.items()))
    command = [
        _program("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
        "--pid-file=", "--user=", "--group=", f"--addn-hosts={hosts}", f"--port={port}", "--bind-interfaces",
        f"--listen-address={ADDRESS}", f"--local=/{ZONE}/", "--local-ttl=30", "--log-facility=-",
    ]  # fmt: skip
    with _serving(command, port, there) as running:
        yield running


SERVERS = {"emu": emu, "CoreDNS": coredns, "unbound": unbound, "dnsmasq": dnsmasq}


def available(name: str) -> bool:
    """Whether a server can be started here."""
    return (
        name == "emu"
        or shutil.which(name.lower(), path=_PATH) is not None
        or bool(shutil.which(name.lower()))
    )


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=_PATH)
    assert found is not None
    return found


def _emu(directory: Path, component: str) -> list[str]:
    return [
        sys.executable, "-m", "emu", component, "--log-level", "warning",
        "--state-dir", str(directory / "state"), "--config", str(directory / "emu.yaml"),
    ]  # fmt: skip


@contextlib.contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=component_environment(), stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _serving(command: list[str], port: int, there: World) -> Iterator[Running]:
    with _process(command) as process:
        _await_answer(process, port, next(reversed(there.names)))
        yield Running(process.pid, port)


def _await_answer(process: subprocess.Popen[bytes], port: int, name: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    query = dns.message.make_query(name, "A")
    while True:
        with contextlib.suppress(OSError, dns.exception.Timeout):
            if dns.query.udp(query, ADDRESS, timeout=1, port=port).answer:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{' '.join(process.args[:4])} does not answer")
        time.sleep(0.1)


def _free_port() -> int:
    """A port of the loopback address that is free for UDP and TCP."""
    with socket.create_server((ADDRESS, 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        port = tcp.getsockname()[1]
        udp.bind((ADDRESS, port))
        return int(port)
