"""Classic BPF programs that let only some IPv4 sources reach a socket.

The program reads the source address through SKF_NET_OFF, finds it among sorted ranges by binary search, and
drops what it does not find: the kernel then discards the SYN or the datagram, as a firewall's DROP would.
`man 7 socket` (SO_ATTACH_FILTER) and the kernel's Documentation/networking/filter.rst give the encoding.

The kernel takes 4096 instructions, and a conditional jump reaches 255 of them. So the program is a tree of
pages, each small enough that all its jumps reach the two returns at its end. Single addresses are compared a
few at a time, and several in one aligned block of 32, as pods of a node often have, by one bit mask.
"""

from __future__ import annotations

import ctypes
import operator
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from emu.core.ranges import Ranges

MAX_INSTRUCTIONS = 4096

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27

_LOAD_WORD = 0x20
_LOAD_IMMEDIATE = 0x00
_LOAD_SCRATCH = 0x60
_STORE_SCRATCH = 0x02
_AND = 0x54
_SHIFT_LEFT_BY_X = 0x6C
_COPY_TO_X = 0x07
_JUMP = 0x05
_JUMP_IF_EQUAL = 0x15
_JUMP_IF_GREATER = 0x25
_JUMP_IF_AT_LEAST = 0x35
_JUMP_IF_ANY_BIT = 0x45
_RETURN = 0x06

_SOURCE_ADDRESS = (-0x100000 + 12) & 0xFFFFFFFF
_ACCEPT = 0xFFFFFFFF
_DROP = 0
_FARTHEST = 255
_BLOCK_BITS = 5
_LEAST_IN_MASK = 4
_SINGLES_IN_LEAF = 3

_CONDITIONS: dict[int, Callable[[int, int], bool]] = {
    _JUMP_IF_EQUAL: operator.eq,
    _JUMP_IF_GREATER: operator.gt,
    _JUMP_IF_AT_LEAST: operator.ge,
    _JUMP_IF_ANY_BIT: lambda word, mask: word & mask != 0,
}

Instruction = tuple[int, int, int, int]
"""(code, jump if true, jump if false, constant), as `struct sock_filter`."""

_pack = struct.Struct("HBBI").pack

# The bit of the address within its block of 32 goes to scratch word 0; then the address is loaded again.
_PREPARE_MASKS: list[Instruction] = [
    (_LOAD_WORD, 0, 0, _SOURCE_ADDRESS),
    (_AND, 0, 0, (1 << _BLOCK_BITS) - 1),
    (_COPY_TO_X, 0, 0, 0),
    (_LOAD_IMMEDIATE, 0, 0, 1),
    (_SHIFT_LEFT_BY_X, 0, 0, 0),
    (_STORE_SCRATCH, 0, 0, 0),
    (_LOAD_WORD, 0, 0, _SOURCE_ADDRESS),
]


class _Leaf(NamedTuple):
    """What the search ends at: it decides all addresses from `low` up to the next leaf's."""

    low: int
    high: int
    singles: tuple[int, ...] = ()
    """The accepted addresses, or none: then all from low to high are, or those in the mask."""
    mask: int = 0

    @property
    def length(self) -> int:
        """How many instructions it takes."""
        return len(self.singles) or (3 if self.mask else 1)


def compile_filter(allowed: Ranges) -> list[Instruction] | None:
    """The program for a set of sources, or None when it would be longer than the kernel takes."""
    # At best a mask holds 16 ranges in four instructions, search included: more need not be tried.
    if len(allowed) > MAX_INSTRUCTIONS * 4:
        return None
    if not allowed:
        return [(_RETURN, 0, 0, _DROP)]
    leaves = _leaves(allowed)
    masks = any(leaf.mask for leaf in leaves)
    program = list(_PREPARE_MASKS) if masks else [(_LOAD_WORD, 0, 0, _SOURCE_ADDRESS)]
    # A search comes to its first leaf also with smaller addresses.
    program += [(_JUMP_IF_AT_LEAST, 1, 0, leaves[0].low), (_RETURN, 0, 0, _DROP)]
    lengths = [0]
    for leaf in leaves:
        lengths.append(lengths[-1] + leaf.length)
    _Tree(leaves, lengths, program).add(0, len(leaves))
    return program if len(program) <= MAX_INSTRUCTIONS else None


def _leaves(ranges: Ranges) -> list[_Leaf]:
    """Group ranges so that they take few instructions."""
    leaves: list[_Leaf] = []
    singles: list[int] = []

    def flush() -> None:
        if singles:
            leaves.append(_Leaf(singles[0], singles[-1], tuple(singles)))
            singles.clear()

    at, count = 0, len(ranges)
    while at < count:
        low, high = ranges[at]
        block = low >> _BLOCK_BITS
        end = at
        while (
            end < count and ranges[end][1] >> _BLOCK_BITS == block and ranges[end][0] >> _BLOCK_BITS == block
        ):
            end += 1
        if end - at >= _LEAST_IN_MASK:
            flush()
            leaves.append(_Leaf(low, ranges[end - 1][1], mask=_mask(ranges[at:end])))
            at = end
            continue
        if low == high:
            singles.append(low)
            if len(singles) == _SINGLES_IN_LEAF:
                flush()
        else:
            flush()
            leaves.append(_Leaf(low, high))
        at += 1
    flush()
    return leaves


def _mask(ranges: Ranges) -> int:
    mask = 0
    for low, high in ranges:
        mask |= ((1 << (high - low + 1)) - 1) << (low & 31)
    return mask


class _Tree:
    """Writes the search over leaves: a tree of pages, each a tree of its own with its two returns."""

    def __init__(self, leaves: list[_Leaf], lengths: list[int], program: list[Instruction]) -> None:
        self._leaves = leaves
        self._lengths = lengths
        self._program = program

    def add(self, first: int, end: int) -> None:
        """Append the search of leaves[first:end]."""
        length = self._length(first, end)
        if length < _FARTHEST:
            self._add_page(first, end, len(self._program) + length)
            self._program += [(_RETURN, 0, 0, _ACCEPT), (_RETURN, 0, 0, _DROP)]
            return
        middle = (first + end) // 2
        here = len(self._program)
        # An unconditional jump reaches everything. Its length is known once the lower half is there.
        self._program += [(_JUMP_IF_AT_LEAST, 0, 1, self._leaves[middle].low), (_JUMP, 0, 0, 0)]
        self.add(first, middle)
        self._program[here + 1] = (_JUMP, 0, 0, len(self._program) - here - 2)
        self.add(middle, end)

    def _length(self, first: int, end: int) -> int:
        return self._lengths[end] - self._lengths[first] + end - first - 1

    def _add_page(self, first: int, end: int, accept: int) -> None:
        if end - first > 1:
            middle = (first + end) // 2
            self._program.append(
                (_JUMP_IF_AT_LEAST, self._length(first, middle), 0, self._leaves[middle].low)
            )
            self._add_page(first, middle, accept)
            self._add_page(middle, end, accept)
            return
        leaf = self._leaves[first]
        # From the next instruction; the return that drops follows the one that accepts.
        away = accept - len(self._program) - 1
        if leaf.singles:
            *others, last = leaf.singles
            for address in others:
                self._program.append((_JUMP_IF_EQUAL, away, 0, address))
                away -= 1
            self._program.append((_JUMP_IF_EQUAL, away, away + 1, last))
        elif leaf.mask:
            self._program += [
                (_JUMP_IF_GREATER, away + 1, 0, leaf.high),
                (_LOAD_SCRATCH, 0, 0, 0),
                (_JUMP_IF_ANY_BIT, away - 2, away - 1, leaf.mask),
            ]
        else:
            self._program.append((_JUMP_IF_GREATER, away + 1, away, leaf.high))


def run_filter(program: list[Instruction], source: int) -> bool:
    """What the kernel would decide for a source address: the meaning of a program, for tests."""
    at = word = index = scratch = 0
    while program[at][0] != _RETURN:
        code, if_true, if_false, constant = program[at]
        at += 1
        if code in _CONDITIONS:
            at += if_true if _CONDITIONS[code](word, constant) else if_false
        elif code == _JUMP:
            at += constant
        elif code == _COPY_TO_X:
            index = word
        elif code == _STORE_SCRATCH:
            scratch = word
        elif code == _LOAD_SCRATCH:
            word = scratch
        elif code == _LOAD_WORD:
            word = source
        else:
            word = {_LOAD_IMMEDIATE: constant, _AND: word & constant, _SHIFT_LEFT_BY_X: word << index}[code]
    return program[at][3] != _DROP


def attach(sock: socket.socket, allowed: Ranges) -> bool:
    """Attach the program to a socket, replacing an earlier one. False where that cannot be done."""
    program = compile_filter(allowed)
    if program is None:
        return False
    code = ctypes.create_string_buffer(b"".join([_pack(*instruction) for instruction in program]))
    fprog = struct.pack("H6xP", len(program), ctypes.addressof(code))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
    except OSError:
        return False
    return True


def detach(sock: socket.socket) -> bool:
    """Remove a socket's program. True also when it had none; False where the kernel refuses."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
