"""Small clients that wait for each answer: the time of one new connection, and datagrams there and back."""

from __future__ import annotations

import select
import socket
import time

_ANSWER_SECONDS = 2.0
_REQUEST = b"GET /hostname HTTP/1.1\r\nHost: benchmark\r\nConnection: close\r\n\r\n"
_DATAGRAM = b"hostname"
_UDP_CLIENTS = 16


def connection_times(address: tuple[str, int], count: int) -> list[float]:
    """Seconds from `connect` until the whole answer to one request is there, for each new connection."""
    return [_connection_time(address) for _ in range(count)]


def _connection_time(address: tuple[str, int]) -> float:
    began = time.perf_counter()
    with socket.create_connection(address, _ANSWER_SECONDS) as sock:
        sock.sendall(_REQUEST)
        answer = b""
        while data := sock.recv(65536):
            answer += data
    took = time.perf_counter() - began
    if not answer.startswith(b"HTTP/1.1 200"):
        raise OSError(f"{address[0]}:{address[1]} answered {answer[:40]!r}")
    return took


def datagrams_per_second(address: tuple[str, int], seconds: float) -> float:
    """Answers per second to clients that each send again when they have their answer."""
    answers = 0
    with select.epoll() as epoll:
        clients = {}
        for _ in range(_UDP_CLIENTS):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect(address)
            clients[sock.fileno()] = sock
            epoll.register(sock, select.EPOLLIN)
            sock.send(_DATAGRAM)
        began = time.perf_counter()
        while (now := time.perf_counter()) < began + seconds:
            ready = epoll.poll(_ANSWER_SECONDS)
            if not ready:
                raise TimeoutError(f"{address[0]}:{address[1]} does not answer datagrams")
            for fd, _ in ready:
                sock = clients[fd]
                sock.recv(65536)
                sock.send(_DATAGRAM)
            answers += len(ready)
        for sock in clients.values():
            sock.close()
    return answers / (now - began)
