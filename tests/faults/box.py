"""A daemon with emulated devices, each a process of its own, and the real command line beside it."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from brainforge_edge.cli.client import request
from brainforge_edge.cli.demo.children import Child, Children, python
from brainforge_edge.core.config import SOCKET_NAME
from brainforge_edge.core.errors import BrainforgeError

KINDS = {
    "opm": "opm",
    "fnirs": "fnirs",
    "accel_hat": "accel_hat",
    "cyton": "openbci",
}  # emulator → driver
STREAMS = {"opm": "mag", "cyton": "eeg"}


def cli(*arguments: object, timeout_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
    """The real command; exit status, stdout, stderr."""
    return subprocess.run(
        python("brainforge_edge.cli.main", *map(str, arguments)),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def check_refusal(result: "subprocess.CompletedProcess[str]", status: int, *words: str) -> None:
    """One sentence on stderr with cause and remedy, nothing else, and the documented status."""
    said = result.stderr.strip()
    assert result.returncode == status, f"status {result.returncode}: {said}\n{result.stdout}"
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1, said
    assert said.startswith("brainforge-edge: ")
    assert said.endswith(".")
    assert ": " in said.removeprefix("brainforge-edge: ")
    for word in words:
        assert word in said, f"{word!r} is not in {said!r}"


PATIENCE = 3.0  # a busy machine is slower


class Box:
    """One node below `root`; rings and socket in `run`."""

    def __init__(self, root: Path, run: Path) -> None:
        self.root = root
        self.run = run
        self.config = root / "edge.toml"
        self.recordings = root / "box" / "recordings"
        self.logs = root / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.children = Children(self.logs)
        self.emulators: dict[str, Child] = {}
        self.devices: list[str] = []
        self.daemon: Child | None = None
        self._starts = 0

    def link(self, name: str) -> Path:
        return self.run / "dev" / name

    def device(self, name: str, kind: str, *, port: Path | str | None = None) -> None:
        """A `[[device]]` with the driver `kind`."""
        where = json.dumps(str(port or self.link(name)))
        self.devices.append(
            f'[[device]]\nname = "{name}"\nkind = "{kind}"\nsettings = {{ port = {where} }}\n'
        )

    def emulate(
        self, name: str, emulator: str, *, channels: int = 8, more: tuple[str, ...] = ()
    ) -> Child:
        """A device at the port of `name`."""
        ledger = self.root / f"{name}.json"
        options = ("--ledger", str(ledger), "--channels", str(channels), *more)
        child = self.emulate_at(name, emulator, str(self.link(name)), *options)
        self.until(self.link(name).exists, 20, f"the port of {name}")
        return child

    def emulate_at(self, name: str, emulator: str, link: str, *options: str) -> Child:
        """A device called `name` at a path or on the network ("" for LSL); returns at once."""
        self._starts += 1
        where = ("--link", link) if link else ()
        command = python("brainforge_edge.cli.main", "emulate", emulator, *where, *options)
        child = self.children.start(f"emulator-{name}-{self._starts}", command, {})
        self.emulators[name] = child
        return child

    def end(self, child: Child, *, most_s: float = 40.0) -> int:
        """SIGTERM and wait; its exit status."""
        child.terminate()
        assert child.wait(most_s), f"{child.name} did not end"
        self.children.release([child])
        return int(child.process.returncode)

    def write_config(
        self,
        *,
        recording: str = "",
        uplink: str = "enabled = false",
        disk: str = "reserve_mib = 16",
        root: Path | None = None,
    ) -> None:
        """Sections of edge.toml; a small reserve, since many boxes lie on one disk here."""
        self.config.write_text(
            f'[node]\nid = "box"\nroot = "{root or self.root / "box"}"\nrun = "{self.run}"\n'
            f"[recording]\n{recording}\n[disk]\n{disk}\n[uplink]\n{uplink}\n"
            + "".join(self.devices)
        )
        if root is not None:
            self.recordings = root / "recordings"

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """The daemon, with more in its environment; returns when it answers."""
        self._starts += 1
        command = python("brainforge_edge.cli.main", "run", "--config", str(self.config))
        self.daemon = self.children.start(f"daemon-{self._starts}", command, environment or {})
        self.until(lambda: bool(self.status()), 20, "an answer of the daemon")

    def ask(self, verb: str, *, timeout_s: float = 60.0, **fields: object) -> dict[str, Any]:
        return request(self.run / SOCKET_NAME, verb, timeout_s=timeout_s, **fields)

    def status(self) -> dict[str, Any]:
        with suppress(BrainforgeError):
            return self.ask("status", timeout_s=5.0)
        return {}

    def stream(self, stream_id: str) -> dict[str, Any]:
        """As `status` tells of it; a worker that has just been started tells of no rows yet."""
        streams = self.status().get("streams", [])
        told: dict[str, Any] = next((s for s in streams if s["stream_id"] == stream_id), {})
        return dict.fromkeys(("head", "written", "durable", "recorded"), 0) | told

    def worker(self, name: str) -> dict[str, Any]:
        workers = self.status().get("workers", [])
        return next((w for w in workers if w["name"] == name), {})

    def is_streaming(self, stream_id: str) -> bool:
        figures = self.stream(stream_id)
        return figures.get("state") == "streaming" and bool(figures.get("head"))

    def until(self, is_so: Callable[[], object], most_s: float, what: str) -> float:
        """Wait for a condition; the seconds it took. `most_s` is for a machine that does nothing else."""
        started = time.monotonic()
        while not is_so():
            assert time.monotonic() - started < PATIENCE * most_s, (
                f"{what} did not come within {PATIENCE * most_s:g} s: {json.dumps(self.status(), indent=1)}"
            )
            time.sleep(0.05)
        return time.monotonic() - started

    def until_streaming(self, stream_id: str, most_s: float) -> float:
        return self.until(lambda: self.is_streaming(stream_id), most_s, f"samples of {stream_id}")

    def until_lost(self, stream_id: str, most_s: float) -> float:
        return self.until(
            lambda: self.stream(stream_id).get("state") in {"lost", "searching"},
            most_s,
            f"the end of the link of {stream_id}",
        )

    def signal(self, name: str, number: signal.Signals) -> None:
        self.emulators[name].process.send_signal(number)

    def quiet(self, stream_id: str) -> int:
        """End the device of a stream (it drains) and wait until its rows are in; the head."""
        self.end(self.emulators[stream_id.rpartition("-")[0]])
        self.until_lost(stream_id, 10)
        return int(self.stream(stream_id)["head"])

    def verify(
        self, folder: Path | None = None, *, status: int | None = 0
    ) -> dict[str, dict[str, Any]]:
        """recording → stream id → what `verify --json` says of it; any status while it is being written."""
        result = cli("verify", folder or self.recordings, "--json")
        assert status is None or result.returncode == status, result.stdout + result.stderr
        account = json.loads(result.stdout)
        return {
            r["recording"]: {s["stream_id"]: s for s in r["streams"]} for r in account["recordings"]
        }

    def ledger(self, name: str) -> dict[str, Any]:
        ledger: dict[str, Any] = json.loads((self.root / f"{name}.json").read_text())
        return ledger

    def close(self) -> None:
        for child in self.emulators.values():
            with suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGCONT)
        self.children.__exit__(None, None, None)


@contextmanager
def box_in(root: Path) -> Iterator[Box]:
    """A box without devices and daemon; all its processes end with the context."""
    memory = Path("/dev/shm")
    run = Path(tempfile.mkdtemp(prefix="bf-", dir=memory if memory.is_dir() else None))
    (run / "dev").mkdir()
    box = Box(root, run)
    try:
        yield box
    finally:
        box.close()
        shutil.rmtree(run, ignore_errors=True)


def spans(stream: dict[str, Any]) -> list[tuple[int, int, int]]:
    return [(inc, first, end) for inc, first, end in stream["spans"]]


def n_rows(account: dict[str, dict[str, Any]], stream_id: str) -> int:
    """Rows of a stream in all recordings."""
    return sum(r[stream_id]["rows"] for r in account.values() if stream_id in r)


def is_root() -> bool:
    return os.geteuid() == 0
