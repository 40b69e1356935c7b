"""Cluster DNS with 10,000 Services: processor time per query, queries/s, latency, memory.

The server is pinned to one core and dnsperf to the other. dnsperf is the limit on such a machine, so the
processor time of the server's process, divided by the queries that were answered, is the figure to compare.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.dns_servers import ADDRESS, SERVERS, ZONE, Running, available, world

SERVICES = 10_000
REPEATED = 200
ROUNDS = 3
SECONDS = 4
STEADY_RATE = 50_000
STEADY_SECONDS = 2
AIM_HIT_MICROSECONDS = 6.5
AIM_MISS_MICROSECONDS = 8.0
AIM_MEGABYTES = 120
AIM_OF_COREDNS = 0.4
_UNIQUE = 400_000


class Load(NamedTuple):
    """Names to ask for; each is asked for once where `once`, else they are repeated for some seconds."""

    title: str
    file: str
    aim: float | None = None
    once: bool = False


LOADS = (
    Load("10,000 names and their AAAA, asked for the first time", "first", None, True),
    Load(f"{REPEATED} names that repeat", "repeated", AIM_HIT_MICROSECONDS),
    Load("10,000 names in turn", "turn", AIM_MISS_MICROSECONDS),
    Load(
        "10,000 names, each time in another mixture of upper and lower case", "mixed", AIM_MISS_MICROSECONDS
    ),
    Load("names that do not exist and do not repeat", "missing"),
)


class Figures(NamedTuple):
    queries_per_second: float
    microseconds: float
    lost: int


def run(rounds: int = ROUNDS) -> None:
    print(
        "cluster DNS with 10,000 Services (processor time of the server per query; queries/s; lost queries)"
    )
    if shutil.which("dnsperf") is None:
        print("  left out: dnsperf is not installed")
        return
    servers = [name for name in SERVERS if available(name)]
    left_out = [name for name in SERVERS if name not in servers]
    if left_out:
        print(f"  not installed and left out: {', '.join(left_out)}")
    with tempfile.TemporaryDirectory() as name, world(Path(name), SERVICES) as there:
        directory = Path(name)
        _write_queries(directory, list(there.names))
        figures: dict[str, dict[str, list[Figures]]] = {item.title: {} for item in LOADS}
        latencies, megabytes = {}, {}
        for number in range(rounds):
            for server in random.sample(servers, len(servers)):
                with SERVERS[server](there) as running:
                    _pin(running.pid)
                    time.sleep(1.0)
                    for load in LOADS:
                        figures[load.title].setdefault(server, []).append(_measure(running, directory, load))
                    if number == 0:
                        latencies[server] = _latency(running, directory)
                        megabytes[server] = _private_megabytes(running.pid)
    for load in LOADS:
        _print(load, figures[load.title])
    print(f"  latency at {STEADY_RATE:,} queries/s, {REPEATED} names")
    for server, (median, high) in latencies.items():
        print(f"    {server:<10} median {median:6.0f} us   p99 {high:6.0f} us")
    print(
        f"  private memory with {SERVICES:,} Services and 20,000 endpoints (aim of emu < {AIM_MEGABYTES} MB)"
    )
    for server, size in megabytes.items():
        print(f"    {server:<10} {size:6.0f} MB")
    print()


def _write_queries(directory: Path, names: list[str]) -> None:
    chance = random.Random(5)
    shuffled = chance.sample(names, len(names))
    queries = {
        "first": [f"{name} {kind}" for kind in ("A", "AAAA") for name in shuffled],
        "repeated": [f"{name} A" for name in shuffled[:REPEATED]],
        "turn": [f"{name} A" for name in shuffled],
        "mixed": [f"{_mixed(shuffled[n % len(shuffled)], chance)} A" for n in range(_UNIQUE)],
        "missing": [f"missing-{n}.default.svc.{ZONE} A" for n in range(_UNIQUE)],
    }
    for file, lines in queries.items():
        (directory / file).write_text("\n".join(lines) + "\n")


def _mixed(name: str, chance: random.Random) -> str:
    """Like resolvers that use the case as a nonce (0x20)."""
    bits = chance.getrandbits(len(name))
    return "".join(char.upper() if bits >> n & 1 else char for n, char in enumerate(name))


def _measure(running: Running, directory: Path, load: Load) -> Figures:
    before = _processor_seconds(running.pid)
    output = _dnsperf(running, directory / load.file, ["-n", "1"] if load.once else ["-l", str(SECONDS)])
    used = _processor_seconds(running.pid) - before
    completed = int(_find(r"Queries completed:\s+(\d+)", output))
    return Figures(
        _find(r"Queries per second:\s+([\d.]+)", output),
        used * 1e6 / max(1, completed),
        int(_find(r"Queries lost:\s+(\d+)", output)),
    )


def _latency(running: Running, directory: Path) -> tuple[float, float]:
    """Median and 99th percentile in microseconds."""
    options = ["-l", str(STEADY_SECONDS), "-Q", str(STEADY_RATE), "-v"]
    output = _dnsperf(running, directory / "repeated", options)
    times = sorted(
        float(text) * 1e6 for text in re.findall(r"^> \w+ \S+ \w+ ([\d.]+)$", output, re.MULTILINE)
    )
    return (times[len(times) // 2], times[len(times) * 99 // 100]) if times else (0.0, 0.0)


def _dnsperf(running: Running, file: Path, options: list[str]) -> str:
    cores = sorted(os.sched_getaffinity(0))
    command = ["taskset", "-c", str(cores[-1]), "dnsperf", "-s", ADDRESS, "-p", str(running.port)]
    command += ["-d", str(file), "-c", "8", "-q", "100", "-t", "2", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _pin(pid: int) -> None:
    """All threads of a process to the first core."""
    core = min(os.sched_getaffinity(0))
    subprocess.run(["taskset", "-a", "-c", "-p", str(core), str(pid)], capture_output=True, check=True)


def _find(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"dnsperf says: {text[-500:]}")
    return float(found[1])


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _private_megabytes(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_")) / 1024


def _print(load: Load, by_server: dict[str, list[Figures]]) -> None:
    print(f"  {load.title}" + (f" (aim of emu <= {load.aim} us)" if load.aim else ""))
    costs = {
        server: statistics.median(item.microseconds for item in items) for server, items in by_server.items()
    }
    for server, items in by_server.items():
        rate = statistics.median(item.queries_per_second for item in items)
        ratio = ""
        if server == "emu" and "CoreDNS" in costs:
            ratio = f"   {costs['emu'] / costs['CoreDNS']:.2f} of CoreDNS (aim <= {AIM_OF_COREDNS})"
        lost = sum(item.lost for item in items)
        print(f"    {server:<10} {costs[server]:6.2f} us {rate:10,.0f}/s {lost:6} lost{ratio}")
