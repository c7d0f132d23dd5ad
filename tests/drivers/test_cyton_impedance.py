"""The impedance test measures what the electrodes have, and leaves the board as it was."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices import impedance
from brainforge_edge.devices.base import DeviceCommand
from brainforge_edge.emulators.main import make_source
from tests.drivers.emulated import check_rows, commanded, driver_for, emulated, of_stream, read_for

OHMS = (5e3, 20e3, 100e3, 750e3)
WORDS = ("good", "fair", "poor", "open")


def names(n_channels: int) -> list[str]:
    return [f"EEG{at + 1}" for at in range(n_channels)]


@pytest.mark.parametrize("n_channels", [8, 16])
def test_impedances_are_those_of_the_electrodes_within_a_tenth(
    tmp_path: Path, n_channels: int
) -> None:
    with emulated(tmp_path, "cyton", channels=n_channels, ohms=OHMS) as board:
        driver = driver_for("openbci", board.link)
        driver.open()
        before = of_stream(read_for(driver, 0.4), "dut-eeg")
        values, _ = commanded(driver, "impedance")
        after = of_stream(read_for(driver, 0.5), "dut-eeg")
        (span,) = driver.markers()  # type: ignore[attr-defined]
        notices = driver.notices()  # type: ignore[attr-defined]
        status = driver.status  # type: ignore[attr-defined]
        driver.close()
    for at, name in enumerate(names(n_channels)):
        assert values["impedance_kohm"][name] == pytest.approx(OHMS[at % 4] / 1e3, rel=0.1)
        assert values["contact"][name] == WORDS[at % 4]
    assert (span.description, span.duration_s > 3) == ("BAD_impedance", True)
    assert before[-1].t_first_ns < span.t_ns < after[0].t_first_ns
    assert after[0].t_first_ns < span.t_ns + span.duration_s * 1e9 + 200_000_000
    opened = [n.data for n in notices if n.data.get("what") == "electrode_open"]
    assert [(n["change"], n["n"]) for n in opened] == [("began", str(n_channels // 4))]
    assert status["contact"] == values["contact"]
    # The test current is off again: what is measured is what the electrodes bring.
    source = make_source("cyton", channels=n_channels)
    last = [block for block in after if block.incarnation == 2]
    assert last[0].seq == 0
    for block in last:
        np.testing.assert_array_equal(block.data, source.rows(block.seq, len(block.data)))


def test_chosen_channels_are_tested_and_gains_count(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton", channels=8, ohms=OHMS) as board:
        channels = [{"number": 2, "gain": 6}, {"number": 3, "on": False}]
        driver = driver_for("openbci", board.link, channels=channels)
        driver.open()
        values, _ = commanded(driver, "impedance", channels="EEG2,EEG5", seconds=1)
        refusals = []
        for wrong in ("EEG3", "nose", ""):
            with pytest.raises(DeviceError) as caught:
                commanded(driver, "impedance", channels=wrong)
            refusals.append(caught.value.code)
        driver.close()
    assert set(values["contact"]) == {"EEG2", "EEG5"}
    assert values["impedance_kohm"]["EEG2"] == pytest.approx(20, rel=0.1)
    assert refusals == ["device.bad_argument"] * 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seconds": 99}, "seconds must be a number of seconds from 1 to 30"),
        ({"seconds": 0}, "seconds must be a number of seconds from 1 to 30"),
        ({"second": 3}, "impedance knows no 'second', only channels, seconds and force"),
    ],
)
def test_arguments_of_the_test_are_refused_with_what_they_may_be(
    tmp_path: Path, arguments: dict[str, Any], words: str
) -> None:
    with emulated(tmp_path, "cyton", channels=8) as board:
        driver = driver_for("openbci", board.link)
        driver.open()
        with pytest.raises(DeviceError) as caught:
            commanded(driver, "impedance", **arguments)
        with pytest.raises(DeviceError) as mark:
            commanded(driver, "mark", text="x")
        driver.close()
    assert (caught.value.code, caught.value.why) == ("device.bad_argument", words)
    assert "only description" in mark.value.why


def test_an_electrode_that_hangs_in_the_air_is_open(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton", channels=8, ohms=(5e3, 1e9)) as board:
        driver = driver_for("openbci", board.link)
        driver.open()
        values, _ = commanded(driver, "impedance", seconds=1)
        driver.close()
    assert (values["contact"]["EEG1"], values["contact"]["EEG2"]) == ("good", "open")
    assert values["impedance_kohm"]["EEG2"] is None


def test_it_is_refused_while_a_recording_is_open_unless_forced(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton", channels=8) as board:
        driver = driver_for("openbci", board.link)
        driver.open()
        with pytest.raises(DeviceError) as caught:
            commanded(driver, "impedance", recording="night")
        values, _ = commanded(driver, "impedance", recording="night", force=True, seconds=1)
        driver.close()
    assert caught.value.code == "device.protected"
    assert values["contact"]["EEG1"] == "good"


def test_a_link_that_is_lost_during_the_test_answers_and_marks_the_span(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton", channels=8) as board:
        driver = driver_for("openbci", board.link)
        driver.open()
        threading.Timer(1.0, lambda: setattr(board.switches, "unplug", True)).start()
        answers: list[Any] = []

        def ask() -> None:
            try:
                driver.command(DeviceCommand(name="impedance", arguments={"seconds": 20}))
            except DeviceError as error:
                answers.append(error.code)

        asker = threading.Thread(target=ask)
        asker.start()
        with pytest.raises(DeviceError):
            read_for(driver, 10)
        driver.close()
        asker.join(5)
        (span,) = driver.markers()  # type: ignore[attr-defined]
    assert answers == ["device.measurement_failed"]
    assert span.description == "BAD_impedance"


def test_a_process_that_is_killed_in_the_test_leaves_no_current_behind(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton", channels=8, ohms=(1e6,)) as board:
        first = driver_for("openbci", board.link)
        first.open()
        board_of = first._board  # type: ignore[attr-defined]
        first._transport.write(b"s")  # type: ignore[attr-defined]
        board_of.drain()
        board_of.ask("z101Z")
        first._transport.write(b"b")  # type: ignore[attr-defined]
        first._transport.close()  # type: ignore[attr-defined]  # dies without a word
        driver = driver_for("openbci", board.link)
        driver.open()
        blocks = of_stream(read_for(driver, 0.4), "dut-eeg")
        driver.close()
    assert check_rows(blocks, make_source("cyton", channels=8), 0) == 0


def test_other_drivers_say_that_they_cannot(tmp_path: Path) -> None:
    with emulated(tmp_path, "accel_hat") as hat:
        driver = driver_for("accel_hat", hat.link)
        driver.open()
        with pytest.raises(DeviceError) as caught:
            commanded(driver, "impedance")
        with pytest.raises(DeviceError) as unknown:
            commanded(driver, "sing")
        driver.close()
    assert caught.value.code == "device.unsupported"
    assert unknown.value.code == "device.unknown_command"


@pytest.mark.parametrize("ohm", [0.0, 1e3, 5e3, 5e4, 1e6])
@pytest.mark.parametrize("hz", [31.2, 31.25])
def test_mains_drift_and_steps_do_not_count(ohm: float, hz: float) -> None:
    random = np.random.default_rng(7)
    t = np.arange(1000) / 250.0
    wave = impedance.TEST_A * (ohm + impedance.SERIES_OHM) * np.sin(2 * np.pi * hz * t + 1)
    mains = 200e-6 * np.sin(2 * np.pi * 50 * t)
    drift = 1e-3 * t + 2e-3 * (t > 3.1)
    volts = wave + mains + drift + random.standard_normal(1000) * 0.3e-6
    (found,) = impedance.ohms(volts[:, None], 250.0)
    assert found == pytest.approx(ohm, rel=0.03, abs=150)
