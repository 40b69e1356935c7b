import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emu.api.errors import ExpiredError, StateError
from emu.api.items import StoreEvent
from emu.api.store import Item, Key, Matcher, Scope, Store

PODS = "pods"
ALL = Scope(PODS)


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


class Line:
    """The form of the events of these tests: `TYPE name version`."""

    def __init__(self) -> None:
        self.encoded = 0

    def event(self, kind: str, item: Item) -> bytes:
        self.encoded += 1
        return f"{kind} {item.key.name} {item.version}\n".encode()

    def following(self) -> "Line":
        return self


class Tap:
    """A watch that reads at once."""

    def __init__(self) -> None:
        self.text = ""
        self.was_cut = False
        self.pieces: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.pieces.append(data)
        self.text += data.decode()

    def cut(self) -> None:
        self.was_cut = True

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(line.split()[0], line.split()[1]) for line in self.text.splitlines()]


def watching(
    store: Store,
    scope: Scope = ALL,
    since: int | None = None,
    matches: Matcher | None = None,
    encoding: Line | None = None,
) -> Tap:
    """Subscribe and read: what was before at once, and what comes with each turn of the event loop."""
    tap = Tap()
    watcher = store.watch(scope, since, matches, encoding or Line(), tap)
    for line in watcher.backlog:
        tap.send(line)
    watcher.release()
    return tap


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
    assert watching(store, since=kept.version).events == [
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
    count = rows._journal._database.execute("SELECT count(*) FROM journal").fetchone()[0]
    assert count < 1100
    rows.close()

    store = opened(path, retained=10)
    assert {item.key.name for item in store.items(PODS)} == {"still", "busy"}
    assert store.version == version
    with pytest.raises(ExpiredError):
        watching(store, since=1)
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
    tap = watching(store, scope)
    store.put(key("a"), document("a", "node-1"))
    store.put(key("b"), document("b", "node-2"))
    store.put(key("c", "other"), document("c", "node-1"))
    store.progress()
    assert [name for _, name in tap.events] == seen


async def test_a_version_of_another_journal_is_expired():
    with pytest.raises(ExpiredError, match="too large"):
        watching(opened(), since=7)


async def test_an_object_that_leaves_a_selector_is_deleted_for_its_watchers():
    store = opened()
    tap = watching(store, matches=lambda item: item.labels.get("app") == "web")
    store.put(key("a"), document("a"))
    store.put(key("a"), document("a", app="web"))
    last_seen = store.put(key("a"), document("a", app="web", more="x"))
    left = store.put(key("a"), document("a", app="other"))
    store.progress()
    assert [kind for kind, _ in tap.events] == ["ADDED", "MODIFIED", "DELETED"]
    assert tap.text.split()[-1] == str(left.version) != str(last_seen.version)


async def test_what_leaves_a_selector_is_shown_as_it_was_seen_last_at_the_version_of_the_change():
    store = opened()
    before = store.put(key("a"), document("a", app="web"))
    now = store.put(key("a"), document("a", app="other"))
    shown = StoreEvent("MODIFIED", now, before).shown("DELETED").document()
    assert shown["metadata"]["labels"] == {"app": "web"}
    assert shown["metadata"]["resourceVersion"] == str(now.version)
    # A deletion shows what was given to it.
    assert StoreEvent("DELETED", now, before).shown("DELETED") is now


async def test_an_event_is_encoded_once_for_all_watchers_of_its_form():
    store, encoding = opened(), Line()
    taps = [watching(store, encoding=encoding) for _ in range(3)]
    store.put(key("a"), document("a"))
    store.progress()
    assert encoding.encoded == 1
    assert taps[0].pieces[0] is taps[1].pieces[0] is taps[2].pieces[0]


async def test_writes_of_one_turn_reach_a_watcher_in_one_piece():
    store = opened()
    tap = watching(store)
    store.put(key("a"), document("a"))
    store.put(key("b"), document("b"))
    assert tap.pieces == []
    await asyncio.sleep(0)
    assert len(tap.pieces) == 1
    assert tap.events == [("ADDED", "a"), ("ADDED", "b")]


async def test_a_watch_gets_what_is_there_then_what_changes_and_nothing_twice():
    store = opened()
    store.put(key("a"), document("a"))
    early = watching(store)
    store.put(key("b"), document("b"))
    tap = Tap()
    watcher = store.watch(Scope(PODS), None, None, Line(), tap)
    # A change while the backlog is being sent waits for it.
    store.put(key("c"), document("c"))
    await asyncio.sleep(0)
    assert tap.text == ""
    assert b"".join(watcher.backlog).split()[1::3] == [b"a", b"b"]
    watcher.release()
    assert tap.events == [("ADDED", "c")]
    assert [name for _, name in early.events] == ["a", "b", "c"]


async def test_a_watcher_that_is_not_released_in_time_is_cut_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("emu.api.fanout._PENDING_BYTES", 100)
    store, tap = opened(), Tap()
    watcher = store.watch(Scope(PODS), None, None, Line(), tap)
    other = watching(store)
    for _ in range(20):
        store.put(key("a"), document("a"))
    store.progress()
    assert watcher.ended.is_set()
    assert tap.was_cut
    watcher.release()
    assert tap.text == ""
    assert len(other.events) == 20


class Unable(Line):
    """A form that cannot show anything."""

    def event(self, kind: str, item: Item) -> bytes:
        raise KeyError(kind)


async def test_a_form_that_fails_cuts_its_own_watcher_off_and_no_other():
    store = opened()
    taps = [watching(store), watching(store, encoding=Unable()), watching(store)]
    store.put(key("a"), document("a"))
    store.put(key("b"), document("b"))
    store.progress()
    assert [tap.was_cut for tap in taps] == [False, True, False]
    assert [len(tap.events) for tap in taps] == [2, 0, 2]


async def test_an_ended_watch_gets_nothing_more():
    store, tap = opened(), Tap()
    watcher = store.watch(Scope(PODS), None, None, Line(), tap)
    watcher.release()
    store.put(key("a"), document("a"))
    store.unwatch(watcher)
    store.progress()
    store.put(key("b"), document("b"))
    await asyncio.sleep(0)
    assert tap.text == ""


# --- history ---


def names_at(store: Store, version: int, namespace: str = "") -> list[str]:
    return [item.path for item in store.items_at(version, PODS, namespace)]


async def test_items_as_they_were_at_every_version(tmp_path: Path):
    """Against a copy of the items after each write, also after a restart."""
    store = opened(tmp_path / "state.db")
    snapshots: dict[int, list[tuple[str, int]]] = {}
    chance = random.Random(7)
    for _ in range(300):
        at = key(chance.choice("abcdef"), chance.choice(["default", "other", "other-1"]))
        if store.get(at) is not None and chance.random() < 0.4:
            store.delete(at)
        else:
            store.put(at, document(at.name))
        snapshots[store.version] = [(item.path, item.version) for item in store.items(PODS)]
    for _ in range(2):
        for version, expected in snapshots.items():
            assert [(item.path, item.version) for item in store.items_at(version, PODS)] == expected
            only = [entry for entry in expected if entry[0].startswith("other/")]
            found = store.items_at(version, PODS, "other")
            assert [(item.path, item.version) for item in found] == only
        store.close()
        store = opened(tmp_path / "state.db")
    store.close()


async def test_lists_are_ordered_as_etcd_orders_keys():
    store = opened()
    for namespace in ("a", "a-b", "ab"):
        store.put(key("x", namespace), document("x"))
    # A hyphen sorts before the slash that ends a namespace.
    assert names_at(store, store.version) == ["a-b/x", "a/x", "ab/x"]
    store.put(key("x", "b"), document("x"))
    assert names_at(store, store.version - 1) == ["a-b/x", "a/x", "ab/x"]


async def test_a_version_is_retained_until_enough_has_followed():
    store = opened(retained=3)
    for name in "abcde":
        store.put(key(name), document(name))
    assert names_at(store, 2) == ["default/a", "default/b"]
    with pytest.raises(ExpiredError, match=r"^The resourceVersion for the provided list is too old\.$"):
        store.items_at(1, PODS)
    assert len(watching(store, since=2).events) == 3
    with pytest.raises(ExpiredError, match=r"^too old resource version: 1 \(2\)$"):
        watching(store, since=1)


async def test_history_is_bounded_in_bytes_too(tmp_path: Path):
    store = Store(tmp_path / "state.db", retained_bytes=10_000)
    store.register(PODS, fields)
    store.load()
    for number in range(10):
        store.put(key(f"p{number}"), document("x" * 3000))
    assert names_at(store, 7) == [f"default/p{number}" for number in range(7)]
    with pytest.raises(ExpiredError):
        store.items_at(6, PODS)
    # One change that is larger than the bound: its version must not be given out again.
    store.delete(key("p0"), document("x" * 20_000))
    store.close()
    store = opened(tmp_path / "state.db")
    assert store.put(key("p0"), document("p0")).version == 12
    store.close()


async def test_a_compaction_that_fails_loses_no_write(tmp_path: Path):
    path = tmp_path / "state.db"
    store = opened(path, retained=1)
    store._journal._database.execute("ALTER TABLE horizon RENAME TO elsewhere")
    for _ in range(600):
        store.put(key("a"), document("a"))
    store._journal._database.execute("ALTER TABLE elsewhere RENAME TO horizon")
    last = store.put(key("a"), document("a", now="yes"))
    store.close()
    store = opened(path, retained=1)
    found = store.get(key("a"))
    assert found is not None
    assert (found.version, found.labels) == (last.version, {"now": "yes"})
    store.close()


async def test_items_share_their_labels_and_field_names():
    store = opened()
    first = store.put(key("a"), document("a", "node-1", app="web"))
    second = store.put(key("b"), document("b", "node-1", app="web"))
    assert first.labels is second.labels
    assert dict(first.fields) == {
        "metadata.name": "a",
        "metadata.namespace": "default",
        "spec.nodeName": "node-1",
    }


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
