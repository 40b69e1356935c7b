"""Flow records of a node: who reached which of its pods, on what path, by which rule."""

from __future__ import annotations

from emu.core.addresses import cidr_bounds, contains, to_int
from emu.core.policy import PolicyEngine
from emu.nodes.http import Address
from emu.nodes.servers import Server
from emu.telemetry.flows import FlowRecord, FlowRing, Path, Verdict

_REMEMBERED = 4096


class FlowLog:
    """Fills a FlowRing. What the policies say is asked once for each pair until they change."""

    def __init__(self, ring: FlowRing, engine: PolicyEngine, pods: str) -> None:
        self._ring = ring
        self._engine = engine
        self._pods = pods
        self._local: tuple[int, int] = (1, 0)
        self._node = ""
        self._paths: dict[str, Path | None] = {}
        self._reasons: dict[tuple[str, str, int, str], str] = {}
        self.total = dict.fromkeys(Verdict, 0)

    def local(self, pod_cidr: str, node: str) -> None:
        """Name what counts as this node."""
        self._local = cidr_bounds(pod_cidr)
        self._node = node
        self._paths.clear()

    def forget(self) -> None:
        """The policies have changed."""
        self._reasons.clear()

    def record(
        self, server: Server, client: Address, verdict: Verdict, path: Path | None, dialled: str, service: str
    ) -> None:
        """See `servers.Recorder`."""
        self.total[verdict] += 1
        source = client[0]
        path = path or self._path(source)
        reason = "" if self._engine.empty else self._reason(source, server)
        self._ring.add(_arrival, server, client, verdict, path, dialled, service, reason)

    def refused(self, client: Address, endpoint: str, dialled: str, service: str) -> None:
        """Nobody listens at the endpoint that kube-proxy has chosen."""
        self.total[Verdict.REFUSED] += 1
        record = FlowRecord(
            source=f"{client[0]}:{client[1]}",
            destination=dialled,
            endpoint=endpoint,
            service=service,
            path=Path.HANDOVER,
            verdict=Verdict.REFUSED,
            reason="refused: no container of the pod listens on the port",
        )
        self._ring.add(lambda: record)

    def _path(self, source: str) -> Path | None:
        if source in self._paths:
            return self._paths[source]
        path = None
        low, high = self._local
        if source == self._node or low <= to_int(source) <= high:
            path = Path.LOCAL
        elif contains(self._pods, source):
            path = Path.OVERLAY
        if len(self._paths) >= _REMEMBERED:
            self._paths.clear()
        self._paths[source] = path
        return path

    def _reason(self, source: str, server: Server) -> str:
        key = (source, server.address, server.port, server.protocol)
        reason = self._reasons.get(key)
        if reason is None:
            if len(self._reasons) >= _REMEMBERED:
                self._reasons.clear()
            reason = self._reasons[key] = self._engine.decide(*key).reason
        return reason


def _arrival(
    server: Server,
    client: Address,
    verdict: Verdict,
    path: Path | None,
    dialled: str,
    service: str,
    reason: str,
) -> FlowRecord:
    endpoint = f"{server.address}:{server.port}"
    return FlowRecord(
        protocol=server.protocol,
        source=f"{client[0]}:{client[1]}",
        destination=dialled or endpoint,
        endpoint=endpoint if dialled else "",
        service=service,
        path=path,
        verdict=verdict,
        reason=reason,
    )
