"""The uplink as the supervisor runs it: a process of its own, told of chunks, heard through its heartbeats."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core import ipc
from brainforge_edge.core.config import EdgeConfig, NodeConfig, SealConfig, UplinkConfig
from brainforge_edge.core.errors import TransportError

UPLINK = "brainforge_edge.uplink.worker"
NODE = "bed-1"


class UplinkProcess:
    """Delivers what lies below `root`; `stats` is the last heartbeat."""

    def __init__(
        self,
        root: Path,
        port: int,
        *,
        environment: Mapping[str, str] | None = None,
        window_chunks: int = 64,
        keepalive_s: int = 8,
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.stats: dict[str, Any] = {}
        self.beats = 0
        ours, theirs = socket.socketpair()
        with theirs, (root / "uplink.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", UPLINK, "--fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdout=log, stderr=log, env=environment,
            )  # fmt: skip
        uplink = UplinkConfig(port=port, window_chunks=window_chunks, keepalive_s=keepalive_s)
        config = EdgeConfig(
            node=NodeConfig(id=NODE, root=str(root), run=str(root)),
            uplink=uplink,
            seal=SealConfig(enabled=False),
        )
        self._socket = ours
        self._channel = ipc.Channel(ours)
        self._channel.send(ipc.Start(config=msgspec.msgpack.encode(config), worker="uplink"))
        self._thread = threading.Thread(target=self._hear, name="heartbeats")
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def announce(self, archived: ipc.Archived) -> None:
        self._channel.send(archived)

    def private_mib(self) -> float:
        return private_mib(self.pid)

    @property
    def is_drained(self) -> bool:
        """Whether all that it knows of has its receipt, as it says itself."""
        stats = self.stats
        return stats.get("state") == "open" and stats["lag_chunks"] == 0 == stats["in_flight"]

    def until(self, is_so: Callable[[], object], most_s: float, what: str) -> float:
        """Wait for a condition; the seconds it took. TimeoutError names it."""
        started = time.monotonic()
        while not is_so():
            if self._process.poll() is not None:
                raise ChildProcessError(f"the uplink ended with {self._process.returncode}")
            if time.monotonic() - started > most_s:
                raise TimeoutError(f"{what} did not come within {most_s:g} s: {self.stats}")
            time.sleep(0.02)
        return time.monotonic() - started

    def stop(self) -> int:
        if self._process.poll() is None:
            self._channel.send(ipc.Stop())
        try:
            status = self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        return status

    def _hear(self) -> None:
        while True:
            try:
                message = self._channel.receive(None)
            except TransportError:
                return
            if message is None:
                return
            if isinstance(message, ipc.Heartbeat):
                self.stats = message.stats
                self.beats += 1


def private_mib(pid: int) -> float:
    """Memory that is this process's alone: what it would give back."""
    kib = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:", "Swap:")):
            kib += int(line.split()[1])
    return kib / 1024
