"""One cluster with the tutorial's manifests for each worker, in a slot of its own."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from as_a_client import Space

from emu.core.objects import Namespace
from emu.testing import Cluster, running_cluster

TUTORIAL = Path(__file__).parents[2] / "examples" / "tutorial"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with running_cluster(TUTORIAL) as running:
        yield running


@pytest.fixture(scope="session")
def dig() -> str:
    return _program("dig", "dnsutils")


@pytest.fixture(scope="session")
def curl() -> str:
    return _program("curl", "curl")


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install {package})")
    return found


@pytest.fixture(scope="session")
def kubectl_cache(cluster: Cluster, tmp_path_factory) -> Callable[[Path], Path]:
    """The discovery cache of each kubectl, for the time of one cluster."""
    base = tmp_path_factory.mktemp("kubectl")
    return lambda binary: base / binary.name


@pytest.fixture
def space(cluster: Cluster, request) -> Iterator[Space]:
    """A namespace of the test's own."""
    words = re.sub(r"[^a-z0-9]+", "-", f"{request.module.__name__} {request.node.name}".lower())
    made = Space(cluster, words.removeprefix("test-")[:60].strip("-"))
    yield made
    made.delete(Namespace, made.name)


@pytest.fixture
def namespace(space: Space) -> str:
    """The name of a namespace of the test's own."""
    return space.name
