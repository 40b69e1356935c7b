"""The Unix socket at which `emu dns explain` asks: one JSON line each way."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec

from emu.coredns.corefile import DEFAULT_PORT
from emu.coredns.explain import Inquiry, InquiryError, report, walk
from emu.coredns.server import Server
from emu.planes.owner_socket import serve_owner

_SECONDS = 60.0
"""For a whole inquiry: some steps may wait for upstream servers."""


async def explained(line: bytes, server: Server) -> dict[str, str]:
    """`{"text": ...}` for an Inquiry in JSON, `{"error": ...}` for what is none or cannot be asked."""
    try:
        inquiry = msgspec.json.decode(line, type=Inquiry)
        chains = server.configuration.chains.get(DEFAULT_PORT, {})
        async with asyncio.timeout(_SECONDS):
            steps = await walk(inquiry, server.responder(DEFAULT_PORT), chains)
    except (msgspec.DecodeError, InquiryError) as error:
        return {"error": str(error)}
    except TimeoutError:
        return {"error": f"the upstream servers have not answered within {_SECONDS:.0f} s"}
    return {"text": report(inquiry, steps)}


async def serve_inquiries(path: Path, server: Server) -> asyncio.Server:
    """Answer inquiries at a Unix socket that its owner alone may use."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            answer = await explained(await reader.readline(), server)
            writer.write(msgspec.json.encode(answer) + b"\n")
            await writer.drain()
        writer.close()

    return await serve_owner(path, serve)
