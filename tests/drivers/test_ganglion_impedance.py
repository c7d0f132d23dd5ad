"""The board measures its electrodes: values and words in the answer, samples again afterwards."""

from pathlib import Path

import pytest

from brainforge_edge.core.errors import DeviceError
from tests.drivers.bluetooth import read_until, ward
from tests.drivers.emulated import commanded, n_rows


def test_impedances_of_a_ganglion_are_answered_with_words(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        board = place.add_ganglion()
        driver = place.ganglion_driver()
        driver.open()
        read_until(driver, 40)
        values, _ = commanded(driver, "impedance", seconds=1)
        again, _ = commanded(driver, "impedance", seconds=1)
        after = read_until(driver, 40)
        spans = driver.markers()
        driver.close()
    assert values["impedance_kohm"] == {
        "EEG1": 5.0,
        "EEG2": 12.0,
        "EEG3": 0.8,
        "EEG4": 150.0,
        "ref": 6.0,
    }
    assert values["contact"] == {
        "EEG1": "good",
        "EEG2": "fair",
        "EEG3": "good",
        "EEG4": "poor",
        "ref": "good",
    }
    assert again == values
    assert [span.description for span in spans] == ["BAD_impedance"] * 2
    assert all(span.duration_s >= 1 for span in spans)
    assert [c for c in board.commands if c in "szZb"][-5:] == ["s", "z", "Z", "b", "s"]
    assert n_rows(after) >= 40


def test_it_is_refused_while_a_recording_is_open(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_ganglion()
        driver = place.ganglion_driver()
        driver.open()
        with pytest.raises(DeviceError) as caught:
            commanded(driver, "impedance", recording="night")
        driver.close()
    assert caught.value.code == "device.protected"
