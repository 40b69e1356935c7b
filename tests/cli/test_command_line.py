"""What the command line answers to input that it does not understand, and to Ctrl-C."""

import pytest

from emu.cli import main


@pytest.mark.parametrize(
    ("argv", "sentence", "help_of"),
    [
        (["--bogus"], "No such option: --bogus", "emu"),
        (["bogus"], "No such command 'bogus'", "emu"),
        (["up", "--bogus"], "No such option: --bogus", "emu up"),
        (["up", "--nodes", "x"], "Invalid value for '--nodes'", "emu up"),
        (["up", "--file"], "Option '--file' requires an argument", "emu"),
        (["kill"], "Missing argument 'name'", "emu kill"),
        (["down", "surplus"], "(surplus)", "emu down"),
        (["proxy", "bogus"], "No such command 'bogus'", "emu proxy"),
        (["proxy", "rules", "--bogus"], "No such option: --bogus", "emu proxy rules"),
    ],
)
def test_usage_error_is_one_sentence_with_the_remedy(argv, sentence, help_of, capsys):
    assert main(argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("emu: ")
    assert sentence in lines[0]
    assert lines[0].endswith(f"see `{help_of} --help`")


def test_no_arguments_show_the_help(capsys):
    main([])
    output = capsys.readouterr()
    assert "Usage: emu" in output.out + output.err


def test_interrupt_before_the_cluster_takes_signals_ends_quietly(monkeypatch, capsys):
    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("emu.cli.lifecycle.start", interrupted)
    assert main(["up"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_proxy_alone_runs_the_component(monkeypatch, tmp_path):
    """The supervisor starts it so; `rules` is a command about the one that runs."""
    started = []
    monkeypatch.setattr("emu.cluster.process.run_component", lambda name, *_: started.append(name) or 0)
    monkeypatch.setattr("emu.proxy.main.run", lambda settings: settings)
    assert main(["proxy", "--state-dir", str(tmp_path), "--log-level", "error"]) == 0
    assert started == ["proxy"]


@pytest.mark.parametrize("before", [True, False])
def test_proxy_rules_without_a_cluster_names_the_remedy(tmp_path, capsys, before):
    where = ["--state-dir", str(tmp_path)]
    assert main(["proxy", *where, "rules"] if before else ["proxy", "rules", *where]) == 2
    assert capsys.readouterr().err == f"emu: no cluster is running in {tmp_path}: start one with `emu up`\n"
