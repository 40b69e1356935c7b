"""A writer reads what it wrote, and nothing is told twice."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from emu.client.reflector import Reflector
from emu.client.rest import Client
from emu.core.objects import ConfigMap


class _Offline(Client):
    """A client that is never asked."""

    def __init__(self) -> None:
        pass


def body(version: int, value: str = "", name: str = "a") -> bytes:
    document = {"metadata": {"name": name, "uid": "u", "resourceVersion": str(version)}, "data": {"v": value}}
    return msgspec.json.encode(document)


def event(kind: str, version: int, value: str = "") -> Any:
    line = {"type": kind, "object": msgspec.Raw(body(version, value))}
    return msgspec.json.encode(line)


@pytest.fixture
def reflector() -> Reflector[ConfigMap]:
    made = Reflector(_Offline(), ConfigMap)
    made._version = "10"
    return made


def feed(reflector: Reflector[ConfigMap], kind: str, version: int, value: str = "") -> None:
    reflector._apply(reflector._decode_event(event(kind, version, value)))


@pytest.mark.parametrize(
    ("rule", "steps", "expected"),
    [
        ("an answer is told at once, the watch does not repeat it", ["learn 11", "MODIFIED 11"], ["11"]),
        ("an older event after it is passed over", ["learn 12", "MODIFIED 11", "MODIFIED 12"], ["12"]),
        ("a newer one counts", ["learn 11", "MODIFIED 11", "MODIFIED 13"], ["11", "13"]),
        (
            "an answer that the watch has overtaken is ignored",
            ["ADDED 11", "DELETED 12", "learn 11"],
            ["11", "gone"],
        ),
        ("a deletion after it counts", ["learn 11", "ADDED 11", "DELETED 12"], ["11", "gone"]),
        ("an answer to a write that changed nothing", ["ADDED 11", "learn 11"], ["11"]),
    ],
)
def test_learning(reflector: Reflector[ConfigMap], rule: str, steps: list[str], expected: list[str]) -> None:
    told: list[str] = []
    reflector.subscribe(
        lambda key, before, now: told.append(now.metadata.resource_version if now else "gone")
    )
    for step in steps:
        kind, version = step.split()
        if kind == "learn":
            reflector.learn(body(int(version)))
        else:
            feed(reflector, kind, int(version))
    assert told == expected, rule
