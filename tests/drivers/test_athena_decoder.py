"""Athena bytes into rows: made ones, and real captures where they lie beside the project."""

import gzip
import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.errors import ConfigError
from brainforge_edge.devices import athena_decoder as athena
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.gatt import Packet
from brainforge_edge.emulators.athena import (
    Packets,
    athena_source,
    motion_row,
    optics_row,
    pack_bits,
)
from tests.drivers.emulated import check_rows, n_rows
from tests.recordings import DATA

SOURCE = athena_source(seed=4)
CAPTURES = DATA / "muse_athena_captures"
STEP_S = 0.05


def decoder(preset: str = "p1041") -> athena.AthenaDecoder:
    infos = athena.streams("m", athena.layout(preset), eeg_zero=8192, optics_scale=1.0)
    return athena.AthenaDecoder(infos, LinkCounters())


def notifications(seconds: float, *, first_number: int = 0) -> list[Packet]:
    made = Packets(SOURCE, first_number=first_number)
    return [
        Packet(10**12 + round(at * STEP_S * 1e9), athena.DATA, data)
        for at in range(1, round(seconds / STEP_S) + 1)
        for data in made.until(at * STEP_S, battery_raw=20_000)
    ]


def of(blocks: list[SampleBlock], suffix: str) -> list[SampleBlock]:
    return [block for block in blocks if block.stream_id == f"m-{suffix}"]


def decode(under_test: athena.AthenaDecoder, given_: list[Packet]) -> list[SampleBlock]:
    return [block for each in given_ for block in under_test.feed(each)]


def test_numbers_of_any_width_are_unpacked_least_significant_first() -> None:
    assert athena.unpack_bits(bytes([0b10000001, 0b01]), 8).tolist() == [0x81, 1]
    numbers = np.arange(16) * 1000 + 7
    for bits in (14, 20):
        assert athena.unpack_bits(pack_bits(numbers, bits), bits).tolist() == numbers.tolist()


def test_every_stream_equals_what_was_packed() -> None:
    under_test = decoder()
    blocks = decode(under_test, notifications(6.0))
    assert check_rows(of(blocks, "eeg"), SOURCE, 0) == 0
    assert n_rows(of(blocks, "eeg")) == 6 * 256
    for block in of(blocks, "optics"):
        expected = [optics_row(block.seq + at) for at in range(len(block.data))]
        np.testing.assert_array_equal(block.data, expected)
    for suffix, columns in (("acc", slice(3)), ("gyro", slice(3, 6))):
        for block in of(blocks, suffix):
            expected = [motion_row(block.seq + at)[columns] for at in range(len(block.data))]
            np.testing.assert_array_equal(block.data, expected)
    assert under_test.telemetry["battery_percent"] == pytest.approx(20_000 / 256)
    assert under_test.counters.unparsed_bytes == 0


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(5, 200), max_size=40))
def test_lost_notifications_are_gaps_of_exact_size(lost: set[int]) -> None:
    under_test = decoder()
    made = notifications(6.0)
    blocks = decode(under_test, [each for at, each in enumerate(made) if at not in lost])
    eeg = of(blocks, "eeg")
    holes = check_rows(eeg, SOURCE, 0)
    assert n_rows(eeg) + holes == eeg[-1].seq + len(eeg[-1].data)
    if not lost:
        assert holes == 0


def test_a_loss_of_more_than_a_round_of_the_counter_is_counted_by_arrivals() -> None:
    under_test = decoder()
    made = notifications(12.0)
    kept = [each for each in made if not 10**12 + 2e9 < each.arrived_ns < 10**12 + 9e9]
    eeg = of(decode(under_test, kept), "eeg")
    holes = check_rows(eeg, SOURCE, 0)
    assert holes > 6 * 256
    assert eeg[-1].seq + len(eeg[-1].data) == 12 * 256


def test_an_unknown_block_ends_its_packet_and_is_counted() -> None:
    under_test = decoder()
    (packet,) = notifications(STEP_S)[:1]
    spoilt = bytearray(packet.data)
    spoilt[9] = 0x77
    assert under_test.feed(packet._replace(data=bytes(spoilt))) == []
    assert under_test.counters.unparsed_bytes == spoilt[0] - 14


def test_a_repeated_notification_changes_nothing() -> None:
    under_test = decoder()
    made = [each for each in notifications(2.0) for _ in range(2)]
    blocks = decode(under_test, made)
    assert check_rows(of(blocks, "eeg"), SOURCE, 0) == 0
    assert under_test.counters.repeated_frames > 0


@pytest.mark.parametrize("seed", range(4))
def test_damage_is_counted_and_never_raises(seed: int) -> None:
    random_ = random.Random(seed)
    under_test = decoder()
    blocks = []
    for each in notifications(10.0):
        data = bytearray(each.data)
        if random_.random() < 0.05:
            data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
        if random_.random() < 0.03:
            data = data[: random_.randrange(len(data))]
        blocks += under_test.feed(each._replace(data=bytes(data)))
    counters = under_test.counters
    assert counters.unparsed_bytes + counters.implausible + counters.wrong_schema > 0
    eeg = of(blocks, "eeg")
    assert n_rows(eeg) > 6 * 256
    for before, after in pairwise(eeg):
        if after.incarnation == before.incarnation:
            hole = after.seq - before.seq - len(before.data)
            assert hole == (after.gap.n if after.gap else 0)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=240))
def test_noise_never_raises(data: bytes) -> None:
    under_test = decoder()
    under_test.feed(Packet(0, athena.DATA, data))
    assert under_test.counters.bytes_read == len(data)


def test_a_preset_that_is_not_known_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError):
        athena.layout("p99")


def _capture(name: str) -> Iterator[Packet]:
    with gzip.open(CAPTURES / name, "rt") as lines:
        for line in lines:
            time, uuid, text = line.rstrip("\n").split("\t")
            at_ns = round(datetime.fromisoformat(time).timestamp() * 1e6) * 1000
            yield Packet(at_ns, uuid, bytes.fromhex(text))


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="the real captures do not lie beside the project")
@pytest.mark.parametrize(
    ("name", "preset", "rows"),
    [
        ("data_p1041.txt.gz", "p1041", {"eeg": 15_568, "acc": 3_153, "optics": 3_881}),
        ("data_p1045.txt.gz", "p1045", {"eeg": 15_518, "acc": 3_144, "optics": 3_876}),
        ("data_p21.txt.gz", "p21", {"eeg": 15_532, "acc": 3_153}),
        ("data_p50.txt.gz", "p50", {"eeg": 15_520, "acc": 3_150}),
    ],
)
def test_a_real_minute_is_decoded_to_its_last_byte(
    name: str, preset: str, rows: dict[str, int]
) -> None:
    under_test = decoder(preset)
    blocks = decode(under_test, list(_capture(name)))
    got: Counter[str] = Counter()
    for block in blocks:
        got[block.stream_id.removeprefix("m-")] += len(block.data)
    counters = under_test.counters
    assert (counters.unparsed_bytes, counters.lost_samples, counters.implausible) == (0, 0, 0)
    assert {suffix: got[suffix] for suffix in rows} == rows
    acceleration = np.concatenate([block.data for block in of(blocks, "acc")]) / 16_384
    assert np.linalg.norm(acceleration, axis=1).mean() == pytest.approx(1.0, abs=0.03)
    eeg = np.concatenate([block.data for block in of(blocks, "eeg")])
    assert np.median(eeg[:, :4]) == pytest.approx(8192, abs=800)
