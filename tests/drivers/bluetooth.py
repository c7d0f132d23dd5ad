"""Emulated Bluetooth devices in this process, and drivers for them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import convert
from brainforge_edge.devices import ganglion, muse, polar_h10
from brainforge_edge.devices.base import Driver
from brainforge_edge.emulators.athena import Athena, athena_source
from brainforge_edge.emulators.ble import Radio
from brainforge_edge.emulators.ganglion import Ganglion, GanglionSwitches, ganglion_source
from brainforge_edge.emulators.ledger import Ledger
from brainforge_edge.emulators.muse import Muse, MuseSwitches, muse_source
from brainforge_edge.emulators.polar import Polar, PolarSwitches, ecg_source
from tests.drivers.air import Air
from tests.drivers.emulated import n_rows


def address_of(number: int) -> str:
    return f"F0:0D:00:00:BF:{number:02X}"


class Ward:
    """A radio with headsets on it, and the box's adapter."""

    def __init__(self, radio: Radio, run: Path) -> None:
        self.radio = radio
        self.run = run
        self.air = Air.of(radio)
        self._peripherals: list[Any] = []
        self._drivers: list[Driver] = []  # a failed test must not leave their threads

    def add_muse(self, number: int = 1, *, name: str = "", **given: Any) -> Muse:
        source = given.pop("source", None) or muse_source(seed=number)

        async def make() -> Muse:
            headset = Muse(
                self.radio.link,
                source,
                ledger=Ledger(None),
                clock=SystemClock(),
                name=name or f"Muse-BF{number:02d}",
                address=address_of(number),
                switches=MuseSwitches(),
                **given,
            )
            await headset.peripheral.start()
            return headset

        headset = self.radio.call(make())
        self.keep(headset.peripheral)
        return headset

    def add_athena(self, **given: Any) -> Athena:
        async def make() -> Athena:
            ledger, clock = Ledger(None), SystemClock()
            source = given.pop("source", None) or athena_source()
            headset = Athena(self.radio.link, source, ledger=ledger, clock=clock, **given)
            await headset.peripheral.start()
            return headset

        headset = self.radio.call(make())
        self.keep(headset.peripheral)
        return headset

    def add_ganglion(
        self, firmware: str = "3.0.2", *, source: Any = None, pulses: Any = None, **switches: Any
    ) -> Ganglion:
        async def make() -> Ganglion:
            board = Ganglion(
                self.radio.link,
                source or ganglion_source(),
                ledger=Ledger(None),
                clock=SystemClock(),
                firmware=firmware,
                pulses=pulses,
                switches=GanglionSwitches(**switches),
            )
            await board.peripheral.start()
            return board

        board = self.radio.call(make())
        self.keep(board.peripheral)
        return board

    def add_polar(self, *, source: Any = None, pulses: Any = None, **switches: Any) -> Polar:
        async def make() -> Polar:
            strap = Polar(
                self.radio.link,
                source or ecg_source(),
                ledger=Ledger(None),
                clock=SystemClock(),
                pulses=pulses,
                switches=PolarSwitches(**switches),
            )
            await strap.peripheral.start()
            return strap

        strap = self.radio.call(make())
        self.keep(strap.peripheral)
        return strap

    def polar_driver(self, **settings: Any) -> polar_h10.PolarDriver:
        given = {"address": "F0:0D:00:00:10:01", "find_s": 3.0, **settings}
        config = convert(given, polar_h10.Config, "test")
        driver = polar_h10.make_driver(
            config, device="dut", clock=SystemClock(), run=self.run, backend=self.air.backend
        )
        self._drivers.append(driver)
        return driver

    def keep(self, peripheral: Any) -> None:
        self._peripherals.append(peripheral)

    def drop_link(self, device: Any) -> None:
        self.radio.call(device.peripheral.drop_link())

    def switch_off(self, device: Any) -> None:
        """It ends its connection and is not heard any more."""
        self.radio.call(device.peripheral.vanish())

    def switch_on(self, device: Any) -> None:
        self.radio.call(device.peripheral.start())

    def muse_driver(self, device: str = "dut", **settings: Any) -> muse.MuseDriver:
        given = {"address": address_of(1), "find_s": 3.0, **settings}
        config = convert(given, muse.Config, "test")
        driver = muse.make_driver(
            config, device=device, clock=SystemClock(), run=self.run, backend=self.air.backend
        )
        self._drivers.append(driver)
        return driver

    def ganglion_driver(self, **settings: Any) -> ganglion.GanglionDriver:
        given = {"address": "F0:0D:00:00:9A:01", "find_s": 3.0, **settings}
        config = convert(given, ganglion.Config, "test")
        driver = ganglion.make_driver(
            config, device="dut", clock=SystemClock(), run=self.run, backend=self.air.backend
        )
        self._drivers.append(driver)
        return driver

    def close(self) -> None:
        for driver in self._drivers:
            driver.close()
        for peripheral in self._peripherals:
            self.radio.call(peripheral.stop())


@contextmanager
def ward(run: Path) -> Iterator[Ward]:
    with Radio() as radio:
        place = Ward(radio, run)
        try:
            yield place
        finally:
            place.close()


def of(blocks: list[SampleBlock], suffix: str) -> list[SampleBlock]:
    return [block for block in blocks if block.stream_id == f"dut-{suffix}"]


def read_until(driver: Driver, rows: int, suffix: str = "eeg") -> list[SampleBlock]:
    """Blocks of every stream until that one has so many rows."""
    blocks: list[SampleBlock] = []
    until = time.monotonic() + 20
    while n_rows(of(blocks, suffix)) < rows:
        assert time.monotonic() < until
        blocks += driver.read(0.05)
    return blocks
