"""The Ganglion's accelerometer: rows of three axes out of single bytes, lossless account."""

from pathlib import Path

import numpy as np
import pytest

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.devices import ganglion_accel
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.ganglion_accel import Accelerometer, Axes
from brainforge_edge.devices.ganglion_decoder import GanglionDecoder, round_s, stream
from brainforge_edge.devices.gatt import Packet
from brainforge_edge.emulators.ganglion import Coder, accelerated, ganglion_source
from tests.drivers.bluetooth import of, read_until, ward

PACKET_NS = 10_000_000


def packet_of(firmware: int, row: int, digit: int) -> int:
    """Which packet since the start holds that digit of a row."""
    rounds, within = divmod(row, 10)
    per_round = 100 if firmware >= 3 else 101
    return rounds * per_round + within * 10 + digit


def expected(firmware: int, row: int, axes: Axes) -> list[int]:
    digits = (2, 1, 0) if axes == "brainflow" else (1, 2, 3)
    packets = [packet_of(firmware, row, digit) for digit in digits]
    if firmware < 3 and axes == "brainflow" and row % 10 == 0:
        packets[2] -= 1  # id 0 has none: the last id of the round before has the digit 0
    return [accelerated(packet) for packet in packets]


def decoded(firmware: int, axes: Axes, lost: set[int]) -> tuple[list[SampleBlock], LinkCounters]:
    counters = LinkCounters()
    info = ganglion_accel.stream("dut", round_s=round_s(firmware), axes=axes)
    decoder = GanglionDecoder(
        stream("dut"),
        counters,
        firmware=firmware,
        accelerometer=Accelerometer(info, counters, axes=axes),
    )
    coder = Coder(ganglion_source(), firmware=firmware)
    coder.has_accelerometer = True
    blocks: list[SampleBlock] = []
    for number in range(707):
        data, _, _ = coder.next()
        if number not in lost:
            blocks += decoder.feed(Packet(number * PACKET_NS, "", data))
    return of(blocks, "acc"), counters


@pytest.mark.parametrize("axes", ["brainflow", "openbci"])
@pytest.mark.parametrize("firmware", [2, 3])
@pytest.mark.parametrize("lost", [set(), {1}, {222}, {300, 301, 302}, set(range(400, 520))])
def test_every_row_is_the_boards_and_every_lost_one_is_named(
    firmware: int, axes: Axes, lost: set[int]
) -> None:
    blocks, _ = decoded(firmware, axes, lost)
    at = blocks[0].seq
    missing = 0
    for block in blocks:
        hole = block.seq - at
        assert hole == (block.gap.n if block.gap is not None else 0)
        missing += hole
        np.testing.assert_array_equal(block.data, [expected(firmware, block.seq, axes)])
        at = block.seq + 1
    # 707 packets are 7 rounds of one firmware, 7 and seven packets of the other.
    last = 69 if firmware == 2 or axes == "openbci" else 70
    assert at >= last
    assert blocks[0].seq + missing + len(blocks) == at
    if not lost:
        assert missing == 0


def test_a_row_of_which_an_axis_was_lost_is_counted() -> None:
    blocks, counters = decoded(3, "brainflow", {221})
    assert counters.broken_rows == 1
    assert [block.seq for block in blocks if block.gap is not None] == [23]


@pytest.mark.parametrize("firmware", ["2.0.1", "3.0.2"])
def test_the_driver_asks_for_it_and_describes_its_axes(tmp_path: Path, firmware: str) -> None:
    with ward(tmp_path) as place:
        board = place.add_ganglion(firmware)
        driver = place.ganglion_driver()
        infos = driver.open()
        blocks = of(read_until(driver, 15, "acc"), "acc")
        driver.close()
    info = infos[1]
    assert board.commands[0] == "n"
    assert info.stream_id == "dut-acc"
    assert info.sfreq == pytest.approx(10 if firmware[0] == "3" else 10 / 1.005)
    assert [(c.name, c.unit) for c in info.channels] == [(f"ACC_{axis}", "m/s^2") for axis in "XYZ"]
    assert info.channels[2].scale == pytest.approx(-0.016 * 9.80665)
    for block in blocks:
        np.testing.assert_array_equal(
            block.data, [expected(int(firmware[0]), block.seq, "brainflow")]
        )


def test_without_it_the_board_is_told_so(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        board = place.add_ganglion()
        driver = place.ganglion_driver(accelerometer=False)
        assert [info.stream_id for info in driver.open()] == ["dut-eeg"]
        read_until(driver, 20)
        driver.close()
    assert board.commands[0] == "N"
