"""BrainFlow, which none of us wrote, drives our emulated Cyton and gets what its ledger and source say."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from brainforge_edge.emulators.main import make_source
from brainforge_edge.emulators.openbci_motion import acceleration
from tests.drivers.emulated import emulated

ROOT = Path(__file__).parents[2]
UV_A_COUNT = 4.5e6 / 24 / (2**23 - 1)
G_A_COUNT = 0.002 / 16
SECONDS = 1.5
# It stops its thread before it says `s`: what a dongle held then, and what came meanwhile, is not read.
UNREAD_PACKETS = 250


def read_with_brainflow(board: str, port: Path, output: Path, *, runs: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.drivers.brainflow_client"]
    result = subprocess.run(
        [*command, board, str(port), str(SECONDS), str(runs), str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    with np.load(output) as found:
        return dict(found)


def new_rows(run: NDArray[Any], package: int, per_row: int) -> tuple[int, NDArray[Any]]:
    """(index of the first row, rows) without what was left in the port from the run before.

    BrainFlow may join an old half of a row with the first new one: then that row is spoilt.
    """
    numbers = run[package].astype(int)
    steps = np.diff(numbers) % 256
    jumps = np.flatnonzero(steps != per_row) + 1
    first = int(jumps[-1]) if len(jumps) else 0
    assert first <= UNREAD_PACKETS // per_row  # no loss, no doubling behind what was old
    index = int(numbers[first]) // per_row
    assert index <= 1
    return index, run[:, first:]


@pytest.mark.parametrize(("board", "n_channels"), [("CYTON_BOARD", 8), ("CYTON_DAISY_BOARD", 16)])
def test_an_independent_client_reads_our_emulator_without_loss(
    tmp_path: Path, board: str, n_channels: int
) -> None:
    per_row = n_channels // 8
    with emulated(tmp_path, "cyton", channels=n_channels) as cyton:
        found = read_with_brainflow(board, cyton.link, tmp_path / "found.npz", runs=2)
    emitted = [run["emitted"] for run in cyton.ledger()["runs"]]
    source = make_source("cyton", channels=n_channels)
    assert len(emitted) == 2
    assert cyton.ledger()["dropped"] == []
    for name, sent in zip(("run0", "run1"), emitted, strict=True):
        index, run = new_rows(found[name], int(found["rows_package"][0]), per_row)
        n = run.shape[1]
        assert sent - UNREAD_PACKETS // per_row <= index + n <= sent
        assert n > 200 // per_row
        counts = np.rint(run[found["rows_eeg"]].T / UV_A_COUNT).astype(np.int64)
        np.testing.assert_array_equal(counts, source.rows(index, n))
        true = np.array([acceleration(at * per_row // 10) for at in range(index, index + n)])
        measured = run[found["rows_accel"]].T / G_A_COUNT
        # It holds the last axes until new ones come: the first may be those of the run before.
        np.testing.assert_allclose(measured[10:], true[10:], atol=1e-6)
