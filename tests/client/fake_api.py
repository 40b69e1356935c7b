"""An API server reduced to lists and watches, which a test can make misbehave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from aiohttp import web

from emu.client.kubeconfig import Credentials
from emu.client.rest import Client

ADDRESS = "127.203.1.1"
DEADLINE_SECONDS = 5.0

Document = dict[str, Any]


class FakeApi:
    """Collections by path. Versions are counted over all of them, as a real store does."""

    def __init__(self) -> None:
        self.version = 0
        self.collections: dict[str, dict[str, Document]] = {}
        self.history: list[tuple[int, str, str, Document]] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[tuple[str, str, Document]] = []
        self.oldest = 0
        self.failures: list[web.Response] = []
        self.held = asyncio.Event()
        self.held.set()
        self.port = 0
        self._watches: dict[asyncio.Queue[bytes | None], web.Request] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, ADDRESS, self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            self.break_watches()
            await self._runner.cleanup()
            self._runner = None

    @property
    def credentials(self) -> Credentials:
        return Credentials(f"http://{ADDRESS}:{self.port}", b"", "token")

    def put(self, path: str, document: Document) -> Document:
        """Add or replace an object, and tell the watches."""
        metadata = document["metadata"]
        name = metadata["name"]
        if namespace := metadata.get("namespace"):
            name = f"{namespace}/{name}"
        self.version += 1
        document = {**document, "metadata": {**metadata, "resourceVersion": str(self.version)}}
        collection = self.collections.setdefault(path, {})
        self._tell("MODIFIED" if name in collection else "ADDED", path, document)
        collection[name] = document
        return document

    def delete(self, path: str, name: str) -> None:
        document = self.collections[path].pop(name)
        self.version += 1
        metadata = {**document["metadata"], "resourceVersion": str(self.version)}
        self._tell("DELETED", path, {**document, "metadata": metadata})

    def forget_history(self) -> None:
        """Versions up to now are too old to be watched from."""
        self.oldest = self.version

    def break_watches(self) -> None:
        for queue in self._watches:
            queue.put_nowait(None)

    def send(self, path: str, line: bytes) -> None:
        """Send a line, or part of one, on the watches of a collection."""
        for queue, request in self._watches.items():
            if request.path == path:
                queue.put_nowait(line)

    def watching(self, path: str) -> int:
        """How many clients hold a watch of a collection."""
        return sum(
            request.path == path and request.transport is not None for request in self._watches.values()
        )

    def count(self, path: str, *, watch: bool) -> int:
        return sum(
            method == "GET" and asked == path and ("watch" in query) is watch
            for method, asked, query in self.requests
        )

    def _tell(self, kind: str, path: str, document: Document) -> None:
        self.history.append((self.version, kind, path, document))
        self.send(path, _event(kind, document))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.query)))
        await self.held.wait()
        if self.failures:
            return self.failures.pop(0)
        if request.method != "GET":
            self.bodies.append((request.method, request.path, msgspec.json.decode(await request.read())))
            return web.json_response({"metadata": {}})
        if "watch" in request.query:
            return await self._watch(request)
        namespace = ""
        path = request.path
        if "/namespaces/" in path:
            head, _, rest = path.partition("/namespaces/")
            namespace, _, plural = rest.partition("/")
            path = f"{head}/{plural}"
        items = [
            document
            for document in self.collections.get(path, {}).values()
            if namespace in ("", document["metadata"].get("namespace"))
        ]
        return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if since < self.oldest:
            await response.write(_event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"}))
            return response
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        for version, kind, path, document in self.history:
            if version > since and path == request.path:
                queue.put_nowait(_event(kind, document))
        self._watches[queue] = request
        try:
            while (line := await queue.get()) is not None:
                await response.write(line)
        except ConnectionError:
            return response
        finally:
            del self._watches[queue]
        return response


def _event(kind: str, document: Document) -> bytes:
    return msgspec.json.encode({"type": kind, "object": document}) + b"\n"


def failure(code: int, reason: str = "", message: str = "no") -> web.Response:
    return web.json_response({"reason": reason, "message": message}, status=code)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that other tasks bring about; AssertionError after a few seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + DEADLINE_SECONDS
    while not condition():
        assert loop.time() < end, "the condition did not come true in time"
        await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[FakeApi, Client]]:
    api = FakeApi()
    await api.start()
    try:
        async with Client(_Plain(api.credentials.server, b"", "token")) as client:
            yield api, client
    finally:
        await api.stop()


class _Plain(Credentials, frozen=True):
    def ssl_context(self) -> Any:
        return False
