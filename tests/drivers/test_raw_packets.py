"""Notifications kept as they came: bit for bit, through rings and segments, and decoded anew."""

import gzip
from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainforge_edge.core.block import BlockFlag, SampleBlock
from brainforge_edge.devices import athena_decoder as athena
from brainforge_edge.devices import raw_packets
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.ble_opening import Opening
from brainforge_edge.devices.gatt import Packet
from brainforge_edge.export.formats import export_recording
from brainforge_edge.export.recording import read_parts
from brainforge_edge.storage.files import SystemDisk
from tests.drivers.bluetooth import of, read_until, ward
from tests.drivers.pulling import Acquired, closed, rows, verified, wait_for
from tests.recordings import DATA

ADDRESS = "F0:0D:00:00:A7:01"
CAPTURES = DATA / "muse_athena_captures"


def decoder(counters: LinkCounters | None = None) -> athena.AthenaDecoder:
    infos = athena.streams("dut", athena.layout("p1041"), eeg_zero=8192, optics_scale=1.0)
    return athena.AthenaDecoder(infos, counters or LinkCounters(), bias_ns=2_500_000)


def replayed(blocks: Iterable[SampleBlock]) -> list[SampleBlock]:
    """What a new decoder makes of raw blocks; it begins anew where they do."""
    under_test = Opening(decoder(), decoder)
    found: list[SampleBlock] = []
    for block in blocks:
        if block.flags & BlockFlag.FIRST and found:
            under_test.restart()
        for packet in raw_packets.packets_of(block.data, athena.DATA):
            found += under_test.feed((packet,), packet.arrived_ns)
    return found


def same(one: list[SampleBlock], two: list[SampleBlock]) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert (a.stream_id, a.incarnation, a.seq, a.t_first_ns, a.flags, a.gap) == (
            b.stream_id, b.incarnation, b.seq, b.t_first_ns, b.flags, b.gap,
        )  # fmt: skip
        np.testing.assert_array_equal(a.data, b.data)


@given(
    st.lists(
        st.tuples(st.binary(max_size=600), st.integers(0, 2**63 - 1)),
        max_size=20,
        unique_by=lambda each: each[1],
    )
)
def test_bytes_and_times_of_any_notifications_come_back(given_: list[tuple[bytes, int]]) -> None:
    packets = [Packet(at, athena.DATA, data) for data, at in given_]
    raw = raw_packets.RawPackets(raw_packets.stream("dut", 37.0))
    blocks = raw.take(packets, 0)
    table = np.concatenate([np.zeros((0, raw_packets.WORDS), "<i4"), *(b.data for b in blocks)])
    assert list(raw_packets.packets_of(table, athena.DATA)) == packets
    assert [b.seq for b in blocks] == np.cumsum([0, *(len(b.data) for b in blocks)])[:-1].tolist()


def test_a_notification_of_which_a_row_is_lost_is_left_out() -> None:
    table = np.concatenate(
        [raw_packets.rows_of(Packet(at, athena.DATA, bytes([at]) * 400)) for at in (1, 2, 3)]
    )
    kept = list(raw_packets.packets_of(np.delete(table, 3, axis=0), athena.DATA))
    assert [packet.arrived_ns for packet in kept] == [1, 3]


def test_what_the_queue_had_no_room_for_is_a_gap_of_that_many() -> None:
    raw = raw_packets.RawPackets(raw_packets.stream("dut", 37.0))
    one = raw.take([Packet(1, athena.DATA, b"a"), Packet(2, athena.DATA, b"b")], 5)
    two = raw.take([Packet(3, athena.DATA, b"c")], 5)
    assert [block.seq for block in one + two] == [0, 1, 7]
    assert [block.gap.n if block.gap else 0 for block in one + two] == [0, 0, 5]


def test_raw_rows_of_a_headset_replay_to_the_same_blocks_also_after_a_restart(
    tmp_path: Path,
) -> None:
    with ward(tmp_path) as place:
        headset = place.add_athena()
        headset.lost = {5, 6, 30}
        driver = place.muse_driver(address=ADDRESS)
        infos = driver.open()
        blocks = read_until(driver, 400)
        headset.is_stalled = True
        blocks += read_until(driver, 300)
        driver.close()
    assert infos[-1].stream_id == "dut-raw"
    assert infos[-1].is_raw
    assert not infos[0].is_raw
    raw = of(blocks, "raw")
    assert [block.incarnation for block in raw][-1] == 1
    same([block for block in blocks if block.stream_id != "dut-raw"], replayed(raw))


def test_a_recording_of_raw_rows_decodes_to_the_samples_that_were_recorded(tmp_path: Path) -> None:
    disk = SystemDisk()
    with ward(tmp_path) as place:
        headset = place.add_athena()
        with Acquired(tmp_path, lambda: place.muse_driver(address=ADDRESS)) as box:
            wait_for(lambda: rows(box.streams) > 0)
            box.record("r1")
            wait_for(lambda: rows(box.streams) >= 600)
            place.drop_link(headset)
            wait_for(lambda: box.pull.reconnects == 1)
            had = rows(box.streams)
            wait_for(lambda: rows(box.streams) >= had + 300)
            box.close_recording("r1")
    folder = closed(tmp_path, "r1")
    assert verified(folder).is_clean
    (recorded,) = read_parts(folder, "dut-raw", disk)
    found: dict[str, list[list[int]]] = {}
    for _, runs in groupby(recorded.runs(), key=lambda run: run.incarnation):
        under_test = decoder()
        for run in runs:
            for packet in raw_packets.packets_of(run.data, athena.DATA):
                for block in under_test.feed(packet):
                    found.setdefault(block.stream_id, []).extend(block.data.tolist())
    for suffix in ("eeg", "optics", "acc", "gyro"):
        (kept,) = read_parts(folder, f"dut-{suffix}", disk)
        samples = np.concatenate([run.data for run in kept.runs()])
        np.testing.assert_array_equal(samples, found[f"dut-{suffix}"])
    written = export_recording(folder, format_name="csv", target=tmp_path / "all", disk=disk)
    assert len(written.files) == 4
    (alone,) = export_recording(
        folder, format_name="csv", target=tmp_path / "one", disk=disk, stream_id="dut-raw"
    ).files
    lines = alone.read_text().splitlines()
    assert len(lines) == 1 + raw_packets.WORDS + sum(len(run.data) for run in recorded.runs())


def test_without_them_there_is_no_raw_stream(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_athena()
        driver = place.muse_driver(address=ADDRESS, raw=False)
        assert "dut-raw" not in [info.stream_id for info in driver.open()]
        blocks = read_until(driver, 20)
        driver.close()
    assert of(blocks, "raw") == []


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="the real captures do not lie beside the project")
@pytest.mark.parametrize("preset", ["p1041", "p1045", "p21", "p50"])
def test_real_notifications_fit_a_row_each_and_come_about_as_often_as_stated(preset: str) -> None:
    packets = []
    with gzip.open(CAPTURES / f"data_{preset}.txt.gz", "rt") as lines:
        for line in lines:
            time, _, text = line.rstrip("\n").split("\t")
            at_ns = round(datetime.fromisoformat(time).timestamp() * 1e6) * 1000
            packets.append(Packet(at_ns, athena.DATA, bytes.fromhex(text)))
    table = np.concatenate([raw_packets.rows_of(packet) for packet in packets])
    assert list(raw_packets.packets_of(table, athena.DATA)) == packets
    assert len(table) == len(packets)
    seconds = (packets[-1].arrived_ns - packets[0].arrived_ns) / 1e9
    stated = athena.packets_per_s(athena.layout(preset))
    assert len(packets) / seconds == pytest.approx(stated, rel=0.35)
