"""The common pulse: where the box clock says it is, in every emulated device, known from its ledger."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from brainforge_edge.emulators.main import make_source
from brainforge_edge.emulators.source import PulsedSource, PulseTrain
from tests.drivers.emulated import check_rows, driver_for, emulated, read_for

SECOND = 1_000_000_000
DRIVERS = {"opm": "opm", "accel_hat": "accel_hat", "fnirs": "fnirs", "cyton": "openbci"}
FIRST_STREAM = {"opm": "mag", "accel_hat": "acc1", "fnirs": "flow", "cyton": "eeg"}


def edges(part: NDArray[Any], sample_ns: float, width_ns: float) -> list[float]:
    """Begin of each whole pulse in ns after sample 0, from the areas of what was sampled."""
    found = []
    ups = np.flatnonzero((part[1:] > 0) & (part[:-1] == 0)) + 1
    for up in ups:
        down = up + np.flatnonzero(part[up:] == 0)
        if not len(down):
            break
        inside = part[up : down[0]]
        centre = (np.arange(up, down[0]) * inside).sum() / inside.sum() * sample_ns
        found.append(centre - width_ns / 2)
    return found


@given(
    st.integers(0, 10**15), st.sampled_from([10.0, 125.0, 250.0, 1000.0]), st.floats(-0.003, 0.003)
)
def test_an_edge_lies_where_the_box_clock_says_at_any_rate(
    first_ns: int, sfreq: float, error: float
) -> None:
    train = PulseTrain(2.0, 0.5)
    sample_ns = SECOND / sfreq / (1 + error)
    t_ns = first_ns % (2 * SECOND) + np.arange(round(7 * sfreq)) * sample_ns
    found = edges(train.part(t_ns, sample_ns), sample_ns, SECOND / 2)
    assert len(found) >= 2
    for begin in found:
        phase = (first_ns + begin) % (2 * SECOND)
        # A pulse has two edges inside samples: its centre is known to a part of one.
        assert min(phase, 2 * SECOND - phase) < 0.13 * sample_ns + 1000


@pytest.mark.parametrize("rate_error", [0.0, 0.003])
@pytest.mark.parametrize("kind", DRIVERS)
def test_every_emulator_sends_the_pulses_that_its_ledger_tells_of(
    tmp_path: Path, kind: str, rate_error: float
) -> None:
    with emulated(tmp_path, kind, pulses_s=0.5, rate_error=rate_error) as device:
        driver = driver_for(DRIVERS[kind], device.link)
        first = driver.open()[0]
        blocks = [b for b in read_for(driver, 1.3) if b.stream_id == first.stream_id]
        driver.close()
    assert first.stream_id == f"dut-{FIRST_STREAM[kind]}"
    ledger = device.ledger()
    train = PulseTrain(**ledger["pulses"])
    account = ledger.get("streams", {}).get(FIRST_STREAM[kind], ledger)
    sample_ns = SECOND / (first.sfreq * (1 + rate_error))
    began = account["runs"][-1]["started_ns"]
    if kind == "cyton":  # its first sample is ready a period after the start
        began += round(sample_ns)
    source = PulsedSource(make_source(kind), train, first_ns=began, sample_ns=sample_ns)
    assert check_rows(blocks, source, 0) == 0
    assert any(source.touches(block.seq, len(block.data)) for block in blocks)
