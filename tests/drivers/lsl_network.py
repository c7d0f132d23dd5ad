"""A Lab Streaming Layer of this test process alone, and what stands in it.

liblsl reads its configuration once in a process: it is told before anything of it is used, and the
processes that a test starts inherit it.
"""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import DeviceConfig
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.lsl import network_settings
from brainforge_edge.devices.lsl_driver import LslDriver
from brainforge_edge.devices.registry import make_driver
from brainforge_edge.emulators.lsl import as_sent
from brainforge_edge.emulators.main import make_source

_folder = Path(tempfile.mkdtemp(prefix="lsl-"))
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
SESSION = f"test-{os.getpid()}"
CONFIGURATION = _folder / "lsl_api.cfg"
CONFIGURATION.write_text(network_settings(session=SESSION), encoding="ascii")
os.environ["LSLAPICFG"] = str(CONFIGURATION)


# Words of the emulator → options of its command.
OPTIONS = {
    "kind": "type", "sample_format": "format", "source_id": "source-id",
    "clock_offset_s": "clock-offset",
}  # fmt: skip


class Sender:
    """`emulate lsl` as a process."""

    def __init__(
        self, folder: Path, *, channels: int, sfreq: float, settings: dict[str, Any]
    ) -> None:
        self.source = make_source("lsl", channels=channels)
        self.format = settings.get("sample_format", "float32")
        self._path = folder / f"{settings.get('source_id', 'sender')}.json"
        options: dict[str, Any] = {
            "channels": channels, "sfreq": sfreq, "ledger": self._path, **settings
        }  # fmt: skip
        command = [sys.executable, "-m", "brainforge_edge.cli.main", "emulate", "lsl"]
        for name, value in options.items():
            values = value if isinstance(value, list) else [value]
            command += [f"--{OPTIONS.get(name, name)}", *map(str, values)]
        self.process = subprocess.Popen(command)

    def until_ready(self) -> None:
        deadline = time.monotonic() + 20
        while not self._path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ledger(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        return found

    def rows(self, index: int, n: int) -> NDArray[Any]:
        return as_sent(self.source.rows(index, n), self.source.channels, self.format)

    def stop(self) -> dict[str, Any]:
        """The last ledger."""
        if self.process.poll() is None:
            self.process.terminate()
        assert self.process.wait(20) == 0
        return self.ledger()


@contextmanager
def sender(
    folder: Path, *, channels: int = 8, sfreq: float = 1000.0, **settings: Any
) -> Iterator[Sender]:
    """A running outlet; `settings` as of `emulators.lsl.LslEmulator`."""
    made = Sender(folder, channels=channels, sfreq=sfreq, settings=settings)
    try:
        made.until_ready()
        yield made
    finally:
        if made.process.poll() is None:
            made.stop()


def driver_for(**settings: Any) -> LslDriver:
    device = DeviceConfig(name="dut", kind="lsl", settings={"resolve_s": 0.5, **settings})
    driver = make_driver(device, clock=SystemClock())
    assert isinstance(driver, LslDriver)
    return driver


def until_open(driver: LslDriver, most_s: float = 15.0) -> Any:
    """`open`, for as long as the stream is not there yet."""
    deadline = time.monotonic() + most_s
    while True:
        try:
            return driver.open()
        except DeviceError as error:
            if error.code != "device.lsl_not_found" or time.monotonic() > deadline:
                raise


def read_for(driver: LslDriver, seconds: float) -> list[SampleBlock]:
    blocks: list[SampleBlock] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        blocks += driver.read(0.05)
    return blocks


def check_rows(blocks: list[SampleBlock], sent: Sender) -> int:
    """Every row is the source's at the index that its first channel holds; that of the first row."""
    first = int(blocks[0].data[0, 0])
    for block in blocks:
        expected = sent.rows(int(block.data[0, 0]), len(block.data))
        assert block.data.dtype == expected.dtype
        np.testing.assert_array_equal(block.data, expected)
    return first


def time_errors_ms(blocks: list[SampleBlock], first: int, started_ns: int) -> NDArray[Any]:
    """By how much each block's time is later than its first sample's true one."""
    true = [started_ns + int(b.data[0, 0]) * 1e6 for b in blocks]
    assert first == int(blocks[0].data[0, 0])
    return np.array([(b.t_first_ns - t) / 1e6 for b, t in zip(blocks, true, strict=True)])
