"""`emu demo`: the tour, with a cluster of its own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import typer

from emu.cluster.launch import launch
from emu.cluster.supervisor import check_ports, claim
from emu.core.config import ClusterConfig
from emu.core.errors import UserError
from emu.observe.tour import STOPS, TourError, take
from emu.planes.loopback import LoopbackPlane


def take_tour(manifests: Path, slot: str | None) -> int:
    """Start a cluster, take the tour, stop the cluster. Returns 1 when an outcome was unexpected."""
    if not manifests.is_dir():
        raise UserError(
            f"{manifests} is no directory: name that of the tutorial's manifests with --manifests"
        )
    typer.echo(f"emu up -f {manifests}")
    with launch(["--file", str(manifests)], slot=slot or _textbook_slot()) as cluster:
        typer.echo(f"  {len(cluster.settings.config.nodes)} nodes are Ready, and every pod of {manifests}.")
        try:
            asyncio.run(take(cluster.settings, LoopbackPlane(), cluster, STOPS, typer.echo))
        except (TourError, OSError) as error:
            print(f"\nemu: not as expected: {error or type(error).__name__}", file=sys.stderr)
            return 1
    typer.echo("\nThe cluster has stopped. `make up` starts one that stays.")
    return 0


def _textbook_slot() -> str:
    """Slot 0, whose addresses resemble the textbooks', unless something has it."""
    config = ClusterConfig()
    try:
        with claim(config):
            check_ports(config)
    except UserError:
        return "auto"
    return "0"
