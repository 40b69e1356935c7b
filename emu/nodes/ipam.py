"""Addresses of one node's pods, as the CNI plugin host-local hands them out: pure bookkeeping."""

from __future__ import annotations

from collections import deque

from emu.core.addresses import pod_addresses, to_int, to_str


class AddressesExhaustedError(Exception):
    """Every address of the node's pod range is in use."""


class AddressPool:
    """Ascending addresses first; freed ones are given out again only when all others are, oldest first.

    A client that still dials a gone pod's address thus meets nobody for as long as possible.
    """

    def __init__(self, pod_cidr: str) -> None:
        self.pod_cidr = pod_cidr
        addresses = pod_addresses(pod_cidr)
        self._next = addresses.start
        self._stop = addresses.stop
        self._start = addresses.start
        self._freed: deque[int] = deque()
        self._used: set[int] = set()

    def allocate(self) -> str:
        """A free address. Raises AddressesExhaustedError."""
        while self._next < self._stop:
            number = self._next
            self._next += 1
            if number not in self._used:
                self._used.add(number)
                return to_str(number)
        if self._freed:
            number = self._freed.popleft()
            self._used.add(number)
            return to_str(number)
        raise AddressesExhaustedError(
            f"no address is left in {self.pod_cidr}: {len(self._used)} pods have one each"
        )

    def take(self, address: str) -> bool:
        """Keep an address that a pod has already. False when it is not of this range, or in use."""
        number = to_int(address)
        if not self._start <= number < self._stop or number in self._used:
            return False
        self._used.add(number)
        if number >= self._next:
            # What lies below may have been given out by an earlier process: it comes last.
            self._freed.extend(lower for lower in range(self._next, number) if lower not in self._used)
            self._next = number + 1
        elif number in self._freed:
            self._freed.remove(number)
        return True

    def holds(self, address: str) -> bool:
        """Whether an address is in use."""
        return to_int(address) in self._used

    def release(self, address: str) -> None:
        """Give an address back."""
        number = to_int(address)
        if number in self._used:
            self._used.remove(number)
            self._freed.append(number)
