"""Load on one HTTP server: wrk, bounded in time and connections."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import NamedTuple

_UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}


class Figures(NamedTuple):
    requests: int
    requests_per_second: float
    bytes_per_second: float
    errors: int


def available() -> bool:
    return shutil.which("wrk") is not None


def load(url: str, *, connections: int, close: bool = False, seconds: int = 1) -> Figures:
    """Requests from one thread; `close` makes each of them a connection of its own."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    if close:
        command += ["-H", "Connection: close"]
    output = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    requests = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])
    transfer = re.search(r"Transfer/sec:\s+([\d.]+)([KMG]?)B", output)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    non_2xx = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return Figures(
        int(re.search(r"(\d+) requests in", output)[1]),
        requests,
        float(transfer[1]) * _UNITS[transfer[2]],
        (sum(map(int, errors.groups())) if errors else 0) + (int(non_2xx[1]) if non_2xx else 0),
    )
