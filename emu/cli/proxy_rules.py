"""`emu proxy rules`: what the real kube-proxy would have programmed, as the running kube-proxy tells it."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import typer

from emu.cli.running import running
from emu.core.errors import UserError

_TIMEOUT_SECONDS = 30.0


def show_rules(state_dir: Path | None, query: dict[str, str]) -> int:
    """Print the answer of kube-proxy's `/rules`; `query` are its parameters, empty ones are left out."""
    port = running(state_dir).config.fixed_ports.proxy_metrics
    given = urlencode({name: value for name, value in query.items() if value})
    url = f"http://127.0.0.1:{port}/rules?{given}"
    # No proxy that the environment names stands between this machine and itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_TIMEOUT_SECONDS) as answer:
            typer.echo(answer.read().decode(), nl=False)
    except urllib.error.HTTPError as error:
        raise UserError(error.read().decode().strip()) from None
    except OSError as error:
        cause = getattr(error, "reason", error)
        why = getattr(cause, "strerror", None) or cause
        raise UserError(f"kube-proxy does not answer at 127.0.0.1:{port} ({why}): see `emu status`") from None
    return 0
