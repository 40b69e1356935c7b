import pytest

from emu.nodes.runtimes.arguments import ArgumentError, Duration, parse, parse_duration

DEFAULTS = {"port": 80, "name": "", "tcp": False, "http": True, "timeout": Duration(0)}


@pytest.mark.parametrize(
    ("rule", "words", "flag", "value"),
    [
        ("default", [], "port", 80),
        ("two dashes and =", ["--port=8080"], "port", 8080),
        ("two dashes and a word", ["--port", "8080"], "port", 8080),
        ("one dash, as package flag", ["-port=8080"], "port", 8080),
        ("the last one counts", ["--port=1", "--port=2"], "port", 2),
        ("empty text", ["--name="], "name", ""),
        ("text with =", ["--name=a=b"], "name", "a=b"),
        ("negative number", ["--port=-1"], "port", -1),
        ("Boolean without value", ["--tcp"], "tcp", True),
        ("Boolean with value", ["--http=false"], "http", False),
        ("duration", ["--timeout=1m30s"], "timeout", 90.0),
    ],
)
def test_flags(rule: str, words: list[str], flag: str, value: object) -> None:
    assert parse(words, DEFAULTS).flags[flag] == value, rule


def test_a_boolean_does_not_take_the_next_word() -> None:
    given = parse(["--tcp", "false"], DEFAULTS)
    assert given.flags["tcp"] is True
    assert given.positional == ["false"]


def test_two_dashes_end_the_flags() -> None:
    assert parse(["a", "--", "--port=1"], DEFAULTS).positional == ["a", "--port=1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prt=1"], "unknown flag: --prt"),
        (["--port"], "flag needs an argument: --port"),
        (["--port=eighty"], 'invalid argument "eighty" for "--port"'),
        (["--tcp=maybe"], 'invalid argument "maybe" for "--tcp"'),
        (["--timeout=3"], 'invalid argument "3" for "--timeout" flag: time: invalid duration "3"'),
    ],
)
def test_bad_command_lines(words: list[str], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse(words, DEFAULTS)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("3s", 3), ("1.5s", 1.5), ("200ms", 0.2), ("1h2m3s", 3723), ("-5s", -5), ("2us", 2e-6)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)
