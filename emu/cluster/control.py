"""Commands to a running supervisor over its Unix socket: one JSON line each way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from emu.core.errors import UserError
from emu.core.settings import StateDir
from emu.planes.owner_socket import serve_owner

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


async def serve_control(state: StateDir, handler: Handler) -> asyncio.Server:
    """Answer commands; a UserError of the handler goes back as `{"error": ...}`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await handler(msgspec.json.decode(await reader.readline()))
        except UserError as error:
            answer = {"error": str(error)}
        except msgspec.DecodeError:
            answer = {"error": "that is not a command"}
        with contextlib.suppress(OSError):
            writer.write(msgspec.json.encode(answer) + b"\n")
            await writer.drain()
            writer.close()

    return await serve_owner(state.supervisor_socket, serve)


def send_command(state: StateDir, command: dict[str, Any]) -> dict[str, Any]:
    """The supervisor's answer. Raises UserError for its errors, and when no supervisor listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        try:
            channel.connect(str(state.supervisor_socket))
        except OSError:
            raise UserError(f"no cluster is running in {state.root}: start one with `emu up`") from None
        channel.sendall(msgspec.json.encode(command) + b"\n")
        with channel.makefile("rb") as answers:
            line = answers.readline()
    answer: dict[str, Any] = msgspec.json.decode(line) if line else {"error": "the supervisor ended"}
    if "error" in answer:
        raise UserError(answer["error"])
    return answer
