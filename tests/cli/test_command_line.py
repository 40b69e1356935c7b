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
