"""A whole box with its devices, as the demo runs it, held open for measuring."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from brainforge_edge.cli.account import StreamAccount, account
from brainforge_edge.cli.client import request
from brainforge_edge.cli.demo.children import Child, Children, python
from brainforge_edge.cli.demo.evidence import collect, recorded_rows
from brainforge_edge.cli.demo.plan import DemoDevice, Plan
from brainforge_edge.cli.demo.watch import Watch
from brainforge_edge.cloud.broker.embedded import EmbeddedBroker
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import SOCKET_NAME
from brainforge_edge.core.errors import BrainforgeError
from tests.recordings import DATA

START_S = 60.0
LEDGER_S = 20.0
STOP_S = 120.0


def _replay(*parts: str) -> Path | None:
    path = DATA.joinpath(*parts)
    return path if path.exists() else None


HELMET = DemoDevice(
    name="helmet", kind="opm", emulator="opm",
    replay=_replay("meg", "elekta306_empty_room_raw.fif"),
)  # fmt: skip
CYTON = DemoDevice(
    name="cyton", kind="openbci", emulator="cyton",
    replay=_replay("eeg", "cyton_daisy_16ch_125hz.bdf"),
)  # fmt: skip
HELMET_SFREQ = 1000.0
_OPTIONS = {"opm": ("--sfreq", f"{HELMET_SFREQ:g}")}


class BenchBox:
    """`with BenchBox(…) as box`: emulators and daemon run, the devices stream.

    `is_whole` adds broker and aggregator; without, pipeline and uplink are off, and nothing is
    recorded but a recording that lies open in the plan's folder.
    """

    def __init__(
        self, root: Path, run: Path, *, devices: Sequence[DemoDevice], is_whole: bool
    ) -> None:
        self.plan = Plan(root=root, run=run, seconds=0, devices=tuple(devices))
        self.plan.make_folders()
        self.broker = EmbeddedBroker(root / "broker") if is_whole else None
        self.watch = Watch(self.plan, clock=SystemClock())
        self.named: dict[str, Child] = {}
        self._children = Children(self.plan.logs)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.watch.close()
        self._children.__exit__(kind, error, trace)
        if self.broker is not None:
            self.broker.stop()

    def _start(self) -> None:
        plan = self.plan
        toml = plan.toml(self.broker.start().port if self.broker else 1)
        if self.broker is None:
            toml = toml.replace("auto_record = true", "auto_record = false")
            toml = toml.replace(
                "[uplink]", "[pipeline]\nenabled = false\n\n[uplink]\nenabled = false"
            )
        else:
            address = f"127.0.0.1:{self.broker.port}"
            self._spawn("aggregator", "cloud", "run", "--root", str(plan.cloud),
                        "--broker", address)  # fmt: skip
        plan.config.write_text(toml, encoding="utf-8")
        for device in plan.devices:
            options = ["--link", str(plan.link(device)), "--ledger", str(plan.ledger(device))]
            if device.replay is not None:
                options += ["--replay", str(device.replay)]
            options += _OPTIONS.get(device.emulator, ())
            name = f"emulator-{device.name}"
            self._spawn(name, "emulate", device.emulator, *options)
        self._spawn("daemon", "run", "--config", str(plan.config))
        self.until(self._is_streaming, START_S, "streaming")

    def _spawn(self, name: str, *arguments: str) -> None:
        command = python("brainforge_edge.cli.main", *arguments)
        self.named[name] = self._children.start(name, command, {})

    def _is_streaming(self) -> bool:
        streams = self.streams().values()
        return {s["device"] for s in streams if s.get("head")} == {
            d.name for d in self.plan.devices
        }

    def status(self) -> dict[str, Any]:
        """Empty while the daemon does not answer yet."""
        try:
            return request(self.plan.run / SOCKET_NAME, "status", timeout_s=5.0)
        except BrainforgeError as error:
            if not error.code.startswith("daemon."):
                raise
            return {}

    def streams(self) -> dict[str, dict[str, Any]]:
        return {s["stream_id"]: s for s in self.status().get("streams", [])}

    def pids(self) -> dict[str, int]:
        """The daemon's processes, the supervisor first."""
        workers = {w["name"]: int(w["pid"]) for w in self.status()["workers"] if w["pid"]}
        return {"supervisor": self.named["daemon"].process.pid, **workers}

    def other_pids(self) -> dict[str, int]:
        """Emulators, aggregator and broker."""
        others = {n: c.process.pid for n, c in self.named.items() if n != "daemon"}
        if self.broker is not None and self.broker.pid:
            others["broker"] = self.broker.pid
        return others

    def ring(self, stream_id: str) -> Path:
        return self.plan.run / "rings" / f"{stream_id}.ring"

    def stop_recording(self) -> None:
        request(self.plan.run / SOCKET_NAME, "stop", timeout_s=STOP_S)

    def until(self, is_so: Callable[[], object], most_s: float, what: str) -> None:
        """TimeoutError names what did not come."""
        deadline = time.monotonic() + most_s
        while not is_so():
            self._children.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come within {most_s:g} s: {self.status()}")
            time.sleep(0.05)

    def stop_devices(self) -> dict[str, int]:
        """Their ledgers are final, and what they sent is acquired: rows by stream."""
        emulators = [self.named.pop(f"emulator-{device.name}") for device in self.plan.devices]
        for emulator in emulators:
            emulator.terminate()
        for emulator in emulators:
            if not emulator.wait(LEDGER_S):
                raise TimeoutError(f"{emulator.name} did not end")
        self._children.release(emulators)
        heads: dict[str, int] = {}
        steady_since = time.monotonic()
        while time.monotonic() - steady_since < 1.5:
            now = {name: int(s.get("head") or 0) for name, s in self.streams().items()}
            if now != heads:
                heads, steady_since = now, time.monotonic()
            time.sleep(0.25)
        return heads

    def close_books(self) -> list[StreamAccount]:
        """Devices stop, what they sent is recorded and stored; then the demo's account."""
        heads = self.stop_devices()
        self.stop_recording()
        wanted = recorded_rows(self.plan.recordings)
        self.until(
            lambda: all(self.watch.stored(name) >= n for name, n in wanted.items()),
            STOP_S,
            "the last chunk in the store",
        )
        return [account(evidence) for evidence in collect(self.plan, heads)]
