"""Writing core/v1 Events about objects, aggregated by count as upstream's recorder does."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from typing import Any

from emu.client.rest import ApiError, ApiUnreachable, Client
from emu.core.objects import Event, Object

log = logging.getLogger(__name__)

_REMEMBERED = 1000
_RETRY_SECONDS = 0.5


def timestamp(now: float | None = None) -> str:
    """RFC 3339 with seconds, as `metav1.Time`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))


class EventRecorder:
    """Writes Events in the background. A repeated one raises the count of the first."""

    def __init__(self, client: Client, component: str, host: str = "") -> None:
        self._client = client
        self._source = {"component": component, **({"host": host} if host else {})}
        self._counts: dict[str, int] = {}
        self._pending: dict[str, dict[str, Any]] = {}
        self._writer: asyncio.Task[None] | None = None

    def warning(self, about: Object, reason: str, message: str) -> None:
        """Record an Event of type Warning."""
        self._record(about, "Warning", reason, message)

    def normal(self, about: Object, reason: str, message: str) -> None:
        """Record an Event of type Normal."""
        self._record(about, "Normal", reason, message)

    def _record(self, about: Object, kind: str, reason: str, message: str) -> None:
        identity = "/".join((about.kind, about.key, about.metadata.uid, kind, reason, message))
        name = f"{about.name}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        count = self._counts.pop(name, 0) + 1
        self._counts[name] = count
        if len(self._counts) > _REMEMBERED:
            del self._counts[next(iter(self._counts))]
        now = timestamp()
        document: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": about.namespace or "default"},
            "involvedObject": {
                "apiVersion": about.resource.api_version,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.metadata.uid,
                "resourceVersion": about.metadata.resource_version,
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "source": self._source,
            "reportingComponent": self._source["component"],
            "reportingInstance": self._source.get("host", ""),
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": count,
        }
        self._pending[name] = document
        if len(self._pending) > _REMEMBERED:
            del self._pending[next(iter(self._pending))]
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_pending())

    async def _write_pending(self) -> None:
        """Write one after the other: what is repeated meanwhile is written once, with its last count."""
        while self._pending and not self._client.closed:
            name = next(iter(self._pending))
            document = self._pending.pop(name)
            try:
                await self._write(document)
            except ApiUnreachable as error:
                log.debug("event %s waits for the API server: %s", document["reason"], error)
                self._pending.setdefault(name, document)
                await asyncio.sleep(_RETRY_SECONDS)
            except ApiError as error:
                log.warning("cannot record event %s: %s", document["reason"], error)

    async def _write(self, document: dict[str, Any]) -> None:
        namespace, name = document["metadata"]["namespace"], document["metadata"]["name"]
        change = {"count": document["count"], "lastTimestamp": document["lastTimestamp"]}
        if document["count"] > 1 and await self._patch(namespace, name, change):
            return
        try:
            await self._client.create(Event.resource, document)
        except ApiError as error:
            if not error.already_exists:
                raise
            # An earlier process of this component wrote it, so its count goes on.
            known = await self._client.get(Event, namespace, name)
            self._counts[name] = change["count"] = known.count + document["count"]
            await self._patch(namespace, name, change)

    async def _patch(self, namespace: str, name: str, change: dict[str, Any]) -> bool:
        """False where the Event is not there, or no more."""
        try:
            await self._client.patch(Event.resource, namespace, name, change)
        except ApiError as error:
            if not error.not_found:
                raise
            return False
        return True
