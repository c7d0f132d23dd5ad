"""A recording of a Muse through an emulated headset."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.emulators import muse as emulated
from brainforge_edge.emulators import replay
from tests.drivers.bluetooth import of, read_until, ward
from tests.recordings import DATA

MUSE_CSV = DATA / "eeg" / "muse2016_p300_256hz.csv"


def test_a_recording_of_a_muse_is_replayed_and_read_as_it_lies_in_the_file(
    tmp_path: Path,
) -> None:
    path = muse_file(tmp_path)
    with ward(tmp_path) as place:
        place.add_muse(source=replay.load(path, n_channels=5))
        driver = place.muse_driver(aux=True)
        (info, *_) = driver.open()
        blocks = of(read_until(driver, 256), "eeg")
        driver.close()
    assert info.ch_names == ["TP9", "AF7", "AF8", "TP10", "AUX"]
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        lines = [[float(value) for value in line[1:6]] for line in list(csv.reader(file))[1:1000]]
    channel = info.channels[0]
    for block in blocks:
        microvolts = (block.data * channel.scale + channel.offset) * 1e6
        expected = lines[block.seq : block.seq + len(block.data)]
        np.testing.assert_allclose(microvolts, expected, atol=0.001)


def muse_file(folder: Path) -> Path:
    """The real recording, or a seeded one where there is none."""
    if MUSE_CSV.exists():
        return MUSE_CSV
    path = folder / "muse.csv.gz"
    rows = emulated.muse_source(seed=9, n_channels=5).rows(0, 1024)
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamps", "TP9", "AF7", "AF8", "TP10", "Right AUX", "Marker"])
        for number, row in enumerate(rows):
            values = [f"{(value - 2048) * replay.MUSE_V * 1e6:.3f}" for value in row]
            writer.writerow([number / 256, *values, 0])
    return path


@pytest.mark.parametrize("text", ["", "timestamps,TP9\n0,abc\n", "timestamps,TP9\n0,5000\n"])
def test_a_file_that_is_no_recording_of_a_muse_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "muse.csv"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        replay.load(path)
    assert caught.value.code == "config.bad_replay"
