"""`emu snapshot save` and `emu snapshot load`: the objects of a cluster as a file of YAML."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import typer

from emu import __version__
from emu.cli.running import running
from emu.client.applying import Imported, import_manifests
from emu.client.changes import counted, report
from emu.client.discovery import Kind, served_kinds
from emu.client.events import timestamp
from emu.client.kubeconfig import read_kubeconfig
from emu.client.manifests import SNAPSHOT_MARK, STANDARD_INPUT, Manifest, load_manifests
from emu.client.rest import ApiError, ApiUnreachable, Client
from emu.client.snapshots import snapshot
from emu.client.yaml_writer import write_documents
from emu.controllers.bootstrap import DNS_PORT, system_objects
from emu.core.config import ClusterConfig
from emu.core.errors import UserError
from emu.core.settings import Settings

T = TypeVar("T")

_NEVER_SAVED = frozenset({"Event", "Lease", "Node", "IPAddress"})


def save(state_dir: Path | None, file: Path) -> int:
    """`emu snapshot save`."""
    settings = running(state_dir)
    documents = _with_client(settings, lambda client: _objects(client, settings.config))
    text = _header(settings, len(documents)) + write_documents(documents)
    if file == STANDARD_INPUT:
        typer.echo(text, nl=False)
        return 0
    _write(file, text)
    typer.echo(f"Saved {counted(len(documents), 'object')} to {file}.")
    secrets = sum(document["kind"] == "Secret" for document in documents)
    if secrets:
        typer.echo(f"It holds {counted(secrets, 'Secret')} that everybody who has it can read.")
    return 0


def load(state_dir: Path | None, files: list[Path]) -> int:
    """`emu snapshot load`. Returns 1 when something was refused."""
    settings = running(state_dir)
    manifests = load_manifests(files)
    imported = _with_client(settings, lambda client: _import(client, settings, manifests))
    for applied in imported.applied:
        typer.echo(str(applied))
    changes = report(imported.changes)
    if changes:
        typer.echo("\n" + "\n".join(changes))
    sys.stdout.flush()
    for refused in imported.refused:
        print(f"emu: {refused}", file=sys.stderr)
    return 1 if imported.refused else 0


async def _import(client: Client, settings: Settings, manifests: list[Manifest]) -> Imported:
    return await import_manifests(client, settings.config.ranges, manifests)


async def _objects(client: Client, config: ClusterConfig) -> list[dict[str, Any]]:
    """All objects that a snapshot holds. Kinds are listed one after the other, not at one moment."""
    kinds = await served_kinds(client)
    preferred: dict[tuple[str, str], Kind] = {}
    for kind in kinds.values():
        if {"list", "create"} <= kind.verbs and kind.name not in _NEVER_SAVED:
            preferred.setdefault((kind.resource.group, kind.name), kind)
    documents: list[dict[str, Any]] = []
    for kind in preferred.values():
        body = await client.request("GET", kind.resource.path())
        typed = {"apiVersion": kind.resource.api_version, "kind": kind.name}
        documents += [{**item, **typed} for item in msgspec.json.decode(body)["items"]]
    # Which port cluster DNS got depends on the machine, so that both are defaults.
    defaults = [
        document
        for port in (DNS_PORT, config.ports.dns_fallback)
        for _, document in system_objects(config, port)
    ]
    return snapshot(documents, {key: kind.resource for key, kind in kinds.items()}, defaults)


def _header(settings: Settings, count: int) -> str:
    config = settings.config
    return (
        f"{SNAPSHOT_MARK} of the cluster in {settings.state.root}\n"
        f"# {counted(count, 'object')}, taken {timestamp()} by emu {__version__}; Services in "
        f"{config.ranges.services}.\n"
        "# Load it with `emu snapshot load`, `emu up -f` or `kubectl apply -f`.\n"
        "---\n"
    )


def _write(file: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        if file.is_dir():
            raise IsADirectoryError(21, os.strerror(21))
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise UserError(
            f"{file} cannot be written ({error.strerror}): name a file in a directory that you may write to"
        ) from None


def _with_client(settings: Settings, use: Callable[[Client], Awaitable[T]]) -> T:
    async def run() -> T:
        async with Client(read_kubeconfig(settings.state.kubeconfig), agent="emu-snapshot") as client:
            return await use(client)

    try:
        return asyncio.run(run())
    except (ApiError, ApiUnreachable) as error:
        raise UserError(f"the API server cannot be asked ({error}): see {settings.state.logs}") from None
