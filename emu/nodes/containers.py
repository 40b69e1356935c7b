"""One container of a pod: started, probed, restarted with back-off, drained."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Coroutine

from emu.client.events import timestamp
from emu.core.objects import Container, Pod
from emu.core.ranges import EVERYONE
from emu.nodes.host import Host
from emu.nodes.probes import target_of, watch_readiness
from emu.nodes.runtimes.base import (
    Exit,
    Plan,
    PodIdentity,
    Surroundings,
    TcpPort,
    UdpPort,
    pre_stop_seconds,
)
from emu.nodes.runtimes.table import runtime_of
from emu.nodes.servers import Server, TcpServer, UdpServer
from emu.nodes.status import ContainerState, termination

log = logging.getLogger(__name__)

# KEP-4603: back-off of crashed containers from 1 s to 60 s, forgotten after ten minutes of running.
_FIRST_BACKOFF_SECONDS = 1.0
_LAST_BACKOFF_SECONDS = 60.0
_BACKOFF_FORGOTTEN_SECONDS = 600.0


class PortNotBoundError(Exception):
    """A container's port cannot be bound. The message names what is in the way and the remedy."""


class ContainerRun:
    """Runs a container on the pod's address. Call `start` once the pod may be reached."""

    def __init__(
        self,
        host: Host,
        pod: Pod,
        container: Container,
        identity: PodIdentity,
        restart_count: int,
        on_change: Callable[[], None],
    ) -> None:
        self.state = ContainerState(container.name, restart_count=restart_count)
        self._host = host
        self._pod = pod
        self._container = container
        self._identity = identity
        self._on_change = on_change
        self._surroundings = Surroundings(identity, host.pod_dialler(pod, identity.ip), self._exited)
        self._servers: list[Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._backoff = _FIRST_BACKOFF_SECONDS
        self._started = 0.0
        self._shutdown_seconds = 0.0
        self._obstacle_logged = ""

    @property
    def active(self) -> int:
        """Connections that are open."""
        return sum(server.active for server in self._servers)

    def start(self) -> None:
        """Bind the ports that the image and its arguments say, and begin to probe."""
        self._timer = None
        plan = runtime_of(self._container.image)(self._container, self._surroundings)
        now = timestamp()
        self._started = asyncio.get_running_loop().time()
        if plan.note:
            self._host.events.normal(self._pod, "EmulatedImage", f"container {self.state.name}: {plan.note}")
        self.state = self.state._replace(
            kind="running", reason="", message="", exit_code=0, started_at=now, finished_at="", ready=False
        )
        if plan.exit is not None:
            self._exited(plan.exit)
            return
        try:
            for port in plan.ports:
                self._listen(port)
        except PortNotBoundError as error:
            if self._obstacle_logged != str(error):
                self._obstacle_logged = str(error)
                log.warning("%s", error, extra={"pod": self._pod.key})
            self._host.events.warning(self._pod, "PortNotBound", str(error))
            self._exited(Exit(1, str(error)))
            return
        self._shutdown_seconds = plan.shutdown_seconds
        if plan.job is not None:
            self._run(self._work(plan))
        self._watch(plan)
        self._on_change()

    @property
    def serving(self) -> bool:
        """Whether it listens anywhere."""
        return bool(self._servers)

    @property
    def shutdown_seconds(self) -> float:
        """How long it goes on serving once it is asked to end: its preStop hook, then its program's delay."""
        return pre_stop_seconds(self._container) + self._shutdown_seconds

    def drain(self, on_idle: Callable[[], None]) -> None:
        """Stop accepting; call back for each server that has no connection left."""
        self._stop_tasks()
        for server in self._servers:
            self._host.unregister(server)
            server.drain(on_idle)

    def abort(self) -> None:
        """Stop at once."""
        self._stop_tasks()
        for server in self._servers:
            self._host.unregister(server)
            server.abort()
        self._servers.clear()

    def _listen(self, port: TcpPort | UdpPort) -> None:
        host, address = self._host, self._identity.ip
        allowed = (
            EVERYONE
            if self._pod.spec.host_network
            else host.policies.engine.sources(address, port.port, port.protocol)
        )
        server: Server
        try:
            if isinstance(port, TcpPort):
                server = TcpServer(host.shared, address, port.port, allowed, port.serve)
            else:
                server = UdpServer(host.shared, address, port.port, allowed, port.app)
        except (OSError, OverflowError) as error:
            raise PortNotBoundError(self._obstacle(port, error)) from None
        self._servers.append(server)
        host.register(server, f"container {self.state.name} of pod {self._pod.key}")

    def _obstacle(self, port: TcpPort | UdpPort, error: OSError | OverflowError) -> str:
        where = f"port {port.port}/{port.protocol} of container {self.state.name} cannot be bound"
        if isinstance(error, OverflowError):
            return f"{where}: it is not a port number"
        if error.errno in (errno.EACCES, errno.EPERM):
            return (
                f"{where}: ports below 1024 need a privilege on this machine; allow them with "
                "`sysctl net.ipv4.ip_unprivileged_port_start=0`, or use a higher port"
            )
        if error.errno == errno.EADDRINUSE:
            owner = self._host.owner(self._identity.ip, port.port, port.protocol)
            if owner is not None:
                return f"{where}: {owner} listens there; give one of them another port"
            return (
                f"{where}: another program of this machine listens on {self._identity.ip} or on all "
                f"addresses (see `ss -lnp sport = :{port.port}`); stop it, or use another port"
            )
        return f"{where}: {error.strerror or error}"

    def _watch(self, plan: Plan) -> None:
        probe = self._container.readiness_probe
        if probe is None:
            self.state = self.state._replace(ready=True)
            return
        target = target_of(probe, self._container, self._identity.ip)
        if isinstance(target, str):
            self._unhealthy(target)
            return
        self._run(
            watch_readiness(
                probe, target, self._host.dialler, self._readiness_changed, self._unhealthy, plan.elsewhere
            )
        )

    def _readiness_changed(self, ready: bool) -> None:
        self.state = self.state._replace(ready=ready)
        self._on_change()

    def _unhealthy(self, message: str) -> None:
        self._host.events.warning(self._pod, "Unhealthy", message)

    async def _work(self, plan: Plan) -> None:
        assert plan.job is not None
        self._exited(await plan.job())

    def _exited(self, exit_: Exit) -> None:
        """The container's process has ended: restart it if the pod's policy says so."""
        running = asyncio.get_running_loop().time() - self._started
        if running > _BACKOFF_FORGOTTEN_SECONDS:
            self._backoff = _FIRST_BACKOFF_SECONDS
        self.abort()
        ended = self.state._replace(
            kind="terminated",
            message=exit_.message,
            exit_code=exit_.code,
            finished_at=timestamp(),
            ready=False,
        )
        policy = self._pod.spec.restart_policy
        if policy == "Never" or (policy == "OnFailure" and exit_.code == 0):
            self.state = ended
        else:
            delay, self._backoff = self._backoff, min(self._backoff * 2, _LAST_BACKOFF_SECONDS)
            self.state = ended._replace(
                kind="waiting",
                reason="CrashLoopBackOff",
                message=exit_.message or f"back-off {delay:g}s restarting container {self.state.name}",
                restart_count=self.state.restart_count + 1,
                last=termination(self._pod, ended),
            )
            self._timer = asyncio.get_running_loop().call_later(delay, self.start)
        self._on_change()

    def _run(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _stop_tasks(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        current = asyncio.current_task()
        for task in list(self._tasks):
            if task is not current:
                task.cancel()
