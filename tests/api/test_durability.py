"""A write acknowledged is a write kept: the API server's process is killed at random moments under load.

DURABILITY_KILLS in the environment sets how often it is killed; the suite's own number is small.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from emu.client.kubeconfig import read_kubeconfig
from emu.client.rest import ApiUnreachable, Client
from emu.cluster.config import component_environment

from .conftest import NETWORKS

KILLS = int(os.environ.get("DURABILITY_KILLS", "20"))
WRITERS = 4
NAMES = 6
PATH = "/api/v1/namespaces/default/configmaps"

# A short history, so that rows are forgotten all the time as well.
LAUNCH = """
from emu.api.store import Store
Store.__init__.__kwdefaults__["retained"] = 500
from emu.cli import main
main()
"""


class Write(NamedTuple):
    """What was asked for: the value of a ConfigMap, None for its deletion."""

    name: str
    value: str | None


class Process:
    """The API server, started and killed again and again at one port."""

    def __init__(self, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._state = directory / "state"
        self._config = directory / "emu.yaml"
        networks = {name: str(value) for name, value in msgspec.to_builtins(NETWORKS).items()}
        self._config.write_text(
            msgspec.json.encode({"networks": networks, "ports": {"apiserver": port}}).decode()
        )
        self._log = directory / "log"
        self._running: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, without waiting until it is ready."""
        arguments = ["apiserver", "--state-dir", str(self._state), "--config", str(self._config)]
        with self._log.open("ab") as log:
            self._running = await asyncio.create_subprocess_exec(
                sys.executable, "-c", LAUNCH, *arguments, stderr=log, env=component_environment()
            )

    async def kill(self) -> None:
        """SIGKILL. It must be running: it has no other reason to end."""
        assert self._running is not None
        assert self._running.returncode is None, self._log.read_text()
        self._running.send_signal(signal.SIGKILL)
        await self._running.wait()

    async def ready(self) -> Client:
        """A client of the server, once that is ready."""
        kubeconfig = self._state / "kubeconfig"
        async with asyncio.timeout(30):
            while not kubeconfig.exists():  # noqa: ASYNC110  another process makes it
                await asyncio.sleep(0.02)
            async with Client(read_kubeconfig(kubeconfig)) as client:
                await client.wait_until_ready()
        return Client(read_kubeconfig(kubeconfig))


class Ledger:
    """What was acknowledged, and what had no answer when the server was killed."""

    def __init__(self) -> None:
        self.acknowledged: dict[int, Write] = {}
        """By version; deletions are answered without one."""
        self.histories: dict[str, list[str | None]] = {}
        """The values that each ConfigMap had, one after the other."""
        self.in_doubt: dict[str, str | None] = {}
        self.floor = 0
        """Versions up to here were given out before the last start."""

    def value(self, name: str) -> str | None:
        """What a ConfigMap must hold; None when it must not be there."""
        history = self.histories.get(name)
        return history[-1] if history else None

    def acknowledge(self, write: Write, version: int | None) -> None:
        del self.in_doubt[write.name]
        self.histories.setdefault(write.name, []).append(write.value)
        if version is not None:
            assert version > self.floor, "a resourceVersion was given a second time"
            assert version not in self.acknowledged
            self.acknowledged[version] = write

    def settle(self, found: dict[str, str], version: int) -> None:
        """Compare with what is there after a restart. What had no answer may have been done or not."""
        assert version >= max([self.floor, *self.acknowledged]), "versions went back"
        self.floor = version
        for name, value in self.in_doubt.items():
            if found.get(name) == value != self.value(name):
                self.histories.setdefault(name, []).append(value)
        self.in_doubt.clear()
        expected = {name: value for name in self.histories if (value := self.value(name)) is not None}
        assert found == expected, "an acknowledged write is not there"


class Writer:
    """Creates, replaces and deletes its own ConfigMaps, one request after the other."""

    def __init__(self, number: int, ledger: Ledger) -> None:
        self._names = [f"w{number}-{name}" for name in range(NAMES)]
        self._ledger = ledger
        self._chance = random.Random(number)
        self._count = 0

    async def run(self, client: Client) -> None:
        """Write until the server is gone."""
        while True:
            name = self._chance.choice(self._names)
            self._count += 1
            exists = self._ledger.value(name) is not None
            value = None if exists and self._chance.random() < 0.2 else f"{name}-{self._count}"
            self._ledger.in_doubt[name] = value
            try:
                version = await self._ask(client, name, value, exists=exists)
            except ApiUnreachable:
                return
            self._ledger.acknowledge(Write(name, value), version)

    @staticmethod
    async def _ask(client: Client, name: str, value: str | None, *, exists: bool) -> int | None:
        if value is None:
            await client.request("DELETE", f"{PATH}/{name}")
            return None
        body = {"metadata": {"name": name}, "data": {"value": value}}
        method, path = ("PUT", f"{PATH}/{name}") if exists else ("POST", PATH)
        answer = msgspec.json.decode(await client.request(method, path, body=body))
        return int(answer["metadata"]["resourceVersion"])


class Watcher:
    """Watches from the last version that it saw, over all restarts."""

    def __init__(self) -> None:
        self.seen: dict[int, Write] = {}
        self.version = 0

    async def run(self, client: Client, until: int | None = None) -> None:
        """Watch until the server is gone, or so many events were seen in all."""
        if len(self.seen) == until:
            return
        query = {"watch": "1", "resourceVersion": str(self.version)}
        try:
            async with client.stream(PATH, query) as lines:
                async for line in lines:
                    self._take(msgspec.json.decode(line))
                    if len(self.seen) == until:
                        return
        except ApiUnreachable:
            return

    def _take(self, event: Any) -> None:
        document = event["object"]
        assert event["type"] in ("ADDED", "MODIFIED", "DELETED"), document
        version = int(document["metadata"]["resourceVersion"])
        assert version > self.version, "an event came twice or out of order"
        value = None if event["type"] == "DELETED" else document["data"]["value"]
        self.seen[version] = Write(document["metadata"]["name"], value)
        self.version = version


async def test_acknowledged_writes_outlive_sigkill_and_watches_resume(tmp_path: Path):
    chance = random.Random(os.urandom(8))
    process, ledger, watcher = Process(tmp_path), Ledger(), Watcher()
    writers = [Writer(number, ledger) for number in range(WRITERS)]
    await process.start()
    try:
        async with await process.ready() as client:
            await settle(client, ledger)
            watcher.version = ledger.floor
        for _ in range(KILLS):
            if chance.random() < 0.2:
                # Killed while it starts: what it reads and forgets then must be as safe.
                await process.kill()
                await process.start()
                await asyncio.sleep(chance.uniform(0, 0.5))
                await process.kill()
                await process.start()
            async with await process.ready() as client, asyncio.TaskGroup() as group:
                await settle(client, ledger)
                group.create_task(watcher.run(client))
                for writer in writers:
                    group.create_task(writer.run(client))
                await asyncio.sleep(chance.uniform(0.02, 0.5))
                await process.kill()
            await process.start()
        async with await process.ready() as client:
            await settle(client, ledger)
            expected = sum(map(len, ledger.histories.values()))
            # What is missing after this time is told below.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await watcher.run(client, until=expected)
    finally:
        await process.kill()
    assert len(ledger.acknowledged) > KILLS * WRITERS
    told: dict[str, list[str | None]] = {}
    for write in watcher.seen.values():
        told.setdefault(write.name, []).append(write.value)
    assert told == ledger.histories
    assert {version: watcher.seen[version] for version in ledger.acknowledged} == ledger.acknowledged


async def settle(client: Client, ledger: Ledger) -> None:
    found = msgspec.json.decode(await client.request("GET", PATH))
    values = {item["metadata"]["name"]: item["data"]["value"] for item in found["items"]}
    ledger.settle(values, int(found["metadata"]["resourceVersion"]))
