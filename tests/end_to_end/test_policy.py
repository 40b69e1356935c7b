"""`allow-frontend` on real sockets: by the pod's address and through its Service."""

import pytest

from emu.core.objects import Pod, Service
from emu.testing import Cluster

WAYS = ("pod IP", "ClusterIP")


def address_and_port(cluster: Cluster, way: str) -> tuple[str, int]:
    if way == "pod IP":
        return cluster.object(Pod, "backend").ip, 8080
    return cluster.object(Service, "backend").spec.cluster_ip, 80


@pytest.mark.parametrize("way", WAYS)
def test_frontend_reaches_backend(cluster, way):
    assert cluster.dial("frontend", *address_and_port(cluster, way), "/hostname").body == "backend"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", ["other", "127.0.0.1"])
def test_others_time_out(cluster, way, client):
    with pytest.raises(TimeoutError):
        cluster.dial(client, *address_and_port(cluster, way), "/hostname", seconds=1.0)


def test_a_label_admits_and_its_removal_shuts_out(cluster):
    def reaches() -> bool:
        try:
            return (
                cluster.dial("other", *address_and_port(cluster, "pod IP"), "/hostname", seconds=0.5).status
                == 200
            )
        except TimeoutError:
            return False

    for label, expected in (("frontend", True), ("other", False)):
        patch = {"metadata": {"labels": {"app": label}}}
        cluster.call(lambda client, patch=patch: client.patch(Pod.resource, "default", "other", patch))
        cluster.until(lambda expected=expected: reaches() is expected, what=f"label app={label} in force")
