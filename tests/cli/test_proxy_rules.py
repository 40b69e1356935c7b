"""`emu proxy rules` when kube-proxy cannot answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from emu.cli import proxy_rules
from emu.core.errors import UserError
from emu.planes.loopback import LoopbackPlane


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackPlane().listen_tcp("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
    ports = SimpleNamespace(fixed_ports=SimpleNamespace(proxy_metrics=port))
    monkeypatch.setattr(proxy_rules, "running", lambda state_dir: SimpleNamespace(config=ports))
    with pytest.raises(UserError) as refused:
        proxy_rules.show_rules(None, {})
    assert str(refused.value) == (
        f"kube-proxy does not answer at 127.0.0.1:{port} (Connection refused): see `emu status`"
    )
