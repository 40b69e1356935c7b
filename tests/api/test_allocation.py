import pytest

from emu.api.allocation import Band, pick, service_addresses


@pytest.mark.parametrize(
    ("band", "taken", "value"),
    [
        (Band(1, 10, 3), set(), 4),
        (Band(1, 10, 3), {4, 5}, 6),
        (Band(1, 10, 3), set(range(4, 11)), 1),
        (Band(1, 10, 3), set(range(1, 11)), None),
        (Band(1, 2, 0), {1}, 2),
    ],
)
def test_pick_prefers_the_upper_band(band: Band, taken: set[int], value: int | None):
    assert pick(band, taken, lambda count: 0) == value


@pytest.mark.parametrize(
    ("cidr", "static"), [("127.96.0.0/12", 256), ("127.1.0.0/24", 16), ("127.1.0.0/28", 0)]
)
def test_static_band(cidr: str, static: int):
    assert service_addresses(cidr).static == static
