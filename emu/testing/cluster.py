"""A cluster for tests.

with running_cluster("manifests/") as cluster:
    reply = cluster.get("http://my-service/hostname", as_pod="frontend")
    assert reply.status == 200
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from emu.client.applying import import_manifests
from emu.client.kubeconfig import read_kubeconfig
from emu.client.manifests import load_manifests
from emu.client.rest import Client
from emu.cluster.launch import LaunchedCluster, launch
from emu.core.objects import Object, Pod
from emu.core.settings import Settings
from emu.observe.probe import Reply, http_get, http_get_through
from emu.planes.loopback import LoopbackPlane

__all__ = ["Cluster", "Reply", "running_cluster"]

T = TypeVar("T")
V = TypeVar("V", bound=Object)

_POLL_SECONDS = 0.05


class Cluster:
    """A running cluster. Blocking calls, for use from any test."""

    def __init__(self, launched: LaunchedCluster) -> None:
        self._launched = launched
        self.plane = LoopbackPlane()

    @property
    def settings(self) -> Settings:
        """The cluster's configuration and the layout of its files."""
        return self._launched.settings

    @property
    def kubeconfig(self) -> Path:
        """For kubectl and other clients."""
        return self.settings.state.kubeconfig

    def kill(self, name: str, *, hold: bool = False) -> None:
        """End one of the cluster's processes with SIGKILL; `hold` keeps it down until `start`."""
        self._launched.kill(name, hold=hold)

    def start(self, name: str) -> None:
        """Start a process that is held down."""
        self._launched.start(name)

    def status(self) -> dict[str, Any]:
        """Whether the cluster is Ready, and its processes."""
        return self._launched.status()

    def call(self, use: Callable[[Client], Awaitable[T]]) -> T:
        """What `use` returns for a client of the cluster's API server."""

        async def run() -> T:
            async with Client(read_kubeconfig(self.kubeconfig), agent="emu-testing") as client:
                return await use(client)

        return asyncio.run(run())

    def apply(self, *paths: Path) -> None:
        """Apply manifests: files or directories, as `emu up -f` does. Raises UserError for refusals."""

        async def use(client: Client) -> None:
            imported = await import_manifests(client, self.settings.config.ranges, load_manifests(paths))
            imported.require()

        self.call(use)

    def object(self, view: type[V], name: str, namespace: str = "default") -> V:
        """One object of the API."""
        return self.call(lambda client: client.get(view, namespace, name))

    def objects(self, view: type[V], namespace: str = "default", *, labels: str = "") -> list[V]:
        """All objects of a kind in a namespace ("" for all), by label selector."""
        return self.call(lambda client: client.list(view, namespace, label_selector=labels))

    def dial(self, source: str, address: str, port: int, path: str = "/", *, seconds: float = 5.0) -> Reply:
        """GET from a pod (its name, or `namespace/name`) or an address. Raises OSError or TimeoutError."""
        return asyncio.run(http_get(self.plane, self.address(source), address, port, path, seconds=seconds))

    def get(self, url: str, *, as_pod: str = "", seconds: float = 15.0) -> Reply:
        """GET a URL with names of the cluster, through the gateway, as a pod or ("") as the outside."""
        gateway = ("127.0.0.1", self.settings.config.fixed_ports.gateway)
        user = ".".join(_split(as_pod)) if as_pod else ""
        return asyncio.run(http_get_through(self.plane, gateway, user, url, seconds=seconds))

    def address(self, source: str) -> str:
        """The address of a pod by name; an address stands for itself."""
        if source.replace(".", "").isdigit():
            return source
        namespace, name = _split(source)
        return self.object(Pod, name, namespace).ip

    def until(
        self, condition: Callable[[], Any], *, seconds: float = 20.0, what: str = "the condition"
    ) -> None:
        """Wait until a condition holds. Raises TimeoutError naming `what`."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {seconds:.0f} s still not so: {what}")
            time.sleep(_POLL_SECONDS)


def _split(pod: str) -> tuple[str, str]:
    namespace, _, name = pod.rpartition("/")
    return namespace or "default", name


@contextlib.contextmanager
def running_cluster(
    *manifests: str | Path, arguments: Sequence[str] = (), slot: str = "auto"
) -> Iterator[Cluster]:
    """A cluster with manifests applied and Ready, for the time of a block.

    `arguments` are further ones of `emu up`. Raises UserError with its sentence when it cannot start.
    """
    files = [text for path in manifests for text in ("--file", str(path))]
    with launch([*files, *arguments], slot=slot) as launched:
        yield Cluster(launched)
