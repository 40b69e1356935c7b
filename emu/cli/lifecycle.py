"""Starting, stopping and looking at a cluster."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import typer

from emu.client.manifests import load_manifests
from emu.cluster import statedir
from emu.cluster.config import load_settings, running_settings, state_dir
from emu.cluster.control import send_command
from emu.cluster.supervisor import OnReady, claim_free_slot, run_supervisor
from emu.core.errors import UserError
from emu.core.settings import Settings

_STOP_TIMEOUT_SECONDS = 20.0
_POLL_SECONDS = 0.02


def start(
    *,
    state_dir: Path | None,
    config: Path | None,
    flags: dict[str, Any],
    slot: str | None,
    manifests: list[Path],
    detach: bool,
) -> int:
    """`emu up`."""
    claimed = None
    if slot == "auto":
        flags["slot"] = statedir.recorded_slot(load_settings(state_dir, config, flags).state)
        if flags["slot"] is None:
            flags["slot"], claimed = claim_free_slot()
    else:
        flags["slot"] = _slot_number(slot)
    settings = load_settings(state_dir, config, flags)
    objects = load_manifests(manifests)
    if not detach:

        def announce(seconds: float, changes: list[str]) -> None:
            typer.echo(welcome(settings, seconds, changes, detached=False))

        run_supervisor(settings, objects, announce, claimed)
        return 0
    return _detach(lambda ready: run_supervisor(settings, objects, ready, claimed), settings)


def _slot_number(slot: str | None) -> int | None:
    if slot is None:
        return None
    try:
        return int(slot)
    except ValueError:
        raise UserError(f'bad value for --slot: "{slot}" is neither a number nor "auto"') from None


def _detach(supervise: Callable[[OnReady], None], settings: Settings) -> int:
    """Supervise in a process of its own session; return when it is Ready or has failed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.setsid()
        code = 1
        try:
            _leave_terminal(settings)
            supervise(lambda seconds, changes: _report(writing, _Report(seconds=seconds, changes=changes)))
            code = 0
        except UserError as error:
            _report(writing, _Report(error=str(error)))
            code = 2
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        text = answer.read()
    report = msgspec.json.decode(text, type=_Report) if text else _Report()
    if report.seconds is not None:
        typer.echo(welcome(settings, report.seconds, report.changes, detached=True))
        return 0
    os.waitpid(pid, 0)
    raise UserError(report.error or f"the cluster ended while it started; see {settings.state.logs}")


class _Report(msgspec.Struct, frozen=True):
    """What the supervisor's process tells the one that waits for it."""

    seconds: float | None = None
    changes: list[str] = []
    error: str = ""


def _report(writing: int, report: _Report) -> None:
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(msgspec.json.encode(report))


def _leave_terminal(settings: Settings) -> None:
    statedir.prepare(settings.state, [node.name for node in settings.config.nodes])
    with (
        Path(os.devnull).open("rb") as nothing,
        (settings.state.logs / "supervisor.log").open("ab") as log,
    ):
        os.dup2(nothing.fileno(), sys.stdin.fileno())
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())


def welcome(settings: Settings, seconds: float, changes: list[str], *, detached: bool) -> str:
    """What `emu up` says when all is Ready; `changes` are lines about its manifests."""
    config, state = settings.config, settings.state
    ranges, ports = config.ranges, config.fixed_ports
    lines = [*changes, *([""] if changes else []), f"The cluster is Ready after {seconds:.1f} s.", ""]
    for number, node in enumerate(config.nodes[:8], 1):
        lines.append(f"  {node.name:<12} {config.node_address(node.name):<16} pods {ranges.pod_cidr(number)}")
    if len(config.nodes) > 8:
        lines.append(f"  ... and {len(config.nodes) - 8} more nodes")
    where = "" if state.root == Path(".emu").absolute() else f" --state-dir {state.root}"
    lines += [
        f"  {'Services':<12} {ranges.services:<16} load balancers {ranges.load_balancers}",
        f"  {'DNS':<12} {ranges.dns_service:<16} and 127.0.0.1, port {_dns_port(settings)}",
        f"  {'gateway':<12} http://127.0.0.1:{ports.gateway}",
        "",
        f"  export KUBECONFIG={state.kubeconfig}",
        "  kubectl get nodes,pods,services --all-namespaces -o wide",
        "",
        f"Stop it with `emu down{where}`." if detached else "Ctrl-C stops it.",
    ]
    return "\n".join(lines)


def _dns_port(settings: Settings) -> int:
    from emu.planes.loopback import LoopbackPlane

    ports = settings.config.fixed_ports
    # CoreDNS holds the port by now, so only the privilege is asked for, at an address that nobody uses.
    network = settings.config.ranges.pods.partition("/")[0]
    return ports.dns if LoopbackPlane().can_bind(network, ports.dns) else ports.dns_fallback


def stop(state: Path | None) -> int:
    """`emu down`."""
    where = state_dir(state)
    if statedir.running_pid(where) is None:
        typer.echo(f"No cluster is running in {where.root}.")
        return 0
    send_command(where, {"command": "stop"})
    deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
    while (pid := statedir.running_pid(where)) is not None:
        if time.monotonic() > deadline:
            raise UserError(
                f"the cluster in {where.root} has not stopped within {_STOP_TIMEOUT_SECONDS:.0f} s: "
                f"end process {pid} with `kill -9 {pid}`"
            )
        time.sleep(_POLL_SECONDS)
    typer.echo("The cluster has stopped; its objects are kept. `emu reset` removes them.")
    return 0


def remove(state: Path | None) -> int:
    """`emu reset`."""
    where = state_dir(state)
    removed = statedir.reset(where)
    typer.echo(
        f"Removed the cluster in {where.root}." if removed else f"There is no cluster in {where.root}."
    )
    return 0


def show_status(state: Path | None, output: str) -> int:
    """`emu status`."""
    if output not in ("text", "json"):
        raise UserError(f'bad value for --output: "{output}" is neither "text" nor "json"')
    settings = running_settings(state)
    status = send_command(settings.state, {"command": "status"})
    if output == "json":
        typer.echo(msgspec.json.format(msgspec.json.encode(status)).decode())
    else:
        missing = ", ".join(status["missing"])
        typer.echo("The cluster is Ready." if status["ready"] else f"Not Ready yet: missing {missing}.")
        for process in status["processes"]:
            restarts = f"   restarts: {process['restarts']}" if process["restarts"] else ""
            typer.echo(f"  {process['name']:<14} {_in_words(process)}{restarts}")
    return 0 if status["ready"] else 1


def _in_words(process: dict[str, Any]) -> str:
    if process["pid"] is not None:
        return f"process {process['pid']}, up {process['uptimeSeconds']:.0f} s"
    return "held down" if process["held"] else "starting again"


def command(state: Path | None, message: dict[str, Any]) -> int:
    """A command to the supervisor that answers nothing."""
    send_command(state_dir(state), message)
    return 0
