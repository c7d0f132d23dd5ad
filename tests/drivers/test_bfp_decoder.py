"""BFP/1 frames into blocks: exact gaps, restarts and garbage, over five transports."""

import random
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainforge_edge.core.block import BlockFlag, GapBasis, GapCause, SampleBlock
from brainforge_edge.core.stream import Dtype, StreamInfo
from brainforge_edge.devices.bfp import DATA_HEADER, FrameFlag, FrameType, build_frame
from brainforge_edge.devices.bfp_decoder import BfpDecoder
from brainforge_edge.emulators.source import LoopSource, helmet_channels, synthetic
from tests.drivers.emulated import check_rows, n_rows
from tests.unit.bfp_oracle import parse
from tests.unit.transports import TRANSPORTS, UNHARMED, Transport

SFREQ = 1000.0
CLK_HZ = 10_000_000
SOURCE = synthetic(helmet_channels(9), sfreq=SFREQ, seed=5, noise=300.0)
INFO = StreamInfo("h-mag", "h", SFREQ, Dtype.I24, SOURCE.channels)
SCHEMA = 0x1234


@dataclass
class Wire:
    """Frames of a helmet, one after the other."""

    boot: int = 7
    boot_ticks: int = 0
    seq: int = 0

    def data(self, first: int, n: int, *, flags: int = 0, schema: int = SCHEMA) -> bytes:
        rows = SOURCE.rows(first, n)
        samples = b"".join(int(v).to_bytes(3, "little", signed=True) for v in rows.reshape(-1))
        head = DATA_HEADER.pack(first, n, rows.shape[1], 3, 1, schema)
        frame = build_frame(
            FrameType.DATA,
            head + bytes(2) + samples,
            stream=1,
            flags=flags,
            seq=self.seq,
            ticks=self.boot_ticks + first * CLK_HZ // 1000,
            boot=self.boot,
        )
        self.seq += 1
        return frame


def decoder() -> BfpDecoder:
    return BfpDecoder({1: (INFO, 3)}, clk_hz=CLK_HZ, schema=SCHEMA, flags=BlockFlag.EMULATED)


def decode(parts: list[bytes], under_test: BfpDecoder | None = None) -> list[SampleBlock]:
    under_test = under_test or decoder()
    blocks: list[SampleBlock] = []
    for number, part in enumerate(parts):
        blocks += under_test.feed(part, 1_000_000_000 + number * 1_000_000)
    return blocks


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda t: t.__name__)
def test_what_arrives_whole_is_decoded_and_what_does_not_is_an_exact_gap(
    transport: Transport, seed: int
) -> None:
    rng = random.Random(seed)
    wire = Wire()
    sent = b"".join(wire.data(first, 8) for first in range(0, 8 * 60, 8))
    parts = list(transport(sent, rng))
    under_test = decoder()
    blocks = decode(parts, under_test)
    frames, counted = parse(b"".join(parts))
    assert n_rows(blocks) == 8 * len(frames)
    lost = check_rows(blocks, SOURCE)
    assert lost == under_test.counters.lost_samples
    counters = under_test.counters
    assert counters.frames == counted.frames
    assert counters.skipped_bytes == counted.skipped_bytes
    assert counters.bad_frame_crc == counted.bad_crcs
    assert counters.bad_header_crc == counted.bad_headers
    if transport in UNHARMED:
        assert lost == 0
        assert n_rows(blocks) == 480


@given(st.sets(st.integers(1, 38)), st.booleans())
def test_any_set_of_lost_frames_is_named_to_the_sample(lost: set[int], dropped: bool) -> None:
    wire = Wire()
    flags = FrameFlag.DROPPED if dropped else 0
    frames = [wire.data(8 * k, 8, flags=flags if k - 1 in lost else 0) for k in range(40)]
    blocks = decode([frame for k, frame in enumerate(frames) if k not in lost])
    assert check_rows(blocks, SOURCE) == 8 * len(lost)
    for block in blocks:
        if block.gap is not None:
            assert block.gap.plus_minus == 0
            assert block.gap.basis is GapBasis.DEVICE_INDEX
            assert block.gap.cause is (GapCause.DEVICE if dropped else GapCause.LINK)


def test_the_first_block_is_marked_and_has_no_gap() -> None:
    block = decode([Wire().data(4000, 8)])[0]
    assert block.flags & BlockFlag.FIRST
    assert block.flags & BlockFlag.EMULATED
    assert block.gap is None
    assert (block.seq, block.incarnation) == (4000, 0)


def test_a_new_boot_id_is_a_new_incarnation_with_a_gap_that_only_clocks_know() -> None:
    under_test = decoder()
    before = decode([Wire().data(k, 8) for k in range(0, 80, 8)], under_test)
    again = Wire(boot=8)
    after = under_test.feed(again.data(0, 8, flags=FrameFlag.FIRST), 2_000_000_000)
    assert {block.incarnation for block in before} == {0}
    (block,) = after
    assert block.incarnation == 1
    assert block.seq == 0
    assert block.flags & BlockFlag.FIRST
    assert block.gap is not None
    assert block.gap.basis is GapBasis.CLOCK
    assert block.gap.cause is GapCause.RESTART
    assert block.gap.n == 920
    assert under_test.proof("h-mag") == "boot:0008:start:0"


def test_an_index_that_falls_with_a_clock_that_goes_on_is_a_new_incarnation() -> None:
    under_test = decoder()
    decode([Wire().data(k, 8) for k in range(0, 80, 8)], under_test)
    first = under_test.proof("h-mag")
    again = Wire(boot_ticks=50_000_000)
    (block,) = under_test.feed(again.data(0, 8), 9_000_000_000)
    assert (block.incarnation, block.seq) == (1, 0)
    assert under_test.proof("h-mag") != first
    assert under_test.counters.restarts == 1


def test_a_frame_that_comes_twice_is_left_out_and_counted() -> None:
    wire = Wire()
    frames = [wire.data(k, 8) for k in range(0, 80, 8)]
    under_test = decoder()
    blocks = decode([*frames[:5], frames[2], *frames[5:]], under_test)
    assert n_rows(blocks) == 80
    assert check_rows(blocks, SOURCE) == 0
    assert under_test.counters.repeated_frames == 1


def test_frames_of_another_descriptor_are_not_decoded() -> None:
    under_test = decoder()
    assert under_test.feed(Wire().data(0, 8, schema=1), 0) == []
    assert under_test.needs_descriptor
    assert under_test.counters.wrong_schema == 1


def test_the_proof_of_a_run_that_was_joined_later_is_what_the_device_says() -> None:
    under_test = decoder()
    under_test.seed(1, boot=7, start_ticks=123, ticks=40_000_000, host_ns=5_000_000_000)
    (block,) = under_test.feed(Wire().data(4000, 8), 5_010_000_000)
    assert under_test.proof("h-mag") == "boot:0007:start:123"
    assert block.t_first_ns == 5_000_000_000
    assert block.flags & BlockFlag.ESTIMATED_TIME


def test_frames_of_other_types_come_out_of_control() -> None:
    under_test = decoder()
    hello = build_frame(FrameType.HELLO, b"hi", ticks=3, boot=9)
    assert under_test.feed(Wire().data(0, 8) + hello, 0) != []
    assert under_test.control() == [(FrameType.HELLO, 0, 9, 3, b"hi")]
    assert under_test.control() == []


def test_times_follow_the_device_however_late_frames_come() -> None:
    rng = np.random.default_rng(3)
    wire, under_test = Wire(), decoder()
    blocks = []
    for k in range(2000):
        made_ns = 10**12 + (8 * k + 7) * 1_000_000
        late_ns = int(rng.exponential(200_000)) + (20_000_000 if rng.random() < 0.01 else 0)
        blocks += under_test.feed(wire.data(8 * k, 8), made_ns + late_ns)
    errors = [block.t_first_ns - 10**12 - block.seq * 1_000_000 for block in blocks[1000:]]
    assert max(map(abs, errors)) < 200_000
    assert not blocks[-1].flags & BlockFlag.ESTIMATED_TIME


def test_a_source_is_a_pure_function_of_the_index() -> None:
    again = synthetic(helmet_channels(9), sfreq=SFREQ, seed=5, noise=300.0)
    assert isinstance(SOURCE, LoopSource)
    np.testing.assert_array_equal(SOURCE.rows(3990, 30)[7:], again.rows(3997, 23))
    np.testing.assert_array_equal(SOURCE.rows(2**23 + 5, 2)[:, 0], [5, 6])
