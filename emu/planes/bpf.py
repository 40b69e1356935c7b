"""Classic BPF programs that let only some IPv4 sources reach a socket.

The program reads the source address through SKF_NET_OFF, finds it among sorted ranges by binary search, and
drops what it does not find: the kernel then discards the SYN or the datagram, as a firewall's DROP would.
`man 7 socket` (SO_ATTACH_FILTER) and the kernel's Documentation/networking/filter.rst give the encoding.
"""

from __future__ import annotations

import ctypes
import socket
import struct

from emu.core.ranges import Ranges

MAX_INSTRUCTIONS = 4096

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27

_LOAD_WORD = 0x20
_JUMP = 0x05
_JUMP_IF_GREATER = 0x25
_JUMP_IF_AT_LEAST = 0x35
_RETURN = 0x06
_SOURCE_ADDRESS = (-0x100000 + 12) & 0xFFFFFFFF
_ACCEPT = 0xFFFFFFFF
_DROP = 0
_FARTHEST = 255

Instruction = tuple[int, int, int, int]
"""(code, jump if true, jump if false, constant), as `struct sock_filter`."""


def compile_filter(allowed: Ranges) -> list[Instruction] | None:
    """The program for a set of sources, or None when it would be longer than the kernel takes."""
    program = [(_LOAD_WORD, 0, 0, _SOURCE_ADDRESS), *_search(allowed)]
    return program if len(program) <= MAX_INSTRUCTIONS else None


def _search(ranges: Ranges) -> list[Instruction]:
    """Instructions that accept the loaded word when it lies in one of the ranges."""
    if not ranges:
        return [(_RETURN, 0, 0, _DROP)]
    if len(ranges) == 1:
        low, high = ranges[0]
        return [
            (_JUMP_IF_AT_LEAST, 0, 2, low),
            (_JUMP_IF_GREATER, 1, 0, high),
            (_RETURN, 0, 0, _ACCEPT),
            (_RETURN, 0, 0, _DROP),
        ]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    pivot = ranges[middle][0]
    if len(below) <= _FARTHEST:
        return [(_JUMP_IF_AT_LEAST, len(below), 0, pivot), *below, *above]
    # A conditional jump reaches 255 instructions; an unconditional one reaches all.
    return [(_JUMP_IF_AT_LEAST, 0, 1, pivot), (_JUMP, 0, 0, len(below)), *below, *above]


def run_filter(program: list[Instruction], source: int) -> bool:
    """What the kernel would decide for a source address: the meaning of a program, for tests."""
    at = 0
    word = 0
    while True:
        code, if_true, if_false, constant = program[at]
        at += 1
        if code == _RETURN:
            return constant != _DROP
        if code == _LOAD_WORD:
            word = source
        elif code == _JUMP:
            at += constant
        elif code == _JUMP_IF_AT_LEAST:
            at += if_true if word >= constant else if_false
        else:
            at += if_true if word > constant else if_false


def attach(sock: socket.socket, allowed: Ranges) -> bool:
    """Attach the program to a socket, replacing an earlier one. False where that cannot be done."""
    program = compile_filter(allowed)
    if program is None:
        return False
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
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
