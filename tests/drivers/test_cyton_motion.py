"""The accelerometer in a Cyton's packets: whole triples under the packet counter, in both layouts."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainforge_edge.core.block import BlockFlag, SampleBlock
from brainforge_edge.core.stream import Dtype, StreamInfo
from brainforge_edge.devices.openbci_decoder import CytonDecoder
from brainforge_edge.devices.openbci_motion import SCALE, motion_stream
from brainforge_edge.emulators.main import make_source
from brainforge_edge.emulators.openbci_motion import acceleration, emitted, index_of
from brainforge_edge.emulators.source import cyton_channels
from tests.drivers.emulated import check_rows, driver_for, emulated, n_rows, of_stream, read_for
from tests.unit.transports import TRANSPORTS, UNHARMED, Transport

PACKET_NS = 4_000_000
SOURCE = make_source("cyton", stream="acc")


def packet(number: int, *, stamped: bool) -> bytes:
    head = b"\xa0" + bytes([number & 255]) + bytes(24)
    if not stamped:
        values = (0, 0, 0) if number % 10 else acceleration(number // 10)
        return head + b"".join(v.to_bytes(2, "big", signed=True) for v in values) + b"\xc0"
    rounds, place = divmod(number, 256)
    tens, axis = divmod(place, 10)
    value = acceleration(25 * rounds + tens)[axis - 7] if axis >= 7 else 0
    stamp = (1000 + 4 * number).to_bytes(4, "big")
    return head + value.to_bytes(2, "big", signed=True) + stamp + b"\xc4"


def decoder(*, stamped: bool) -> CytonDecoder:
    info = StreamInfo("e-eeg", "e", 250.0, Dtype.I24, cyton_channels(8))
    return CytonDecoder(info, daisy=False, motion=motion_stream("e", has_stamps=stamped))


def decode(numbers: list[int], *, stamped: bool) -> list[SampleBlock]:
    under_test = decoder(stamped=stamped)
    blocks = []
    for number in numbers:
        frame = packet(number, stamped=stamped)
        blocks += under_test.feed(frame, 10**12 + number * PACKET_NS)
    blocks += under_test.feed(b"\xa0", 10**12 + (numbers[-1] + 1) * PACKET_NS)
    return of_stream(blocks, "e-acc")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda t: t.__name__)
@pytest.mark.parametrize("stamped", [True, False])
def test_triples_are_true_and_holes_are_named_whatever_the_link_does(
    stamped: bool, transport: Transport, seed: int
) -> None:
    rng = random.Random(seed)
    sent = b"".join(packet(number, stamped=stamped) for number in range(1100))
    under_test = decoder(stamped=stamped)
    blocks: list[SampleBlock] = []
    seen = 0
    for part in transport(sent, rng):
        seen += len(part)
        blocks += under_test.feed(part, 10**12 + seen // 33 * PACKET_NS)
    blocks = of_stream(blocks, "e-acc")
    whole = emitted(1100, has_time=stamped)
    if transport in UNHARMED:
        assert check_rows(blocks, SOURCE, 0) == 0
        assert n_rows(blocks) == whole
    elif stamped:
        lost = check_rows(blocks, SOURCE)
        assert blocks[0].seq + n_rows(blocks) + lost <= whole
    else:  # a value whose only packet is lost is unknown; the row before it is then held
        assert blocks[0].seq + n_rows(blocks) <= whole


@settings(max_examples=60, deadline=None)  # a busy machine is no failure
@given(st.sets(st.integers(30, 300)))
def test_a_triple_needs_all_its_parts_else_it_is_a_gap_of_that_stream(lost: set[int]) -> None:
    kept = [number for number in range(400) if number not in lost]
    blocks = decode(kept, stamped=True)
    broken = {index_of(number, has_time=True) for number in lost} - {None}
    assert check_rows(blocks, SOURCE, 0) == len(broken)
    assert n_rows(blocks) == emitted(400, has_time=True) - len(broken)


@settings(max_examples=60, deadline=None)  # a busy machine is no failure
@given(st.sets(st.integers(30, 250), max_size=40))
def test_without_stamps_a_row_needs_all_its_ten_packets(lost: set[int]) -> None:
    kept = [number for number in range(300) if number not in lost]
    blocks = decode(kept, stamped=False)
    broken = {number // 10 for number in lost}
    assert check_rows(blocks, SOURCE, 0) == len(broken)
    assert n_rows(blocks) == 30 - len(broken)


@pytest.mark.parametrize("loss", [300, 512, 5_000])
def test_triples_after_a_loss_of_whole_rounds_keep_their_number(loss: int) -> None:
    blocks = decode([*range(100), *range(100 + loss, 400 + loss)], stamped=True)
    first_lost, next_whole = 10, emitted(100 + loss, has_time=True)
    lost = check_rows(blocks, SOURCE, 0)
    assert next_whole - first_lost <= lost <= next_whole - first_lost + 1


def test_a_triple_is_labelled_with_the_time_of_its_first_packet() -> None:
    blocks = decode(list(range(600)), stamped=True)
    labels = {block.seq + at: block.t_first_ns for block in blocks for at in [0]}
    for seq, label in labels.items():
        rounds, tens = divmod(seq, 25)
        wanted = 10**12 + (256 * rounds + 10 * tens + 7) * PACKET_NS
        assert abs(label - wanted) < 5_000_000


def test_the_board_lies_still_at_one_g_in_its_own_stream(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton", channels=8) as board:
        driver = driver_for("openbci", board.link, time_stamps=False)
        eeg, motion = driver.open()
        blocks = of_stream(read_for(driver, 0.8), "dut-acc")
        driver.close()
    assert (eeg.stream_id, motion.stream_id, motion.sfreq) == ("dut-eeg", "dut-acc", 25.0)
    assert {(c.name, c.unit, c.scale) for c in motion.channels} == {
        (f"ACC{axis}", "m/s^2", SCALE) for axis in "XYZ"
    }
    assert check_rows(blocks, SOURCE, 0) == 0
    assert blocks[0].flags & BlockFlag.FIRST
    z = blocks[0].data[:, 2] * motion.channels[2].scale
    np.testing.assert_allclose(z, 9.81, rtol=0.02)
