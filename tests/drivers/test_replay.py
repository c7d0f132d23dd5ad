"""Recordings as sources: integers as they lie in the file, on this page and over the wire."""

import os
import subprocess
import sys
import time
from pathlib import Path

import edfio
import numpy as np
import pytest

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.devices.bfp import EventCode
from brainforge_edge.devices.bfp_driver import BfpDriver
from brainforge_edge.emulators.main import make_source
from brainforge_edge.emulators.replay import load, quantum
from tests.drivers.emulated import (
    check_rows,
    driver_for,
    emulated,
    n_rows,
    of_stream,
    read_for,
    read_to_the_end,
)
from tests.recordings import DATA

BDF = DATA / "eeg" / "cyton_daisy_16ch_125hz.bdf"
FIF = DATA / "meg" / "elekta306_empty_room_raw.fif"


@pytest.fixture
def cyton_file(tmp_path: Path) -> Path:
    """The real recording, or a seeded one where there is none."""
    if BDF.exists():
        return BDF
    rows = make_source("cyton", seed=9).rows(0, 500)
    signals = [
        edfio.BdfSignal(
            rows[:, column].astype(float),
            125.0,
            label=f"EEG{column}",
            physical_dimension="uV",
            physical_range=(-8388608.0, 8388607.0),
            digital_range=(-8388608, 8388607),
        )
        for column in range(16)
    ]
    path = tmp_path / "synthetic.bdf"
    edfio.Bdf(signals).write(path)
    return path


@pytest.fixture
def helmet_file(tmp_path: Path) -> Path:
    """The real recording, or a seeded one where there is none."""
    if FIF.exists():
        return FIF
    import mne  # noqa: PLC0415  heavy

    values = make_source("opm", seed=9, channels=306).rows(0, 600)[:, :306] * 1e-15
    info = mne.create_info(306, 1200.0, "mag")
    path = tmp_path / "synthetic_raw.fif"
    mne.io.RawArray(values.T, info, verbose="error").save(path, fmt="double", verbose="error")
    return path


def test_a_replayed_bdf_arrives_integer_for_integer_beyond_its_seam(
    tmp_path: Path, cyton_file: Path
) -> None:
    signals = edfio.read_bdf(cyton_file).signals[:16]
    with emulated(tmp_path, "cyton", replay=cyton_file, speed=40.0) as board:
        driver = driver_for("openbci", board.link)
        driver.open()
        blocks = read_for(driver, 1.0)
        board.switches.stop = True
        blocks += read_to_the_end(driver)[0]
        driver.close()
    blocks = of_stream(blocks, "dut-eeg")
    data = np.concatenate([block.data for block in blocks])
    expected = np.stack([signal.digital for signal in signals], axis=1)
    n = min(len(data), len(expected))
    np.testing.assert_array_equal(data[:n], expected[:n])
    assert check_rows(blocks, load(cyton_file, n_channels=16), 0) == 0
    assert n_rows(blocks) == board.ledger()["emitted"]


def test_a_replayed_fif_arrives_integer_for_integer_beyond_its_seam(
    tmp_path: Path, helmet_file: Path
) -> None:
    source = load(helmet_file, n_channels=306)
    with emulated(tmp_path, "opm", replay=helmet_file, sfreq=1000.0) as helmet:
        driver = driver_for("opm", helmet.link)
        info, *_ = driver.open()
        blocks = read_for(driver, 1.5)
        helmet.switches.stop = True
        blocks += read_to_the_end(driver)[0]
        driver.close()
    blocks = [block for block in blocks if block.stream_id == info.stream_id]
    assert info.sfreq == 1000.0
    assert info.channels == source.channels
    assert check_rows(blocks, source) == 0
    assert n_rows(blocks) == helmet.ledger()["emitted"] > source.loop_rows
    assert helmet.ledger()["loop_rows"] == source.loop_rows
    assert isinstance(driver, BfpDriver)
    assert driver.events[0] == (EventCode.SEAM, source.loop_rows, b"seam")


def test_integers_and_scales_of_a_fif_give_its_values_back(helmet_file: Path) -> None:
    import mne  # noqa: PLC0415  heavy

    source = load(helmet_file, n_channels=306)
    raw = mne.io.read_raw_fif(helmet_file, allow_maxshield="yes", verbose="error")
    values = raw.get_data(picks=mne.pick_types(raw.info, meg=True)).T
    scales = np.array([channel.scale for channel in source.channels])
    again = source.rows(0, source.loop_rows) * scales
    assert np.abs((again - values) / scales).max() < 1e-3


def test_a_grid_is_found_although_no_two_values_are_neighbours() -> None:
    grid = 20 / 2**20
    counts = np.array([-30_000, -14, 0, 6, 21, 35, 4_444, 29_980])
    assert quantum(counts * grid) == pytest.approx(grid, rel=1e-9)
    assert quantum(np.array([1.0, np.pi, np.e, 7.3])) is None
    assert quantum(np.zeros(5)) == 1.0


@pytest.mark.parametrize("name", ["missing.bdf", "notes.txt", "broken.bdf", "broken_raw.fif"])
def test_what_cannot_be_replayed_is_said_in_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if not name.startswith("missing"):
        path.write_bytes(b"not a recording")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_command_obeys_its_signals_and_ends_with_a_final_ledger(tmp_path: Path) -> None:
    link, ledger = tmp_path / "port", tmp_path / "ledger.json"
    command = [
        sys.executable,
        "-m",
        "brainforge_edge.cli.main",
        "emulate",
        "opm",
        "--channels",
        "3",
    ]
    process = subprocess.Popen([*command, "--link", str(link), "--ledger", str(ledger)])
    try:
        _until(link.exists)
        process.send_signal(10)  # SIGUSR1
        _until(lambda: not link.is_symlink())
        process.send_signal(12)  # SIGUSR2
        _until(link.exists)
        driver = driver_for("opm", link)
        driver.open()
        assert n_rows(read_for(driver, 0.3)) > 0
        driver.close()
    finally:
        process.terminate()
        assert process.wait(10) == 0
    assert '"final": true' in ledger.read_text()
    assert not os.path.lexists(link)


def _until(condition: object, seconds: float = 20.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
