"""The cluster that a command is about."""

from __future__ import annotations

from pathlib import Path

from emu.cluster import statedir
from emu.cluster.config import running_settings
from emu.core.errors import UserError
from emu.core.settings import Settings


def running(state_dir: Path | None) -> Settings:
    """The settings of the cluster that runs in a state directory. Raises UserError when none does."""
    settings = running_settings(state_dir)
    if statedir.running_pid(settings.state) is None:
        raise UserError(f"no cluster is running in {settings.state.root}: start one with `emu up`")
    return settings
