"""A virtual server: its list, the counts that `ipvsadm -Ln` shows, graceful removal, and persistence."""

from __future__ import annotations

import pytest

from emu.core.config import ProxyMode
from emu.core.endpoints import PortEndpoint
from emu.proxy.modes import new_balancer, reschedule
from emu.proxy.modes.base import Candidates
from emu.proxy.modes.ipvs import IpvsBalancer
from emu.proxy.modes.schedulers import SCHEDULERS

CLIENT = ("127.244.1.9", 1000)


class Server:
    """A virtual server whose real servers have names of one letter. Time goes on only when told to."""

    def __init__(
        self,
        names: str,
        scheduler: str = "rr",
        affinity: float | None = None,
        protocol: str = "TCP",
        flags: tuple[str, ...] = (),
    ) -> None:
        self.balancer = IpvsBalancer(scheduler, flags, "127.96.0.20", protocol)
        self.affinity = affinity
        self.now = 1000.0
        self.endpoints(names)

    def endpoints(self, names: str) -> None:
        self.candidates = Candidates(tuple(PortEndpoint(name, name, 80) for name in sorted(names)))
        self.balancer.update(self.candidates.endpoints, self.affinity)

    def choose(self, client: tuple[str, int] = CLIENT) -> str:
        chosen = self.balancer.choose(self.candidates, client, self.now)
        return chosen.key if chosen else "-"

    def choices(self, count: int) -> str:
        return "".join(self.choose() for _ in range(count))

    def connect(self, client: tuple[str, int] = CLIENT) -> str:
        """Choose, and set a connection up."""
        chosen = self.balancer.choose(self.candidates, client, self.now)
        assert chosen is not None
        self.balancer.begun(chosen, client, self.now)
        return chosen.key

    def end(self, name: str, client: tuple[str, int] = CLIENT) -> None:
        self.balancer.ended(PortEndpoint(name, name, 80), client, self.now)

    def shown(self) -> str:
        """`name:weight/active/inactive` in list order."""
        servers = self.balancer.real_servers(self.candidates, self.now)
        return " ".join(f"{s.key}:{s.weight}/{s.active}/{s.inactive}" for s in servers)


def test_e5_the_newest_real_server_is_first() -> None:
    server = Server("abc")
    assert server.shown() == "c:1/0/0 b:1/0/0 a:1/0/0"
    assert server.choices(4) == "cbac"
    server.endpoints("abcde")
    assert server.shown() == "e:1/0/0 d:1/0/0 c:1/0/0 b:1/0/0 a:1/0/0"
    assert server.choices(3) == "bae"
    server.endpoints("acde")
    assert server.shown() == "e:1/0/0 d:1/0/0 c:1/0/0 a:1/0/0"


def test_e5_the_list_is_that_of_the_candidates_whoever_comes_with_them() -> None:
    server = Server("abc")
    assert server.choose() == "c"
    for _ in range(3):
        # Another kind of client has an object of its own with the same endpoints.
        server.candidates = Candidates(server.candidates.endpoints)
        server.choose()
    assert server.shown() == "c:1/0/0 b:1/0/0 a:1/0/0"
    # The endpoints of the port are the same, and a node's zone makes others of them candidates.
    everyone, server.candidates = server.candidates, Candidates(server.candidates.endpoints[:2])
    assert set(server.choices(4)) == {"a", "b"}
    assert server.shown() == "b:1/0/0 a:1/0/0"
    server.candidates = everyone
    assert server.shown() == "c:1/0/0 b:1/0/0 a:1/0/0"


def test_e3_counts_are_active_while_open_and_inactive_in_time_wait() -> None:
    server = Server("a")
    for port in (1, 2, 3):
        server.connect(("127.244.1.9", port))
    assert server.shown() == "a:1/3/0"
    server.end("a")
    server.now += 60
    server.end("a")
    assert server.shown() == "a:1/1/2"
    server.now += 59.9
    assert server.shown() == "a:1/1/2"
    server.now += 0.1
    assert server.shown() == "a:1/1/1"
    server.now += 60
    assert server.shown() == "a:1/1/0"


def test_e3_udp_flows_are_inactive_all_their_life() -> None:
    server = Server("ab", "lc", protocol="UDP")
    assert server.connect() == "b"
    assert server.shown() == "b:1/0/1 a:1/0/0"
    assert server.choose() == "a"
    server.end("b")
    assert server.shown() == "b:1/0/0 a:1/0/0"


def test_e3_least_connection_goes_by_the_counts() -> None:
    server = Server("ab", "lc")
    assert [server.connect() for _ in range(4)] == ["b", "a", "b", "a"]
    server.end("a")
    assert server.connect() == "a"
    server.end("b")
    server.end("b")
    # Two that have just ended are less than two that are open.
    assert server.connect() == "b"
    assert server.shown() == "b:1/1/2 a:1/2/1"


def test_e7_a_server_with_connections_stays_with_weight_0_until_they_are_gone() -> None:
    server = Server("abc")
    assert server.connect() == "c"
    server.endpoints("ab")
    assert server.shown() == "c:0/1/0 b:1/0/0 a:1/0/0"
    assert server.choices(4) == "baba"
    server.end("c")
    server.now += 119
    assert server.shown() == "c:0/0/1 b:1/0/0 a:1/0/0"
    # Its last connection leaves TIME_WAIT at 1120; the checks are at 1080 and 1140.
    server.now = 1130.0
    assert server.shown() == "c:0/0/0 b:1/0/0 a:1/0/0"
    server.now = 1140.0
    assert server.shown() == "b:1/0/0 a:1/0/0"
    assert server.choices(2) == "ba"


def test_e7_a_server_without_connections_is_deleted_at_once() -> None:
    server = Server("abc")
    server.connect()
    server.connect()
    server.endpoints("b")
    assert server.shown() == "c:0/1/0 b:1/1/0"


def test_e7_udp_servers_are_deleted_at_once() -> None:
    server = Server("ab", protocol="UDP")
    assert server.connect() == "b"
    server.endpoints("a")
    assert server.shown() == "a:1/0/0"
    server.end("b")
    server.endpoints("ab")
    assert server.shown() == "b:1/0/0 a:1/0/0"


def test_e7_a_server_that_comes_back_has_its_weight_and_its_connections_again() -> None:
    server = Server("abc")
    assert [server.connect() for _ in range(3)] == ["c", "b", "a"]
    server.end("b")
    server.endpoints("ac")
    assert server.shown() == "c:1/1/0 b:0/0/1 a:1/1/0"
    # kube-proxy deletes it and adds it, so it comes to the head.
    server.endpoints("abc")
    assert server.shown() == "b:1/0/1 c:1/1/0 a:1/1/0"
    server.now += 300
    assert server.shown() == "b:1/0/0 c:1/1/0 a:1/1/0"


def test_e7_removal_is_forgotten_when_the_server_comes_back() -> None:
    server = Server("ab")
    assert server.connect() == "b"
    server.endpoints("a")
    assert server.choose() == "a"
    server.endpoints("ab")
    server.end("b")
    server.now += 600
    assert server.shown() == "b:1/0/0 a:1/0/0"


def test_e7_a_connection_that_ends_after_its_server_was_deleted() -> None:
    """It was chosen, and begun only after the endpoint had gone."""
    server = Server("ab")
    chosen = server.balancer.choose(server.candidates, CLIENT, server.now)
    assert chosen is not None
    assert chosen.key == "b"
    server.endpoints("a")
    assert server.shown() == "a:1/0/0"
    server.balancer.begun(chosen, CLIENT, server.now)
    server.endpoints("ab")
    assert server.shown() == "b:1/1/0 a:1/0/0"
    server.end("b")
    server.endpoints("a")
    server.now += 180
    assert server.shown() == "a:1/0/0"


def test_e7_the_check_counts_what_there_was_at_its_minute() -> None:
    server = Server("ab")
    assert server.connect() == "b"
    server.endpoints("a")
    server.choose()
    server.now = 1021.0
    server.end("b")
    # It leaves TIME_WAIT at 1141, just after the check at 1140.
    server.now = 1142.0
    assert server.shown() == "b:0/0/0 a:1/0/0"
    server.now = 1200.0
    assert server.shown() == "a:1/0/0"


def test_e7_a_server_that_comes_back_between_its_last_connection_and_the_check() -> None:
    server = Server("abc")
    assert server.connect() == "c"
    server.endpoints("ab")
    server.choose()
    server.end("c")
    server.now = 1130.0
    assert server.shown() == "c:0/0/0 b:1/0/0 a:1/0/0"
    server.endpoints("abc")
    assert server.shown() == "c:1/0/0 b:1/0/0 a:1/0/0"
    server.endpoints("abcd")
    assert server.shown() == "d:1/0/0 c:1/0/0 b:1/0/0 a:1/0/0"


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS.keys() - {"sh", "dh", "mh"}))
def test_e7_a_server_on_its_way_out_gets_nothing(scheduler: str) -> None:
    server = Server("abc", scheduler)
    held = server.connect()
    server.endpoints("abc".replace(held, ""))
    picks = server.choices(8)
    assert set(picks) <= set("abc") - {held}
    rest = {server.connect((f"127.244.1.{last}", 1)) for last in range(4)}
    server.endpoints("")
    assert server.choose() == "-"
    assert server.shown().count(":0/") == 1 + len(rest)


def test_e7_servers_that_are_gone_are_forgotten() -> None:
    server = Server("")
    for number in range(20):
        server.endpoints("abcd"[number % 4])
        name = server.connect()
        server.end(name)
        server.now += 200
        server.choose()
    udp = Server("ab", protocol="UDP")
    assert udp.connect() == "b"
    udp.endpoints("a")
    udp.choose()
    udp.end("b")
    assert len(server.balancer._known) <= 2
    assert list(udp.balancer._known) == ["a"]


@pytest.mark.parametrize("scheduler", ["sh", "dh", "mh"])
def test_e3_buckets_of_a_server_on_its_way_out_give_no_destination(scheduler: str) -> None:
    server = Server("ab") if scheduler != "mh" else Server("")
    names = ("127.244.1.2:80", "127.244.1.3:80")
    server.balancer = IpvsBalancer(scheduler, (), "127.96.0.20", "TCP")
    server.candidates = Candidates(tuple(PortEndpoint(name, name[:-3], 80) for name in names))
    server.balancer.update(server.candidates.endpoints, None)
    held = server.connect()
    assert held in names
    server.candidates = Candidates(tuple(e for e in server.candidates.endpoints if e.key != held))
    server.balancer.update(server.candidates.endpoints, None)
    assert server.choose() == "-"
    server.balancer.ended(PortEndpoint(held, held[:-3], 80), CLIENT, server.now)
    assert server.choose() == "-"
    server.now += 181
    assert server.choose() == next(name for name in names if name != held)


def test_e3_sh_fallback_goes_round_a_server_on_its_way_out() -> None:
    server = Server("ab", "sh", flags=("sh-fallback",))
    held = server.connect()
    other = "ab".replace(held, "")
    server.endpoints(other)
    assert server.choose() == other


def test_e1_no_real_server_no_destination() -> None:
    server = Server("", affinity=100.0)
    assert server.choose() == "-"
    assert server.shown() == ""
    server.endpoints("a")
    assert server.choose() == "a"


@pytest.mark.parametrize("affinity", [None, 100.0])
def test_another_scheduler_has_the_same_servers_and_connections(affinity: float | None) -> None:
    server = Server("abc", "rr", affinity)
    first = server.connect()
    server.connect(("127.244.1.10", 1))
    before = server.shown()
    reschedule(server.balancer, "lc", ())
    assert server.shown() == before
    assert server.connect(("127.244.1.11", 1)) == "a"
    assert server.choose() == (first if affinity else "c")


def test_e3_the_flags_that_a_user_sets_reach_the_scheduler() -> None:
    for flags, reached in ((), 1), (("sh-port",), 2):
        made = new_balancer(ProxyMode.IPVS, "sh", flags, "127.96.0.20", "TCP", None)  # type: ignore[arg-type]
        among = Candidates(tuple(PortEndpoint(name, name, 80) for name in "ab"))
        made.update(among.endpoints, None)
        chosen = [made.choose(among, ("127.244.1.9", port), 0.0) for port in range(20)]
        assert len({each.key for each in chosen if each}) == reached


# --- persistence ---


def test_e4_a_template_lasts_for_its_timeout_after_the_last_connection() -> None:
    server = Server("abc", affinity=300.0)
    assert server.connect() == "c"
    server.end("c")
    server.now += 299
    assert server.connect() == "c"
    server.end("c")
    server.now += 299
    assert server.choose() == "c"
    server.now += 300
    assert server.choose() == "b"


def test_e4_a_template_lives_while_its_client_has_connections() -> None:
    server = Server("abc", affinity=10.0)
    assert server.connect() == "c"
    server.now += 5000
    assert server.choose() == "c"
    assert server.choose(("127.244.1.10", 1)) == "b"


def test_e4_connections_count_until_they_have_left_time_wait_then_the_template_runs_out_its_minute() -> None:
    server = Server("abc", affinity=10.0)
    assert server.connect() == "c"
    server.end("c")
    # The timer ran out at 1010 and is looked at each minute; the connection leaves TIME_WAIT at 1120.
    server.now = 1129.0
    assert server.choose() == "c"
    other = Server("abc", affinity=10.0)
    assert other.connect() == "c"
    other.end("c")
    other.now = 1130.0
    assert other.choose() == "b"


def test_e4_a_template_that_outlived_its_timeout_has_a_minute_from_then_on() -> None:
    server = Server("abc", affinity=10.0)
    server.connect()
    server.now += 500
    assert server.connect() == "c"
    server.end("c")
    server.end("c")
    server.now += 121
    server.now += 58
    assert server.choose() == "c"
    server.now += 59
    assert server.choose() == "c"
    server.now += 61
    assert server.choose() == "b"


def test_e6_templates_of_weight_0_expire_at_once() -> None:
    server = Server("abc", affinity=10000.0)
    assert server.connect() == "c"
    server.endpoints("ab")
    assert server.choose() == "b"
    # It is tied to the new one, also when the old one is back.
    server.endpoints("abc")
    assert server.choices(3) == "bbb"


def test_e6_a_template_of_weight_0_is_gone_though_there_was_nothing_to_replace_it() -> None:
    server = Server("ab", affinity=10000.0)
    assert server.connect(("127.244.1.10", 1)) == "b"
    assert server.connect() == "a"
    server.endpoints("")
    assert server.choose() == "-"
    server.endpoints("ab")
    assert server.choose() == "b"


def test_e4_a_template_of_a_udp_server_that_is_gone_does_not_tie() -> None:
    server = Server("ab", affinity=10000.0, protocol="UDP")
    assert server.connect() == "b"
    server.endpoints("a")
    assert server.choose() == "a"


def test_e4_a_client_that_stayed_away_finds_its_server_again() -> None:
    """A template is looked at only when its client connects (ip_vs_check_template)."""
    server = Server("abc", affinity=10000.0)
    assert server.choose() == "c"
    server.endpoints("ab")
    assert server.choose(("127.244.1.10", 1)) == "b"
    server.endpoints("abc")
    assert server.choices(3) == "ccc"


def test_e4_templates_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emu.proxy.modes.persistence.TEMPLATES_AT_MOST", 3)
    server = Server("abcde", affinity=10000.0)
    names = [server.choose((f"127.244.1.{last}", 1)) for last in (0, 1, 2, 0, 3)]
    assert names == list("edceb")
    assert [server.choose((f"127.244.1.{last}", 1)) for last in (0, 2, 3)] == list("ecb")
    # Client 1 has made room: it was not seen for the longest time.
    assert server.choose(("127.244.1.1", 1)) == "a"


def test_e4_expired_templates_make_room() -> None:
    server = Server("abc", affinity=10.0)
    for last in range(50):
        server.choose((f"127.244.1.{last}", 1))
        server.now += 11
    assert len(server.balancer._templates._templates) <= 2


def test_memory_of_ended_connections_does_not_grow_with_their_rate() -> None:
    server = Server("abc")
    for number in range(3000):
        server.end(server.connect())
        server.now += 0.001 * (number % 3 == 0)
    entries = sum(len(entries) for _, entries in server.balancer._time_wait)
    assert entries <= 6
    assert server.shown() == "c:1/0/1000 b:1/0/1000 a:1/0/1000"
    server.now += 121
    assert server.shown() == "c:1/0/0 b:1/0/0 a:1/0/0"
