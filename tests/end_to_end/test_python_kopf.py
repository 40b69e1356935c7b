"""The Python package `kopf`, unmodified: an operator as a process, with handlers on built-in kinds."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from emu.core.objects import ConfigMap, Event, Service
from emu.testing import Cluster

OPERATOR = Path(__file__).parent / "operator_of_kopf.py"
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: {watched: "yes"}}
spec: {ports: [{port: 80}]}
"""


@contextlib.contextmanager
def operator(cluster: Cluster, namespace: str, log: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "kopf", "run", "--standalone", "--namespace", namespace, str(OPERATOR)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(log.parent), "KUBECONFIG": str(cluster.kubeconfig)},
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_an_operator_lives_through_the_life_of_an_object(cluster, namespace, space, tmp_path):
    def annotation(name: str) -> str | None:
        found = cluster.object(Service, "web", namespace).metadata.annotations
        return found.get(f"example.com/{name}")

    def seen(name: str) -> str | None:
        for item in cluster.objects(ConfigMap, namespace):
            if item.name == name:
                return item.data.get("seen")
        return None

    log = tmp_path / "operator.log"
    with operator(cluster, namespace, log) as process:
        space.apply(SERVICE)
        cluster.until(lambda: annotation("created") == "web", what="on.create was called")
        assert [*cluster.object(Service, "web", namespace).metadata.finalizers] == [
            "kopf.zalando.org/KopfFinalizerMarker"
        ]
        space.patch(Service, "web", {"spec": {"ports": [{"port": 81}]}})
        cluster.until(lambda: annotation("updated") == "81", what="on.update was called")
        cluster.until(lambda: int(annotation("ticks") or 0) >= 2, what="the timer ran twice")
        cluster.until(
            lambda: any(event.reason == "Told" for event in cluster.objects(Event, namespace)),
            what="the operator's event is there",
        )
        space.delete(Service, "web")
        cluster.until(lambda: seen("web-was-deleted") == "yes", what="on.delete was called")
        cluster.until(lambda: not cluster.objects(Service, namespace), what="the Service is gone")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def test_an_operator_resumes_objects_that_are_there(cluster, namespace, space, tmp_path):
    def resumed() -> str | None:
        return cluster.object(Service, "web", namespace).metadata.annotations.get("example.com/resumed")

    log = tmp_path / "operator.log"
    space.apply(SERVICE)
    with operator(cluster, namespace, log) as process:
        cluster.until(
            lambda: cluster.object(Service, "web", namespace).metadata.annotations.get("example.com/created"),
            what="the object that was there is handled",
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()
    with operator(cluster, namespace, log) as process:
        cluster.until(lambda: resumed() == "yes", what="on.resume was called")
        space.delete(Service, "web")
        cluster.until(lambda: not cluster.objects(Service, namespace), what="the Service is gone")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()
