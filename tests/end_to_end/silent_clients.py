"""A process of clients that say nothing: `silent_clients.py ADDRESS PORT COUNT SOURCE...`.

Connects COUNT times, from the source addresses in turn, prints the number of connections, and keeps them
until its standard input ends.
"""

from __future__ import annotations

import resource
import socket
import sys


def main() -> None:
    address, port, count, *sources = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kept = []
    for number in range(int(count)):
        source = (sources[number % len(sources)], 0)
        kept.append(socket.create_connection((address, int(port)), 10, source_address=source))
    print(len(kept), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
