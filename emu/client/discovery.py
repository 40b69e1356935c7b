"""The kinds that an API server serves, by its own discovery documents."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import msgspec

from emu.client.rest import ApiError, Client
from emu.core.objects import ResourceName


class Kind(NamedTuple):
    """A kind that is served."""

    name: str
    resource: ResourceName
    verbs: frozenset[str]

    @property
    def full_name(self) -> str:
        """As kubectl writes it before `/NAME`: `service`, `deployment.apps`."""
        singular = self.name.lower()
        return f"{singular}.{self.resource.group}" if self.resource.group else singular


async def served_kinds(client: Client) -> dict[tuple[str, str], Kind]:
    """All kinds by (apiVersion, kind), the versions of a group in the server's order of preference."""
    group_versions = ["v1"]
    for group in await _get(client, "/apis", "groups"):
        group_versions += [version["groupVersion"] for version in group["versions"]]
    found = await asyncio.gather(*(_kinds(client, group_version) for group_version in group_versions))
    return {
        (group_version, kind.name): kind
        for group_version, kinds in zip(group_versions, found, strict=True)
        for kind in kinds
    }


async def _kinds(client: Client, group_version: str) -> list[Kind]:
    group, _, version = group_version.rpartition("/")
    return [
        Kind(
            item["kind"],
            ResourceName(group, version, item["name"], item["namespaced"]),
            frozenset(item["verbs"]),
        )
        for item in await _get(client, f"/apis/{group_version}" if group else f"/api/{version}", "resources")
        if "/" not in item["name"]
    ]


async def _get(client: Client, path: str, field: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = msgspec.json.decode(await client.request("GET", path))[field]
    except ApiError as error:
        # A group that is listed and not answered is not served.
        if error.not_found:
            return []
        raise
    return found
