"""A small REST client for the Kubernetes API, over one aiohttp session with kept connections."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Generic, TypeVar

import aiohttp
import msgspec

from emu.client.kubeconfig import Credentials
from emu.core.objects import Object, ResourceName

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
JSON = "application/json"

# A watch is one long line-delimited response; objects reach 3 MiB.
_READ_BUFFER = 1 << 20
_RETRY_SECONDS = 0.02

T = TypeVar("T", bound=Object)


class ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    """`metadata` of a list."""

    resource_version: str = ""


class ObjectList(msgspec.Struct, Generic[T], frozen=True):
    """A collection as the API answers it."""

    metadata: ListMeta = ListMeta()
    items: list[T] = []


class ApiError(Exception):
    """The API server answered with a Status. `reason` is one of Kubernetes' StatusReasons."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    @property
    def not_found(self) -> bool:
        """The object does not exist (404)."""
        return self.code == 404

    @property
    def conflict(self) -> bool:
        """The object was changed meanwhile (409 Conflict)."""
        return self.code == 409 and self.reason == "Conflict"

    @property
    def already_exists(self) -> bool:
        """An object of that name is there (409 AlreadyExists)."""
        return self.code == 409 and self.reason == "AlreadyExists"


class ApiUnreachable(Exception):  # noqa: N818
    """The API server could not be reached, or the connection broke."""


class Client:
    """Calls the API server. Use as an async context manager; one per process."""

    def __init__(self, credentials: Credentials, *, source: str | None = None, agent: str = "emu") -> None:
        """`source` is the address that the process's connections come from: its identity."""
        self._credentials = credentials
        self._ssl: ssl.SSLContext | bool = credentials.ssl_context()
        self._source = source
        self._headers = {"Authorization": f"Bearer {credentials.token}", "User-Agent": agent}
        self._session: aiohttp.ClientSession | None = None
        self.closed = False
        """Whether its context has ended: requests raise ApiUnreachable from then on."""

    async def __aenter__(self) -> Client:
        connector = aiohttp.TCPConnector(
            ssl=self._ssl, limit=0, local_addr=(self._source, 0) if self._source else None
        )
        self._session = aiohttp.ClientSession(
            self._credentials.server,
            connector=connector,
            headers=self._headers,
            read_bufsize=_READ_BUFFER,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True
        if self._session is not None:
            await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content_type: str = JSON,
        params: Mapping[str, str] | None = None,
        timeout: float | None = 30.0,
    ) -> bytes:
        """The body of the answer. Raises ApiError for a Status, ApiUnreachable when there is no answer."""
        headers = {"Content-Type": content_type} if body is not None else {}
        data = None if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        try:
            async with self._open_session(path).request(
                method,
                path,
                data=data,
                headers=headers,
                params=params,
                timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=5),
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnreachable(f"{method} {path}: {error or type(error).__name__}") from error
        if response.status >= 400:
            raise _api_error(response.status, answer)
        return answer

    def _open_session(self, path: str) -> aiohttp.ClientSession:
        if self.closed:
            raise ApiUnreachable(f"{path}: the client is closed")
        assert self._session is not None, "the client is used outside its context"
        return self._session

    async def wait_until_ready(self) -> None:
        """Return when the server answers /readyz; without limit, the caller sets one."""
        while True:
            try:
                await self.request("GET", "/readyz")
            except (ApiError, ApiUnreachable):
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def get(self, view: type[T], namespace: str, name: str) -> T:
        """One object as its view. Raises ApiError (404) when it does not exist."""
        return msgspec.json.decode(await self.request("GET", view.resource.path(namespace, name)), type=view)

    async def get_document(self, resource: ResourceName, namespace: str, name: str) -> dict[str, Any]:
        """One object as a whole document."""
        document: dict[str, Any] = msgspec.json.decode(
            await self.request("GET", resource.path(namespace, name))
        )
        return document

    async def list(
        self, view: type[T], namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> list[T]:
        """All objects that match, in one answer."""
        params = selector_params(label_selector, field_selector)
        body = await self.request("GET", view.resource.path(namespace), params=params)
        return msgspec.json.decode(body, type=ObjectList[view]).items  # type: ignore[valid-type]

    async def create(self, resource: ResourceName, document: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object; its namespace is taken from the document."""
        namespace = document.get("metadata", {}).get("namespace", "")
        created: dict[str, Any] = msgspec.json.decode(
            await self.request("POST", resource.path(namespace), body=document)
        )
        return created

    async def replace(
        self, resource: ResourceName, document: Mapping[str, Any], subresource: str = ""
    ) -> dict[str, Any]:
        """Replace an object. A stale resourceVersion in the document raises ApiError (conflict)."""
        metadata = document["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"], subresource)
        replaced: dict[str, Any] = msgspec.json.decode(await self.request("PUT", path, body=document))
        return replaced

    async def patch(
        self,
        resource: ResourceName,
        namespace: str,
        name: str,
        patch: Any,
        *,
        subresource: str = "",
        content_type: str = MERGE_PATCH,
    ) -> dict[str, Any]:
        """Patch an object: a merge patch unless another content type is given."""
        path = resource.path(namespace, name, subresource)
        patched: dict[str, Any] = msgspec.json.decode(
            await self.request("PATCH", path, body=patch, content_type=content_type)
        )
        return patched

    async def delete(
        self, resource: ResourceName, namespace: str, name: str, *, options: Mapping[str, Any] | None = None
    ) -> None:
        """Delete an object; `options` is a DeleteOptions. Raises ApiError (404) when it does not exist."""
        await self.request("DELETE", resource.path(namespace, name), body=options)

    @asynccontextmanager
    async def stream(self, path: str, params: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of a streaming answer, as long as the server sends them."""
        try:
            response = await self._open_session(path).get(path, params=params)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(path, error) from error
        # Only the network's errors become ApiUnreachable, not those of the caller's block.
        try:
            if response.status >= 400:
                raise _api_error(response.status, await _rest_of(response, path))
            yield _lines(response, path)
        finally:
            response.close()


def selector_params(label_selector: str, field_selector: str) -> dict[str, str]:
    """Query parameters of a list or watch."""
    params = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in params.items() if value}


async def _rest_of(response: aiohttp.ClientResponse, path: str) -> bytes:
    try:
        return await response.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _unreachable(path, error) from error


async def _lines(response: aiohttp.ClientResponse, path: str) -> AsyncIterator[bytes]:
    """Lines of any length; aiohttp's own readline refuses long ones."""
    pending = b""
    while True:
        try:
            chunk = await response.content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(path, error) from error
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line


def _unreachable(path: str, error: Exception) -> ApiUnreachable:
    return ApiUnreachable(f"GET {path}: {error or type(error).__name__}")


def _api_error(code: int, body: bytes) -> ApiError:
    try:
        status = msgspec.json.decode(body)
        return ApiError(code, status.get("reason", ""), status.get("message", ""), status.get("details"))
    except (msgspec.DecodeError, AttributeError):
        return ApiError(code, "", body.decode(errors="replace").strip() or f"HTTP status {code}")
