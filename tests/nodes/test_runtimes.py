import asyncio
import json

import msgspec
import pytest

from emu.core.objects import Container, ContainerPort, EnvVar
from emu.nodes.runtimes.base import pre_stop_seconds
from emu.nodes.runtimes.table import repository
from emu.planes.loopback import LoopbackPlane

from .network import CLIENT, SERVER, get, network, until


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("nginx", "docker.io/library/nginx"),
        ("nginx:1.27", "docker.io/library/nginx"),
        ("traefik/whoami", "docker.io/traefik/whoami"),
        ("registry.k8s.io/e2e-test-images/agnhost:2.53", "registry.k8s.io/e2e-test-images/agnhost"),
        ("localhost:5000/agnhost", "localhost:5000/agnhost"),
        ("nginx@sha256:abc", "docker.io/library/nginx"),
        ("host:5000/a/nginx:1@sha256:abc", "host:5000/a/nginx"),
    ],
)
def test_repository(image: str, name: str) -> None:
    assert repository(image) == name


async def test_netexec_answers_as_upstream() -> None:
    async with network() as net:
        assert net.serve(
            net.plan("registry.k8s.io/e2e-test-images/agnhost:2.53", "netexec", "--http-port=18201")
        ) == [("TCP", 18201), ("UDP", 8081)]
        rows = [
            ("/hostname", (200, "web-1")),
            ("/hostName", (200, "web-1")),
            ("/echo?msg=a%20b", (200, "a b")),
            ("/echo?msg=x&code=503", (503, "x")),
            ("/healthz", (200, "")),
            ("/header?key=user-agent", (200, "t")),
            ("/dial?host=127.0.0.1&port=1", (400, "request parameter not specified.\n")),
            ("/dial?host=127.0.0.1&port=1&request=x&protocol=x", (400, "unsupported protocol. x\n")),
        ]
        for target, expected in rows:
            assert await get(18201, target) == expected, target
        assert (await get(18201, "/clientip"))[1].startswith(f"{CLIENT}:")
        assert (await get(18201, "/"))[1].startswith("NOW: ")
        assert (await get(18201, "/redirect?location=/x"))[0] == 302
        assert (await get(18201, "/shell?cmd=id"))[0] == 501


async def test_netexec_dials_from_its_own_address() -> None:
    async with network() as net:
        net.serve(net.plan("agnhost", "netexec", "--http-port=18202", "--udp-port=18203"))
        for query, expected in (
            ("port=18202&request=clientip&tries=2", SERVER),
            ("port=18203&request=clientip&protocol=udp", SERVER),
            ("port=18203&request=echo%20Hi&protocol=udp", "hi"),
        ):
            _, body = await get(18202, f"/dial?host={SERVER}&{query}")
            answer = json.loads(body)
            assert "errors" not in answer
            assert all(response.startswith(expected) for response in answer["responses"]), query
        _, body = await get(18202, f"/dial?host={SERVER}&port=18299&request=hostname&tries=2")
        errors = json.loads(body)["errors"]
        assert len(errors) == 2
        assert errors[0].endswith(f"dial tcp {SERVER}:18299: connect: connection refused")
        status, body = await get(18202, "/dial?host=nowhere&port=80&request=hostname")
        assert (status, body) == (400, "host and/or port param are invalid. lookup nowhere: no such host\n")


async def test_netexec_exits_on_request() -> None:
    async with network() as net:
        net.serve(net.plan("agnhost", "netexec", "--http-port=18204", "--udp-port=-1"))
        assert (await get(18204, "/exit?code=x"))[1].startswith("argument 'code' must be an integer")
        request = asyncio.ensure_future(get(18204, "/exit?code=3"))
        await until(lambda: [end.code for end in net.exits] == [3])
        request.cancel()


async def test_serve_hostname() -> None:
    async with network() as net:
        assert net.serve(net.plan("agnhost", "serve-hostname", "--port=18205")) == [("TCP", 18205)]
        assert await get(18205, "/any") == (200, "web-1")
    async with network() as net:
        raw = net.plan("agnhost", "serve-hostname", "--http=false", "--tcp", "--udp", "--port=18206")
        assert net.serve(raw) == [("TCP", 18206), ("UDP", 18206)]
        reader, writer = await asyncio.open_connection(SERVER, 18206, local_addr=(CLIENT, 0))
        assert await reader.read() == b"web-1"
        writer.close()


async def test_connect_tells_why() -> None:
    async with network() as net:
        net.serve(net.plan("agnhost", "netexec", "--http-port=18207", "--udp-port=18208"))
        rows = [
            ((f"{SERVER}:18207",), 0, ""),
            ((f"{SERVER}:18298",), 1, "REFUSED"),
            ((f"{SERVER}:18208", "--protocol=udp", "--timeout=2s"), 0, ""),
            (("nowhere:80",), 1, "DNS"),
            ((SERVER,), 1, "UNKNOWN"),
        ]
        for args, code, start in rows:
            job = net.plan("agnhost", "connect", *args).job
            assert job is not None
            ended = await job()
            assert (ended.code, ended.message.partition(":")[0]) == (code, start), args
        net.servers[0].restrict(())
        plane_filters = net.plane.restrict(net.servers[0]._sock, ())  # type: ignore[arg-type]
        job = net.plan("agnhost", "connect", f"{SERVER}:18207", "--timeout=200ms").job
        assert job is not None
        assert (await job()).message == ("TIMEOUT" if plane_filters else "")


async def test_http_echo_and_nginx() -> None:
    async with network() as net:
        net.serve(net.plan("hashicorp/http-echo", "-text=hello", "-listen=:18209"))
        assert await get(18209, "/any") == (200, "hello\n")
        assert await get(18209, "/health") == (200, '{"status":"ok"}\n')
        ended = net.plan("hashicorp/http-echo").exit
        assert ended is not None
        assert ended.code == 127
    async with network() as net:
        ports = (ContainerPort(container_port=18210),)
        assert net.serve(net.plan("nginx:1.27", ports=ports)) == [("TCP", 18210)]
        assert "Welcome to nginx!" in (await get(18210))[1]
        assert (await get(18210, "/missing"))[0] == 404
        assert [port.port for port in net.plan("nginx").ports] == [80]


async def test_whoami() -> None:
    async with network() as net:
        env = (EnvVar(name="WHOAMI_PORT_NUMBER", value="18211"), EnvVar(name="WHOAMI_NAME", value="me"))
        net.serve(net.plan("traefik/whoami", env=env))
        _, body = await get(18211, "/path?q=1")
        assert body.startswith(f"Name: me\nHostname: web-1\nIP: {SERVER}\nRemoteAddr: {CLIENT}:")
        assert f"GET /path?q=1 HTTP/1.1\r\nHost: {SERVER}:18211\r\nUser-Agent: t\r\n" in body
        document = json.loads((await get(18211, "/api"))[1])
        assert document["hostname"] == "web-1"
        assert (await get(18211, "/health"))[0] == 200


async def test_any_other_image_serves_its_declared_ports_and_says_so() -> None:
    async with network() as net:
        ports = (ContainerPort(container_port=18212), ContainerPort(container_port=18213, protocol="UDP"))
        plan = net.plan("example.com/shop:1", ports=ports)
        assert net.serve(plan) == [("TCP", 18212), ("UDP", 18213)]
        assert 'image "example.com/shop:1" is not known' in plan.note
        assert "18212/TCP, 18213/UDP" in plan.note
        assert await get(18212, "/hostname") == (200, "web-1")
        with LoopbackPlane().connect_udp(CLIENT, SERVER, 18213) as sock:
            sock.send(b"hostname")
            async with asyncio.timeout(5):
                assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"web-1"


@pytest.mark.parametrize("image", ["busybox", "alpine:3", "curlimages/curl", "registry.k8s.io/pause:3.10"])
async def test_sleeping_images(image: str) -> None:
    async with network() as net:
        plan = net.plan(image)
        assert (plan.ports, plan.job, plan.exit, plan.elsewhere) == ((), None, None, False)


async def test_unknown_flags_end_the_container() -> None:
    async with network() as net:
        ended = net.plan("agnhost", "netexec", "--htp-port=80").exit
        assert ended is not None
        assert (ended.code, ended.message) == (1, "Error: unknown flag: --htp-port")


async def test_coredns_is_served_elsewhere() -> None:
    async with network() as net:
        assert net.plan("registry.k8s.io/coredns/coredns:v1.12.0").elsewhere


async def test_variables_in_arguments() -> None:
    async with network() as net:
        env = (EnvVar(name="PORT", value="18214"),)
        plan = net.plan("agnhost", "netexec", "--http-port=$(PORT)", "--udp-port=-1", env=env)
        assert [port.port for port in plan.ports] == [18214]


@pytest.mark.parametrize(
    ("pre_stop", "seconds"),
    [
        (None, 0),
        ({"sleep": {"seconds": 7}}, 7),
        ({"exec": {"command": ["sleep", "5"]}}, 5),
        ({"exec": {"command": ["/bin/sh", "-c", "touch /x; sleep 2.5 && true"]}}, 2.5),
        ({"exec": {"command": ["/bin/sleep", "3"]}}, 3),
        ({"exec": {"command": ["nginx", "-s", "quit"]}}, 0),
        ({"httpGet": {"port": 80}}, 0),
    ],
)
def test_pre_stop_hooks_that_sleep(pre_stop, seconds):
    document = {"name": "c", "lifecycle": {"preStop": pre_stop} if pre_stop else {}}
    assert pre_stop_seconds(msgspec.convert(document, Container)) == seconds


async def test_netexec_delays_its_shutdown():
    async with network() as net:
        assert net.plan("agnhost", "netexec", "--delay-shutdown=9").shutdown_seconds == 9
        assert net.plan("agnhost", "netexec").shutdown_seconds == 0
