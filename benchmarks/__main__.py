"""Run the benchmarks that are named, or all.

`python -m benchmarks [--quick] [api] [policy] [startup] [services] [proxy-scale] [silent] [dns]`

`--quick` takes one round of `services` and of `dns` instead of several: less exact, for a first look.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks import api, dns, policy, proxy_scale, services, silent, startup

BENCHMARKS: dict[str, Callable[[], None]] = {
    "api": api.run,
    "policy": policy.run,
    "startup": startup.run,
    "services": services.run,
    "proxy-scale": proxy_scale.run,
    "silent": silent.run,
    "dns": dns.run,
}


def main() -> int:
    names = [name for name in sys.argv[1:] if name != "--quick"] or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            print(f'there is no benchmark "{name}"; there are {", ".join(BENCHMARKS)}', file=sys.stderr)
            return 2
    chosen = BENCHMARKS
    if "--quick" in sys.argv[1:]:
        once = {"services": lambda: services.run(rounds=1), "dns": lambda: dns.run(rounds=1)}
        chosen = {**BENCHMARKS, **once}
    for name in names:
        chosen[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
