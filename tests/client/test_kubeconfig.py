"""Kubeconfig files: written for kubectl, read back, and refused with a sentence."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
import yaml

from emu.client.kubeconfig import (
    Credentials,
    KubeconfigError,
    read_kubeconfig,
    wait_for_credentials,
    write_kubeconfig,
)

CREDENTIALS = Credentials("https://127.0.0.1:6443", b"-----BEGIN CERTIFICATE-----\n", "secret")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kubeconfig"


def test_what_is_written_is_read_and_only_the_owner_may(path: Path) -> None:
    write_kubeconfig(path, CREDENTIALS)
    assert read_kubeconfig(path) == CREDENTIALS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["kubeconfig"]


def test_rewriting_tightens_the_mode(path: Path) -> None:
    path.write_text("")
    path.chmod(0o644)
    write_kubeconfig(path, CREDENTIALS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_current_context_counts(path: Path) -> None:
    write_kubeconfig(path, CREDENTIALS)
    document = yaml.safe_load(path.read_text())
    document["contexts"].insert(0, {"name": "other", "context": {"cluster": "gone", "user": "gone"}})
    path.write_text(yaml.safe_dump(document))
    assert read_kubeconfig(path) == CREDENTIALS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist: start the cluster with `emu up`"),
        ("", "is not a kubeconfig"),
        ("- a list", "is not a kubeconfig"),
        ("{", "cannot be read"),
        ("contexts: []\nclusters: []\nusers: []\ncurrent-context: emu", "'emu'"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_name(path: Path, text: str | None, message: str) -> None:
    if text is not None:
        path.write_text(text)
    with pytest.raises(KubeconfigError) as caught:
        read_kubeconfig(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


async def test_waiting_for_a_file_that_is_about_to_be_written(path: Path) -> None:
    waiting = asyncio.create_task(wait_for_credentials(path))
    await asyncio.sleep(0)
    write_kubeconfig(path, CREDENTIALS)
    async with asyncio.timeout(5):
        assert await waiting == CREDENTIALS
