"""BIDS datasets, read by MNE-BIDS and held against the schema of the specification."""

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import edfio
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.export.bids.dataset import Setting, export_dataset
from brainforge_edge.export.formats import Exported, export_recording
from tests.unit.bids_material import (
    ANNA,
    BERT,
    CYTON,
    HAT,
    LIGHT,
    MUSE,
    OPM,
    TRIG,
    add_segment,
    bedside,
    close,
    device_stream,
)
from tests.unit.bids_schema import faults
from tests.unit.export_test import DISK, chunk
from tests.unit.recorder_material import rows_of

SETTING = Setting("rest", 50.0)
FIRST = "task-rest_acq-{}_run-01"


def _export(folder: Path, target: Path, **options: Any) -> Exported:
    return export_dataset(folder, target=target, disk=DISK, **{"setting": SETTING} | options)


def line_of(info: StreamInfo) -> NDArray[Any]:
    """What `bedside` recorded, with its gap filled."""
    begin = rows_of(info, 0, 60)
    return np.concatenate([begin, np.repeat(begin[-1:], 30, axis=0), rows_of(info, 90, 13)])


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def _read(target: Path, subject: str, datatype: str, stream: str, suffix: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mne_bids import BIDSPath, read_raw_bids  # noqa: PLC0415

        path = BIDSPath(
            root=target, subject=subject, session="01", task="rest", acquisition=stream,
            run="01", datatype=datatype, suffix=datatype, extension=suffix,
        )  # fmt: skip
        return read_raw_bids(path, verbose="ERROR").load_data(verbose="ERROR")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Exported]:
    root = tmp_path_factory.mktemp("bids")
    return root / "out", _export(bedside(root), root / "out")


def test_a_recording_of_each_modality_has_no_fault_by_the_schema(
    dataset: tuple[Path, Exported],
) -> None:
    target, exported = dataset
    assert faults(target) == []
    made = {path for path in target.rglob("*") if path.is_file() and path.name[0] != "."}
    top = {"README", "dataset_description.json", "participants.json", "participants.tsv"}
    assert made - set(exported.files) == {target / name for name in top}
    folders = sorted(path.relative_to(target).as_posix() for path in target.glob("sub-*/ses-*/*/"))
    kinds = ["sub-panna/ses-01/eeg", "sub-panna/ses-01/motion", "sub-panna/ses-01/nirs"]
    assert folders == [*kinds, "sub-pbert/ses-01/eeg", "sub-pbert/ses-01/meg"]


def test_the_schema_finds_what_is_wrong(tmp_path: Path) -> None:
    """A judge that finds nothing anywhere were none."""
    _export(bedside(tmp_path, {CYTON: ANNA}), tmp_path / "out")
    (sidecar,) = tmp_path.rglob("*_eeg.json")
    sidecar.write_text('{"TaskName": "rest", "SamplingFrequency": "often", "EEGReference": "n/a"}')
    (channels,) = tmp_path.rglob("*_channels.tsv")
    channels.write_text(channels.read_text().replace("\tEEG\t", "\tBRAIN\t"))
    (tmp_path / "out" / "notes.txt").touch()
    text = "\n".join(faults(tmp_path / "out"))
    for fault in ("notes.txt: no file", "'often'", "no PowerLineFrequency", "'BRAIN'"):
        assert fault in text


@pytest.mark.parametrize(
    ("subject", "datatype", "info", "suffix"),
    [
        ("panna", "eeg", CYTON, ".vhdr"),
        ("pbert", "eeg", MUSE, ".edf"),
        ("pbert", "meg", OPM, ".fif"),
        ("panna", "nirs", LIGHT, ".snirf"),
    ],
)
def test_a_reader_gets_the_rows_gaps_and_markers_as_they_were_recorded(
    dataset: tuple[Path, Exported], subject: str, datatype: str, info: StreamInfo, suffix: str
) -> None:
    raw = _read(dataset[0], subject, datatype, info.stream_id.replace("-", ""), suffix)
    line = line_of(info)
    assert raw.ch_names[: info.n_channels] == info.ch_names
    assert raw.info["sfreq"] == pytest.approx(info.sfreq)
    values = raw.get_data()[: info.n_channels, : len(line)]
    scales = np.array([channel.scale for channel in info.channels])[:, None]
    offsets = np.array([channel.offset for channel in info.channels])[:, None]
    assert np.array_equal(np.rint((values - offsets) / scales).astype(int), line.T)
    found = {(round(n["onset"] * info.sfreq), n["description"]) for n in raw.annotations}
    assert {(20, "eyes closed"), (60, "BAD_ACQ_SKIP")} <= found
    assert raw.info["meas_date"].isoformat() == "2027-01-15T08:00:04+00:00"
    assert raw.info["subject_info"]["his_id"] == f"sub-{subject}"
    assert raw.info["line_freq"] == (None if datatype == "nirs" else 50.0)


def test_trigger_words_are_a_channel_of_their_samples(dataset: tuple[Path, Exported]) -> None:
    raw = _read(dataset[0], "pbert", "meg", "opmmag", ".fif")
    assert raw.ch_names[-1] == "STIM"
    assert raw.get_channel_types() == ["misc", "mag", "mag", "stim"]
    assert np.array_equal(raw.get_data(picks=[3])[0].astype(int), line_of(TRIG)[:, 0])


def test_motion_is_a_table_of_values_in_their_unit(dataset: tuple[Path, Exported]) -> None:
    folder = dataset[0] / "sub-panna" / "ses-01" / "motion"
    stem = "sub-panna_ses-01_task-rest_tracksys-hatacc1_run-01"
    values = np.loadtxt(folder / f"{stem}_motion.tsv", delimiter="\t")
    assert np.array_equal(values, line_of(HAT) * HAT.channels[0].scale)
    channels = _table(folder / f"{stem}_channels.tsv")
    assert [(c["name"], c["component"], c["type"], c["units"]) for c in channels] == [
        (f"ACC1{axis}", axis.lower(), "ACCEL", "m/s^2") for axis in "XYZ"
    ]
    sidecar = json.loads((folder / f"{stem}_motion.json").read_text())
    assert (sidecar["SamplingFrequency"], sidecar["ACCELChannelCount"]) == (200.0, 3)


def test_rows_that_fill_the_last_record_of_edf_are_named_too(
    dataset: tuple[Path, Exported],
) -> None:
    folder = dataset[0] / "sub-pbert" / "ses-01" / "eeg"
    stem = "sub-pbert_ses-01_task-rest_acq-museeeg_run-01"
    events = _table(folder / f"{stem}_events.tsv")
    assert events[-1]["trial_type"] == "BAD_ACQ_SKIP"
    assert float(events[-1]["onset"]) * 256 == pytest.approx(103)
    end = float(events[-1]["onset"]) + float(events[-1]["duration"])
    file = edfio.read_edf(folder / f"{stem}_eeg.edf")
    assert end == pytest.approx(file.duration)
    assert (
        json.loads((folder / f"{stem}_eeg.json").read_text())["RecordingDuration"] == file.duration
    )


def test_participants_scans_and_sidecars_say_what_is_known_and_no_more(
    dataset: tuple[Path, Exported],
) -> None:
    target, exported = dataset
    assert _table(target / "participants.tsv") == [
        {"participant_id": "sub-panna", "pseudonym": ANNA},
        {"participant_id": "sub-pbert", "pseudonym": BERT},
    ]
    scans = _table(target / "sub-panna" / "ses-01" / "sub-panna_ses-01_scans.tsv")
    assert [scan["acq_time"] for scan in scans] == ["2027-01-15T08:00:04.000000Z"] * 3
    for scan in scans:
        assert (target / "sub-panna" / "ses-01" / scan["filename"]).is_file()
    (said,) = (json.loads(p.read_text()) for p in target.rglob("*museeeg*_eeg.json"))
    assert {key: said[key] for key in ("Device", "Stream", "SoftwareFilters", "EEGReference")} == {
        "Device": "muse", "Stream": "muse-eeg", "SoftwareFilters": "n/a", "EEGReference": "n/a",
    }  # fmt: skip
    (left,) = exported.left_out
    assert "stream muse-ppg has no place" in str(left)


def test_the_same_recording_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _export(bedside(tmp_path / name), tmp_path / name / "out")
    one, two = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).glob("out/**/*") if p.is_file()}
        for name in ("one", "two")
    )  # fmt: skip
    assert [a.relative_to("out") for a in sorted(one)] == [
        b.relative_to("out") for b in sorted(two)
    ]
    assert one == two


def test_a_stream_that_was_described_anew_goes_on_in_the_next_run(tmp_path: Path) -> None:
    finer = tuple(msgspec.structs.replace(c, scale=c.scale / 2) for c in CYTON.channels)
    other = msgspec.structs.replace(CYTON, channels=finer)
    add_segment(tmp_path, CYTON, ANNA, [chunk(CYTON, 0, 60)])
    add_segment(tmp_path, other, ANNA, [chunk(other, 60, 13)], ordinal=2)
    target = tmp_path / "out"
    _export(close(tmp_path), target)
    names = sorted(path.name for path in target.rglob("*.vhdr"))
    assert names == [f"sub-panna_ses-01_task-rest_acq-cytoneeg_run-0{n}_eeg.vhdr" for n in (1, 2)]
    assert faults(target) == []


@pytest.mark.parametrize("format_name", ["csv", "fif"])
def test_rows_of_two_participants_are_never_in_one_file(tmp_path: Path, format_name: str) -> None:
    """A box that was started again with another participant for the device."""
    add_segment(tmp_path, CYTON, ANNA, [chunk(CYTON, 0, 60)])
    add_segment(tmp_path, CYTON, BERT, [chunk(CYTON, 60, 13)], ordinal=2)
    folder = close(tmp_path)
    _export(folder, tmp_path / "out")
    found = {path.parts[-4]: path for path in (tmp_path / "out").rglob("*_eeg.eeg")}
    sizes = {sub: path.stat().st_size // (4 * CYTON.n_channels) for sub, path in found.items()}
    assert sizes == {"sub-panna": 60, "sub-pbert": 13}
    plain = export_recording(folder, format_name=format_name, target=tmp_path / "plain", disk=DISK)
    assert len(plain.files) == 2


def test_where_the_date_is_unknown_it_is_not_made_up(tmp_path: Path) -> None:
    target = tmp_path / "out"
    _export(bedside(tmp_path, {CYTON: ANNA, OPM: BERT}, has_date=False), target)
    times = [scan["acq_time"] for path in target.rglob("*_scans.tsv") for scan in _table(path)]
    assert times == ["n/a", "n/a"]
    assert _read(target, "panna", "eeg", "cytoneeg", ".vhdr").info["meas_date"] is None
    assert faults(target) == []


@pytest.mark.parametrize(
    ("info", "why"),
    [
        (device_stream("a-raw", [ChannelInfo("W00", "raw", "1")]), "own bytes"),
        (device_stream("opm-trig", TRIG.channels), "go with magnetic samples of the same rows"),
        (device_stream("h10-ecg", [ChannelInfo("ECG", "ecg", "V")]), "channels are ecg: none of"),
        (device_stream("lsl-eeg", CYTON.channels, dtype=Dtype.F64), "would round them to 32.*F64"),
        (device_stream("lsl-eeg", CYTON.channels, dtype=Dtype.I32), "more than 24 bits"),
        (
            device_stream("fnirs-flow", [ChannelInfo("S1", "fnirs_cw_amplitude", "V")]),
            "no wavelength",
        ),
        (
            device_stream("opm-mag", [ChannelInfo("A", "mag", "T", 1e-15, 1e-12)]),
            "FIF has a scale only",
        ),
    ],
)
def test_what_bids_has_no_place_for_is_left_out_with_the_reason(
    tmp_path: Path, info: StreamInfo, why: str
) -> None:
    folder = bedside(tmp_path, {info: ANNA})
    with pytest.raises(StorageError, match=why) as caught:
        _export(folder, tmp_path / "out", stream_id=info.stream_id)
    assert caught.value.code == "storage.export_misfit"
    assert not [path for path in tmp_path.glob("out/*") if path.name != ".brainforge-lock"]


def test_a_participant_of_whom_all_was_left_out_is_not_listed(tmp_path: Path) -> None:
    lsl = device_stream("lsl-eeg", CYTON.channels, dtype=Dtype.F64)
    exported = _export(bedside(tmp_path, {CYTON: ANNA, lsl: BERT}), tmp_path / "out")
    assert [row["pseudonym"] for row in _table(tmp_path / "out" / "participants.tsv")] == [ANNA]
    assert len(exported.left_out) == 1
    assert not (tmp_path / "out" / "sub-pbert").exists()
