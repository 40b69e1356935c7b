"""Bodies become documents: depth, doubled keys, YAML as JSON would have it."""

import pytest

from emu.api.decoding import MAX_DEPTH, decode_json, decode_yaml
from emu.api.errors import BadRequestError


@pytest.mark.parametrize(
    ("body", "value", "duplicates"),
    [
        pytest.param(b'{"a":1}', {"a": 1}, [], id="plain"),
        pytest.param(b'{"a":null,"b":[{"c":null}]}', {"b": [{}]}, [], id="nulls are left out"),
        pytest.param(b'{"a":1,"a":2}', {"a": 2}, ["a"], id="the last of doubled keys counts"),
        pytest.param(b'{"a" : {"b":1, "b":1}}', {"a": {"b": 1}}, ["a.b"], id="a doubled key below"),
        pytest.param(b'{"a":[{},{"b":1,"b":2}]}', {"a": [{}, {"b": 2}]}, ["a[1].b"], id="in a list"),
        pytest.param(b' {"a": "\\u003c"}\n', {"a": "<"}, [], id="white space and escapes"),
    ],
)
def test_json(body: bytes, value: object, duplicates: list[str]):
    assert decode_json(body) == (value, duplicates)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        pytest.param(b"a: 1\nb: [x, yes]", {"a": 1, "b": ["x", True]}, id="YAML 1.1"),
        pytest.param(b"a: 2020-01-01", {"a": "2020-01-01"}, id="times stay text"),
        pytest.param(b"2: a\ntrue: b", {"2": "a", "true": "b"}, id="keys become text"),
        pytest.param(b'{"a": 1}', {"a": 1}, id="JSON is YAML"),
        pytest.param(b"{a: 1}", {"a": 1}, id="a flow mapping"),
    ],
)
def test_yaml(body: bytes, value: object):
    assert decode_yaml(body).value == value


BOMB = b"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (at, at, b",".join([b"*%c" % (at - 1)] * 10)) for at in range(ord("b"), ord("j"))
)


@pytest.mark.parametrize(
    ("decode", "body", "why"),
    [
        pytest.param(decode_json, b"{", "not JSON", id="malformed JSON"),
        pytest.param(decode_json, b'{"a":"\xff"}', "not JSON", id="no UTF-8"),
        pytest.param(decode_json, b'{"a":"\\ud800"}', "not JSON", id="half a surrogate pair"),
        pytest.param(decode_json, b"[" * 100_000 + b"]" * 100_000, "max depth", id="a deep list"),
        pytest.param(
            decode_json, b'{"a":' * (MAX_DEPTH + 2) + b"1" + b"}" * (MAX_DEPTH + 2), "max depth", id="depth"
        ),
        pytest.param(decode_yaml, b"a: [", "not YAML", id="malformed YAML"),
        pytest.param(decode_yaml, b"a: .nan", "not JSON", id="not a number"),
        pytest.param(decode_yaml, b"? [a]\n: b", "not", id="a list as a key"),
        pytest.param(decode_yaml, b"a: !!python/object:os.system x", "not YAML", id="a tag of a program"),
        pytest.param(decode_yaml, BOMB, "aliases", id="aliases of aliases"),
        pytest.param(decode_yaml, b"[" * 100_000, "not YAML|max depth", id="a deep YAML list"),
    ],
)
def test_refused(decode, body: bytes, why: str):
    with pytest.raises(BadRequestError, match=why):
        decode(body)
