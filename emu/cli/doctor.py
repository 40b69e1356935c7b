"""`emu doctor`: what this machine allows, and the remedy for what it does not."""

from __future__ import annotations

import resource
import shutil
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import typer

from emu.cluster import statedir
from emu.cluster.config import load_settings
from emu.cluster.supervisor import check_ports, claim
from emu.core.config import ClusterConfig
from emu.core.errors import UserError
from emu.planes.base import Plane
from emu.planes.loopback import LoopbackPlane

# Sockets of a pod, of each Service port and of the connections in flight: what small clusters need with ease.
_ENOUGH_DESCRIPTORS = 4096


class Grade(StrEnum):
    """How a finding weighs."""

    OK = "ok"
    LESS = "less"
    """A cluster runs, with something missing."""
    BAD = "BAD"
    """No cluster can run."""


class Finding(NamedTuple):
    """One line of the report, and what to do about it."""

    grade: Grade
    text: str
    remedy: str = ""


def examine(state: Path | None, file: Path | None) -> int:
    """Print the report. Returns 1 when a cluster cannot run here."""
    settings = load_settings(state, file)
    findings = list(_findings(settings.config, LoopbackPlane()))
    pid = statedir.running_pid(settings.state)
    if pid is not None:
        findings.append(Finding(Grade.OK, f"a cluster is running in {settings.state.root} (process {pid})"))
    else:
        findings += _free(settings.config)
    for finding in findings:
        typer.echo(f"{finding.grade:<5} {finding.text}")
        if finding.remedy:
            typer.echo(f"      -> {finding.remedy}")
    return 1 if any(finding.grade is Grade.BAD for finding in findings) else 0


def _findings(config: ClusterConfig, plane: Plane) -> Iterator[Finding]:
    yield Finding(Grade.OK, f"Python {sys.version.split()[0]} on {sys.platform}")
    yield _loopback(config, plane)
    yield _low_ports(config, plane)
    yield _filters(plane)
    yield _descriptors()
    yield _kubectl()


def _loopback(config: ClusterConfig, plane: Plane) -> Finding:
    if plane.can_bind(config.node_address(config.nodes[0].name), 0):
        return Finding(
            Grade.OK, f"the addresses of the cluster can be bound ({config.ranges.nodes} and the others)"
        )
    remedy = "use Linux, where all of 127.0.0.0/8 belongs to the machine"
    if sys.platform == "darwin":
        ranges = config.ranges
        first = [config.node_address(node.name) for node in config.nodes]
        first += [ranges.kubernetes_service, ranges.dns_service]
        remedy = (
            "; ".join(f"sudo ifconfig lo0 alias {address}" for address in first)
            + "; and so for each pod and Service"
        )
    return Finding(Grade.BAD, f"the addresses of the cluster cannot be bound ({config.ranges.nodes})", remedy)


def _low_ports(config: ClusterConfig, plane: Plane) -> Finding:
    network = config.ranges.pods.partition("/")[0]
    if plane.can_bind(network, 80):
        return Finding(Grade.OK, "ports below 1024 can be bound")
    return Finding(
        Grade.LESS,
        f"ports below 1024 cannot be bound: DNS answers at port {config.ports.dns_fallback}, "
        "Services with such ports are reached through the gateway only",
        "sudo sysctl net.ipv4.ip_unprivileged_port_start=0",
    )


def _filters(plane: Plane) -> Finding:
    if plane.can_filter():
        return Finding(
            Grade.OK, "the kernel takes socket filters: what a policy denies is dropped at its SYN"
        )
    return Finding(
        Grade.LESS,
        "the kernel refuses socket filters to this user: what a policy denies connects and then gets no byte",
        "run as root, or with CAP_NET_ADMIN, where the SYN itself must be dropped",
    )


def _descriptors() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= _ENOUGH_DESCRIPTORS:
        return Finding(Grade.OK, f"each process may open {hard} files")
    return Finding(
        Grade.LESS,
        f"each process may open only {hard} files; a busy cluster needs {_ENOUGH_DESCRIPTORS}",
        "raise the limit in /etc/security/limits.conf, or with `ulimit -Hn` as root",
    )


def _kubectl() -> Finding:
    found = shutil.which("kubectl")
    if found:
        return Finding(Grade.OK, f"kubectl is at {found}")
    return Finding(
        Grade.LESS,
        "kubectl was not found; `emu up -f` applies manifests without it",
        "install it from https://kubernetes.io/docs/tasks/tools/",
    )


def _free(config: ClusterConfig) -> Iterator[Finding]:
    """Whether `emu up` would find its ranges and ports free."""
    try:
        with claim(config):
            check_ports(config)
    except UserError as error:
        yield Finding(Grade.BAD, f"a cluster cannot start in slot {config.slot}", str(error))
    else:
        yield Finding(Grade.OK, f"the addresses and ports of slot {config.slot} are free")
