"""One cluster of three nodes in two zones for all modules here, with kube-proxy in the mode of each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from as_a_client import Space, pod
from proxy_modes import MODES, STARTS_IN, ProxyInForce

from emu.testing import Cluster, running_cluster

NODES = """
nodes:
  - {name: node-1, zone: zone-a}
  - {name: node-2, zone: zone-b}
  - {name: node-3, zone: zone-b}
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests of a module that want one mode stand together: each change of mode costs a moment."""
    here = Path(__file__).parent
    places = [place for place, item in enumerate(items) if here in item.path.parents]
    modules: dict[Path, int] = {}
    for place in places:
        modules.setdefault(items[place].path, place)
    ordered = sorted((items[place] for place in places), key=lambda item: (modules[item.path], _turn(item)))
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


def _turn(item: pytest.Item) -> int:
    callspec = getattr(item, "callspec", None)
    return MODES.index(callspec.params.get("mode", MODES[0])) if callspec else 0


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    file = tmp_path_factory.mktemp("configuration") / "emu.yaml"
    file.write_text(NODES)
    with running_cluster(arguments=["--config", str(file), "--proxy-mode", STARTS_IN]) as running:
        yield running


@pytest.fixture(scope="session")
def proxy(cluster: Cluster) -> ProxyInForce:
    return ProxyInForce(cluster)


@pytest.fixture(autouse=True)
def mode(request: pytest.FixtureRequest, proxy: ProxyInForce) -> str:
    """The mode in force, "iptables" where a test names none."""
    wanted: str = getattr(request, "param", MODES[0])
    proxy.use(wanted)
    return wanted


@pytest.fixture(scope="module")
def space(cluster: Cluster, proxy: ProxyInForce, request: pytest.FixtureRequest) -> Space:
    """A namespace for a module, with pods of `app: web`, `one` on node-1 and `two` on node-2.

    `near`, `far` and `third` are clients, one on each node. Modules start in iptables mode.
    """
    proxy.use(MODES[0])
    space = Space(cluster, request.module.__name__.removeprefix("test_").replace("_", "-"))
    space.apply(
        pod("one", node="node-1", labels={"app": "web"}),
        pod("two", node="node-2", labels={"app": "web"}),
        pod("near", node="node-1"),
        pod("far", node="node-2"),
        pod("third", node="node-3"),
    )
    return space
