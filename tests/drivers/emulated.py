"""An emulated device on a real pseudo-terminal, in a thread, and what a driver got from it."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from brainforge_edge.core.block import BlockFlag, SampleBlock
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import DeviceConfig
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices.base import DeviceCommand, Driver
from brainforge_edge.devices.registry import make_driver
from brainforge_edge.emulators.device import Switches
from brainforge_edge.emulators.main import run_emulator
from brainforge_edge.emulators.source import RowSource

BESIDE = ("-residual", "-trig")


class Emulated:
    """Link, switches and ledger of a running emulator."""

    def __init__(self, folder: Path, kind: str, *, link: Path | str = "", **settings: Any) -> None:
        self.link = folder / "port"
        # tcp:// and udp:// with the port that it got.
        self.address = str(link or self.link)
        self.ledger_path = folder / "ledger.json"
        self.switches = Switches()
        self._plugged = threading.Event()
        self._thread = threading.Thread(
            target=run_emulator,
            args=(kind,),
            kwargs={
                "link": self.address,
                "ledger": self.ledger_path,
                "switches": self.switches,
                "plugged": self._plugged.set,
                **settings,
            },
        )

    def start(self) -> None:
        self._thread.start()
        assert self._plugged.wait(20)
        self.address = self.ledger().get("link", self.address)

    def stop(self) -> None:
        self.switches.stop = True
        self._thread.join(10)
        assert not self._thread.is_alive()

    def ledger(self) -> dict[str, Any]:
        ledger: dict[str, Any] = json.loads(self.ledger_path.read_text())
        return ledger


@contextmanager
def emulated(folder: Path, kind: str, **settings: Any) -> Iterator[Emulated]:
    device = Emulated(folder, kind, **settings)
    device.start()
    try:
        yield device
    finally:
        device.stop()


def driver_for(kind: str, link: Path | str, **settings: Any) -> Driver:
    device = DeviceConfig(name="dut", kind=kind, settings={"port": str(link), **settings})
    return make_driver(device, clock=SystemClock())


def read_for(driver: Driver, seconds: float) -> list[SampleBlock]:
    blocks: list[SampleBlock] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        blocks += samples(driver.read(0.05))
    return blocks


def samples(blocks: Sequence[SampleBlock]) -> list[SampleBlock]:
    """What the device measures, without what it tells beside."""
    return [block for block in blocks if not block.stream_id.endswith(BESIDE)]


def read_to_the_end(driver: Driver) -> tuple[list[SampleBlock], DeviceError]:
    """Blocks until the link is lost, and how that was told."""
    blocks: list[SampleBlock] = []
    try:
        while True:
            blocks += samples(driver.read(0.05))
    except DeviceError as error:
        return blocks, error


def of_stream(blocks: list[SampleBlock], stream_id: str) -> list[SampleBlock]:
    return [block for block in blocks if block.stream_id == stream_id]


def n_rows(blocks: list[SampleBlock]) -> int:
    return sum(len(block.data) for block in blocks)


def check_rows(blocks: list[SampleBlock], source: RowSource, first_seq: int | None = None) -> int:
    """Every row equals the source's at its index, in order, holes named exactly; the sum of holes."""
    lost = 0
    expected = blocks[0].seq if first_seq is None else first_seq
    for block in blocks:
        hole = block.seq - expected
        assert hole >= 0
        if block.flags & BlockFlag.FIRST and block is blocks[0] and first_seq is None:
            assert block.gap is None
        elif hole:
            assert block.flags & BlockFlag.GAP_BEFORE
            assert block.gap is not None
            assert block.gap.n == hole
        else:
            assert block.gap is None
            assert not block.flags & BlockFlag.GAP_BEFORE
        lost += hole
        np.testing.assert_array_equal(block.data, source.rows(block.seq, len(block.data)))
        expected = block.seq + len(block.data)
    return lost


def check_times(blocks: list[SampleBlock], sfreq: float) -> None:
    """Labels never run backwards and keep the device's rhythm to a millisecond per block."""
    for before, after in pairwise(blocks):
        expected = before.t_first_ns + round((after.seq - before.seq) * 1e9 / sfreq)
        assert abs(after.t_first_ns - expected) < 2_000_000 + 0.001 * (expected - before.t_first_ns)


def commanded(
    driver: Driver, name: str, *, recording: str = "", **arguments: Any
) -> tuple[dict[str, Any], list[SampleBlock]]:
    """The values of the answer, asked by another thread while this one reads; DeviceError."""
    answers: list[dict[str, Any]] = []
    refusals: list[DeviceError] = []

    def ask() -> None:
        command = DeviceCommand(name=name, arguments=arguments, recording=recording)
        try:
            answers.append(driver.command(command).values)
        except DeviceError as error:
            refusals.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    blocks: list[SampleBlock] = []
    try:
        while asker.is_alive():
            blocks += samples(driver.read(0.02))
    finally:
        asker.join(20)
    if refusals:
        raise refusals[0]
    return answers[0], blocks
