"""What a helmet tells beside its samples, recorded by the real daemon and exported."""

import json
from collections.abc import Iterator
from pathlib import Path

import mne
import numpy as np
import pytest

from tests.faults.box import Box, box_in, cli

CHANNELS = 8
MAG, TRIG, RESIDUAL = "helmet-mag", "helmet-trig", "helmet-residual"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A recording of three seconds, closed, of a helmet with a pulse every half second."""
    with box_in(tmp_path_factory.mktemp("box")) as made:
        made.device("helmet", "opm")
        made.write_config()
        made.emulate("helmet", "opm", channels=CHANNELS, more=("--pulses", "0.5"))
        made.start()
        made.until_streaming(MAG, 20)
        made.until_streaming(RESIDUAL, 20)
        made.ask("record", name="night")
        made.until(lambda: made.stream(RESIDUAL)["recorded"] >= 3, 20, "residual fields")
        made.ask("stop")
        yield made


def export(box: Box, form: str, target: Path, *more: str) -> tuple[list[str], str]:
    result = cli(
        "export", box.recordings / "night", "--format", form, "--output", target, "--json", *more
    )
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    return sorted(Path(path).name for path in said["files"]), " ".join(said["left_out"])


def test_the_three_streams_lie_in_one_recording_whole(box: Box) -> None:
    account = box.verify()["night"]
    for stream in (MAG, TRIG, RESIDUAL):
        assert account[stream]["clean"]
        assert account[stream]["gaps"] == []
        assert len(account[stream]["spans"]) == 1
    (mag,), (trig,) = account[MAG]["spans"], account[TRIG]["spans"]
    assert abs(mag[1] - trig[1]) <= 8
    assert abs(mag[2] - trig[2]) <= 8
    assert account[RESIDUAL]["rows"] >= 3


def test_trigger_words_are_a_stim_channel_of_the_helmets_file(box: Box, tmp_path: Path) -> None:
    files, left_out = export(box, "fif", tmp_path)
    assert files == ["night_helmet-mag_raw.fif", "night_helmet-residual_raw.fif"]
    assert left_out == ""
    raw = mne.io.read_raw_fif(tmp_path / files[0], verbose="error")
    assert raw.ch_names[-1] == "STIM"
    assert raw.get_channel_types()[-2:] == ["mag", "stim"]
    words = raw.get_data(picks=["STIM"])[0]
    assert set(words) == {0.0, 1.0}
    up = np.flatnonzero(np.diff(words) > 0)
    assert len(up) >= 4
    assert np.abs(np.diff(up) - 500).max() <= 1
    # The pulse is in the last channel of the samples as well: its edges are the words'.
    analogue = raw.get_data()[-2] / raw.info["chs"][-2]["cal"]
    jump = np.diff(analogue)[up]
    assert np.median(jump) > 100_000
    events = mne.find_events(raw, stim_channel="STIM", verbose="error")
    assert len(events) >= 4
    residual = mne.io.read_raw_fif(tmp_path / files[1], verbose="error")
    assert residual.info["sfreq"] == 1.0
    assert np.abs(residual.get_data()).max() < 50e-12


def test_words_alone_are_a_file_of_their_own(box: Box, tmp_path: Path) -> None:
    files, _ = export(box, "fif", tmp_path, "--stream", TRIG)
    assert files == ["night_helmet-trig_raw.fif"]
    assert set(mne.io.read_raw_fif(tmp_path / files[0], verbose="error").get_data()[0]) == {0, 1}


def test_a_format_without_fractions_leaves_residual_fields_out_and_says_so(
    box: Box, tmp_path: Path
) -> None:
    files, left_out = export(box, "bdf", tmp_path)
    assert files == ["night_helmet-mag.bdf", "night_helmet-trig.bdf"]
    assert "helmet-residual cannot be exported as BDF" in left_out
    alone = cli(
        "export", box.recordings / "night", "--format", "bdf", "--output", tmp_path / "alone",
        "--stream", RESIDUAL,
    )  # fmt: skip
    assert alone.returncode == 12
