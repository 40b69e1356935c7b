"""What every namespace has from its beginning: the CA's certificate and the ServiceAccount `default`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from emu.client.rest import ApiError
from emu.controllers.actions import Context, Create, perform
from emu.controllers.workqueue import WorkQueue
from emu.core.objects import ConfigMap, Namespace, ResourceName

log = logging.getLogger(__name__)

ROOT_CA = "kube-root-ca.crt"
_SERVICE_ACCOUNTS = ResourceName("", "v1", "serviceaccounts")


def defaults(namespace: str, ca: str) -> list[Create]:
    """The objects of a namespace; `ca` is PEM."""
    metadata: dict[str, Any] = {"namespace": namespace}
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**metadata, "name": ROOT_CA},
        "data": {"ca.crt": ca},
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**metadata, "name": "default"}}
    return [Create(ConfigMap.resource, config_map), Create(_SERVICE_ACCOUNTS, account)]


class NamespaceController:
    """Fills new namespaces."""

    def __init__(self, context: Context, ca: bytes) -> None:
        self._context = context
        self._recorder = context.recorder("namespace-controller")
        self._ca = ca.decode()
        self._namespaces = context.informers.reflector(Namespace)
        self._queue = WorkQueue("namespaces", self._sync, workers=2)
        self._namespaces.subscribe(self._changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._context.informers.synced()
        await self._queue.run()

    def _changed(self, key: str, before: Namespace | None, now: Namespace | None) -> None:
        if now is not None and (before is None or before.metadata.uid != now.metadata.uid):
            self._queue.add(key)

    async def _sync(self, key: str) -> float | None:
        namespace = self._namespaces.items.get(key)
        if namespace is None or namespace.metadata.deletion_timestamp is not None:
            return None
        await self._create_all(defaults(key, self._ca))
        return None

    async def _create_all(self, creations: Iterable[Create]) -> None:
        for creation in creations:
            try:
                await perform(self._context, self._recorder, [creation])
            except ApiError as error:
                # There already, or of a kind that this API server does not serve.
                if not error.already_exists and not error.not_found:
                    raise
