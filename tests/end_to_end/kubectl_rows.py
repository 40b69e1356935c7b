"""Tables of kubectl commands: what is typed, what is printed, what becomes of it in the API.

A row is a short scenario in a namespace of its own. Its words may name `{ns}` (the namespace, also a prefix
for names that no other row uses), `{dir}` (the row's empty directory), `{kubeconfig}` and `{server}`.
Patterns are regular expressions, found anywhere; ` ... ` stands for any text, lines included.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
import yaml

from emu.client.applying import apply
from emu.client.kubeconfig import read_kubeconfig
from emu.client.manifests import Manifest
from emu.client.rest import ApiError, Client
from emu.testing import Cluster

SECONDS = 30.0
"""How long a command, or a state that is waited for, may take."""

ABSENT = object()
"""What a field holds that is not there."""


def binaries() -> list[Path]:
    """Each kubectl of the machine: one of each version, and the one on the PATH unless it starts these."""
    versioned = sorted(Path("/usr/lib/google-cloud-sdk/bin").glob("kubectl.1.*"))
    found = shutil.which("kubectl")
    if found is None or (versioned and Path(found).resolve().parent == versioned[0].parent):
        return versioned
    return [*versioned, Path(found)]


@functools.cache
def minor_version(binary: Path) -> int:
    """33 for kubectl 1.33."""
    done = subprocess.run(
        [binary, "version", "--client", "-o", "json"], capture_output=True, text=True, timeout=60, check=True
    )
    return int(json.loads(done.stdout)["clientVersion"]["minor"].rstrip("+"))


class Step(Protocol):
    """One line of a row."""

    def take(self, place: Place) -> None:
        """Do it, or check it. Raises AssertionError."""


class Row(NamedTuple):
    """A scenario."""

    name: str
    steps: tuple[Step, ...]
    given: str
    """Manifests that are there at the start."""
    since: int
    until: int
    """The minor versions of kubectl whose behaviour this is."""


def row(name: str, *steps: Step, given: str = "", since: int = 0, until: int = 999) -> Row:
    """A row of a table."""
    return Row(name, steps, given, since, until)


def cases(rows: Iterable[Row]) -> list[Any]:
    """Parameters (binary, row): all rows for each kubectl that is found and behaves that way."""
    rows = list(rows)
    assert len({_slug(item) for item in rows}) == len(rows), "two rows have the same name"
    found = binaries()
    if not found:
        reason = "kubectl is not installed (https://kubernetes.io/docs/tasks/tools/)"
        return [pytest.param(None, None, id="none", marks=pytest.mark.skip(reason=reason))]
    return [
        pytest.param(binary, item, id=f"{binary.name}-{item.name}")
        for binary in found
        for item in rows
        if item.since <= minor_version(binary) <= item.until
    ]


def _slug(item: Row) -> str:
    return re.sub(r"[^a-z0-9]+", "-", item.name.lower())[:48].strip("-")


def run(binary: Path, item: Row, cluster: Cluster, directory: Path, cache: Path) -> None:
    """Play a row with a kubectl; `cache` is the discovery cache of that binary."""
    name = f"{_slug(item)}-{minor_version(binary)}"
    place = Place(binary, cluster, name, directory, cache)
    place.document("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    try:
        if item.given:
            place.give(place.filled(item.given))
        for step in item.steps:
            step.take(place)
    finally:
        place.document("DELETE", f"/api/v1/namespaces/{name}", missing_ok=True)


class Place:
    """Where a row is played: a kubectl, a namespace of the cluster, a directory."""

    def __init__(self, binary: Path, cluster: Cluster, namespace: str, directory: Path, cache: Path) -> None:
        self.binary = binary
        self.cluster = cluster
        self.namespace = namespace
        self._directory = directory
        self._cache = cache
        files, kubeconfig = directory / "files", directory / "kubeconfig"
        files.mkdir()
        kubeconfig.write_text(_in_namespace(cluster.kubeconfig.read_text(), namespace))
        self._names = {
            "ns": namespace,
            "dir": str(files),
            "kubeconfig": str(kubeconfig),
            "server": read_kubeconfig(cluster.kubeconfig).server,
        }

    def filled(self, text: str) -> str:
        """A text with the names of this place; other braces stay."""
        return re.sub(r"\{(ns|dir|kubeconfig|server)\}", lambda found: self._names[found[1]], text)

    def search(self, pattern: str, text: str, start: int = 0) -> re.Match[str] | None:
        """Where a pattern is in a text."""
        expression = self.filled(pattern).replace(" ... ", r"(?:.|\n)*?")
        return re.compile(expression, re.MULTILINE).search(text, start)

    def give(self, manifests: str) -> None:
        """Have objects there."""
        documents = [Manifest(item, "given") for item in yaml.safe_load_all(manifests) if item]
        self.cluster.call(lambda client: apply(client, documents, namespace=self.namespace))

    def words(self, command: str) -> list[str]:
        """The arguments of a process for a command as it is typed."""
        words = [self.filled(word) for word in shlex.split(command)]
        return [str(self.binary), f"--cache-dir={self._cache}", *words]

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        """The environment of a process: nothing of the user's own."""
        given = {key: self.filled(value) for key, value in more.items()}
        own = {"KUBECONFIG": self._names["kubeconfig"], "HOME": str(self._directory)}
        return {"PATH": os.environ["PATH"], "TMPDIR": str(self._directory), **own, **given}

    def document(self, method: str, path: str, body: Any = None, *, missing_ok: bool = False) -> Any:
        """What the API answers."""

        async def use(client: Client) -> Any:
            try:
                return json.loads(await client.request(method, path, body=body))
            except ApiError as error:
                if missing_ok and error.not_found:
                    return None
                raise

        return self.cluster.call(use)

    def object(self, name: str) -> Any:
        """The object that `services/web` or `deployments.apps/web` names, None if there is none."""
        resource, _, name = self.filled(name).partition("/")
        path = _collections(self.cluster)[resource].format(namespace=self.namespace)
        return self.document("GET", f"{path}/{name}", missing_ok=True)


def _in_namespace(kubeconfig: str, namespace: str) -> str:
    document = yaml.safe_load(kubeconfig)
    for entry in document["contexts"]:
        entry["context"]["namespace"] = namespace
    return yaml.safe_dump(document)


@functools.cache
def _collections(cluster: Cluster) -> dict[str, str]:
    """The path of each collection, with a place for the namespace, by `plural` or `plural.group`."""

    async def ask(client: Client) -> dict[str, str]:
        paths = {"": "/api/v1"}
        for group in json.loads(await client.request("GET", "/apis"))["groups"]:
            paths[group["name"]] = f"/apis/{group['preferredVersion']['groupVersion']}"
        found = {}
        for group, path in paths.items():
            for resource in json.loads(await client.request("GET", path))["resources"]:
                inside = "/namespaces/{namespace}" if resource["namespaced"] else ""
                name = f"{resource['name']}.{group}" if group else resource["name"]
                found[name] = f"{path}{inside}/{resource['name']}"
        return found

    return cluster.call(ask)


class Do(NamedTuple):
    """A command, the pattern that its output contains, and its exit code."""

    command: str
    out: str = ""
    code: int = 0
    stdin: str | None = None
    env: dict[str, str] | None = None
    hidden: str = ""
    """A pattern that the output must not contain."""

    def take(self, place: Place) -> None:
        """Run it to its end."""
        done = subprocess.run(
            place.words(self.command),
            input=None if self.stdin is None else place.filled(self.stdin),
            stdin=subprocess.DEVNULL if self.stdin is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2 * SECONDS,
            check=False,
            env=place.environment(self.env or {}),
        )
        told = f"kubectl {place.filled(self.command)}\n{done.stdout}exit code {done.returncode}"
        assert done.returncode == self.code, f"{told}, not {self.code}"
        assert place.search(self.out, done.stdout), f"{told}\nlacks {self.out}"
        if self.hidden:
            assert not place.search(self.hidden, done.stdout), f"{told}\nhas {self.hidden}"


class While(NamedTuple):
    """A command that goes on: it prints `first`, steps are taken, and then it prints `then`.

    `code` is its exit code; None is for those that go on until they are stopped.
    """

    command: str
    first: str
    steps: tuple[Step, ...]
    then: str
    code: int | None = None
    again: bool = False
    """Whether the steps are taken until `then` is printed, for commands that do not tell when they listen."""

    def take(self, place: Place) -> None:
        """Run it while the steps are taken."""
        with _started(place, self.command) as (process, lines):
            lines.until(self.first)
            for attempt in itertools.count():
                for step in self.steps:
                    step.take(place)
                if lines.until(
                    place.filled(self.then), seconds=0.1 if self.again and attempt < 100 else SECONDS
                ):
                    break
            if self.code is not None:
                assert process.wait(SECONDS) == self.code, lines.text


class Is(NamedTuple):
    """A field of an object, at once: `Is("services/web", "spec.ports.0.port", 80)`."""

    object: str
    path: str
    value: Any

    def take(self, place: Place) -> None:
        """Check it."""
        found = _field(place.object(self.object), self.path)
        assert _equal(found, self._wanted(place)), f"{self.object} {self.path} is {found!r}"

    def _wanted(self, place: Place) -> Any:
        return place.filled(self.value) if isinstance(self.value, str) else self.value


class Becomes(Is):
    """A field of an object, soon."""

    def take(self, place: Place) -> None:
        """Wait for it."""
        wanted = self._wanted(place)
        _until(
            lambda: _equal(_field(place.object(self.object), self.path), wanted),
            lambda: f"{self.object} {self.path} is {_field(place.object(self.object), self.path)!r}",
        )


class Exists(NamedTuple):
    """Objects that are there."""

    objects: str

    def take(self, place: Place) -> None:
        """Check it."""
        for name in self.objects.split():
            assert place.object(name) is not None, f"there is no {place.filled(name)}"


class Gone(NamedTuple):
    """Objects that are not there, or soon are not."""

    objects: str

    def take(self, place: Place) -> None:
        """Wait for it."""
        for name in self.objects.split():
            _until(lambda name=name: place.object(name) is None, lambda name=name: f"{name} is there")


class File(NamedTuple):
    """A file in the row's directory."""

    name: str
    content: str | bytes
    mode: int = 0o644

    def take(self, place: Place) -> None:
        """Write it."""
        path = Path(place.filled("{dir}")) / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = self.content
        path.write_bytes(place.filled(content).encode() if isinstance(content, str) else content)
        path.chmod(self.mode)


class Give(NamedTuple):
    """Objects that come to be there."""

    manifests: str

    def take(self, place: Place) -> None:
        """Apply them."""
        place.give(place.filled(self.manifests))


class _Lines:
    """The output of a process as it comes."""

    def __init__(self, place: Place, stream: Any) -> None:
        self._place = place
        self.text = ""
        self._read_to = 0
        self._queue: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self._queue.put(line)

    def until(self, pattern: str, *, seconds: float = SECONDS) -> bool:
        """Wait for a pattern in what is printed after what was found last.

        False when it does not come within less than SECONDS; raises AssertionError after that.
        """
        deadline = time.monotonic() + seconds
        while not (found := self._place.search(pattern, self.text, self._read_to)):
            try:
                self.text += self._queue.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                if seconds < SECONDS:
                    return False
                raise AssertionError(f"no {pattern!r} in\n{self.text[self._read_to :]}") from None
        self._read_to = found.end()
        return True


@contextmanager
def _started(place: Place, command: str) -> Iterator[tuple[subprocess.Popen[str], _Lines]]:
    process = subprocess.Popen(
        place.words(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=place.environment({}),
    )
    try:
        yield process, _Lines(place, process.stdout)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _field(document: Any, path: str) -> Any:
    """What a path leads to; `/` in a key is written as it is, a dot in a key as `\\.`."""
    found = document
    for key in re.split(r"(?<!\\)\.", path):
        key = key.replace("\\.", ".")
        if isinstance(found, list) and key.lstrip("-").isdigit():
            found = found[int(key)] if -len(found) <= int(key) < len(found) else ABSENT
        else:
            found = found.get(key, ABSENT) if isinstance(found, dict) else ABSENT
    return found


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, re.Pattern):
        return isinstance(found, str) and wanted.search(found) is not None
    return found is wanted or (found is not ABSENT and found == wanted)


def _until(holds: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {SECONDS:.0f} s: {otherwise()}")
        time.sleep(0.02)
