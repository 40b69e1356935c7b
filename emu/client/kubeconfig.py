"""Reading and writing kubeconfig files, as far as emu's own clusters need."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from pathlib import Path

import msgspec
import yaml

from emu.core.errors import UserError


class KubeconfigError(UserError):
    """A kubeconfig is missing or cannot be used. The message names the file and the remedy."""


class Credentials(msgspec.Struct, frozen=True):
    """Where the API server is, and how to be let in."""

    server: str
    """URL without a trailing slash."""
    ca: bytes
    """PEM of the CA that signed the server's certificate."""
    token: str

    def ssl_context(self) -> ssl.SSLContext:
        """A client context that trusts only the cluster's own CA."""
        return ssl.create_default_context(cadata=self.ca.decode())


def write_kubeconfig(path: Path, credentials: Credentials, name: str = "emu") -> None:
    """Write a kubeconfig that kubectl and the Python clients read; mode 0600, replaced atomically."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": credentials.server,
                    "certificate-authority-data": base64.b64encode(credentials.ca).decode(),
                },
            }
        ],
        "users": [{"name": f"{name}-admin", "user": {"token": credentials.token}}],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": f"{name}-admin", "namespace": "default"}}
        ],
        "current-context": name,
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        yaml.safe_dump(document, file, sort_keys=False)
    partial.replace(path)


def read_kubeconfig(path: Path) -> Credentials:
    """The credentials of the current context. Raises KubeconfigError."""
    try:
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise KubeconfigError(f"{path} does not exist: start the cluster with `emu up`") from None
    except (OSError, yaml.YAMLError) as error:
        raise KubeconfigError(f"{path} cannot be read: {error}") from None
    try:
        contexts = {entry["name"]: entry["context"] for entry in document["contexts"]}
        clusters = {entry["name"]: entry["cluster"] for entry in document["clusters"]}
        users = {entry["name"]: entry["user"] for entry in document["users"]}
        context = contexts[document["current-context"]]
        cluster = clusters[context["cluster"]]
        return Credentials(
            server=cluster["server"].rstrip("/"),
            ca=base64.b64decode(cluster["certificate-authority-data"]),
            token=users[context["user"]]["token"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise KubeconfigError(
            f"{path} is not a kubeconfig of emu's ({error!r} is missing); remove it and run `emu up` again"
        ) from None


async def wait_for_credentials(path: Path) -> Credentials:
    """The credentials of a kubeconfig that the API server may be about to write.

    Waits without limit for the file to appear; a file that is there and wrong raises KubeconfigError.
    """
    while not path.exists():  # noqa: ASYNC110  another process makes it: there is nothing to wait on but the file
        await asyncio.sleep(0.01)
    return read_kubeconfig(path)
