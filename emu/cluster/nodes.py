"""`emu nodes`: one process for each node, for use under a Procfile."""

from __future__ import annotations

import asyncio

from emu.cluster.config import resolved_file, write_resolved
from emu.cluster.processes import Process, ProcessGroup
from emu.cluster.supervisor import last_line, node_processes
from emu.core.errors import UserError
from emu.core.settings import Settings


async def run(settings: Settings) -> None:
    """Run all nodes of the configuration until cancelled. Raises UserError when one of them cannot run."""
    settings.state.logs.mkdir(parents=True, exist_ok=True)
    write_resolved(settings)
    group = ProcessGroup(settings.state.logs)
    failed: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
    group.on_failure = lambda process: None if failed.done() else failed.set_result(process)
    group.start_zygote()
    try:
        for name, argv in node_processes(settings):
            group.add(name, argv)
        process = await failed
        raise UserError(last_line(settings.state.logs / f"{process.name}.log").removeprefix("emu: "))
    finally:
        await group.stop()
        resolved_file(settings.state).unlink(missing_ok=True)
