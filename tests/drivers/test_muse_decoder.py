"""Classic Muse bytes into rows: vectors, and whatever a radio does to packets."""

import json
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainforge_edge.core.block import BlockFlag, GapBasis, SampleBlock
from brainforge_edge.devices import muse_decoder as classic
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.gatt import Packet
from brainforge_edge.devices.muse_control import Replies, command
from brainforge_edge.emulators.muse import muse_source, pack12
from tests.drivers.emulated import check_rows, n_rows

SOURCE = muse_source(seed=3)
PACKET_NS = round(12 / 256 * 1e9)
EEG = tuple(classic.EEG.values())
ROUND = 65_536


def decoder() -> classic.MuseDecoder:
    infos = classic.streams("m", aux=False, ppg=("red",))
    return classic.MuseDecoder(infos, LinkCounters())


def packet(number: int, channel: int, *, arrived_ns: int | None = None) -> Packet:
    body = pack12(SOURCE.rows(number * 12, 12)[:, channel])
    at = 10**12 + number * PACKET_NS if arrived_ns is None else arrived_ns
    return Packet(at, EEG[channel], struct.pack(">H", number % ROUND) + body)


def packets(n: int) -> list[Packet]:
    return [packet(number, channel) for number in range(n) for channel in range(4)]


def decode(under_test: classic.MuseDecoder, given: list[Packet]) -> list[SampleBlock]:
    return [block for each in given for block in under_test.feed(each)]


def test_twelve_bits_are_unpacked_most_significant_first() -> None:
    body = bytes.fromhex("123456 789abc def012 345678 9abcde fff000")
    expected = [0x123, 0x456, 0x789, 0xABC, 0xDEF, 0x012, 0x345, 0x678, 0x9AB, 0xCDE, 0xFFF, 0]
    assert classic.unpack12(body).tolist() == expected


def test_counts_become_volts_by_scale_and_offset() -> None:
    info = classic.streams("m", aux=False, ppg=())[EEG[0]]
    channel = info.channels[0]
    values = [raw * channel.scale + channel.offset for raw in (0, 2048, 4095)]
    assert values == pytest.approx([-1000e-6, 0, 999.51171875e-6])


def test_motion_is_in_si_units() -> None:
    infos = classic.streams("m", aux=False, ppg=())
    under_test = classic.MuseDecoder(infos, LinkCounters())
    body = struct.pack(">H9h", 7, 0, 0, 16384, 1, -2, 3, -32768, 32767, 0)
    (block,) = under_test.feed(Packet(0, classic.ACC, body))
    assert block.data.tolist() == [[0, 0, 16384], [1, -2, 3], [-32768, 32767, 0]]
    assert block.seq == 21
    assert infos[classic.ACC].channels[2].scale * 16384 == pytest.approx(9.80665)
    assert infos[classic.GYRO].channels[0].scale == pytest.approx(0.0074768 * np.pi / 180)


def test_light_counts_have_24_unsigned_bits() -> None:
    under_test = decoder()
    body = bytes(2) + bytes.fromhex("000001 7fffff 800000 ffffff 000000 123456")
    (block,) = under_test.feed(Packet(0, classic.PPG["red"], body))
    assert block.data[:, 0].tolist() == [1, 0x7FFFFF, 0x800000, 0xFFFFFF, 0, 0x123456]


def test_telemetry_is_status_and_no_stream() -> None:
    under_test = decoder()
    data = struct.pack(">5H", 1, 87 * 512, 8800, 3900, 31).ljust(20, b"\0")
    assert under_test.feed(Packet(0, classic.TELEMETRY, data)) == []
    assert under_test.telemetry["battery_percent"] == 87
    assert under_test.telemetry["fuel_gauge_mv"] == pytest.approx(4000)


def test_a_rail_is_flagged() -> None:
    under_test = decoder()
    blocks = []
    for channel in range(4):
        values = np.full(12, 4095 if channel == 2 else 2048)
        blocks += under_test.feed(Packet(0, EEG[channel], bytes(2) + pack12(values)))
    assert blocks[0].flags & BlockFlag.SATURATED


def test_the_counter_goes_round_without_a_gap() -> None:
    under_test = decoder()
    numbers = range(ROUND - 20, ROUND + 20)
    given_packets = [packet(number, channel) for number in numbers for channel in range(4)]
    blocks = decode(under_test, given_packets)
    assert check_rows(blocks, SOURCE) == 0
    assert n_rows(blocks) == 40 * 12


def test_a_loss_that_may_be_a_round_longer_says_so() -> None:
    under_test = decoder()
    blocks = decode(under_test, packets(10))
    lost = 40 * 24 * 3600 * 256 // 12  # forty days
    for number in range(10 + lost, 14 + lost):
        blocks += decode(under_test, [packet(number, channel) for channel in range(4)])
    (gap,) = [block.gap for block in blocks if block.gap is not None]
    assert gap.basis is GapBasis.CLOCK
    assert gap.plus_minus >= ROUND * 12
    assert abs(gap.n - lost * 12) <= gap.plus_minus


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(st.integers(1, 58), st.integers(0, 3)), max_size=80))
def test_an_instant_without_all_its_channels_is_a_lost_instant(
    lost: set[tuple[int, int]],
) -> None:
    under_test = decoder()
    kept = [packet(n, c) for n in range(70) for c in range(4) if (n, c) not in lost]
    blocks = decode(under_test, kept)
    broken = {number for number, _ in lost}
    assert check_rows(blocks, SOURCE, 0) == 12 * len(broken)
    assert n_rows(blocks) == 12 * (70 - len(broken))
    halves = sum(1 for n in broken if not all((n, c) in lost for c in range(4)))
    assert under_test.counters.broken_rows == 12 * halves


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(4)), st.lists(st.integers(0, 39), max_size=20))
def test_channels_come_in_any_order_and_repeats_change_nothing(
    order: list[int], repeated: list[int]
) -> None:
    under_test = decoder()
    given_packets = []
    for number in range(40):
        given_packets += [packet(number, channel) for channel in order]
        for again in repeated:
            if again == number:
                given_packets.append(given_packets[-1])
    blocks = decode(under_test, given_packets)
    assert check_rows(blocks, SOURCE, 0) == 0
    assert n_rows(blocks) == 480
    assert under_test.counters.repeated_frames == len(repeated)


def test_a_burst_after_a_stall_bundled_by_channel_is_no_loss() -> None:
    under_test = decoder()
    late = 10**12 + 30 * PACKET_NS
    given_packets = packets(10) + [
        packet(number, channel, arrived_ns=late) for channel in range(4) for number in range(10, 30)
    ]
    blocks = decode(under_test, given_packets)
    assert check_rows(blocks, SOURCE, 0) == 0
    assert n_rows(blocks) == 30 * 12


def test_a_channel_that_comes_later_than_the_others_is_no_loss() -> None:
    under_test = decoder()
    due = sorted(
        packet(n, c, arrived_ns=10**12 + n * PACKET_NS + (300_000_000 if c == 1 else 0))
        for n in range(60)
        for c in range(4)
    )
    blocks = decode(under_test, due)
    assert check_rows(blocks, SOURCE, 0) == 0
    assert n_rows(blocks) == 60 * 12


@pytest.mark.parametrize("seed", range(6))
def test_what_a_radio_does_to_packets_is_counted_and_never_raises(seed: int) -> None:
    random_ = random.Random(seed)
    under_test = decoder()
    blocks: list[SampleBlock] = []
    spoilt = 0
    for each in packets(400):
        chance = random_.random()
        data = bytearray(each.data)
        if chance < 0.02:
            continue
        if chance < 0.04:
            data = data[: random_.randrange(20)]
            spoilt += 1
        elif chance < 0.06:
            data[random_.randrange(2)] ^= 1 << random_.randrange(1, 8)
        elif chance < 0.08:
            data += b"\0"
            spoilt += 1
        blocks += under_test.feed(each._replace(data=bytes(data)))
    assert under_test.counters.wrong_schema == spoilt
    assert under_test.counters.restarts == 0
    expected = blocks[0].seq
    for block in blocks:
        assert block.seq - expected == (block.gap.n if block.gap else 0)
        expected = block.seq + len(block.data)
    assert expected > 390 * 12
    assert n_rows(blocks) > 200 * 12


def test_a_headset_that_counts_anew_is_a_new_incarnation() -> None:
    under_test = decoder()
    blocks = decode(under_test, packets(2000))
    began = 10**12 + 2100 * PACKET_NS
    for number in range(20):
        at = began + number * PACKET_NS
        blocks += decode(under_test, [packet(number, c, arrived_ns=at) for c in range(4)])
    after = [block for block in blocks if block.incarnation == 1]
    assert after[0].flags & BlockFlag.FIRST
    assert after[0].gap is not None
    assert after[0].gap.basis is GapBasis.CLOCK
    assert under_test.counters.restarts == 1
    for block in after:
        np.testing.assert_array_equal(block.data, SOURCE.rows(block.seq, len(block.data)))


def test_the_true_rate_is_found_from_the_packet_numbers() -> None:
    under_test = decoder()
    random_ = random.Random(1)
    blocks = []
    for number in range(256 * 120 // 12):
        true_ns = 10**12 + round(number * PACKET_NS * (1 + 40e-6))
        late = round(random_.expovariate(1 / 8e6))
        blocks += decode(
            under_test, [packet(number, c, arrived_ns=true_ns + late) for c in range(4)]
        )
    state = under_test.clock("m-eeg")
    assert state is not None
    assert state.drift_ppm == pytest.approx(40, abs=10)
    last = blocks[-1]
    taken_ns = 10**12 + (last.seq // 12) * PACKET_NS * (1 + 40e-6)
    # A packet is sent when its last sample is taken: eleven periods after its first.
    assert last.t_first_ns == pytest.approx(taken_ns - 11 / 256 * 1e9, abs=1e6)


def test_commands_are_framed_as_the_headset_wants_them() -> None:
    assert command("d") == bytes.fromhex("02640a")
    assert command("p21") == bytes.fromhex("047032310a")
    assert command("v1") == bytes.fromhex("0376310a")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["rc", "bp", "fw"]), st.integers(0, 99))))
def test_replies_are_put_together_from_their_pieces(said: list[dict[str, int]]) -> None:
    replies = Replies()
    heard = []
    for each in said:
        whole = json.dumps(each).encode()
        for at in range(0, len(whole), 19):
            piece = whole[at : at + 19]
            heard += replies.feed(bytes([len(piece)]) + piece.ljust(19, b"\0"))
    assert heard == said


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=300))
def test_garbage_on_the_control_channel_is_counted_and_the_next_reply_is_heard(
    noise: list[bytes],
) -> None:
    replies = Replies()
    for data in noise:
        replies.feed(data)
    assert {"rc": 0} in [*replies.feed(b"\x01}"), *replies.feed(b'\x08{"rc":0}')]
