"""`emu dns explain` where it cannot be asked, and what it says of the pod."""

import socket
import threading
from types import SimpleNamespace

import msgspec
import pytest

from emu.cli import dns, main
from emu.core.config import ClusterConfig
from emu.core.errors import UserError
from emu.core.objects import Pod
from emu.core.resolv_conf import ResolvConf
from emu.core.settings import StateDir


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    settings = SimpleNamespace(config=ClusterConfig(), state=StateDir(tmp_path))
    settings.state.run.mkdir()
    monkeypatch.setattr(dns, "running", lambda state_dir: settings)
    return settings


def test_without_a_cluster(tmp_path, capsys):
    assert main(["dns", "explain", "web", "--state-dir", str(tmp_path)]) == 2
    assert "emu: no cluster is running" in capsys.readouterr().err


def test_nobody_answers(cluster, capsys):
    assert main(["dns", "explain", "web"]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"emu: CoreDNS does not answer at {cluster.state.coredns_socket} (No such file or directory): "
        "see `emu status`\n"
    )


def test_an_answer_that_ends_early(cluster):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(cluster.state.coredns_socket))
        listening.listen()
        ending = threading.Thread(target=lambda: listening.accept()[0].close())
        ending.start()
        with pytest.raises(UserError, match="CoreDNS"):
            dns.ask(cluster.state, {"name": "web"})
        ending.join()


@pytest.mark.parametrize("source", ["a/b/c", "/b", "a/"])
def test_what_is_no_pod(cluster, capsys, source):
    assert main(["dns", "explain", "web", "--from", source]) == 2
    assert f'bad value for --from: "{source}" is not a pod' in capsys.readouterr().err


def pod(**spec):
    document = {
        "metadata": {"name": "web-0", "namespace": "shop"},
        "spec": spec,
        "status": {"podIP": "127.244.1.5"},
    }
    return msgspec.convert(document, Pod)


def test_a_pod_that_asks_somebody_else(cluster, monkeypatch, capsys):
    monkeypatch.setattr(dns, "_pod", lambda settings, source: pod(dnsPolicy="Default"))
    assert main(["dns", "explain", "web", "--from", "shop/web-0"]) == 0
    said = capsys.readouterr().out
    assert "shop/web-0 (127.244.1.5), dnsPolicy Default:\n  nameserver of the machine\n" in said
    assert "It does not ask the cluster's DNS at 127.96.0.10" in said


def test_the_heading_is_the_resolv_conf():
    conf = ResolvConf(("127.96.0.10",), ("shop.svc.x", "x"), (("ndots", "2"), ("use-vc", "")))
    assert dns.heading(pod(), conf).splitlines() == [
        "shop/web-0 (127.244.1.5), dnsPolicy ClusterFirst:",
        "  nameserver 127.96.0.10",
        "  search shop.svc.x x",
        "  options ndots:2 use-vc",
    ]
