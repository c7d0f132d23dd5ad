"""Exports: integers come back as they were recorded, gaps and markers as annotations."""

import csv
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbor2
import edfio
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from brainforge_edge.cli.export import export
from brainforge_edge.core.block import BlockFlag, Gap, GapBasis
from brainforge_edge.core.errors import SessionError, StorageError
from brainforge_edge.core.stream import Codec, Dtype, StreamInfo
from brainforge_edge.export.formats import export_recording
from brainforge_edge.export.recording import read_parts
from brainforge_edge.recorder.catalog import RecordingFile, write_recording_file
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.cut import make_chunk
from brainforge_edge.recorder.reader import iter_chunks
from brainforge_edge.recorder.segment import SegmentWriter
from brainforge_edge.storage.files import SystemDisk
from tests.unit.recorder_box import encode
from tests.unit.recorder_material import IDENTITY, packed, rows_of, seeded, stream, t_of

DISK = SystemDisk()
GAP = Gap(30, 0, GapBasis.DEVICE_INDEX)


def chunk(info: StreamInfo, seq: int, n: int, *, incarnation: int = 1, t_ns: int = 0) -> Chunk:
    gap = GAP if seq == 90 and incarnation == 1 else None
    return make_chunk(
        packed(info, seq, n),
        info=info,
        number=1,
        identity=IDENTITY,
        incarnation=incarnation,
        seq=seq,
        t_first_ns=t_ns or t_of(info, seq),
        flags=BlockFlag(0) if gap is None else BlockFlag.GAP_BEFORE,
        gap=gap,
        encode=encode,
    )


def markers(info: StreamInfo) -> Chunk:
    return Chunk(
        codec=Codec.MARKERS, dtype=0, n_channels=0, n_samples=0, log_id=IDENTITY.log_id,
        incarnation=0, stream_number=1, seq=0, t_first_ns=0, sfreq=info.sfreq,
        body=cbor2.dumps([[t_of(info, 20), 1.5, "eyes closed"]]),
    )  # fmt: skip


def recording(root: Path, info: StreamInfo, *, closed: bool = True, participant: str = "") -> Path:
    """Rows 0..60, a gap of 30, 90..103; a second of pause; a new incarnation's rows 0..10."""
    identity = msgspec.structs.replace(IDENTITY, participant=participant)
    writer = SegmentWriter.create(
        root / "rec-1" / info.stream_id, 1, info=info, number=1, identity=identity,
        size=200_000, disk=DISK, random=seeded(),
    )  # fmt: skip
    for item in (chunk(info, 0, 60), markers(info), chunk(info, 90, 13)):
        writer.append(item)
    restart = t_of(info, 103) + 1_000_000_000
    writer.append(chunk(info, 0, 10, incarnation=2, t_ns=restart))
    writer.close()
    write_recording_file(root, RecordingFile("rec-1", None, "node-1", closed=closed), DISK)
    return root / "rec-1"


def expected(info: StreamInfo) -> NDArray[Any]:
    pause = round(info.sfreq)
    parts = [rows_of(info, 0, 60)]
    parts.append(np.repeat(parts[0][-1:], 30, axis=0))
    parts.append(rows_of(info, 90, 13))
    parts.append(np.repeat(parts[2][-1:], pause, axis=0))
    parts.append(rows_of(info, 0, 10))
    return np.concatenate(parts)


def test_a_chunk_whose_rows_are_not_what_they_were_costs_itself_alone(tmp_path: Path) -> None:
    """Changed before its last CRC was made, as by a bad RAM."""
    info = stream()
    writer = SegmentWriter.create(
        tmp_path / "rec-1" / info.stream_id, 1, info=info, number=1, identity=IDENTITY,
        size=200_000, disk=DISK, random=seeded(),
    )  # fmt: skip
    wrong = chunk(info, 10, 10)
    body = bytes([wrong.body[0] ^ 1]) + wrong.body[1:]
    for item in (chunk(info, 0, 10), replace(wrong, body=body), chunk(info, 20, 10)):
        writer.append(item)
    writer.close()
    write_recording_file(tmp_path, RecordingFile("rec-1", None, "node-1", closed=True), DISK)
    (rows,) = read_parts(tmp_path / "rec-1", info.stream_id, DISK)
    assert [(run.seq, len(run.data)) for run in rows.runs()] == [(0, 10), (20, 10)]
    assert [(skip.row, skip.n) for skip in rows.skips] == [(10, 10)]
    assert rows.n_damaged == 1


@pytest.mark.parametrize("dtype", [Dtype.I16, Dtype.I24])
@pytest.mark.parametrize("sfreq", [10.0, 125.0, 1000.0])
def test_bdf_holds_the_integers_and_names_the_gaps(
    tmp_path: Path, dtype: Dtype, sfreq: float
) -> None:
    info = stream("eeg", dtype=dtype, sfreq=sfreq, n_channels=3)
    folder = recording(tmp_path, info)
    (path,) = export_recording(folder, format_name="bdf", target=tmp_path / "out", disk=DISK).files
    file = edfio.read_bdf(path)
    line = expected(info)
    for k, signal in enumerate(file.signals):
        assert np.array_equal(signal.digital[: len(line)], line[:, k])
        assert signal.label == info.ch_names[k]
        assert signal.sampling_frequency == sfreq
        low = line[0, k] * 1e-6
        factor = {"V": 1.0, "mV": 1e3, "uV": 1e6}[signal.physical_dimension]
        assert signal.data[0] / factor == pytest.approx(low, rel=1e-6, abs=2e-6)
    pause = round(sfreq)
    found = [(round(note.onset * sfreq), note.text) for note in file.annotations]
    skips = [(60, "BAD_ACQ_SKIP"), (103, "BAD_ACQ_SKIP")]
    assert [item for item in found if item[0] < 103 + pause] == [(20, "eyes closed"), *skips]
    durations = {
        round(note.onset * sfreq): round((note.duration or 0) * sfreq) for note in file.annotations
    }
    assert durations[60] == 30
    assert durations[103] == pause


@pytest.mark.parametrize("dtype", [Dtype.I16, Dtype.I24, Dtype.I32])
def test_fif_holds_the_integers_and_names_the_gaps(tmp_path: Path, dtype: Dtype) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mne  # noqa: PLC0415
    info = stream("eeg", dtype=dtype, sfreq=250.0)
    folder = recording(tmp_path, info, participant="p-anna")
    (path,) = export_recording(folder, format_name="fif", target=tmp_path / "out", disk=DISK).files
    raw = mne.io.read_raw_fif(path, verbose="ERROR")
    cals = np.array([channel["cal"] for channel in raw.info["chs"]])
    back = raw.get_data() / cals[:, None]
    assert np.array_equal(np.rint(back).astype(int), expected(info).T)
    assert np.abs(back - np.rint(back)).max() < 1e-6
    found = [(round(n["onset"] * 250), n["description"]) for n in raw.annotations]
    assert found == [(20, "eyes closed"), (60, "BAD_ACQ_SKIP"), (103, "BAD_ACQ_SKIP")]
    assert raw.annotations[1]["duration"] == pytest.approx(30 / 250)
    assert raw.info["meas_date"].year == 2027
    assert raw.info["subject_info"]["his_id"] == "p-anna"


def test_csv_holds_every_row_and_none_for_a_gap(tmp_path: Path) -> None:
    info = stream("eeg", dtype=Dtype.I32)
    folder = recording(tmp_path, info)
    (path,) = export_recording(folder, format_name="csv", target=tmp_path / "out", disk=DISK).files
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    table = list(csv.reader(lines))
    assert table[0] == ["t_s", "incarnation", "seq", "C0", "C1"]
    assert len(table) == 1 + 60 + 13 + 10
    seqs = [(int(row[1]), int(row[2])) for row in table[1:]]
    assert seqs == [(1, k) for k in [*range(60), *range(90, 103)]] + [(2, k) for k in range(10)]
    for (_, seq), row in zip(seqs, table[1:], strict=True):
        assert [int(value) for value in row[3:]] == rows_of(info, seq, 1)[0].tolist()


def test_what_cannot_be_exported_is_refused_in_one_sentence(tmp_path: Path) -> None:
    eeg = stream("eeg", dtype=Dtype.I32, sfreq=100.0)
    folder = recording(tmp_path / "a", eeg)
    out = tmp_path / "out"

    def refuse(match: str, where: Path, format_name: str, stream_id: str | None = None) -> None:
        with pytest.raises(StorageError, match=match):
            export_recording(
                where, format_name=format_name, target=out, disk=DISK, stream_id=stream_id
            )

    refuse("formats are bdf, edf, fif, csv, parquet, brainvision, xdf, snirf", folder, "gdf")
    refuse("more than 24 bits", folder, "bdf")
    refuse("has no stream 'x'", folder, "csv", "x")
    refuse("is no recording", tmp_path / "nothing", "csv")
    with pytest.raises(SessionError, match="being recorded"):
        export_recording(
            recording(tmp_path / "b", eeg, closed=False), format_name="csv", target=out, disk=DISK
        )
    write_recording_file(tmp_path / "c", RecordingFile("rec-1", None, "n", closed=True), DISK)
    refuse("nothing to export", tmp_path / "c" / "rec-1", "csv")
    export_recording(folder, format_name="csv", target=out, disk=DISK)
    refuse("there already", folder, "csv")
    assert [path.name for path in out.iterdir()] == ["rec-1_dev-eeg.csv"]


def test_rows_that_lie_in_two_chunks_are_exported_once(tmp_path: Path) -> None:
    info = stream("eeg")
    folder = recording(tmp_path, info)
    writer = SegmentWriter.create(
        folder / info.stream_id, 2, info=info, number=1, identity=IDENTITY, size=200_000,
        disk=DISK, random=seeded(9),
    )  # fmt: skip
    writer.append(chunk(info, 50, 10))
    writer.append(chunk(info, 95, 20))
    writer.close()
    (rows,) = read_parts(folder, info.stream_id, DISK)
    seqs = [(run.incarnation, run.seq + i) for run in rows.runs() for i in range(len(run.data))]
    assert len(seqs) == len(set(seqs)) == 60 + 25 + 10
    for run in rows.runs():
        assert np.array_equal(run.data, rows_of(info, run.seq, len(run.data)))


def test_an_export_says_of_which_stream_places_could_not_be_read(tmp_path: Path) -> None:
    info = stream("eeg")
    folder = recording(tmp_path, info)
    (segment,) = (folder / info.stream_id).glob("*.seg")
    second = next(w for w in iter_chunks(segment, damaged=[], disk=DISK) if w.head.seq == 90)
    data = bytearray(segment.read_bytes())
    data[second.offset + 150] ^= 1
    segment.write_bytes(data)
    exported = export_recording(folder, format_name="csv", target=tmp_path / "out", disk=DISK)
    assert exported.damaged == {info.stream_id: 1}
    result = CliRunner().invoke(
        export, [str(folder), "--format", "csv", "--output", str(tmp_path / "cli")]
    )
    assert result.exit_code == 0
    assert "1 place in its segments could not be read" in result.stderr


@pytest.mark.parametrize("said", [[0, float("nan"), "x"], [0, -1.0, "x"], [2**70, 0.0, "x"], [1]])
def test_markers_with_times_that_no_box_has_are_damage(tmp_path: Path, said: list[Any]) -> None:
    info = stream("eeg")
    folder = recording(tmp_path, info)
    writer = SegmentWriter.create(
        folder / info.stream_id, 2, info=info, number=1, identity=IDENTITY, size=200_000,
        disk=DISK, random=seeded(9),
    )  # fmt: skip
    writer.append(replace(markers(info), body=cbor2.dumps([said])))
    writer.close()
    (rows,) = read_parts(folder, info.stream_id, DISK)
    assert [mark.description for mark in rows.markers] == ["eyes closed"]
    assert rows.n_damaged == 1
