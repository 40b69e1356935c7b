"""Saving a cluster's objects and bringing them, and those of other clusters, into one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from emu.core.config import MAX_SLOT
from emu.core.objects import ConfigMap, Deployment, Pod, Service
from emu.testing import Cluster, running_cluster

TUTORIAL = Path(__file__).parents[2] / "examples" / "tutorial"
DUMP = Path(__file__).parents[1] / "client" / "dumps" / "kind.yaml"
KUBECTL = sorted(Path("/usr/lib/google-cloud-sdk/bin").glob("kubectl.1.3[03]"))

MORE = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: shop}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {number: "1e3", answer: "yes", text: "two\\nlines\\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: password, namespace: shop}
stringData: {password: hunter2}
---
apiVersion: v1
kind: Service
metadata: {name: by-hand, namespace: shop}
spec: {ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: by-hand, namespace: shop}
subsets: [{addresses: [{ip: 127.0.0.9}], ports: [{port: 8080}]}]
"""


def emu(cluster: Cluster, *arguments: str, expect: int = 0) -> tuple[str, str]:
    command = [sys.executable, "-m", "emu", "snapshot", *arguments]
    state = ["--state-dir", str(cluster.settings.state.root)]
    done = subprocess.run([*command, *state], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout, done.stderr


def objects(text: str) -> list[dict]:
    return list(yaml.safe_load_all(text))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Iterator[Cluster]:
    more = tmp_path_factory.mktemp("more") / "more.yaml"
    more.write_text(MORE)
    with running_cluster(TUTORIAL, more) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def snapshot(source, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("snapshot") / "snapshot.yaml"
    out, _ = emu(source, "save", str(file))
    assert out == f"Saved 16 objects to {file}.\nIt holds 1 Secret that everybody who has it can read.\n"
    return file


@pytest.fixture
def fresh() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


def test_it_holds_what_people_made_and_nothing_else(snapshot):
    assert _names(objects(snapshot.read_text())) == [
        "Namespace shop",
        "Secret password",
        "ConfigMap settings",
        "NetworkPolicy allow-frontend",
        *(f"Service {name}" for name in ("backend", "my-external", "my-headless", "my-loadbalancer")),
        *("Service my-nodeport", "Service my-service", "Service by-hand", "Endpoints by-hand"),
        *("Pod backend", "Pod frontend", "Pod other", "Deployment web"),
    ]
    header = snapshot.read_text().partition("---\n")[0]
    assert header.startswith("# emu snapshot of the cluster in ")
    assert "taken 20" in header


def test_the_standard_output_takes_it_alone(source, snapshot):
    out, err = emu(source, "save", "-")
    assert objects(out) == objects(snapshot.read_text())
    assert err == ""


def test_its_own_cluster_is_not_changed_by_it(source, snapshot):
    out, _ = emu(source, "load", str(snapshot))
    assert {line.split()[1] for line in out.splitlines()} == {"unchanged"}
    assert "deployment.apps/web unchanged" in out
    assert "configmap/settings unchanged (namespace shop)" in out


def test_a_cluster_in_another_slot_takes_it_and_moves_the_addresses(source, snapshot, fresh):
    out, _ = emu(fresh, "load", str(snapshot))
    assert out.count(" created") == 16
    old, new = (cluster.object(Service, "my-service").spec.cluster_ip for cluster in (source, fresh))
    assert old != new
    assert f"Service default/my-service: {old} -> {new}" in out
    again, _ = emu(fresh, "save", "-")
    services = [cluster.settings.config.ranges.services.rpartition(".0.0")[0] for cluster in (source, fresh)]
    assert objects(again.replace(f"{services[1]}.", f"{services[0]}.")) == objects(snapshot.read_text())
    fresh.until(lambda: fresh.status()["ready"], what="the loaded objects are Ready")
    fresh.until(lambda: len([pod for pod in fresh.objects(Pod) if pod.ready]) == 6, what="all pods are Ready")
    assert fresh.get("http://my-service/hostname", as_pod="frontend").status == 200


@pytest.mark.parametrize("kubectl", KUBECTL or [None], ids=lambda path: path.name if path else "none")
def test_kubectl_takes_it(kubectl, snapshot, source, tmp_path):
    if kubectl is None:
        pytest.skip("kubectl 1.30 and 1.33 are not installed (https://kubernetes.io/docs/tasks/tools/)")
    slot = source.settings.config.slot
    text = snapshot.read_text()
    with running_cluster() as cluster:
        # Its own addresses are those of another slot, which only emu moves.
        here = text.replace(f"127.{slot}.", f"127.{cluster.settings.config.slot}.")
        (tmp_path / "here.yaml").write_text(here)
        done = subprocess.run(
            [
                *(str(kubectl), "apply", "-f", str(tmp_path / "here.yaml")),
                *(f"--kubeconfig={cluster.kubeconfig}", f"--cache-dir={tmp_path / 'cache'}"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(" created") == 16
        again, _ = emu(cluster, "save", "-")
        assert [_without_last_applied(document) for document in objects(again)] == objects(here)


def _names(documents: list[dict]) -> list[str]:
    return [f"{document['kind']} {document['metadata']['name']}" for document in documents]


def _without_last_applied(document: dict) -> dict:
    del document["metadata"]["annotations"]
    return document


def test_the_same_addresses_come_back_in_a_new_cluster_of_the_slot(tmp_path):
    # One that no other test takes in between: `auto` gives out the lowest.
    slot, file = str(MAX_SLOT), tmp_path / "saved.yaml"
    with running_cluster(TUTORIAL, slot=slot) as cluster:
        emu(cluster, "save", str(file))
    with running_cluster(file, slot=slot) as cluster:
        again, _ = emu(cluster, "save", "-")
        assert objects(again) == objects(file.read_text())


def test_a_changed_corefile_and_a_labelled_namespace_are_saved(fresh, tmp_path):
    (tmp_path / "changes.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: coredns, namespace: kube-system}\n"
        "data: {Corefile: '.:53 {\n  errors\n}'}\n---\n"
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {team: a}}\n"
    )
    fresh.apply(tmp_path / "changes.yaml")
    out, _ = emu(fresh, "save", "-")
    saved = objects(out)
    assert [f"{d['kind']} {d['metadata']['name']}" for d in saved] == [
        "Namespace default",
        "ConfigMap coredns",
    ]
    assert saved[0]["metadata"]["labels"] == {"team": "a"}


def test_a_dump_of_a_kind_cluster_comes_up():
    with running_cluster(DUMP) as cluster:
        assert cluster.object(Deployment, "web", "shop").status.available_replicas == 1
        assert len(cluster.objects(Pod, "shop")) == 2
        assert cluster.object(ConfigMap, "settings", "shop").data == {"greeting": "hello"}
        services = cluster.settings.config.ranges
        assert cluster.object(Service, "web", "shop").spec.cluster_ip == services.counterpart("10.96.45.12")
        assert cluster.get("http://web.shop/", as_pod="shop/client").status == 200


def test_all_that_is_refused_is_listed_and_the_rest_applied(fresh, tmp_path):
    (tmp_path / "some.yaml").write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 99999}]}\n---\n"
        "apiVersion: v1\nkind: Pood\nmetadata: {name: worse}\n---\n"
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\n"
    )
    out, err = emu(fresh, "load", str(tmp_path / "some.yaml"), expect=1)
    assert out == "configmap/good created\n"
    lines = sorted(err.splitlines())
    assert len(lines) == 2
    assert "some.yaml, line 1: Service bad was refused" in lines[0]
    assert "some.yaml, line 6: Pood worse cannot be applied: this cluster serves no Pood in v1" in lines[1]


def test_what_the_user_can_set_right_exits_with_2(source, tmp_path):
    _, err = emu(source, "save", str(tmp_path / "none" / "a.yaml"), expect=2)
    assert err.count("\n") == 1
    assert "cannot be written" in err
    _, err = emu(source, "save", str(tmp_path), expect=2)
    assert "cannot be written (Is a directory)" in err
    _, err = emu(source, "load", str(tmp_path / "none.yaml"), expect=2)
    assert "does not exist" in err
    assert list(tmp_path.iterdir()) == []
