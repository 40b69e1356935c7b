"""The commands that are one component's process each."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from emu.core.settings import Settings

_PANEL = "Components (started by `emu up`)"

# Imported when they run, so that a process holds what it needs and no more.
_COMPONENTS = (
    ("apiserver", "emu.api.server", "Run the API server."),
    ("controllers", "emu.controllers.manager", "Run the controllers and the scheduler."),
    ("coredns", "emu.coredns.main", "Run cluster DNS."),
    ("nodes", "emu.cluster.nodes", "Run every node of the configuration, one process each."),
)

StateDirOption = Annotated[Path | None, typer.Option("--state-dir", help="The cluster's state directory.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="The configuration file.")]
LogLevelOption = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")]
LogFormatOption = Annotated[str | None, typer.Option("--log-format", help="text or json.")]


def register(app: typer.Typer) -> None:
    """Add the commands of the components."""
    for name, module, description in _COMPONENTS:
        app.command(name, help=description, rich_help_panel=_PANEL)(_component(name, module))
    app.command(rich_help_panel=_PANEL)(node)
    app.add_typer(proxy, rich_help_panel=_PANEL)


def _component(name: str, module: str) -> Callable[..., int]:
    def command(
        state_dir: StateDirOption = None,
        config: ConfigOption = None,
        log_level: LogLevelOption = None,
        log_format: LogFormatOption = None,
    ) -> int:
        from emu.cluster.process import run_component

        settings = _settings(state_dir, config, log_level, log_format)
        return run_component(name, settings, importlib.import_module(module).run(settings))

    return command


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


proxy = typer.Typer(
    name="proxy",
    help="Run kube-proxy for all nodes, and the gateway; or ask the running one.",
    rich_markup_mode=None,
    invoke_without_command=True,
)


@proxy.callback()
def run_proxy(
    context: typer.Context,
    state_dir: StateDirOption = None,
    config: ConfigOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> int:
    """Run kube-proxy unless a command of its own follows."""
    if context.invoked_subcommand is not None:
        context.obj = state_dir
        return 0
    return _component("proxy", "emu.proxy.main")(state_dir, config, log_level, log_format)


@proxy.command()
def rules(
    context: typer.Context,
    mode: Annotated[
        str, typer.Option(help="iptables, ipvs, nftables or userspace (default: the mode in force).")
    ] = "",
    service: Annotated[str, typer.Option(help="Only what concerns one Service: NAMESPACE/NAME.")] = "",
    node: Annotated[str, typer.Option(help="On which node (default: the first).")] = "",
    part: Annotated[str, typer.Option(help="One part of ipvs: ipvsadm, ipset or iptables-save.")] = "",
    walk: Annotated[
        bool, typer.Option("--walk", help="Show how many rules of iptables mode a new connection walks.")
    ] = False,
    state_dir: StateDirOption = None,
) -> int:
    """Show what the real kube-proxy would have programmed on a node."""
    from emu.cli.proxy_rules import show_rules

    query = {"mode": mode, "service": service, "node": node, "part": part, "walk": "true" if walk else ""}
    return show_rules(state_dir or context.obj, query)


def _settings(
    state_dir: Path | None, config: Path | None, log_level: str | None, log_format: str | None
) -> Settings:
    from emu.cluster.config import load_settings

    return load_settings(state_dir, config, {"logLevel": log_level, "logFormat": log_format})
