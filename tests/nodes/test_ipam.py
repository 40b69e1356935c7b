import pytest

from emu.nodes.ipam import AddressesExhaustedError, AddressPool

CIDR = "127.200.1.0/29"  # .2 to .6 are pods'


def drain(pool: AddressPool) -> list[str]:
    found = []
    while True:
        try:
            found.append(pool.allocate().rpartition(".")[2])
        except AddressesExhaustedError:
            return found


def test_addresses_ascend_from_two() -> None:
    assert drain(AddressPool(CIDR)) == ["2", "3", "4", "5", "6"]


def test_an_empty_range_names_itself() -> None:
    pool = AddressPool(CIDR)
    drain(pool)
    with pytest.raises(AddressesExhaustedError, match=r"127\.200\.1\.0/29: 5 pods"):
        pool.allocate()


def test_freed_addresses_come_last_and_oldest_first() -> None:
    pool = AddressPool(CIDR)
    first, second = pool.allocate(), pool.allocate()
    pool.release(second)
    pool.release(first)
    assert drain(pool) == ["4", "5", "6", "3", "2"]


def test_a_restarted_node_keeps_taken_addresses_and_goes_on_above_them() -> None:
    pool = AddressPool(CIDR)
    assert pool.take("127.200.1.4")
    assert pool.take("127.200.1.2")
    assert drain(pool) == ["5", "6", "3"]


@pytest.mark.parametrize("address", ["127.200.1.1", "127.200.1.7", "127.200.2.2"])
def test_addresses_that_no_pod_may_have_are_not_taken(address: str) -> None:
    assert not AddressPool(CIDR).take(address)


def test_an_address_is_taken_once() -> None:
    pool = AddressPool(CIDR)
    assert pool.take("127.200.1.3")
    assert not pool.take("127.200.1.3")
    assert pool.holds("127.200.1.3")
    pool.release("127.200.1.3")
    assert not pool.holds("127.200.1.3")
