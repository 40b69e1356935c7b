"""The commands that are one component's process each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emu.core.settings import Settings

_PANEL = "Components (started by `emu up`)"

StateDirOption = Annotated[Path | None, typer.Option("--state-dir", help="The cluster's state directory.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="The configuration file.")]
LogLevelOption = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")]
LogFormatOption = Annotated[str | None, typer.Option("--log-format", help="text or json.")]


def register(app: typer.Typer) -> None:
    """Add the commands of the components."""
    for command in (apiserver, controllers, node, nodes, coredns, proxy):
        app.command(rich_help_panel=_PANEL)(command)


def apiserver(
    state_dir: StateDirOption = None,
    config: ConfigOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> int:
    """Run the API server."""
    from emu.api.server import run
    from emu.cluster.process import run_component

    settings = _settings(state_dir, config, log_level, log_format)
    return run_component("apiserver", settings, run(settings))


def controllers(
    state_dir: StateDirOption = None,
    config: ConfigOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> int:
    """Run the controllers and the scheduler."""
    from emu.cluster.process import run_component
    from emu.controllers.manager import run

    settings = _settings(state_dir, config, log_level, log_format)
    return run_component("controllers", settings, run(settings))


def node(
    name: Annotated[str, typer.Argument(help="The node's name.")],
    state_dir: StateDirOption = None,
    config: ConfigOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> int:
    """Run one node: its pods' servers, probes, policy filters."""
    from emu.cluster.process import run_component
    from emu.nodes.agent import run

    settings = _settings(state_dir, config, log_level, log_format)
    return run_component(name, settings, run(settings, name))


def nodes(
    state_dir: StateDirOption = None,
    config: ConfigOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> int:
    """Run every node of the configuration, one process each."""
    from emu.cluster.nodes import run_nodes
    from emu.cluster.process import run_component

    settings = _settings(state_dir, config, log_level, log_format)
    return run_component("nodes", settings, run_nodes(settings))


def coredns(
    state_dir: StateDirOption = None,
    config: ConfigOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> int:
    """Run cluster DNS."""
    from emu.cluster.process import run_component
    from emu.coredns.main import run

    settings = _settings(state_dir, config, log_level, log_format)
    return run_component("coredns", settings, run(settings))


def proxy(
    state_dir: StateDirOption = None,
    config: ConfigOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> int:
    """Run kube-proxy for all nodes, and the gateway."""
    from emu.cluster.process import run_component
    from emu.proxy.main import run

    settings = _settings(state_dir, config, log_level, log_format)
    return run_component("proxy", settings, run(settings))


def _settings(
    state_dir: Path | None, config: Path | None, log_level: str | None, log_format: str | None
) -> Settings:
    from emu.cluster.config import load_settings

    return load_settings(state_dir, config, {"logLevel": log_level, "logFormat": log_format})
