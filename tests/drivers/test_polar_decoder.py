"""Polar H10 notifications: whole, lost, cut off, doubled, of anything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainforge_edge.core.block import GapBasis, SampleBlock
from brainforge_edge.devices import polar_decoder as polar
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.gatt import Packet
from brainforge_edge.emulators.polar import acc_packet, acc_rows, ecg_packet, ecg_source
from tests.drivers.emulated import check_rows

SOURCE = ecg_source(seed=3)
CLOCK_NS = 820_000_000_000_000_000
START_NS = 10**15


def decoder() -> polar.PolarDecoder:
    return polar.PolarDecoder(polar.streams("dut", 200), LinkCounters())


def ecg(number: int, *, rate: float = 130.06) -> Packet:
    since = round((number + 1) * 73 / rate * 1e9)
    data = ecg_packet(CLOCK_NS + since, SOURCE.rows(number * 73, 73))
    return Packet(START_NS + since, polar.DATA, data)


def acc(number: int) -> Packet:
    since = round((number + 1) * 36 / 200 * 1e9)
    data = acc_packet(CLOCK_NS + since, acc_rows(number * 36, 36))
    return Packet(START_NS + since, polar.DATA, data)


def fed(under_test: polar.PolarDecoder, packets: list[Packet]) -> list[SampleBlock]:
    return [block for each in packets for block in under_test.feed(each)]


@pytest.mark.parametrize("rate", [127.5, 130.0, 130.06, 132.5])
def test_whole_packets_of_any_strap_are_rows_without_a_gap(rate: float) -> None:
    blocks = fed(decoder(), [ecg(number, rate=rate) for number in range(60)])
    assert len(blocks[0].data) == 73
    assert check_rows(blocks, SOURCE, 0) == 0


def test_rows_of_the_accelerometer_have_three_axes() -> None:
    blocks = fed(decoder(), [acc(number) for number in range(5)])
    for block in blocks:
        np.testing.assert_array_equal(block.data, acc_rows(block.seq, 36))
    assert {block.stream_id for block in blocks} == {"dut-acc"}


@pytest.mark.parametrize("rate", [127.5, 130.06, 132.5])
@pytest.mark.parametrize("lost", [{5}, {5, 6, 7}, set(range(10, 40)), {3, 9, 20}])
def test_lost_packets_are_counted_exactly_by_the_straps_clock(lost: set[int], rate: float) -> None:
    under_test = decoder()
    kept = [ecg(number, rate=rate) for number in range(60) if number not in lost]
    blocks = fed(under_test, kept)
    assert check_rows(blocks, SOURCE, 0) == 73 * len(lost)
    gaps = [block.gap for block in blocks if block.gap is not None]
    assert {(gap.plus_minus, gap.basis) for gap in gaps} == {(0, GapBasis.UNWRAPPED)}
    assert under_test.counters.lost_samples == 73 * len(lost)


@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 12, 100, 228])
def test_a_packet_that_is_cut_off_is_counted_and_its_rows_are_a_gap(length: int) -> None:
    under_test = decoder()
    packets = [ecg(number) for number in range(10)]
    packets[4] = packets[4]._replace(data=packets[4].data[:length])
    blocks = fed(under_test, packets)
    whole = [block for block in blocks if len(block.data) == 73]
    if (length - 10) % 3 or length <= 10:  # else the cut cannot be seen but by the clock
        assert under_test.counters.wrong_schema == 1
        assert check_rows(blocks, SOURCE, 0) == 73
    assert len(whole) == 9


def test_doubled_packets_are_left_out() -> None:
    under_test = decoder()
    blocks = fed(under_test, [ecg(0), ecg(1), ecg(1), ecg(0), ecg(2)])
    assert check_rows(blocks, SOURCE, 0) == 0
    assert under_test.counters.repeated_frames == 2


def test_a_strap_whose_clock_is_set_begins_anew() -> None:
    under_test = decoder()
    later = ecg(3)
    moved = later.data[:1] + (10**18).to_bytes(8, "little") + later.data[9:]
    blocks = fed(under_test, [ecg(0), ecg(1), later._replace(data=moved)])
    assert [block.incarnation for block in blocks] == [0, 0, 1]
    assert under_test.counters.restarts == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x00\x48", {"heart_rate_bpm": 72}),
        (b"\x16\x48\x00\x04", {"heart_rate_bpm": 72, "has_contact": True, "rr_ms": 1000}),
        (b"\x04\x48", {"heart_rate_bpm": 72, "has_contact": False}),
        (b"\x19\x2c\x01\x05\x00\x00\x02", {"heart_rate_bpm": 300, "rr_ms": 500}),
        (b"\x01\x48", None),
        (b"", None),
    ],
)
def test_the_heart_rate_is_read(data: bytes, said: dict[str, object] | None) -> None:
    assert polar.heart_rate(data) == said


@given(st.sampled_from([polar.DATA, polar.HEART_RATE, polar.BATTERY]), st.binary(max_size=300))
def test_no_bytes_raise(characteristic: str, data: bytes) -> None:
    under_test = decoder()
    fed(under_test, [ecg(0), Packet(START_NS + 10**9, characteristic, data), ecg(2)])
