"""The schedulers of ipvs: tables by rule, and each against its definition written down step by step."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain
from random import Random

import pytest

from emu.core.addresses import to_int
from emu.core.config import IPVS_SCHEDULERS
from emu.proxy.modes.schedulers import SCHEDULERS, Scheduler, flags_in_force
from emu.proxy.modes.schedulers.base import Destination
from emu.proxy.modes.schedulers.maglev import TABLE_SIZE, hashed

ADDRESS = "127.96.0.20"
CLIENT = ("127.244.1.9", 1000)
DAY = 24 * 3600.0


class Server:
    """A virtual server: a list and its scheduler, changed as the kernel changes them."""

    def __init__(
        self, scheduler: str, *flags: str, address: str = ADDRESS, listed: list[Destination] | None = None
    ) -> None:
        self.listed = listed if listed is not None else []
        self.scheduler: Scheduler = SCHEDULERS[scheduler](self.listed, address, flags)

    def add(self, key: str, weight: int = 1) -> Destination:
        destination = Destination(key, weight)
        self.listed.insert(0, destination)
        self.scheduler.added(0)
        return destination

    def remove(self, destination: Destination) -> None:
        at = self.listed.index(destination)
        del self.listed[at]
        destination.listed = False
        self.scheduler.removed(at, destination)

    def weigh(self, destination: Destination, weight: int) -> None:
        destination.set_weight(weight)
        self.scheduler.updated(destination)

    def pick(self, client: tuple[str, int] = CLIENT, now: float = 0.0) -> str:
        picked = self.scheduler.pick(client, now)
        return picked.key if picked is not None else "-"

    def picks(self, count: int) -> str:
        return "".join(self.pick() for _ in range(count))


def in_order(scheduler: str, names: str, *weights: int, flags: tuple[str, ...] = ()) -> Server:
    """A server that gets the scheduler when its list has these names in this order."""
    listed = [Destination(*each) for each in zip(names, weights or (1,) * len(names), strict=True)]
    return Server(scheduler, *flags, listed=listed)


def keyed(scheduler: str, count: int, *flags: str) -> Server:
    """A server with `ip:port` keys."""
    server = Server(scheduler, *flags)
    for number in range(count):
        server.add(f"127.244.{number % 8}.{number // 8 + 2}:8080")
    return server


def clients(count: int) -> list[tuple[str, int]]:
    return [(f"127.244.{n // 250}.{n % 250 + 2}", 40000 + n) for n in range(count)]


@pytest.mark.parametrize(
    ("rule", "scheduler", "weights", "active", "inactive", "expected"),
    [
        ("rr takes them in turn", "rr", (1, 1, 1), (), (), "ABCABC"),
        ("rr skips weight 0", "rr", (1, 0, 1), (), (), "ACACAC"),
        ("rr without any", "rr", (0, 0, 0), (), (), "---"),
        ("wrr with weights 3, 2, 1 gives A A B A B C", "wrr", (3, 2, 1), (), (), "AABABCAABABC"),
        ("wrr with a divisor of 2", "wrr", (4, 2, 0), (), (), "AABAAB"),
        ("wrr with equal weights is rr", "wrr", (5, 5, 5), (), (), "ABCABC"),
        ("wrr skips weight 0", "wrr", (1, 0, 1), (), (), "ACAC"),
        ("wrr without any", "wrr", (0, 0, 0), (), (), "---"),
        ("lc counts active ones", "lc", (1, 1, 1), (2, 1, 1), (0, 0, 0), "B"),
        ("lc counts inactive ones", "lc", (1, 1, 1), (0, 0, 0), (2, 1, 1), "B"),
        ("lc: 255 inactive ones are less than an active one", "lc", (1, 1, 1), (1, 0, 1), (0, 255, 0), "B"),
        ("lc: 257 are more", "lc", (1, 1, 1), (1, 0, 1), (0, 257, 0), "A"),
        ("lc does not weigh", "lc", (1, 9, 1), (1, 2, 1), (0, 0, 0), "A"),
        ("lc skips weight 0", "lc", (0, 1, 1), (0, 5, 4), (0, 0, 0), "C"),
        ("wlc weighs", "wlc", (1, 4, 1), (1, 3, 1), (0, 0, 0), "B"),
        ("wlc takes the first on ties", "wlc", (1, 2, 3), (), (), "A"),
        ("wlc skips weight 0", "wlc", (0, 1, 1), (0, 5, 4), (0, 0, 0), "C"),
        ("sed counts the new connection", "sed", (1, 3, 1), (0, 1, 0), (0, 0, 0), "B"),
        ("sed does not count inactive ones", "sed", (1, 1, 1), (1, 0, 0), (0, 9, 0), "B"),
        ("nq takes an idle one though it is slow", "nq", (1, 9, 1), (0, 1, 0), (0, 0, 0), "A"),
        ("nq without an idle one is sed", "nq", (1, 9, 1), (1, 1, 1), (0, 0, 0), "B"),
        ("nq skips weight 0", "nq", (0, 1, 1), (0, 2, 1), (0, 0, 0), "C"),
        ("fo takes the greatest weight", "fo", (1, 3, 2), (0, 9, 0), (0, 0, 0), "BB"),
        ("fo takes the first on ties", "fo", (1, 3, 3), (), (), "B"),
        ("fo without any", "fo", (0, 0, 0), (), (), "-"),
        ("ovf takes the greatest weight", "ovf", (1, 3, 2), (0, 3, 0), (0, 0, 0), "B"),
        ("ovf goes on when there are more than its weight", "ovf", (1, 3, 2), (0, 4, 0), (0, 0, 0), "C"),
        ("ovf with all full has none", "ovf", (1, 3, 0), (2, 4, 0), (0, 0, 0), "-"),
        ("lblc begins as wlc", "lblc", (1, 4, 1), (1, 3, 1), (0, 0, 0), "BBB"),
        ("lblcr begins as wlc", "lblcr", (1, 4, 1), (1, 3, 1), (0, 0, 0), "BBB"),
    ],
)
def test_e3_table(
    rule: str,
    scheduler: str,
    weights: tuple[int, ...],
    active: tuple[int, ...],
    inactive: tuple[int, ...],
    expected: str,
) -> None:
    server = in_order(scheduler, "ABC", *weights)
    for destination, open_, closed in zip(server.listed, active, inactive, strict=False):
        destination.active, destination.inactive = open_, closed
    assert server.picks(len(expected)) == expected, rule


def test_e3_rr_goes_on_behind_the_last_one_when_the_list_changes() -> None:
    server = in_order("rr", "abc")
    a, b, c = server.listed
    assert server.picks(2) == "ab"
    server.remove(a)
    server.add("d")
    assert server.picks(1) == "c"
    assert server.picks(3) == "dbc"
    server.remove(c)
    assert server.picks(3) == "dbd"
    server.remove(b)
    assert server.picks(2) == "dd"


def test_e3_rr_stays_at_the_head_until_something_was_chosen() -> None:
    server = in_order("rr", "b")
    server.add("a")
    assert server.picks(3) == "aba"


def test_e3_wrr_starts_a_pass_when_a_weight_changes() -> None:
    server = in_order("wrr", "ABC", 3, 2, 1)
    assert server.picks(2) == "AA"
    server.weigh(server.listed[0], 0)
    assert server.picks(6) == "BBCBBC"
    server.weigh(server.listed[0], 3)
    assert "".join(sorted(server.picks(6))) == "AAABBC"


def test_e3_dh_gives_each_virtual_server_one_destination() -> None:
    # The bucket of 0.0.0.1 is 2654435761 & 255 = 177, and 177 % 3 = 0 names the first destination.
    server = Server("dh", address="0.0.0.1")
    assert server.pick() == "-"
    for name in "CBA":
        server.add(name)
    assert {server.pick(client) for client in clients(50)} == {"A"}
    server.weigh(server.listed[0], 0)
    assert server.pick() == "-"
    server.remove(server.listed[0])
    # Of two the second has the odd buckets.
    assert server.pick() == "C"


def test_e3_sh_spreads_clients_by_weight_and_keeps_each() -> None:
    server = in_order("sh", "AB", 3, 1)
    addresses = [(f"127.244.1.{last}", 1) for last in range(256)]
    picks = [server.pick(client) for client in addresses]
    assert Counter(picks) == {"A": 192, "B": 64}
    assert [server.pick((ip, 2)) for ip, _ in addresses] == picks
    server.weigh(server.listed[0], 0)
    assert set(picks) == {"A", "B"}
    assert Counter(server.pick(client) for client in addresses) == {"-": 128, "B": 128}


def test_e3_sh_port_spreads_the_connections_of_a_client() -> None:
    server = in_order("sh", "AB", flags=("sh-port",))
    assert Counter(server.pick(("127.244.1.9", 40000 + port)) for port in range(256)) == {"A": 128, "B": 128}


def test_e3_sh_fallback_finds_another_destination() -> None:
    server = in_order("sh", "ABC", flags=("sh-fallback",))
    before = {client: server.pick(client) for client in clients(200)}
    server.weigh(server.listed[1], 0)
    after = {client: server.pick(client) for client in clients(200)}
    assert set(after.values()) == {"A", "C"}
    for destination in server.listed:
        server.weigh(destination, 0)
    assert {server.pick(client) for client in clients(20)} == {"-"}
    assert set(before.values()) == {"A", "B", "C"}


def test_e3_lblc_moves_only_when_overloaded_while_another_is_nearly_idle() -> None:
    server = in_order("lblc", "AB")
    a, b = server.listed
    assert server.pick() == "A"
    a.active, b.active = 9, 1
    assert server.pick() == "A"
    b.active = 0
    assert server.pick() == "B"
    b.active = 1
    assert server.pick() == "B"
    server.weigh(b, 0)
    assert server.pick() == "A"
    server.weigh(a, 0)
    assert server.pick() == "-"


def test_e3_lblc_forgets_what_was_not_used_for_a_day() -> None:
    server = in_order("lblc", "AB")
    a, _ = server.listed
    assert server.pick(now=0.0) == "A"
    a.active = 1
    assert server.pick(now=DAY - 1) == "A"
    assert server.pick(now=2 * DAY - 2) == "A"
    assert server.pick(now=3 * DAY) == "B"


def test_e3_lblc_takes_one_that_came_back() -> None:
    server = in_order("lblc", "AB")
    a, b = server.listed
    assert server.pick() == "A"
    server.remove(a)
    assert server.pick() == "B"
    b.active = 1
    server.add("C")
    assert server.pick() == "B"


def test_e3_lblcr_grows_under_overload_and_shrinks_after_a_day_without_change() -> None:
    server = in_order("lblcr", "ABC")
    a, b, c = server.listed
    assert server.pick(now=0.0) == "A"
    a.active = 2
    assert server.pick(now=1.0) == "B"
    a.active, b.active, c.active = 1, 0, 1
    # Both are in the set, and its least loaded gets the connection.
    assert server.pick(now=2.0) == "B"
    b.active = 2
    assert server.pick(now=3.0) == "A"
    # The clock of the set runs from its last change.
    for now in (DAY - 1, DAY + 1, DAY + 1.5):
        assert server.pick(now=now) == "A"
    # It has lost B, its most loaded.
    a.active = b.active = c.active = 0
    a.inactive = 1
    assert server.pick(now=DAY + 2) == "A"


def test_e3_lblcr_forgets_a_set_that_was_not_used_for_a_day() -> None:
    server = in_order("lblcr", "AB")
    a, b = server.listed
    assert server.pick(now=0.0) == "A"
    a.active, b.active = 1, 0
    assert server.pick(now=DAY - 1) == "A"
    assert server.pick(now=2 * DAY - 1) == "B"


def test_e3_mh_hash_is_the_kernels_siphash() -> None:
    numbers = [0, 1, 2654435761, 0xFFFFFFFF, 127 << 24]
    # Python's own hash of bytes is SipHash-1-3, with a key of zeros when it is not randomized.
    program = f"print([hash(n.to_bytes(4, 'little')) & 0xFFFFFFFF for n in {numbers}])"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == str([hashed(number, 0) for number in numbers])


def test_e3_mh_keeps_nearly_all_clients_when_a_destination_goes() -> None:
    server = keyed("mh", 20)
    among = clients(1000)
    before = {client: server.pick(client) for client in among}
    # Each of 20 has about 50 of 1,000 clients: four standard deviations of a binomial distribution.
    assert all(abs(count - 50) < 28 for count in Counter(before.values()).values())
    gone = server.listed[7]
    server.remove(gone)
    moved = [c for c in among if before[c] != gone.key and server.pick(c) != before[c]]
    assert len(moved) < 60


def test_e3_mh_table_goes_by_weight_in_turns() -> None:
    server = Server("mh", "mh-port")
    for weight in (1, 2, 5):
        server.add(f"127.244.1.{weight}:80", weight)
    places = Counter(server.scheduler._table or server.scheduler._populate())  # type: ignore[attr-defined]
    assert sum(places.values()) == TABLE_SIZE
    # The list is newest first. A last round may be cut short by a destination's turns.
    for number, weight in enumerate((5, 2, 1)):
        assert abs(places[number] - TABLE_SIZE * weight / 8) < 6


def test_e3_mh_port_spreads_the_connections_of_a_client_and_without_it_they_stay_together() -> None:
    together, apart = keyed("mh", 10), keyed("mh", 10, "mh-port")
    connections = [("127.244.1.9", port) for port in range(40000, 40200)]
    assert len({together.pick(connection) for connection in connections}) == 1
    assert len({apart.pick(connection) for connection in connections}) == 10


def test_e3_mh_keeps_the_places_of_weight_0_and_falls_back_where_told_to() -> None:
    strict, lenient = keyed("mh", 10), keyed("mh", 10, "mh-fallback")
    among = clients(300)
    before = {client: strict.pick(client) for client in among}
    assert before == {client: lenient.pick(client) for client in among}
    quiet = strict.listed[4].key
    strict.weigh(strict.listed[4], 0)
    # The table is filled anew, with the last weight.
    strict.remove(strict.add("127.244.9.9:80"))
    lenient.weigh(lenient.listed[4], 0)
    for client in among:
        assert strict.pick(client) == (before[client] if before[client] != quiet else "-")
        assert lenient.pick(client) == before[client] or before[client] == quiet
        assert lenient.pick(client) not in (quiet, "-")
    for destination in list(lenient.listed):
        lenient.weigh(destination, 0)
    assert lenient.pick() == "-"


def test_e3_kube_proxy_always_sets_mh_port() -> None:
    assert flags_in_force("mh", ()) == ("mh-port",)
    assert flags_in_force("mh", ("mh-fallback",)) == ("mh-fallback", "mh-port")
    assert flags_in_force("sh", ("sh-port",)) == ("sh-port",)
    assert flags_in_force("rr", ()) == ()


def test_the_configuration_knows_the_schedulers_that_there_are() -> None:
    assert set(IPVS_SCHEDULERS) == set(SCHEDULERS)


# --- each against its definition ---

Definition = Callable[[list[Destination], tuple[str, int], float], Destination | None]


def overhead(destination: Destination) -> int:
    return destination.active * 256 + destination.inactive


def up(listed: list[Destination]) -> list[Destination]:
    return [destination for destination in listed if destination.weight > 0]


class Definitions:
    """The definitions, with what they remember. They look at the whole list each time."""

    def __init__(self, flags: tuple[str, ...]) -> None:
        self.port = bool({"sh-port", "mh-port"} & set(flags))
        self.fallback = bool({"sh-fallback", "mh-fallback"} & set(flags))
        self.last: Destination | None = None
        self.before_last: list[Destination] = []
        self.current = 0
        self.cached: Destination | None = None
        self.set: list[Destination] = []

    def changed(self, before: list[Destination], now: list[Destination]) -> None:
        if self.last is not None and self.last not in now:
            at = before.index(self.last)
            self.last = before[at - 1] if at else None
        weights = [destination.weight for destination in now if destination.weight]
        step = next((d for d in range(max(weights, default=1), 0, -1) if not any(w % d for w in weights)), 1)
        top = max(weights, default=0) - (step - 1)
        if self.current > top or not self.current:
            self.current = top
        elif step > 1:
            self.current = self.current // step * step + 1
        self.step, self.top = step, top
        self.wrr_last: Destination | None = None

    def rr(self, listed: list[Destination], client: tuple[str, int], now: float) -> Destination | None:
        start = listed.index(self.last) + 1 if self.last is not None else 0
        for destination in listed[start:] + listed[:start]:
            if destination.weight > 0:
                self.last = destination
                return destination
        return None

    def wrr(self, listed: list[Destination], client: tuple[str, int], now: float) -> Destination | None:
        if not up(listed):
            return None
        start = listed.index(self.wrr_last) + 1 if self.wrr_last is not None else 0
        while True:
            for destination in listed[start:]:
                if destination.weight >= self.current:
                    self.wrr_last = destination
                    return destination
            start = 0
            self.current -= self.step
            if self.current <= 0:
                self.current = self.top

    def lc(self, listed: list[Destination], client: tuple[str, int], now: float) -> Destination | None:
        return min(up(listed), key=overhead, default=None)

    def wlc(self, listed: list[Destination], client: tuple[str, int], now: float) -> Destination | None:
        return min(up(listed), key=lambda d: Fraction(overhead(d), d.weight), default=None)

    def sed(self, listed: list[Destination], client: tuple[str, int], now: float) -> Destination | None:
        return min(up(listed), key=lambda d: Fraction(d.active + 1, d.weight), default=None)

    def nq(self, listed: list[Destination], client: tuple[str, int], now: float) -> Destination | None:
        idle = [destination for destination in up(listed) if not destination.active]
        return idle[0] if idle else self.sed(listed, client, now)

    def dh(self, listed: list[Destination], client: tuple[str, int], now: float) -> Destination | None:
        if not listed:
            return None
        buckets = [listed[bucket % len(listed)] for bucket in range(256)]
        found = buckets[(to_int(ADDRESS) * 2654435761) & 255]
        return found if found.weight > 0 else None

    def sh(self, listed: list[Destination], client: tuple[str, int], now: float) -> Destination | None:
        if not listed:
            return None
        buckets: list[Destination] = []
        at = filled = 0
        for _ in range(256):
            buckets.append(listed[at])
            filled += 1
            if filled >= listed[at].weight:
                at, filled = (at + 1) % len(listed), 0
        key = (to_int(client[0]) + (client[1] if self.port else 0)) * 2654435761
        return self.fall_back(
            [buckets[key & 255]], (buckets[(key + s) & 255] for s in self.walk(key & 255, 256))
        )

    def walk(self, start: int, size: int) -> list[int]:
        return [(start + offset) % size for offset in range(size)] if self.fallback else []

    @staticmethod
    def fall_back(first: list[Destination], others: Iterable[Destination]) -> Destination | None:
        return next((found for found in chain(first, others) if found.weight > 0), None)

    def fo(self, listed: list[Destination], client: tuple[str, int], now: float) -> Destination | None:
        return max(up(listed), key=lambda d: d.weight, default=None)

    def ovf(self, listed: list[Destination], client: tuple[str, int], now: float) -> Destination | None:
        return self.fo([d for d in listed if d.active <= d.weight], client, now)

    def lblc(self, listed: list[Destination], client: tuple[str, int], now: float) -> Destination | None:
        node = self.cached
        if node is None or not self.usable(node, listed):
            node = self.wlc(listed, client, now)
            self.cached = node or self.cached
        return node

    def lblcr(self, listed: list[Destination], client: tuple[str, int], now: float) -> Destination | None:
        node = self.wlc([member for member in self.set if member in listed], client, now)
        if node is None or not self.usable(node, listed):
            node = self.wlc(listed, client, now)
            if node is not None and node not in self.set:
                self.set.insert(0, node)
        return node

    @staticmethod
    def usable(node: Destination, listed: list[Destination]) -> bool:
        if node not in listed or node.weight <= 0:
            return False
        return not (node.active > node.weight and any(m.active * 2 < m.weight for m in listed))

    def mh(self, listed: list[Destination], client: tuple[str, int], now: float) -> Destination | None:
        weights = [destination.last_weight for destination in listed]
        if not any(weights):
            return None
        step = next(d for d in range(max(weights), 0, -1) if not any(w % d for w in weights))
        shift = 0
        while (max(weights) // step) >> shift >= 64:
            shift += 1
        preferences = [self.preference(destination) for destination in listed]
        table: dict[int, Destination] = {}
        while len(table) < TABLE_SIZE:
            for destination, weight, preference in zip(listed, weights, preferences, strict=True):
                for _ in range(((weight // step) >> shift) or min(weight, 1)):
                    if len(table) < TABLE_SIZE:
                        table[next(place for place in preference if place not in table)] = destination
        key = to_int(client[0]) + (client[1] if self.port else 0)
        place = hashed(key, 2654435761) % TABLE_SIZE
        walk = self.walk(place, TABLE_SIZE) if up(listed) else []
        return self.fall_back(
            [table[place]], (table[hashed(key + offset, 2654435761) % TABLE_SIZE] for offset in walk)
        )

    @staticmethod
    def preference(destination: Destination) -> Iterator[int]:
        ip, _, port = destination.key.partition(":")
        number = to_int(ip) + int(port)
        offset = hashed(number, 2654435761) % TABLE_SIZE
        skip = hashed(number, 2654446892) % (TABLE_SIZE - 1) + 1
        return iter([(offset + turn * skip) % TABLE_SIZE for turn in range(TABLE_SIZE)])


@pytest.mark.parametrize(
    "named",
    [
        *SCHEDULERS,
        "sh sh-port",
        "sh sh-fallback",
        "sh sh-port sh-fallback",
        "mh mh-port",
        "mh mh-port mh-fallback",
    ],
)
def test_e3_definition(named: str) -> None:
    """Random histories of servers that come, go, change weight, and have connections."""
    scheduler, *flags = named.split()
    for seed in range(4 if scheduler == "mh" else 40):
        random = Random(seed)
        server, definitions = Server(scheduler, *flags), Definitions(tuple(flags))
        definitions.changed([], [])
        define: Definition = getattr(definitions, scheduler)
        for number in range(4):
            before = list(server.listed)
            server.add(f"127.244.{seed}.{number + 200}:80", random.randint(0, 3))
            definitions.changed(before, server.listed)
        for step in range(30 if scheduler == "mh" else 120):
            before = list(server.listed)
            match random.choice(["add", "remove", "weigh", *["pick"] * 6, *["load"] * 3]):
                case "add" if len(before) < 12:
                    server.add(f"127.244.{seed}.{step + 2}:80", random.randint(0, 6))
                    definitions.changed(before, server.listed)
                case "remove" if before:
                    server.remove(random.choice(before))
                    definitions.changed(before, server.listed)
                case "weigh" if before:
                    server.weigh(random.choice(before), random.choice([0, 0, 1, 2, 4, 500]))
                    definitions.changed(before, server.listed)
                case "load" if before:
                    loaded = random.choice(before)
                    loaded.active, loaded.inactive = random.randint(0, 3), random.choice([0, 0, 256, 300])
                case "pick":
                    client = (f"127.244.1.{random.randint(2, 250)}", random.randint(40000, 50000))
                    expected = define(list(server.listed), client, float(step))
                    assert server.scheduler.pick(client, float(step)) is expected, (scheduler, seed, step)


def test_e3_mh_scales_huge_weights_down() -> None:
    """Turns are scaled down: a weight of 65,535 is no more than 63 turns, and one of 1 still gets one."""
    server = Server("mh")
    server.add("127.244.1.2:80", 1)
    server.add("127.244.1.3:80", 65535)
    spread = Counter(server.pick(client) for client in clients(2000))
    assert 5 < spread["127.244.1.2:80"] < 80
