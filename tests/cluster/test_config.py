"""Where the configuration comes from, and what is said of a wrong one."""

from pathlib import Path

import pytest

from emu.cluster.config import load_settings, running_settings, write_resolved
from emu.core.config import ConfigError, ProxyMode
from emu.core.settings import Settings, StateDir


def load(tmp_path: Path, text: str = "", flags=None, environ=None) -> Settings:
    file = tmp_path / "emu.yaml"
    file.write_text(text)
    return load_settings(tmp_path / "state", file, flags, environ or {})


def test_defaults_are_two_nodes_in_slot_0(tmp_path):
    config = load(tmp_path).config
    assert [node.name for node in config.nodes] == ["node-1", "node-2"]
    assert config.node_address("node-1") == "127.168.1.10"
    assert config.ranges.pod_cidr(2) == "127.244.2.0/24"
    assert config.ranges.kubernetes_service == "127.96.0.1"
    assert config.ranges.dns_service == "127.96.0.10"
    assert config.proxy_mode is None


def test_file_beats_default(tmp_path):
    assert load(tmp_path, "proxyMode: ipvs").config.proxy_mode is ProxyMode.IPVS


def test_environment_beats_file(tmp_path):
    settings = load(
        tmp_path, "proxyMode: ipvs\nslot: 3", environ={"EMU_PROXY_MODE": "nftables", "EMU_SLOT": "4"}
    )
    assert (settings.config.proxy_mode, settings.config.slot) == (ProxyMode.NFTABLES, 4)


def test_flag_beats_environment(tmp_path):
    settings = load(tmp_path, flags={"slot": 5, "nodeCount": 3}, environ={"EMU_SLOT": "4", "EMU_NODES": "9"})
    assert settings.config.slot == 5
    assert [node.name for node in settings.config.nodes] == ["node-1", "node-2", "node-3"]


def test_state_dir_flag_beats_environment(tmp_path):
    assert load_settings(tmp_path / "a", None, {}, {"EMU_STATE_DIR": "b"}).state.root == tmp_path / "a"
    assert load_settings(None, None, {}, {"EMU_STATE_DIR": str(tmp_path)}).state.root == tmp_path


@pytest.mark.parametrize(
    ("text", "flags", "environ", "expected"),
    [
        ("proxyMod: ipvs", {}, {}, 'unknown field "proxyMod"'),
        ("nodes: [{name: a, zones: b}]", {}, {}, 'unknown field "nodes[0].zones"'),
        (
            "proxyMode: fast",
            {},
            {},
            'bad value for "proxyMode" in the configuration: "fast" is not one of iptables',
        ),
        ("slot: 32", {}, {}, 'bad value for "slot"'),
        ("slot: many", {}, {}, 'bad value for "slot"'),
        ("nodes: []", {}, {}, 'bad value for "nodes"'),
        ("nodes: [{name: Node_1}]", {}, {}, '"Node_1" is not a node name'),
        ("nodes: [{name: a}, {name: a}]", {}, {}, 'the name "a" is there twice'),
        ("nodes: [{name: a, labels: {x: bad value}}]", {}, {}, "cannot have the label x=bad value"),
        ("nodes: [{name: a, zone: 'a b'}]", {}, {}, "topology.kubernetes.io/zone=a b"),
        ("ipvsScheduler: zz", {}, {}, '"zz" is not one of rr, wrr'),
        ("clusterDomain: a b", {}, {}, 'bad value for "clusterDomain"'),
        ("ports: {apiserver: 3128}", {}, {}, "3128 is the port of ports.apiserver already"),
        ("plane: netns", {}, {}, 'bad value for "plane"'),
        ("logLevel: loud", {}, {}, 'bad value for "logLevel"'),
        ("ports: {gateway: 70000}", {}, {}, 'bad value for "ports.gateway"'),
        ("networks: {pods: 127.96.0.0/14}", {}, {}, "overlaps"),
        ("networks: {pods: hello}", {}, {}, 'bad value for "networks.pods"'),
        ("nodeLifecycle: {leaseDurationSeconds: 0}", {}, {}, "nodeLifecycle.leaseDurationSeconds"),
        ("a: [", {}, {}, "line 1 is not YAML"),
        ("- a", {}, {}, "holds a list"),
        ("", {"nodeCount": 0}, {}, "at least one node"),
        ("", {}, {"EMU_SLOT": "x"}, "bad value for EMU_SLOT"),
        ("", {}, {"EMU_PROXYMODE": "ipvs"}, 'unknown environment variable "EMU_PROXYMODE"'),
    ],
)
def test_a_wrong_value_is_named(tmp_path, text, flags, environ, expected):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, flags, environ)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_settings(tmp_path, tmp_path / "nowhere.yaml", {}, {})


def test_slots_are_disjoint(tmp_path):
    from ipaddress import ip_network

    seen = []
    for slot in range(32):
        ranges = load(tmp_path, f"slot: {slot}").config.ranges
        seen += [ip_network(getattr(ranges, key)) for key in ("nodes", "pods", "services", "load_balancers")]
    for index, network in enumerate(seen):
        assert not any(network.overlaps(other) for other in seen[index + 1 :])


def test_fixed_ports_of_slots_are_distinct(tmp_path):
    seen: set[int] = set()
    for slot in range(32):
        ports = load(tmp_path, f"slot: {slot}").config.fixed_ports
        own = {ports.apiserver, ports.dns, ports.gateway, ports.proxy_healthz, ports.proxy_metrics}
        assert len(own) == 5
        assert not own & seen
        seen |= own


def test_resolved_configuration_is_read_back(tmp_path):
    settings = load(tmp_path, "proxyMode: ipvs\nslot: 7\nnodes: [{name: a, zone: z}]")
    settings.state.run.mkdir(parents=True)
    write_resolved(settings)
    assert running_settings(tmp_path / "state", {}) == settings


def test_no_running_cluster_is_said(tmp_path):
    with pytest.raises(ConfigError, match="start one with `emu up`"):
        running_settings(tmp_path, {})


def test_a_node_outside_the_list_is_placed_by_its_number(tmp_path):
    config = load(tmp_path).config
    assert config.node_address("node-7") == "127.168.1.16"
    for name in ("other", "other-1"):
        with pytest.raises(ConfigError, match="has no address"):
            config.node_address(name)


def test_state_dir_layout():
    state = StateDir(Path("/s"))
    assert state.node_socket("node-1") == Path("/s/run/node-node-1.sock")
