"""Residual fields and trigger words: what a helmet tells beside its samples, as streams."""

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from brainforge_edge.core.block import BlockFlag, GapBasis, GapCause, SampleBlock
from brainforge_edge.core.clockfit import ClockFit
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.devices.bfp import FrameFlag, FrameType, build_frame
from brainforge_edge.devices.bfp_beside import Residuals, Triggers, residual_info, trigger_info
from brainforge_edge.devices.bfp_decoder import BfpDecoder
from brainforge_edge.devices.bfp_driver import BfpDriver
from brainforge_edge.emulators.main import make_source
from brainforge_edge.emulators.source import PulseTrain
from tests.drivers.emulated import commanded, driver_for, emulated
from tests.drivers.test_opm_startup import Heard

CHANNELS = 9
INFO = StreamInfo(
    "dut-mag", "dut", 1000.0, Dtype.I24, tuple(ChannelInfo(f"C{n}") for n in range(2))
)
SECOND = 10_000_000  # ticks


def of(blocks: list[SampleBlock], stream: str) -> list[SampleBlock]:
    return [block for block in blocks if block.stream_id == f"dut-{stream}"]


class Beside(Heard):
    """A driver whose every block is kept."""

    def run(self, is_so: object, most: int = 8000) -> list[SampleBlock]:
        for _ in range(most):
            self.blocks += self.driver.read(0.05)
            self.notices += self.driver.notices()
            if callable(is_so) and is_so():
                return self.blocks
        raise AssertionError(self.driver.status)


def test_residual_fields_are_a_stream_on_the_grid_of_the_devices_clock(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS, inject=["laser@0.95+0.13"]) as device:
        first = driver_for("opm", device.link)
        first.open()
        commanded(first, "write_register", address=18, size=2, value=100)
        first.close()
        heard = Beside(device.link, silent_s=20)
        mag, residual = heard.infos
        blocks = heard.run(lambda: len(of(heard.blocks, "residual")) >= 12)
        proof = heard.driver.proof("dut-residual")
        heard.close()
    assert (residual.sfreq, residual.dtype, residual.n_channels) == (10.0, Dtype.F32, CHANNELS)
    assert residual.ch_names == mag.ch_names
    assert {(c.unit, c.scale) for c in residual.channels} == {("T", 1e-12)}
    assert proof.endswith(":status:100")
    rows = of(blocks, "residual")
    # The laser's loss and return were told between two periods: the grid knows nothing of it.
    assert {n.data["change"] for n in heard.notices if n.data.get("what") == "laser_unlocked"} == {
        "began",
        "ended",
    }
    # A machine that is busy makes the emulator late: a period without its frame has its name.
    for before, after in pairwise(rows):
        assert after.seq - before.seq - 1 == (after.gap.n if after.gap is not None else 0)
    told = [round(float(v), 1) for v in rows[-1].data[0]]
    assert told == heard.driver.status["residual_pt"]
    steps = np.diff([block.t_first_ns for block in rows])
    periods = np.diff([block.seq for block in rows])
    assert np.abs(steps - periods * 100_000_000).max() < 5_000_000
    near = min(of(blocks, "mag"), key=lambda b: abs(b.t_first_ns - rows[5].t_first_ns))
    assert abs(near.t_first_ns - rows[5].t_first_ns) < 50_000_000


def residuals() -> tuple[Residuals, ClockFit]:
    fit = ClockFit()
    fit.seed(0, 10**12)
    return Residuals(residual_info(INFO, 1000), clk_hz=1e7, flags=BlockFlag(0)), fit


def test_a_status_that_was_lost_is_a_named_gap_and_one_that_comes_again_is_left_out() -> None:
    under_test, fit = residuals()
    late = 30_000  # 3 ms
    rows = [
        under_test.row((1.0, 2.0), ticks=k * SECOND + late, boot=7, fit=fit)
        for k in (3, 4, 4, 7, 8)
    ]
    assert [row and row.seq for row in rows] == [3, 4, None, 7, 8]
    assert rows[0] is not None
    assert rows[0].flags & BlockFlag.FIRST
    assert rows[3] is not None
    gap = rows[3].gap
    assert gap is not None
    assert (gap.n, gap.plus_minus, gap.basis) == (2, 0, GapBasis.DEVICE_INDEX)
    again = under_test.row((1.0, 2.0), ticks=SECOND, boot=8, fit=fit)
    assert again is not None
    assert (again.seq, again.incarnation) == (1, 1)


def test_a_status_may_come_a_little_early_and_most_of_a_period_late() -> None:
    for offset in (-SECOND // 9, 0, SECOND // 2, SECOND * 5 // 6):
        under_test, fit = residuals()
        row = under_test.row((1.0, 2.0), ticks=5 * SECOND + offset, boot=7, fit=fit)
        assert row is not None
        assert row.seq == 5
        assert row.t_first_ns == fit.to_box(5_000_000_000)  # of its period, not of its sending


@pytest.mark.parametrize("link", ["", "udp://:0"])
def test_words_of_a_pulse_and_its_samples_have_the_same_edges(tmp_path: Path, link: str) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS, pulses_s=0.5, link=link) as device:
        heard = Beside(device.address, silent_s=20)
        trig = heard.infos[1]
        blocks = heard.run(lambda: sum(len(b.data) for b in of(heard.blocks, "trig")) > 1500)
        assert isinstance(heard.driver, BfpDriver)
        assert heard.driver.proof("dut-trig") == heard.driver.proof("dut-mag")
        assert heard.driver.clock("dut-trig") == heard.driver.clock("dut-mag")
        heard.close()
    assert (trig.stream_id, trig.dtype, trig.sfreq) == ("dut-trig", Dtype.I24, 1000.0)
    assert [(c.type, c.unit, c.scale) for c in trig.channels] == [("stim", "1", 1.0)]
    samples, words = of(blocks, "mag"), of(blocks, "trig")
    assert [(b.seq, b.t_first_ns, b.incarnation, len(b.data)) for b in samples] == [
        (b.seq, b.t_first_ns, b.incarnation, len(b.data)) for b in words
    ]
    plain = make_source("opm", channels=CHANNELS)
    amplitude = PulseTrain(0.5).amplitude
    seen = set()
    for block, word in zip(samples, words, strict=True):
        added = block.data[:, -1] - plain.rows(block.seq, len(block.data))[:, -1]
        clipped = np.abs(block.data[:, -1]) >= 2**23 - 1
        np.testing.assert_array_equal(word.data[~clipped, 0], added[~clipped] >= amplitude / 2)
        seen |= set(word.data[:, 0].tolist())
    assert seen == {0, 1}


def frame(index: int, n: int, words: bytes, *, flags: int = 0) -> bytes:
    payload = struct.pack("<QHHBBH", index, n, 2, 3, 0, 7) + words + bytes(6 * n)
    digital = FrameFlag.DIGITAL if words else 0
    return build_frame(
        FrameType.DATA, payload, stream=1, flags=flags | digital, seq=index // 4,
        ticks=10_000 * index, boot=1,
    )  # fmt: skip


def test_frames_without_words_and_lost_ones_are_gaps_of_the_words_alone() -> None:
    decoder = BfpDecoder({1: (INFO, 3)}, clk_hz=1e7, schema=7, flags=BlockFlag(0))
    decoder.triggers[1] = Triggers(trigger_info(INFO))
    words = struct.pack("<4H", 1, 2, 65_535, 0)
    data = (
        frame(0, 4, words)
        + frame(4, 4, b"")  # this one brings none
        + frame(8, 4, words)
        + frame(16, 4, words, flags=FrameFlag.DROPPED | FrameFlag.SATURATED)
    )
    blocks = decoder.feed(data, 10**12)
    trig = of(blocks, "trig")
    assert [block.seq for block in of(blocks, "mag")] == [0, 4, 8, 16]
    assert [block.seq for block in trig] == [0, 8, 16]
    assert trig[0].data[:, 0].tolist() == [1, 2, 65_535, 0]
    assert trig[0].flags & BlockFlag.FIRST
    assert [block.gap and (block.gap.n, block.gap.cause) for block in trig] == [
        None,
        (4, GapCause.DEVICE),
        (4, GapCause.DEVICE),
    ]
    assert not trig[2].flags & BlockFlag.SATURATED
    assert of(blocks, "mag")[3].flags & BlockFlag.SATURATED


def test_words_that_nobody_announced_are_left_out() -> None:
    decoder = BfpDecoder({1: (INFO, 3)}, clk_hz=1e7, schema=7, flags=BlockFlag(0))
    (block,) = decoder.feed(frame(0, 4, bytes(8)), 10**12)
    assert block.stream_id == "dut-mag"


def test_a_helmet_without_words_has_no_stream_of_them(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS) as device:
        driver = driver_for("opm", device.link)
        assert [info.stream_id for info in driver.open()] == ["dut-mag", "dut-residual"]
        driver.close()
