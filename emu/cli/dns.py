"""`emu dns explain`: a name as a pod would resolve it, as the running CoreDNS explains it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import msgspec
import typer

from emu.cli.running import running
from emu.client.kubeconfig import read_kubeconfig
from emu.client.rest import ApiError, ApiUnreachable, Client
from emu.core.errors import UserError
from emu.core.objects import ObjectMeta, Pod
from emu.core.resolv_conf import ResolvConf, resolv_conf
from emu.core.settings import Settings, StateDir

_TIMEOUT_SECONDS = 90.0


def explain(state_dir: Path | None, name: str, source: str, qtype: str) -> int:
    """Print how `source`, a pod as NAMESPACE/NAME or "" for any of the namespace default, resolves a name."""
    settings = running(state_dir)
    pod = _pod(settings, source) if source else Pod(metadata=ObjectMeta(namespace="default"))
    config = settings.config
    dns_service = config.ranges.dns_service
    conf = resolv_conf(pod.spec, pod.namespace, config.cluster_domain, dns_service)
    if conf.nameservers[:1] == (dns_service,):
        inquiry = {
            "name": name,
            "type": qtype,
            "client": pod.ip or "127.0.0.1",
            "search": conf.search,
            "ndots": conf.ndots,
        }
        text = ask(settings.state, inquiry)
    else:
        text = f"It does not ask the cluster's DNS at {dns_service}, so there is nothing to explain.\n"
    typer.echo(f"{heading(pod, conf)}\n\n{text}", nl=False)
    return 0


def heading(pod: Pod, conf: ResolvConf) -> str:
    """Who asks, and by which resolv.conf."""
    who = f"{pod.key} ({pod.ip or 'no address yet'})" if pod.name else "Any pod of default"
    options = " ".join(f"{option}:{value}" if value else option for option, value in conf.options)
    lines = [
        f"{who}, dnsPolicy {pod.spec.dns_policy}:",
        *(f"  nameserver {server}" for server in conf.nameservers or ("of the machine",)),
        *([f"  search {' '.join(conf.search)}"] if conf.search else []),
        *([f"  options {options}"] if options else []),
    ]
    return "\n".join(lines)


def ask(state: StateDir, inquiry: dict[str, Any]) -> str:
    """CoreDNS's explanation. Raises UserError for its errors, and when it does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(_TIMEOUT_SECONDS)
        try:
            channel.connect(str(state.coredns_socket))
            channel.sendall(msgspec.json.encode(inquiry) + b"\n")
            with channel.makefile("rb") as answers:
                line = answers.readline()
        except OSError as error:
            why = error.strerror or error
            raise UserError(
                f"CoreDNS does not answer at {state.coredns_socket} ({why}): see `emu status`"
            ) from None
    answer = (
        msgspec.json.decode(line, type=dict[str, str]) if line else {"error": "CoreDNS has ended meanwhile"}
    )
    if "error" in answer:
        raise UserError(answer["error"])
    return answer["text"]


def _pod(settings: Settings, source: str) -> Pod:
    namespace, slash, name = source.rpartition("/")
    if not name or (slash and not namespace) or "/" in namespace:
        raise UserError(f'bad value for --from: "{source}" is not a pod, such as default/web-0')
    path = Pod.resource.path(namespace or "default", name)

    async def get() -> bytes:
        async with Client(read_kubeconfig(settings.state.kubeconfig), agent="emu-dns") as client:
            return await client.request("GET", path)

    try:
        return msgspec.json.decode(asyncio.run(get()), type=Pod)
    except ApiError as error:
        if error.code != 404:
            raise UserError(f"the API server refuses to show the pod ({error})") from None
        raise UserError(f'there is no pod "{name}" in namespace "{namespace or "default"}"') from None
    except ApiUnreachable as error:
        raise UserError(f"the API server cannot be asked ({error}): see {settings.state.logs}") from None
