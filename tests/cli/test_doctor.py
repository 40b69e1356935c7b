"""What the doctor says of each kind of machine."""

import pytest

from emu.cli.doctor import Grade, _filters, _loopback, _low_ports
from emu.core.config import ClusterConfig


class Machine:
    def __init__(self, *, addresses=True, low_ports=True, filters=True):
        self.addresses, self.low_ports, self.filters = addresses, low_ports, filters

    def can_bind(self, address: str, port: int) -> bool:
        return self.addresses and (self.low_ports or not 0 < port < 1024)

    def can_filter(self) -> bool:
        return self.filters


CONFIG = ClusterConfig()


@pytest.mark.parametrize(
    ("finding", "grade", "remedy"),
    [
        (_loopback(CONFIG, Machine()), Grade.OK, ""),
        (_loopback(CONFIG, Machine(addresses=False)), Grade.BAD, "127."),
        (_low_ports(CONFIG, Machine()), Grade.OK, ""),
        (_low_ports(CONFIG, Machine(low_ports=False)), Grade.LESS, "ip_unprivileged_port_start=0"),
        (_filters(Machine()), Grade.OK, ""),
        (_filters(Machine(filters=False)), Grade.LESS, "CAP_NET_ADMIN"),
    ],
)
def test_finding(finding, grade, remedy):
    assert finding.grade is grade
    assert remedy in finding.remedy
    assert bool(finding.remedy) is (grade is not Grade.OK)
