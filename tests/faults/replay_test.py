"""Real recordings through the whole box: what the aggregator holds is the file, integer for integer."""

from pathlib import Path

import edfio
import mne
import numpy as np
import pytest

from brainforge_edge.cloud.store.reader import StoreReader
from brainforge_edge.codec import registry
from brainforge_edge.codec.packed import pack_rows
from brainforge_edge.security.keystore import FileKeyStore
from tests.drivers.test_replay import cyton_file, helmet_file
from tests.faults.mutants import run_demo

__all__ = ["cyton_file", "helmet_file"]


def stored(root: Path, stream_id: str) -> tuple[list[str], np.ndarray]:
    """Channel names and all rows of a stream in the aggregator's store."""
    private = FileKeyStore(root / "aggregator-keys")
    reader = StoreReader(root / "cloud", decode=registry.decode, pack=pack_rows, private=private)
    try:
        stream = next(s for s in reader.streams() if s.stream_id == stream_id)
        assert stream.info is not None
        rows = [rows for _, rows in reader.iter_rows(stream.log_id, stream_id)]
        return stream.info.ch_names, np.concatenate(rows)
    finally:
        reader.close()


def looped(expected: np.ndarray, n: int) -> np.ndarray:
    again: np.ndarray = expected[np.arange(n) % len(expected)]
    return again


@pytest.mark.slow
def test_what_the_aggregator_holds_is_the_file(
    tmp_path: Path,
    cyton_file: Path,
    helmet_file: Path,
) -> None:
    root = tmp_path / "demo"
    status, reply = run_demo(
        tmp_path, "--seconds", "5", "--root", str(root),
        "--replay-opm", str(helmet_file), "--replay-cyton", str(cyton_file),
    )  # fmt: skip
    assert status == 0, reply

    _, cyton = stored(root, "cyton-eeg")
    signals = edfio.read_bdf(cyton_file).signals[: cyton.shape[1]]
    digital = np.stack([signal.digital for signal in signals], axis=1)
    np.testing.assert_array_equal(cyton, looped(digital, len(cyton)))

    names, helmet = stored(root, "helmet-mag")
    raw = mne.io.read_raw_fif(helmet_file, allow_maxshield="yes", verbose="error")
    values = raw.get_data(picks=names).T
    # The file's grid: each channel is a whole number of steps; the smallest step is its unit.
    for column in range(values.shape[1]):
        steps = np.diff(np.unique(values[:, column]))
        counts = helmet[: len(values), column].astype(np.float64)
        moved = counts != 0
        if not moved.any() or not len(steps):
            continue
        unit = np.median(values[: len(counts), column][moved] / counts[moved])
        assert np.abs(values[: len(counts), column] - counts * unit).max() < 0.01 * abs(unit)
    seam = min(len(values), len(helmet))
    np.testing.assert_array_equal(helmet, looped(helmet[:seam], len(helmet)))
