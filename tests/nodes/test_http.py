import asyncio
from collections.abc import Awaitable

import pytest

from emu.nodes.http import ENOUGH, MAX_BODY, HttpSession, Request, Response, text

CLIENT, SERVER = ("127.200.2.2", 40000), ("127.200.2.3", 80)


def app(request: Request) -> Response:
    return text(f"{request.method} {request.path} {request.query} {len(request.body)}")


def session() -> HttpSession:
    return HttpSession(app, CLIENT)


def test_keep_alive_is_the_default_of_http_1_1() -> None:
    conversation = session()
    answer = conversation.receive(b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nDate: ")
    assert b"Content-Length: 12\r\n" in answer
    assert answer.endswith(b"\r\n\r\nGET /a b=c 0")
    assert not conversation.finished


@pytest.mark.parametrize(
    ("rule", "head", "header", "finished"),
    [
        ("1.1 with close", b"GET / HTTP/1.1\r\nConnection: close\r\n", b"Connection: close", True),
        ("1.0", b"GET / HTTP/1.0\r\n", b"Connection: close", True),
        (
            "1.0 with keep-alive",
            b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n",
            b"Connection: keep-alive",
            False,
        ),
        (
            "an upgrade is not followed",
            b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
            b"Connection: close",
            True,
        ),
    ],
)
def test_connection_persistence(rule: str, head: bytes, header: bytes, finished: bool) -> None:
    conversation = session()
    assert header in conversation.receive(head + b"\r\n"), rule
    assert conversation.finished is finished


def test_pipelined_requests_are_answered_in_order() -> None:
    answer = session().receive(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % n for n in range(5)))
    assert [answer.index(b"GET /%d " % n) for n in range(5)] == sorted(
        answer.index(b"GET /%d " % n) for n in range(5)
    )


def test_a_client_takes_answers_before_it_gets_more_of_them() -> None:
    size = 10_000
    conversation = HttpSession(lambda request: text("x" * size), CLIENT)
    answer = conversation.receive(b"GET / HTTP/1.1\r\n\r\n" * 1000)
    parts = [len(answer)]
    while conversation.stream is not None:
        assert list(conversation.stream) == []
        parts.append(len(conversation.resume()))
    assert max(parts) < ENOUGH + 2 * size
    assert sum(parts) > 1000 * size
    assert conversation.idle


def test_a_request_may_come_in_single_bytes() -> None:
    conversation = session()
    answer = b""
    for byte in b"POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc":
        answer += conversation.receive(bytes([byte]))
    assert answer.endswith(b"POST /x  3")


def test_chunked_body() -> None:
    answer = session().receive(
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    assert answer.endswith(b"POST /  5")


def test_expect_100_continue() -> None:
    conversation = session()
    head = b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    assert conversation.receive(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert conversation.receive(b"ok").startswith(b"HTTP/1.1 200 OK\r\n")


def test_head_has_the_length_and_no_body() -> None:
    answer = session().receive(b"HEAD /a HTTP/1.1\r\n\r\n")
    assert b"Content-Length: 10\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("rule", "data", "status"),
    [
        ("not HTTP", b"\x16\x03\x01\x02\x00\x01", b"400"),
        ("too long a head", b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 70_000, b"431"),
        (
            "too long a body",
            b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1) + b"z" * (MAX_BODY + 1),
            b"413",
        ),
    ],
)
def test_bad_requests_end_the_connection(rule: str, data: bytes, status: bytes) -> None:
    conversation = session()
    answer = b"".join(conversation.receive(data[at : at + 16384]) for at in range(0, len(data), 16384))
    assert answer.startswith(b"HTTP/1.1 " + status), rule
    assert conversation.finished
    assert conversation.failed
    assert conversation.receive(b"more") == b""


async def test_answers_after_an_awaited_one_wait_for_it() -> None:
    later: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def slow_first(request: Request) -> Response | Awaitable[Response]:
        return later if request.path == "/slow" else app(request)

    conversation = HttpSession(slow_first, CLIENT)
    assert conversation.receive(b"GET /slow HTTP/1.1\r\n\r\nGET /quick HTTP/1.1\r\n\r\n") == b""
    assert conversation.waiting is later
    answer = conversation.resume(text("slow"))
    assert answer.index(b"slow") < answer.index(b"GET /quick")


def test_draining_makes_the_next_answer_the_last() -> None:
    conversation = session()
    conversation.draining = True
    assert b"Connection: close" in conversation.receive(b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(
    ("rule", "target", "path"),
    [
        ("plain", "/a/b", "/a/b"),
        ("query is no part", "/a?b", "/a"),
        ("percent-encoding", "/a%20b", "/a b"),
        ("absolute form", "http://host:80/a", "/a"),
        ("absolute form without path", "http://host", "/"),
    ],
)
def test_path(rule: str, target: str, path: str) -> None:
    assert Request("GET", target, "1.1", [], b"", CLIENT, SERVER).path == path, rule
