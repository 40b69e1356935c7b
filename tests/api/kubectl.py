"""kubectl, each binary that is installed, against an API server alone."""

import asyncio
import os
import shutil
from pathlib import Path

from .conftest import Server

FOUND = [
    *([Path(path)] if (path := shutil.which("kubectl")) else []),
    *sorted(Path("/usr/lib/google-cloud-sdk/bin").glob("kubectl.1.*")),
]

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: nginx}
"""


class Kubectl:
    def __init__(self, binary: Path, server: Server, directory: Path) -> None:
        self._binary = binary
        self._arguments = ("--kubeconfig", str(server.kubeconfig), "--cache-dir", str(directory / "cache"))
        self.environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}

    async def run(self, *arguments: str, text: str = "", fails: bool = False) -> str:
        process = await asyncio.create_subprocess_exec(
            self._binary,
            *arguments,
            *self._arguments,
            env=self.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(30):
            output, _ = await process.communicate(text.encode())
        assert (process.returncode != 0) == fails, output.decode()
        return output.decode()
