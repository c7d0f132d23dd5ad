"""Ganglion bytes into rows: the sign quirk, both firmwares, and what follows from a lost packet."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from brainforge_edge.core.block import BlockFlag, SampleBlock
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.ganglion_decoder import (
    RAIL,
    GanglionDecoder,
    stream,
    unpack_signed,
)
from brainforge_edge.devices.gatt import Packet
from brainforge_edge.emulators.ganglion import Coder, coded, ganglion_source

SOURCE = ganglion_source(seed=5)
PACKET_NS = 10_000_000
VARIANTS = [(2, False), (2, True), (3, False), (3, True)]


def decoder(firmware: int) -> GanglionDecoder:
    return GanglionDecoder(stream("g"), LinkCounters(), firmware=firmware)


def made(
    n: int, *, firmware: int, is_wide: bool
) -> tuple[list[Packet], dict[int, NDArray[Any]], list[tuple[int, int]]]:
    """Packets, what can be known of each row, and the rows (first, n) of each packet."""
    coder = Coder(SOURCE, firmware=firmware, is_wide=is_wide)
    packets: list[Packet] = []
    known: dict[int, NDArray[Any]] = {}
    spans: list[tuple[int, int]] = []
    for number in range(n):
        data, first, rows = coder.next()
        packets.append(Packet(10**12 + number * PACKET_NS, "", data))
        spans.append((first, len(rows)))
        known |= {first + at: row for at, row in enumerate(rows)}
    return packets, known, spans


def decode(under_test: GanglionDecoder, packets: list[Packet]) -> list[SampleBlock]:
    return [block for packet in packets for block in under_test.feed(packet)]


def check(blocks: list[SampleBlock], known: dict[int, NDArray[Any]]) -> int:
    """Rows are those that can be known, holes are named; the sum of the holes."""
    expected, lost = 0, 0
    for block in blocks:
        hole = block.seq - expected
        assert hole == (block.gap.n if block.gap is not None else 0)
        lost += hole
        for at, row in enumerate(block.data):
            np.testing.assert_array_equal(row, known[block.seq + at])
        expected = block.seq + len(block.data)
    return lost


@pytest.mark.parametrize(
    ("bits", "text", "value"),
    [
        (18, "000000000000000000", 0),
        (18, "000000000000000010", 2),
        (18, "111111111111111111", -2),  # …1110 with its lowest bit overwritten by the sign
        (18, "011111111111111110", 131_070),
        (18, "100000000000000001", -131_072),
        (19, "0000000000000000000", 0),
        (19, "0000000000000000010", 2),
        (19, "1111111111111111111", -2),
        (19, "0111111111111111110", 262_142),
        (19, "1000000000000000001", -262_144),
    ],
)
def test_the_lowest_bit_is_the_sign_and_no_value(bits: int, text: str, value: int) -> None:
    body = int((text * 8).ljust(19 * 8, "0"), 2).to_bytes(19, "big")
    assert unpack_signed(body, bits).tolist() == [[value] * 4] * 2
    packed, cut = coded(np.full(8, value), bits)
    assert (packed.ljust(19, b"\0"), cut.tolist()) == (body, [value] * 8)


def test_a_whole_sample_of_firmware_2_has_24_bits() -> None:
    under_test = decoder(2)
    body = bytes.fromhex("00 000001 ffffff 7fffff 800000").ljust(20, b"\0")
    (block,) = under_test.feed(Packet(0, "", body))
    assert block.data.tolist() == [[1, -1, RAIL, -RAIL - 1]]
    assert block.flags & BlockFlag.SATURATED


@pytest.mark.parametrize(("firmware", "is_wide"), VARIANTS)
def test_every_row_is_as_near_as_the_board_codes_it(firmware: int, is_wide: bool) -> None:
    packets, known, spans = made(450, firmware=firmware, is_wide=is_wide)
    under_test = decoder(firmware)
    blocks = decode(under_test, packets)
    assert check(blocks, known) == 0
    assert sum(len(block.data) for block in blocks) == sum(n for _, n in spans)
    true = SOURCE.rows(0, len(known))
    step = 2 if firmware == 2 else 2 << (24 - (19 if is_wide else 18))
    error = np.abs(np.stack([known[at] for at in range(len(known))]) - true)
    # A jump to a rail is more than a difference can say: the board follows as fast as it can.
    assert np.mean(error <= step) > 0.9


@pytest.mark.parametrize("is_wide", [False, True])
@settings(max_examples=60, deadline=None)
@given(lost=st.sets(st.integers(1, 400), max_size=6))
def test_firmware_2_leaves_out_what_rests_on_a_lost_packet(is_wide: bool, lost: set[int]) -> None:
    packets, known, spans = made(420, firmware=2, is_wide=is_wide)
    under_test = decoder(2)
    blocks = decode(under_test, [each for at, each in enumerate(packets) if at not in lost])
    unknown: set[int] = set()
    is_known = True
    for number in range(420):
        if number in lost:
            is_known = False
        elif number % 101 == 0:
            is_known = True
        if not is_known:
            unknown.add(number)
    got = {block.seq + at for block in blocks for at in range(len(block.data))}
    expected = {
        first + at
        for number, (first, n) in enumerate(spans)
        if number not in unknown
        for at in range(n)
    }
    assert got == expected
    check(blocks, known)
    assert under_test.counters.degraded_rows == sum(2 for n in unknown if n not in lost)
    if max(lost, default=0) < 419:
        assert under_test.counters.lost_frames == len(lost)


@settings(max_examples=60, deadline=None)
@given(lost=st.sets(st.integers(1, 290), max_size=30))
def test_firmware_3_loses_only_what_was_lost(lost: set[int]) -> None:
    packets, known, _ = made(300, firmware=3, is_wide=False)
    under_test = decoder(3)
    blocks = decode(under_test, [each for at, each in enumerate(packets) if at not in lost])
    assert check(blocks, known) == 2 * len(lost)
    assert under_test.counters.lost_samples == 2 * len(lost)


def test_a_loss_of_more_than_a_round_is_counted_by_arrivals() -> None:
    packets, known, _ = made(900, firmware=3, is_wide=True)
    blocks = decode(decoder(3), packets[:50] + packets[400:])
    assert check(blocks, known) == 700


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("firmware", "is_wide"), VARIANTS)
def test_damage_is_counted_and_never_raises(firmware: int, is_wide: bool, seed: int) -> None:
    random_ = random.Random(seed)
    packets, _, _ = made(600, firmware=firmware, is_wide=is_wide)
    under_test = decoder(firmware)
    blocks = []
    for packet in packets:
        data = bytearray(packet.data)
        chance = random_.random()
        if chance < 0.02:
            data[random_.randrange(20)] ^= 1 << random_.randrange(8)
        elif chance < 0.04:
            data = data[: random_.randrange(20)]
        blocks += under_test.feed(packet._replace(data=bytes(data)))
    assert under_test.counters.wrong_schema > 0
    assert all(np.abs(block.data).max() <= RAIL + 1 for block in blocks)
    assert sum(len(block.data) for block in blocks) > 200


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=50))
def test_noise_never_raises(noise: list[bytes]) -> None:
    under_test = decoder(2)
    for at, data in enumerate(noise):
        under_test.feed(Packet(at * PACKET_NS, "", data))
    assert under_test.counters.bytes_read == sum(len(data) for data in noise)


def test_impedances_and_messages_are_read() -> None:
    under_test = decoder(3)
    for kind, text in ((201, b"5000Z"), (205, b"12000Z\0\0"), (202, b"nonsense")):
        assert under_test.feed(Packet(0, "", bytes([kind]) + text)) == []
    assert under_test.impedance_ohm == {"1": 5000, "ref": 12_000}
    assert under_test.counters.implausible == 1
    under_test.feed(Packet(0, "", b"\xceFirmware: "))
    under_test.feed(Packet(0, "", b"\xcf3.0.2\r\n"))
    assert under_test.text == "Firmware: 3.0.2"
