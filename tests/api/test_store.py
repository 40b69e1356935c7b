import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emu.api.errors import ExpiredError, StateError
from emu.api.store import Key, Scope, Store

PODS = "pods"


def fields(document: dict[str, Any]) -> dict[str, str]:
    return {"spec.nodeName": document.get("spec", {}).get("nodeName", "")}


def opened(path: Path | None = None, retained: int = 1000) -> Store:
    store = Store(path, retained=retained)
    store.register(PODS, fields)
    store.load()
    return store


def key(name: str, namespace: str = "default") -> Key:
    return Key(PODS, namespace, name)


def document(name: str, node: str = "", **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": node}}


async def test_a_write_is_its_row_number_and_can_be_read():
    store = opened()
    first = store.put(key("a"), document("a"))
    second = store.put(key("a"), document("a"))
    assert second.version == first.version + 1
    found = store.get(key("a"))
    assert found is not None
    assert found.document()["metadata"]["resourceVersion"] == str(second.version)


async def test_restart_restores_objects_versions_and_history(tmp_path: Path):
    store = opened(tmp_path / "state.db")
    kept = store.put(key("kept"), document("kept"))
    store.put(key("gone"), document("gone"))
    last = store.delete(key("gone"))
    store.close()

    store = opened(tmp_path / "state.db")
    assert [item.key.name for item in store.items(PODS)] == ["kept"]
    assert store.put(key("new"), document("new")).version == last.version + 1
    events = await store.watch(Scope(PODS), kept.version).take()
    assert [(kind, event.item.key.name) for kind, event in events] == [
        ("ADDED", "gone"),
        ("DELETED", "gone"),
        ("ADDED", "new"),
    ]
    store.close()


async def test_compaction_keeps_every_live_object_and_the_retained_events(tmp_path: Path):
    path = tmp_path / "state.db"
    store = opened(path, retained=10)
    store.put(key("still"), document("still"))
    for _ in range(1500):
        store.put(key("busy"), document("busy"))
    for number in range(200):
        store.put(key(f"short-{number}"), document("short"))
        store.delete(key(f"short-{number}"))
    version = store.version
    store.close()
    rows = Store(path)
    count = rows._journal.execute("SELECT count(*) FROM journal").fetchone()[0]
    assert count < 1100
    rows.close()

    store = opened(path, retained=10)
    assert {item.key.name for item in store.items(PODS)} == {"still", "busy"}
    assert store.version == version
    with pytest.raises(ExpiredError):
        store.watch(Scope(PODS), 1)
    store.close()


async def test_a_second_process_cannot_open_the_journal(tmp_path: Path):
    store = opened(tmp_path / "state.db")
    store.put(key("a"), document("a"))
    with pytest.raises(StateError, match=r"stop the API server that uses it"):
        Store(tmp_path / "state.db")
    store.close()


@pytest.mark.parametrize(
    ("scope", "seen"),
    [
        (Scope(PODS), ["a", "b", "c"]),
        (Scope(PODS, "default"), ["a", "b"]),
        (Scope(PODS, "default", "b"), ["b"]),
        (Scope(PODS, "", "c"), ["c"]),
        (Scope(PODS, "", "", "node-1"), ["a", "c"]),
        (Scope(PODS, "other", "", "node-1"), ["c"]),
    ],
)
async def test_a_watch_sees_its_scope(scope: Scope, seen: list[str]):
    store = opened()
    watcher = store.watch(scope, None)
    store.put(key("a"), document("a", "node-1"))
    store.put(key("b"), document("b", "node-2"))
    store.put(key("c", "other"), document("c", "node-1"))
    assert [event.item.key.name for _, event in await watcher.take()] == seen


async def test_a_version_of_another_journal_is_expired():
    with pytest.raises(ExpiredError, match="too large"):
        opened().watch(Scope(PODS), 7)


async def test_an_object_that_leaves_a_selector_is_deleted_for_its_watchers():
    store = opened()
    watcher = store.watch(Scope(PODS), None, lambda item: item.labels.get("app") == "web")
    store.put(key("a"), document("a"))
    store.put(key("a"), document("a", app="web"))
    store.put(key("a"), document("a", app="web", more="x"))
    store.put(key("a"), document("a", app="other"))
    assert [kind for kind, _ in await watcher.take()] == ["ADDED", "MODIFIED", "DELETED"]


async def test_an_event_is_encoded_once_for_all_watchers():
    store = opened()
    watchers = [store.watch(Scope(PODS), None) for _ in range(3)]
    store.put(key("a"), document("a"))
    lines = [event.line(kind) for watcher in watchers for kind, event in await watcher.take()]
    assert lines[0] is lines[1] is lines[2]


async def test_a_slow_watcher_is_cut_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("emu.api.store._WATCHER_EVENTS", 10)
    store = opened()
    watcher = store.watch(Scope(PODS), None)
    for _ in range(11):
        store.put(key("a"), document("a"))
    assert watcher.cut
    assert await watcher.take() == []


async def test_take_gives_up_after_its_timeout():
    store = opened()
    assert await store.watch(Scope(PODS), None).take(0.01) == []


WRITER = """
import sys
from pathlib import Path
from emu.api.store import Key, Store
store = Store(Path(sys.argv[1]), retained=50)
store.register("pods", lambda document: {})
store.load()
number = 0
while True:
    item = store.put(Key("pods", "default", f"p{number % 500}"), {"metadata": {"n": number}})
    sys.stdout.write(f"{item.version} {number}\\n")
    sys.stdout.flush()
    number += 1
"""


async def test_every_acknowledged_write_survives_sigkill(tmp_path: Path):
    path = tmp_path / "state.db"
    highest = 0
    for wanted in (5, 700, 1600):
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(path), stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        acknowledged: dict[str, tuple[int, int]] = {}
        async with asyncio.timeout(20):
            for count in range(10**6):
                if count == wanted:
                    writer.send_signal(signal.SIGKILL)
                line = await writer.stdout.readline()
                if not line.endswith(b"\n"):
                    break
                version, number = map(int, line.split())
                assert version > highest
                acknowledged[f"p{number % 500}"] = (version, number)
            await writer.wait()
        store = opened(path, retained=50)
        for name, (version, number) in acknowledged.items():
            found = store.get(key(name))
            assert found is not None
            # The write that was under way when the process died may be there as well.
            assert found.version >= version
            assert found.document()["metadata"]["n"] >= number
        highest = store.version
        store.close()
