"""Exit codes of the command, and its words for values that make no sense."""

import pytest

from emu import __version__
from emu.cli import main


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["up", "--nodes", "0"], "emu: a cluster needs at least one node, not 0"),
        (["up", "--slot", "99"], 'emu: bad value for "slot"'),
        (["up", "--slot", "x"], 'emu: bad value for --slot: "x"'),
        (["up", "--proxy-mode", "fast"], '"fast" is not one of iptables, ipvs, nftables, userspace'),
        (["demo", "--manifests", "/nowhere"], "emu: /nowhere is no directory"),
    ],
)
def test_what_the_user_can_set_right_is_named_and_exits_with_2(
    capsys, tmp_path, monkeypatch, arguments, expected
):
    monkeypatch.setenv("EMU_STATE_DIR", str(tmp_path))
    assert main(arguments) == 2
    assert expected in capsys.readouterr().err


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"emu {__version__}\n"
    assert main(["--help"]) == 0
    assert "doctor" in capsys.readouterr().out


def test_the_exit_code_of_a_command_is_that_of_the_process(tmp_path, capsys):
    assert main(["down", "--state-dir", str(tmp_path)]) == 0
    assert main(["status", "--state-dir", str(tmp_path)]) == 2
