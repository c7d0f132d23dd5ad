"""The authority's server as its own process, and how one speaks to it."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brainforge_edge.cli.demo.children import python
from brainforge_edge.cloud.authority.desk import ENROL_PATH
from brainforge_edge.cloud.broker.ports import free_port
from tests.broker.rig import wait_for

START_S = 60.0  # a slow machine


class Served:
    """`cloud ca serve` over `root`, at a port that stays the same over restarts."""

    def __init__(
        self,
        root: Path,
        *,
        days: float = 7.0,
        more: Sequence[str] = (),
        command: Sequence[str] = (),
    ) -> None:
        """`command` instead of the real one is given the same words behind it."""
        self.log = root / "served.log"
        self._words = ["--root", str(root), "--days", str(days), *more]
        self._command = command or python("brainforge_edge.cli.main", "cloud", "ca", "serve")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def start(self) -> "Served":
        """Returns when it listens."""
        before = len(self.lines("authority serves"))
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [*self._command, *self._words, "--listen", f"127.0.0.1:{self.port}"],
                stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        wait_for(
            lambda: len(self.lines("authority serves")) > before,
            timeout_s=START_S, why=self.log.read_text,
        )  # fmt: skip
        return self

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """What it logged; all lines are JSON."""
        if not self.log.exists():
            return []
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{"]
        return [line for line in found if event in {"", line["event"]}]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def wait(self) -> int:
        """Until it ends by itself."""
        assert self._process is not None
        return self._process.wait(START_S)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(START_S)

    def stop(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        return process.wait(START_S)


def call(
    port: int,
    body: bytes = b"",
    *,
    method: str = "POST",
    path: str = ENROL_PATH,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    """HTTP status, and the JSON that came."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def code(port: int, body: bytes, **options: Any) -> tuple[int, str]:
    """HTTP status, and the code of the error that came."""
    status, said = call(port, body, **options)
    return status, said["error"]["code"]
