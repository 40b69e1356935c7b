"""`make demo`: the main job, stop by stop, on a cluster of its own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tour_sees_what_it_expects():
    done = subprocess.run(
        [sys.executable, "-m", "emu", "demo", "--slot", "auto"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for title in (
        "Three networks",
        "Pod to pod",
        "Names",
        "Services",
        "kube-proxy",
        "NetworkPolicy",
        "A node dies",
    ):
        assert title in done.stdout
    assert "allow-frontend" in done.stdout
