"""The command line: each command parses its options and calls what does the work.

What a command needs is imported when it runs, so that `emu --help` and small commands start quickly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emu import __version__
from emu.cli import components

app = typer.Typer(
    name="emu",
    help="A Kubernetes network on this machine: real sockets, no containers, no root.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
StateDirOption = Annotated[
    Path | None,
    typer.Option("--state-dir", help="Where the cluster's files are (default: .emu, or EMU_STATE_DIR)."),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="The configuration file (default: emu.yaml if it is there).")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"emu {__version__}")
        raise typer.Exit


@app.callback()
def _emu(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def up(
    state_dir: StateDirOption = None,
    config: ConfigOption = None,
    nodes: Annotated[int | None, typer.Option(help="How many nodes (default 2).")] = None,
    proxy_mode: Annotated[
        str | None, typer.Option(help="kube-proxy's mode: iptables, ipvs, nftables or userspace.")
    ] = None,
    slot: Annotated[
        str | None, typer.Option(help="Which address ranges and ports: 0 to 31, or auto for free ones.")
    ] = None,
    file: Annotated[
        list[Path] | None, typer.Option("--file", "-f", help="Manifests to apply: a file, a directory, or -.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when all is Ready.")] = False,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
) -> int:
    """Start a cluster and run it until stopped."""
    from emu.cli.lifecycle import start

    return start(
        state_dir=state_dir,
        config=config,
        flags={
            "nodeCount": nodes,
            "proxyMode": proxy_mode,
            "logLevel": log_level,
            "logFormat": log_format,
        },
        slot=slot,
        manifests=file or [],
        detach=detach,
    )


@app.command()
def down(state_dir: StateDirOption = None) -> int:
    """Stop the cluster; its objects are kept for the next `emu up`."""
    from emu.cli.lifecycle import stop

    return stop(state_dir)


@app.command()
def status(
    state_dir: StateDirOption = None,
    output: Annotated[str, typer.Option("--output", "-o", help="text or json.")] = "text",
) -> int:
    """Show whether the cluster is Ready, and its processes. Exit code 1 when it is not."""
    from emu.cli.lifecycle import show_status

    return show_status(state_dir, output)


@app.command()
def reset(state_dir: StateDirOption = None) -> int:
    """Remove the files of a stopped cluster: its objects, keys and logs."""
    from emu.cli.lifecycle import remove

    return remove(state_dir)


@app.command()
def kill(
    name: Annotated[str, typer.Argument(help="A process as `emu status` names it, such as node-2.")],
    state_dir: StateDirOption = None,
    hold: Annotated[bool, typer.Option("--hold", help="Keep it down until `emu start NAME`.")] = False,
) -> int:
    """Kill one of the cluster's processes with SIGKILL; it is started again unless held."""
    from emu.cli.lifecycle import command

    return command(state_dir, {"command": "kill", "name": name, "hold": hold})


@app.command()
def start(
    name: Annotated[str, typer.Argument(help="A process as `emu status` names it.")],
    state_dir: StateDirOption = None,
) -> int:
    """Start a process that `emu kill --hold` keeps down."""
    from emu.cli.lifecycle import command

    return command(state_dir, {"command": "start", "name": name})


@app.command()
def doctor(state_dir: StateDirOption = None, config: ConfigOption = None) -> int:
    """Check what this machine allows, each with its remedy. Exit code 1 when a cluster cannot run."""
    from emu.cli.doctor import examine

    return examine(state_dir, config)


@app.command()
def demo(
    manifests: Annotated[Path, typer.Option(help="The manifests of the tour.")] = Path("examples/tutorial"),
    slot: Annotated[
        str | None, typer.Option(help="The slot of the tour's cluster (default: 0 if it is free, else auto).")
    ] = None,
) -> int:
    """Take the tour: start a cluster, see each part of its network at work, stop it."""
    from emu.cli.demo import take_tour

    return take_tour(manifests, slot)


snapshot = typer.Typer(
    name="snapshot",
    help="Save the objects of a running cluster to a file, and load them again.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
app.add_typer(snapshot)


@snapshot.command()
def save(
    file: Annotated[Path, typer.Argument(help="The file to write; - is stdout.")],
    state_dir: StateDirOption = None,
) -> int:
    """Save what users made, as YAML that `emu snapshot load`, `emu up -f` and `kubectl apply -f` take."""
    from emu.cli import snapshot

    return snapshot.save(state_dir, file)


@snapshot.command()
def load(
    files: Annotated[list[Path], typer.Argument(help="Snapshots, manifests or dumps; - is stdin.")],
    state_dir: StateDirOption = None,
) -> int:
    """Apply files to the running cluster and say what had to change. Exit code 1 when one was refused."""
    from emu.cli import snapshot

    return snapshot.load(state_dir, files)


dns = typer.Typer(
    name="dns", help="Look into the running cluster DNS.", rich_markup_mode=None, no_args_is_help=True
)
app.add_typer(dns)


@dns.command()
def explain(
    name: Annotated[str, typer.Argument(help="The name as a program would give it.")],
    source: Annotated[
        str, typer.Option("--from", help="The pod that asks: NAMESPACE/NAME (default: any of default).")
    ] = "",
    qtype: Annotated[str, typer.Option("--type", help="A, AAAA, SRV or another type.")] = "A",
    state_dir: StateDirOption = None,
) -> int:
    """Walk a name's search path as a pod would, and say of each step which object matched or why not."""
    from emu.cli import dns

    return dns.explain(state_dir, name, source, qtype)


components.register(app)
