"""Reading YAML as kubectl does: scalars, merges, aliases, lines, and bounds."""

import pytest

from emu.client.yaml_reader import MAX_DEPTH, YamlError, read_documents, resolve


def values(text):
    return [document.value for document in read_documents(text)]


# What kubectl 1.33 and 1.30 print for `kubectl label --local -o json` of the same scalars.
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("y", True),
        ("on", True),
        ("Yes", True),
        ("n", False),
        ("OFF", False),
        ("~", None),
        ("Null", None),
        ("", None),
        ("1e3", 1000),
        ("1:30", "1:30"),
        ("0644", 420),
        ("09", 9),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("0o17", 15),
        ("0x1F", 31),
        ("0x0b1", 177),
        ("0b11", 3),
        ("-0b11", -3),
        ("1_000", 1000),
        (".5", 0.5),
        ("1.", 1),
        ("-0", 0),
        ("+5", 5),
        ("=", "="),
        ("-", "-"),
        ("1.2.3.4", "1.2.3.4"),
        ("12345678901234567890123", 1.2345678901234568e22),
        ("on-call", "on-call"),
    ],
)
def test_plain_scalars_mean_what_they_mean_to_kubectl(text, value):
    found = resolve(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: '1e3'", {"a": "1e3"}),
        ("a: !!str 1e3", {"a": "1e3"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("1: a\ntrue: b\n1.5: c", {"1": "a", "true": "b", "1.5": "c"}),
        ("a: 1\na: 2", {"a": 2}),
        ("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  c: 3", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ("- &x {b: 1}\n- &y {d: 2}\n- <<: [*x, *y]", [{"b": 1}, {"d": 2}, {"b": 1, "d": 2}]),
        ("a: &x [1]\nb: [*x, *x]", {"a": [1], "b": [[1], [1]]}),
        ("a: &x 1\nb: *x", {"a": 1, "b": 1}),
        ("[]", []),
        ("just words", "just words"),
    ],
)
def test_structure(text, value):
    assert values(text) == [value]


def test_documents_know_where_they_and_their_items_begin():
    documents = list(read_documents("# note\n\na: 1\n---\n---\nitems:\n- a: 1\n\n- b: 2\n  items: [c, d]\n"))
    assert [(d.value, d.line, d.item_lines) for d in documents] == [
        ({"a": 1}, 3, []),
        (None, 5, []),
        ({"items": [{"a": 1}, {"b": 2, "items": ["c", "d"]}]}, 6, [7, 9]),
    ]


def bomb() -> str:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]" for number in range(1, 12)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: &x\n  b: *x", 2, "the alias *x is inside of what it repeats"),
        ("a: *x", 1, "the alias *x has no anchor before it"),
        ("a:\n  ? [b]\n  : c", 2, "cannot be a key"),
        ("a:\n  ~: c", 2, "a key is empty"),
        ("a: 1\nb: .inf", 2, ".inf is no number"),
        ("a: !!python/name:os.system x", 1, "!!python/name:os.system means nothing"),
        ("a: !local {b: c}", 1, "!local means nothing"),
        ("a: 1\nb:\n  <<: 5", 3, "merges mappings only"),
        ("a:\n\tb: c", 2, "cannot start any token"),
        ("[" * (MAX_DEPTH + 1), 1, f"more than {MAX_DEPTH} levels"),
        ("- " * 100_000 + "a", 1, "nest"),
        (bomb(), 7, "aliases repeat more than 8 MiB"),
    ],
)
def test_what_is_wrong_or_without_bounds_is_named_with_its_line(text, line, problem):
    with pytest.raises(YamlError) as caught:
        values(text)
    assert problem in caught.value.problem
    assert caught.value.line == line
