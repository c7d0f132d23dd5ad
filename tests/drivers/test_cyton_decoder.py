"""Cyton packets into rows: pairs never shift, and losses are counted beyond the counter's 256."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainforge_edge.core.block import BlockFlag, GapBasis, SampleBlock
from brainforge_edge.core.stream import Dtype, StreamInfo
from brainforge_edge.devices.openbci_decoder import CytonDecoder
from brainforge_edge.devices.openbci_motion import motion_stream
from brainforge_edge.emulators.source import LoopSource, cyton_channels, synthetic
from tests.drivers.emulated import check_rows, n_rows
from tests.unit.transports import TRANSPORTS, UNHARMED, Transport

SOURCES = {n: synthetic(cyton_channels(n), sfreq=2000.0 / n, seed=2, noise=40.0) for n in (8, 16)}
PACKET_NS = 4_000_000


def packet(source: LoopSource, number: int, *, ms: int | None = None) -> bytes:
    """Packet `number` since `b`; `ms` other than the true time of the board."""
    n_channels = len(source.channels)
    per_row = n_channels // 8
    row = source.rows(number // per_row, 1)[0]
    start = 8 if per_row == 2 and number % 2 == 0 else 0
    samples = b"".join(int(v).to_bytes(3, "big", signed=True) for v in row[start : start + 8])
    stamp = (1000 + 4 * number if ms is None else ms) & 0xFFFFFFFF
    return b"\xa0" + bytes([number & 255]) + samples + bytes(2) + stamp.to_bytes(4, "big") + b"\xc4"


def unstamped(frame: bytes) -> bytes:
    return frame[:26] + bytes(6) + b"\xc0"


def decoder(n_channels: int) -> CytonDecoder:
    source = SOURCES[n_channels]
    info = StreamInfo("e-eeg", "e", source.sfreq, Dtype.I24, source.channels)
    return CytonDecoder(info, daisy=n_channels == 16)


def decode(
    under_test: CytonDecoder, numbers: list[int], *, n_channels: int, stamped: bool = True
) -> list[SampleBlock]:
    blocks = []
    for number in numbers:
        frame = packet(SOURCES[n_channels], number)
        arrived_ns = 10**12 + number * PACKET_NS
        blocks += under_test.feed(frame if stamped else unstamped(frame), arrived_ns)
    # Out of sync a packet counts only when the next one begins behind it.
    return blocks + under_test.feed(b"\xa0", 10**12 + numbers[-1] * PACKET_NS)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda t: t.__name__)
@pytest.mark.parametrize("n_channels", [8, 16])
def test_rows_are_true_and_holes_are_named_whatever_the_link_does(
    n_channels: int, transport: Transport, seed: int
) -> None:
    rng = random.Random(seed)
    source = SOURCES[n_channels]
    sent = b"".join(packet(source, number) for number in range(600))
    under_test = decoder(n_channels)
    blocks: list[SampleBlock] = []
    seen = 0
    for part in transport(sent, rng):
        seen += len(part)
        blocks += under_test.feed(part, 10**12 + seen // 33 * PACKET_NS)
    lost = check_rows(blocks, source)
    rows = 600 * 8 // n_channels
    assert blocks[0].seq + n_rows(blocks) + lost <= rows
    assert lost == under_test.counters.lost_samples
    if transport in UNHARMED:
        assert n_rows(blocks) == rows
    else:
        assert n_rows(blocks) > rows // 2


@settings(max_examples=60, deadline=None)  # a busy machine is no failure
@given(st.sets(st.integers(4, 190)))
def test_a_lost_half_is_a_lost_sample_and_never_shifts_the_others(lost: set[int]) -> None:
    under_test = decoder(16)
    kept = [number for number in range(200) if number not in lost]
    blocks = decode(under_test, kept, n_channels=16)
    broken = {number // 2 for number in lost}
    halves = sum(1 for row in broken if (2 * row in lost) != (2 * row + 1 in lost))
    assert check_rows(blocks, SOURCES[16]) == len(broken)
    assert n_rows(blocks) == 100 - len(broken)
    assert under_test.counters.lost_frames == len(lost)
    assert under_test.counters.broken_pairs == halves
    for block in blocks:
        assert block.gap is None or block.gap.basis is GapBasis.UNWRAPPED


@pytest.mark.parametrize("loss", [1, 200, 255, 256, 257, 512, 1000, 5_000, 15_000])
def test_board_milliseconds_count_losses_longer_than_the_counter(loss: int) -> None:
    under_test = decoder(8)
    numbers = [*range(100), *range(100 + loss, 150 + loss)]
    blocks = decode(under_test, numbers, n_channels=8)
    assert check_rows(blocks, SOURCES[8]) == loss
    gap = next(block.gap for block in blocks if block.gap is not None)
    assert (gap.n, gap.plus_minus, gap.basis) == (loss, 0, GapBasis.UNWRAPPED)


def test_a_loss_of_many_minutes_says_how_uncertain_it_is() -> None:
    under_test = decoder(8)
    numbers = [*range(100), *range(200_100, 200_150)]
    blocks = decode(under_test, numbers, n_channels=8)
    gap = next(block.gap for block in blocks if block.gap is not None)
    assert gap.basis is GapBasis.CLOCK
    assert gap.plus_minus >= 256
    assert abs(gap.n - 200_000) <= gap.plus_minus


def test_without_board_milliseconds_arrival_times_count_the_wraps() -> None:
    under_test = decoder(8)
    numbers = [*range(100), *range(700, 750)]
    blocks = decode(under_test, numbers, n_channels=8, stamped=False)
    assert check_rows(blocks, SOURCES[8]) == 600


def test_a_burst_after_a_stall_of_the_box_is_no_loss() -> None:
    under_test = decoder(8)
    blocks = []
    for number in range(500):
        arrived_ns = 10**12 + (number if number < 100 else 499) * PACKET_NS
        blocks += under_test.feed(packet(SOURCES[8], number), arrived_ns)
    blocks += under_test.feed(b"\xa0", 10**12 + 500 * PACKET_NS)
    assert check_rows(blocks, SOURCES[8]) == 0
    assert n_rows(blocks) == 500


def test_a_packet_whose_counter_and_clock_contradict_each_other_is_left_out() -> None:
    under_test = decoder(8)
    blocks = []
    for number in range(100):
        frame = bytearray(packet(SOURCES[8], number))
        if number == 50:
            frame[1] = 190
        blocks += under_test.feed(bytes(frame), 10**12 + number * PACKET_NS)
    assert check_rows(blocks, SOURCES[8]) == 1
    assert under_test.counters.implausible == 1


def test_a_board_that_restarts_is_a_new_incarnation() -> None:
    under_test = decoder(16)
    blocks = decode(under_test, list(range(100)), n_channels=16)
    for number in range(40):
        frame = packet(SOURCES[16], number, ms=4 * number + 5)
        blocks += under_test.feed(frame, 10**12 + (1000 + number) * PACKET_NS)
    blocks += under_test.feed(b"\xa0", 10**12 + 1040 * PACKET_NS)
    restarted = [block for block in blocks if block.incarnation == 1]
    assert restarted[0].flags & BlockFlag.FIRST
    assert restarted[0].gap is not None
    assert restarted[0].gap.basis is GapBasis.CLOCK
    assert abs(restarted[0].gap.n - 450) <= restarted[0].gap.plus_minus
    for block in restarted:
        np.testing.assert_array_equal(block.data, SOURCES[16].rows(block.seq, len(block.data)))
    assert n_rows(restarted) >= 17  # three packets were needed to believe it


@pytest.mark.parametrize("n_channels", [8, 16])
@pytest.mark.parametrize("phase", range(5))
def test_labels_are_true_from_the_first_row_on_behind_an_adapter_that_collects(
    n_channels: int, phase: int
) -> None:
    # Five packets arrive with the newest one, and are read in two pieces: the oldest has waited 16 ms.
    under_test = decoder(n_channels)
    blocks: list[SampleBlock] = []
    held = b""
    for number in range(phase, 600):
        held += packet(SOURCES[n_channels], number)
        if number % 5 == 4:
            for part in (held[:40], held[40:]):
                blocks += under_test.feed(part, 10**12 + number * PACKET_NS)
            held = b""
    per_row = n_channels // 8
    for block in blocks:
        true = 10**12 + (block.seq * per_row + per_row - 1) * PACKET_NS
        assert abs(block.t_first_ns - true) < 1_000


@settings(max_examples=60, deadline=None)  # a busy machine is no failure
@given(st.lists(st.binary(max_size=200), max_size=20))
def test_no_bytes_make_the_decoder_raise(parts: list[bytes]) -> None:
    info = StreamInfo("e-eeg", "e", 125.0, Dtype.I24, SOURCES[16].channels)
    for has_stamps in (True, False):
        motion = motion_stream("e", has_stamps=has_stamps)
        under_test = CytonDecoder(info, daisy=True, motion=motion, has_markers=True)
        for at, part in enumerate(parts):
            under_test.feed(part, at * PACKET_NS)
            # Frames of noise are rare: some are made.
            frame = b"\xa0" + (part * 31 + bytes(31))[:31]
            under_test.feed(frame + bytes((0xC0 + at % 7,)), at * PACKET_NS)
