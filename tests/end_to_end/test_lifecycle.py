"""`emu up` and its relatives as a user types them: beginnings, ends and refusals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emu.cluster.config import component_environment
from emu.core.objects import Node, Pod
from emu.testing import running_cluster

ROOT = Path(__file__).parents[2]
NOBODY = 65534


def emu(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emu", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=component_environment(),
        **options,
    )


def processes_of(state_dir: Path) -> list[int]:
    """Processes of this machine that were started for a state directory, the zygote's children included."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            files = [str(link.readlink()) for link in (entry / "fd").iterdir()]
        except OSError:
            continue
        if any(file.startswith(str(state_dir)) for file in files):
            found.append(int(entry.name))
    return found


def assert_refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("emu: ")
    for part in parts:
        assert part in lines[0]


def test_sigterm_leaves_no_process_no_listener_no_socket_file(tmp_path):
    up = subprocess.Popen(
        [sys.executable, "-m", "emu", "up", "--state-dir", str(tmp_path / "s"), "--slot", "auto"],
        stdout=subprocess.PIPE,
        text=True,
        env=component_environment(),
    )
    try:
        assert "Ready after" in up.stdout.readline()
        config = json.loads((tmp_path / "s" / "run" / "cluster.json").read_text())
        running = processes_of(tmp_path / "s")
        assert len(running) >= 6
        up.send_signal(signal.SIGTERM)
        assert up.wait(timeout=20) == 0
    finally:
        up.kill()
        up.wait()
        up.stdout.close()
    assert processes_of(tmp_path / "s") == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in running)
    assert list((tmp_path / "s" / "run").iterdir()) == []
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 6443 + 100 * config["slot"]))


def test_second_up_on_a_state_directory_is_refused():
    with running_cluster() as cluster:
        state = str(cluster.settings.state.root)
        assert_refused(emu("up", "--state-dir", state, "--slot", "auto"), state, "emu down")
        assert cluster.status()["ready"]


def test_second_cluster_in_a_slot_is_refused(tmp_path):
    with running_cluster() as cluster:
        slot = cluster.settings.config.slot
        assert_refused(emu("up", "--state-dir", str(tmp_path / "s"), "--slot", str(slot)), "--slot auto")


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "emu.yaml").write_text(f"ports: {{gateway: {port}}}\nslot: 0\n")
        (tmp_path / "emu.yaml").write_text(
            "networks: {nodes: 127.230.0.0/16, pods: 127.231.0.0/16, services: 127.232.0.0/16, "
            f"loadBalancers: 127.233.0.0/24}}\nports: {{gateway: {port}}}\n"
        )
        done = emu("up", "--state-dir", str(tmp_path / "s"), "--config", str(tmp_path / "emu.yaml"))
    assert_refused(done, f"port {port}", "ports.gateway")
    assert not (tmp_path / "s" / "state.db").exists()


def test_unwritable_state_directory_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    done = emu("up", "--state-dir", str(tmp_path / "file" / "s"), "--slot", "auto")
    assert_refused(done, "cannot be used", "--state-dir")


def test_unknown_key_is_named(tmp_path):
    (tmp_path / "emu.yaml").write_text("proxymode: ipvs\n")
    assert_refused(emu("up", cwd=tmp_path), 'unknown field "proxymode"')


@pytest.mark.parametrize(
    ("manifest", "parts"),
    [
        ("kind: [", ("is not YAML",)),
        ("a: b", ("`kind` is missing",)),
        ("apiVersion: v1\nkind: Pood\nmetadata: {name: a}", ("Pood a", "serves no Pood")),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 99999}]}",
            ("99999", "65535"),
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {contaners: []}", ("contaners",)),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n"
            "spec: {clusterIP: 10.96.0.100, ports: [{port: 80}]}",
            ("10.96.0.100", "would work"),
        ),
    ],
)
def test_a_wrong_manifest_stops_everything(tmp_path, manifest, parts):
    file = tmp_path / "wrong.yaml"
    file.write_text(manifest)
    assert_refused(
        emu("up", "--state-dir", str(tmp_path / "s"), "--slot", "auto", "-f", str(file)), "wrong.yaml", *parts
    )
    assert processes_of(tmp_path / "s") == []


def test_a_missing_manifest_is_named(tmp_path):
    assert_refused(
        emu("up", "--state-dir", str(tmp_path / "s"), "-f", str(tmp_path / "none")), "does not exist"
    )


def test_commands_without_a_cluster_say_so(tmp_path):
    state = ["--state-dir", str(tmp_path)]
    assert "No cluster is running" in emu("down", *state).stdout
    for command in (["status"], ["kill", "node-1"], ["start", "node-1"]):
        assert_refused(emu(*command, *state), "emu up")


def test_killed_processes_come_back_and_the_cluster_is_whole():
    with running_cluster() as cluster:
        names = [process["name"] for process in cluster.status()["processes"]]
        assert names == ["apiserver", "controllers", "node-1", "node-2", "coredns", "proxy"]
        for name in names:
            before = _pid(cluster, name)
            cluster.kill(name)
            cluster.until(
                lambda name=name, before=before: _pid(cluster, name) not in (None, before),
                what=f"{name} again",
            )
        cluster.until(lambda: all(node.ready for node in cluster.objects(Node, "")), what="all nodes Ready")
        cluster.until(
            lambda: all(pod.ready for pod in cluster.objects(Pod, "kube-system")), what="all pods Ready"
        )


def _pid(cluster, name):
    return next(process["pid"] for process in cluster.status()["processes"] if process["name"] == name)


def test_objects_survive_down_and_up(tmp_path):
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: keeper}\n"
        "spec: {containers: [{name: c, image: agnhost, args: [netexec]}]}\n"
    )
    state = ["--state-dir", str(tmp_path / "s")]
    # A slot that clusters with `auto` reach last; the second start takes it from the state directory.
    for arguments in (["--slot", "31", "-f", str(manifest)], ["--slot", "auto"]):
        done = emu("up", "--detach", *state, *arguments)
        assert done.returncode == 0, done.stderr
        assert json.loads(emu("status", *state, "-o", "json").stdout)["ready"]
        assert emu("down", *state).returncode == 0
    assert_refused(emu("up", "--slot", "29", *state), "made with the addresses of slot", "emu reset")
    assert emu("reset", *state).returncode == 0
    assert not (tmp_path / "s").exists()


def test_killing_the_supervisor_ends_everything(tmp_path):
    up = subprocess.Popen(
        [sys.executable, "-m", "emu", "up", "--state-dir", str(tmp_path / "s"), "--slot", "auto"],
        stdout=subprocess.PIPE,
        text=True,
        env=component_environment(),
    )
    with up.stdout:
        assert "Ready after" in up.stdout.readline()
    up.kill()
    up.wait()
    deadline = time.monotonic() + 15
    while processes_of(tmp_path / "s"):
        assert time.monotonic() < deadline, "processes outlive their supervisor"
        time.sleep(0.05)


@pytest.fixture
def ordinary_python(tmp_path_factory) -> list[str]:
    """A command that runs Python, with emu importable, as a user without privileges."""
    if os.getuid() != 0:
        return [sys.executable]
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv is not installed (apt-get install util-linux)")
    drop = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        # Twice, because setpriv itself still reaches what only root may.
        again = (
            "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'import asyncio, ssl']))"
        )
        done = subprocess.run([*drop, python, "-c", again], capture_output=True, check=False)
        if done.returncode == 0:
            return [*drop, python]
    pytest.skip(f"no {version} that user {NOBODY} may run")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may read and write; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="emu-test-") as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


def test_an_ordinary_user_gets_a_cluster(ordinary_python, open_directory):
    """Ports below 1024 fall back as the design says: DNS at 1053, a Warning event, the gateway reaches it."""
    import emu as package

    site = [path for path in sys.path if path.endswith("site-packages")]
    environment = component_environment() | {
        "PYTHONPATH": os.pathsep.join([str(Path(package.__file__).parents[1]), *site]),
        "HOME": str(open_directory),
    }
    shutil.copytree(ROOT / "examples" / "tutorial", open_directory / "tutorial")
    done = subprocess.run(
        [
            *ordinary_python,
            "-m",
            "emu",
            "demo",
            "--slot",
            "auto",
            "--manifests",
            str(open_directory / "tutorial"),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        cwd=open_directory,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "timed out" in done.stdout
    assert ("ip_unprivileged_port_start" in done.stdout) is not _low_ports_for_all()


def _low_ports_for_all() -> bool:
    return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 53
