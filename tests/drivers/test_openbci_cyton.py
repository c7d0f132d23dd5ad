"""The Cyton driver against the emulated board on a real pseudo-terminal."""

import threading
from pathlib import Path

import pytest

from brainforge_edge.core.block import BlockFlag
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import ConfigError, DeviceError
from brainforge_edge.devices.base import FrameSink
from brainforge_edge.devices.openbci_board import Board
from brainforge_edge.emulators.device import Switches, run
from brainforge_edge.emulators.ledger import Ledger
from brainforge_edge.emulators.main import make_source
from brainforge_edge.emulators.openbci import Cyton
from brainforge_edge.emulators.pty import PtyPort
from tests.drivers.emulated import (
    check_rows,
    check_times,
    driver_for,
    emulated,
    n_rows,
    of_stream,
    read_for,
    read_to_the_end,
)


@pytest.mark.parametrize(("channels", "sfreq"), [(8, 250.0), (16, 125.0)])
def test_a_board_is_read_whole_and_equals_its_source(
    tmp_path: Path, channels: int, sfreq: float
) -> None:
    with emulated(tmp_path, "cyton", channels=channels) as board:
        driver = driver_for("openbci", board.link)
        info = driver.open()[0]
        assert (info.stream_id, info.n_channels, info.sfreq) == ("dut-eeg", channels, sfreq)
        assert info.channels[0].scale == pytest.approx(2.235174e-8)
        assert driver.info is not None
        assert driver.info.firmware_version == "v3.1.2"
        blocks = read_for(driver, 1.5)
        helmet_stops = board.switches
        helmet_stops.stop = True
        blocks += read_to_the_end(driver)[0]
        driver.close()
    motion, blocks = of_stream(blocks, "dut-acc"), of_stream(blocks, "dut-eeg")
    assert check_rows(blocks, make_source("cyton", channels=channels), 0) == 0
    assert check_rows(motion, make_source("cyton", stream="acc"), 0) == 0
    assert n_rows(motion) == board.ledger()["streams"]["acc"]["emitted"] > 30
    assert n_rows(blocks) == board.ledger()["emitted"] > sfreq
    assert blocks[0].flags & BlockFlag.FIRST
    assert driver.proof("dut-eeg") == ""
    check_times(blocks, sfreq)


def test_a_slow_reader_is_a_counted_gap(tmp_path: Path) -> None:
    # A pty holds two seconds of a Cyton: so the board runs faster, and its own memory is small.
    with emulated(tmp_path, "cyton", speed=20.0, fifo_s=0.05) as board:
        driver = driver_for("openbci", board.link)
        driver.open()
        blocks = read_for(driver, 0.2)
        threading.Event().wait(0.6)
        blocks += read_for(driver, 0.3)
        board.switches.stop = True
        blocks += read_to_the_end(driver)[0]
        driver.close()
    ledger = board.ledger()
    for account, part, stream in (
        (ledger, "eeg", ""),
        (ledger["streams"]["acc"], "acc", "acc"),
    ):
        own = of_stream(blocks, f"dut-{part}")
        lost = check_rows(own, make_source("cyton", stream=stream), 0)
        assert lost == sum(n for _, n in account["dropped"]) > 0
        assert n_rows(own) + lost == account["emitted"]


def test_a_board_that_streams_already_is_stopped_and_started_anew(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton") as board:
        first = driver_for("openbci", board.link)
        first.open()
        read_for(first, 0.3)
        first._transport.close()  # type: ignore[attr-defined]  # dies without a word
        driver = driver_for("openbci", board.link)
        driver.open()
        blocks = read_for(driver, 0.5)
        driver.close()
    assert blocks[0].seq == 0
    assert check_rows(of_stream(blocks, "dut-eeg"), make_source("cyton"), 0) == 0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("OpenBCI Ganglion v3.0.0\r\n", "device.wrong_device"),
        ("hello from a 3D printer\r\n", "device.wrong_device"),
        ("Failure: Communications timeout - Device failed to poll Host", "device.no_board"),
        ("", "device.no_answer"),
    ],
)
def test_what_is_not_a_cyton_is_refused_by_its_banner(tmp_path: Path, text: str, code: str) -> None:
    clock = SystemClock()
    ledger = Ledger(None)
    board = Cyton(make_source("cyton"), ledger=ledger, now_ns=clock.monotonic_ns(), reset_text=text)
    switches, ready = Switches(), threading.Event()
    thread = threading.Thread(
        target=run,
        args=(board, PtyPort(tmp_path / "port")),
        kwargs={
            "ledger": ledger,
            "clock": clock,
            "switches": switches,
            "plugged": ready.set,
        },
    )
    thread.start()
    assert ready.wait(10)
    driver = driver_for("openbci", tmp_path / "port", answer_s=0.5)
    with pytest.raises(DeviceError) as caught:
        driver.open()
    driver.close()
    switches.stop = True
    thread.join(10)
    assert caught.value.code == code
    assert len(str(caught.value).splitlines()) == 1


class Babbling:
    """A transport that always has the same to say, without an end."""

    dropped_packets = 0

    def __init__(self, said: bytes) -> None:
        self._said = said

    def read(self, timeout_s: float) -> bytes:
        threading.Event().wait(min(timeout_s, 0.01))
        return self._said

    def fill(self, sink: FrameSink, timeout_s: float) -> int:
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        del data

    def close(self) -> None:
        return


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"\xaa\x1b[2J\xff\x00\x80\x07\xfe\xc0", "bytes that are no text"),
        (bytes(16), "bytes that are no text"),
        (b"\r\nT:21.5 /0.0 \x1b\xc2\xb0C " + b"x" * 200, "'" + ("T:21.5 /0.0 C " + "x" * 200)[:40] + "'"),
    ],
)  # fmt: skip
def test_what_another_device_says_is_shown_short_and_only_as_text(said: bytes, shown: str) -> None:
    board = Board(Babbling(said), clock=SystemClock(), port="/dev/x", device="cap")
    with pytest.raises(DeviceError) as caught:
        board.banner(0.1)
    assert caught.value.code == "device.wrong_device"
    assert caught.value.transient
    assert caught.value.why == f"it answers {shown}"
    assert str(caught.value).isascii()


def test_a_helmet_where_the_cyton_should_be_is_refused(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=3) as helmet:
        driver = driver_for("openbci", helmet.link, answer_s=1.5)
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert caught.value.code in {"device.wrong_device", "device.no_answer"}


def test_a_missing_daisy_is_refused_when_it_is_expected(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton", channels=8) as board:
        driver = driver_for("openbci", board.link, daisy=True)
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert caught.value.code == "device.wrong_device"


def test_the_gain_is_set_and_scales_the_channels(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton", channels=8) as board:
        driver = driver_for("openbci", board.link, gain=12)
        info = driver.open()[0]
        driver.close()
    assert info.channels[7].scale == pytest.approx(2 * 2.235174e-8)


def test_a_gain_that_the_board_does_not_know_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        driver_for("openbci", tmp_path / "port", gain=5)


def test_an_unplugged_board_is_a_lost_link(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton") as board:
        driver = driver_for("openbci", board.link)
        driver.open()
        read_for(driver, 0.3)
        board.switches.unplug = True
        _, error = read_to_the_end(driver)
        driver.close()
    assert error.code == "device.link_lost"


def test_a_board_that_was_switched_off_and_on_is_silent_until_it_is_told(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton") as board:
        driver = driver_for("openbci", board.link, silent_s=0.3)
        driver.open()
        read_for(driver, 0.3)
        board.switches.restart = True
        _, error = read_to_the_end(driver)
        assert error.code == "device.silent"
        driver.close()
        driver = driver_for("openbci", board.link)
        driver.open()
        blocks = read_for(driver, 0.4)
        driver.close()
    assert check_rows(of_stream(blocks, "dut-eeg"), make_source("cyton"), 0) == 0
    assert len(board.ledger()["runs"]) == 2
