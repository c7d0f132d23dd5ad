"""A helmet that is calibrated while it is recorded: what was recorded before keeps its calibration."""

import json
from collections.abc import Iterator
from pathlib import Path

import mne
import numpy as np
import pytest

from brainforge_edge.core.stream import ChannelDetail
from brainforge_edge.recorder.reader import read_segment
from brainforge_edge.recorder.segment import Descriptor
from tests.faults.box import Box, box_in, check_refusal, cli

MAG = "helmet-mag"
DEVICE = 11


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A recording in the midst of which the helmet was calibrated, by force."""
    with box_in(tmp_path_factory.mktemp("box")) as made:
        made.device("helmet", "opm")
        made.write_config()
        made.emulate("helmet", "opm", more=("--startup-s", "0.5"))
        made.start()
        made.until_streaming(MAG, 20)
        made.ask("record", name="night")
        made.until(lambda: made.stream(MAG)["recorded"] >= 1000, 20, "a second")
        refused = cli("device", "helmet", "calibrate", "--run", made.run)
        check_refusal(refused, DEVICE, "night", "calibrate")
        done = cli("device", "helmet", "calibrate", "--force", "--run", made.run)
        assert done.returncode == 0, done.stderr
        made.until(lambda: len(segments(made)) == 2, 20, "a segment with another description")
        made.until(lambda: made.stream(MAG)["recorded"] >= 1000, 20, "another second")
        made.ask("stop")
        yield made


def segments(box: Box) -> list[Path]:
    return sorted((box.recordings / "night" / MAG).glob("*.seg"))


def descriptors(box: Box) -> list[Descriptor]:
    found = [read_segment(path).descriptor for path in segments(box)]
    assert None not in found
    return [descriptor for descriptor in found if descriptor is not None]


def test_a_segment_has_the_scale_and_the_date_with_which_it_was_recorded(box: Box) -> None:
    before, after = descriptors(box)
    old, new = before.info.channels[1], after.info.channels[1]
    assert old.scale == 1e-15
    assert new.scale != old.scale
    assert new.scale == pytest.approx(1e-15, rel=0.1)
    assert isinstance(old.detail, ChannelDetail)
    assert isinstance(new.detail, ChannelDetail)
    assert old.detail.calibrated_utc_s == 0
    assert new.detail.calibrated_utc_s > 1.7e9
    assert before.identity.recording == after.identity.recording == "night"


def test_what_is_missing_between_the_two_is_a_named_gap(box: Box) -> None:
    account = box.verify()["night"][MAG]
    assert account["clean"]
    assert account["missing"] == []
    (one, two) = account["spans"]
    assert one[0] == two[0]  # the device counted on
    (gap,) = account["gaps"]
    assert gap["n"] == two[1] - one[2]
    assert (gap["plus_minus"], gap["basis"]) == (0, "device_index")


def test_an_export_has_a_file_for_each_calibration(box: Box, tmp_path: Path) -> None:
    done = cli("export", box.recordings / "night", "--format", "fif", "--output", tmp_path, "--json",
               "--stream", MAG)  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = [Path(name) for name in json.loads(done.stdout)["files"]]
    assert [path.name for path in files] == [
        "night_helmet-mag_raw.fif",
        "night_helmet-mag_part2_raw.fif",
    ]
    spans = box.verify()["night"][MAG]["spans"]
    starts = []
    for path, descriptor, (_, first, end) in zip(files, descriptors(box), spans, strict=True):
        raw = mne.io.read_raw_fif(path, verbose="error")
        scales = np.array([channel.scale for channel in descriptor.info.channels], np.float32)
        cals = np.array([channel["cal"] for channel in raw.info["chs"]], np.float32)
        np.testing.assert_array_equal(cals, scales)
        counts = np.rint(raw.get_data() / cals[:, None].astype(np.float64))
        assert counts.shape[1] == end - first
        assert counts[0].tolist() == list(range(first, end))  # the raw numbers, whatever the scale
        starts.append(raw.info["meas_date"])
    assert (starts[1] - starts[0]).total_seconds() == pytest.approx(
        (spans[1][1] - spans[0][1]) / 1000, abs=0.1
    )
