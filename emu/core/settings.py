"""What every component's process is started with: the configuration and where the cluster's files are."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from emu.core.config import ClusterConfig


class StateDir(NamedTuple):
    """The layout of a running cluster's state directory."""

    root: Path

    @property
    def kubeconfig(self) -> Path:
        """Where kubectl and every component find the API server; written by the API server."""
        return self.root / "kubeconfig"

    @property
    def pki(self) -> Path:
        """The cluster's own CA, the server's key pair and the token."""
        return self.root / "pki"

    @property
    def store(self) -> Path:
        """The journal of the API server's store."""
        return self.root / "state.db"

    @property
    def run(self) -> Path:
        """Sockets and process files of the running cluster."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One log file for each component."""
        return self.root / "logs"

    def node_socket(self, node: str) -> Path:
        """Where a node's process takes connections that kube-proxy hands over."""
        return self.run / f"node-{node}.sock"

    @property
    def coredns_socket(self) -> Path:
        """Where CoreDNS explains its answers."""
        return self.run / "coredns.sock"

    @property
    def supervisor_socket(self) -> Path:
        """Where the supervisor takes commands."""
        return self.run / "supervisor.sock"


class Settings(NamedTuple):
    """Given to each component's `run(settings, ...)`."""

    config: ClusterConfig
    state: StateDir
