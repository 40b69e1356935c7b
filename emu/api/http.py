"""From requests to answers: who asks, which path, and whatever goes wrong as a Status."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from ipaddress import ip_address

from aiohttp import web

from emu.api import answers, discovery
from emu.api.answers import TEXT, Answer, encode
from emu.api.authentication import Authenticator
from emu.api.errors import ForeignHostError, InternalError, NoSuchPathError, StatusError
from emu.api.openapi import serving
from emu.api.registry import Registry
from emu.api.routes import parse_path
from emu.api.store import Key
from emu.api.verbs import Verbs

log = logging.getLogger(__name__)

_HEALTH_PATHS = ("/healthz", "/livez", "/readyz")


class Api:
    """Handles every request of the API server."""

    def __init__(self, registry: Registry, token: str, names: Collection[str] = ()) -> None:
        """`names` are the host names that the server goes by, besides IP addresses."""

        def uid_of(namespace: str, name: str) -> str | None:
            item = registry.store.get(Key("serviceaccounts", namespace, name))
            return None if item is None else str(item.document()["metadata"]["uid"])

        self._authenticator = Authenticator(token, uid_of)
        self._verbs = Verbs(registry, self._authenticator)
        self._names = frozenset(names)
        self.ready = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; whatever goes wrong becomes a Status."""
        try:
            answer = await self._dispatch(request)
        except StatusError as error:
            answer = answers.failure(error)
        except Exception as error:
            log.exception("%s %s failed", request.method, request.path_qs)
            answer = answers.failure(InternalError(f"{type(error).__name__}: {error}"))
        if isinstance(answer, web.StreamResponse):
            return answer
        answer = answers.formatted(request, answer)
        return web.Response(
            body=answer.body,
            status=answer.status,
            headers={
                "Content-Type": answer.content_type,
                "Cache-Control": "no-cache, private",
                **answer.headers,
            },
        )

    async def _dispatch(self, request: web.BaseRequest) -> Answer | web.StreamResponse:
        self._check_host(request.headers.get("Host", ""))
        path = request.path.rstrip("/") or "/"
        if path.startswith(_HEALTH_PATHS):
            return self._health(path)
        if path == "/version":
            return Answer(encode(discovery.version()))
        user = self._authenticator.user(request.headers.get("Authorization", ""))
        route = parse_path(path)
        if route is not None:
            return await self._verbs.answer(request, route, user)
        if request.method not in ("GET", "HEAD"):
            raise NoSuchPathError
        return _general_path(request, path)

    def _check_host(self, host: str) -> None:
        """A page that a browser shows reaches 127.0.0.1 by a name of its own: such names are refused."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.strip("[]").lower()
        if not name or name in self._names:
            return
        try:
            ip_address(name)
        except ValueError:
            raise ForeignHostError(name) from None

    def _health(self, path: str) -> Answer:
        if path.partition("/")[2] not in ("healthz", "livez", "readyz"):
            raise NoSuchPathError
        if path == "/readyz" and not self.ready:
            return Answer(b"starting", 503, TEXT)
        return Answer(b"ok", 200, TEXT)


def _general_path(request: web.BaseRequest, path: str) -> Answer:
    if path.startswith("/openapi/"):
        given = serving.answer(path, request.query, request.headers, time.time())
        return Answer(given.body, given.status, given.headers["Content-Type"], given.headers)
    found = discovery.answer(path, request.headers.get("Accept", ""))
    if found is not None:
        document, content_type = found
        return Answer(encode(document), content_type=content_type, headers={"Vary": "Accept"})
    raise NoSuchPathError
