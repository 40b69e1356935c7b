"""A node's process that takes connections and serves none: `taking_node.py SOCKET`.

Prints a line for each connection that it has taken, until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from emu.planes.handover import HandoverReceiver


async def main() -> None:
    taken = []

    def take(*connection: object) -> None:
        taken.append(connection)
        print(len(taken), flush=True)

    HandoverReceiver(Path(sys.argv[1]), take).start()
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
