"""Start-up, zeroing, calibration and faults of a helmet, driven through its registers."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.core.block import BlockFlag, GapCause, Marker, SampleBlock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.events import EventType
from brainforge_edge.devices.base import Notice
from brainforge_edge.devices.bfp_driver import BfpDriver
from brainforge_edge.emulators.main import make_source
from tests.drivers.emulated import (
    check_rows,
    commanded,
    driver_for,
    emulated,
    n_rows,
    read_for,
    read_to_the_end,
    samples,
)

CHANNELS = 9
SOURCE = make_source("opm", channels=CHANNELS)
STEPS = ["restart", "locked", "loop_set", "coarse_zero", "fine_zero", "calibrate", "ready"]


class Heard:
    """A driver and all that came from it."""

    def __init__(self, link: Path | str, **settings: Any) -> None:
        driver = driver_for("opm", link, **settings)
        assert isinstance(driver, BfpDriver)
        self.driver = driver
        self.infos = driver.open()
        self.blocks: list[SampleBlock] = []
        self.markers: list[Marker] = []
        self.notices: list[Notice] = []

    def take(self, blocks: list[SampleBlock]) -> None:
        self.blocks += blocks
        self.markers += self.driver.markers()
        self.notices += self.driver.notices()

    def until(self, is_so: Callable[[], object], most_s: float = 10.0) -> None:
        until = time.monotonic() + most_s
        while not is_so():
            assert time.monotonic() < until, self.driver.status
            self.take(samples(self.driver.read(0.05)))

    def to_the_end(self) -> DeviceError:
        blocks, error = read_to_the_end(self.driver)
        self.close()
        self.take(blocks)
        return error

    def command(self, name: str, **arguments: Any) -> dict[str, Any]:
        values, blocks = commanded(self.driver, name, **arguments)
        self.take(blocks)
        return values

    def states(self) -> list[str]:
        return [
            notice.data["state"]
            for notice in self.notices
            if notice.event_type == EventType.DEVICE_STATE_CHANGED
        ]

    def alerts(self) -> list[tuple[str, str, str]]:
        return [
            (notice.data["what"], notice.data["change"], notice.data["n"])
            for notice in self.notices
            if notice.event_type == EventType.QUALITY_ALERT and "change" in notice.data
        ]

    def close(self) -> None:
        self.driver.close()


def test_a_cold_helmet_is_started_while_its_samples_flow_on(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS, is_cold=True, startup_s=1.0) as device:
        heard = Heard(device.link)
        delays = [c.detail.group_delay_us for c in heard.infos[0].channels if c.detail]
        assert len(delays) == CHANNELS - 1
        assert all(3_000 <= delay < 5_000 for delay in delays)
        scales = [channel.scale for channel in heard.infos[0].channels]
        error = heard.to_the_end()  # its calibration is new, so it describes itself anew
        assert error.code == "device.restarted"
        assert "calibration" in error.why
        assert heard.states() == STEPS
        assert check_rows(heard.blocks, SOURCE, 0) == 0
        (zeroing,) = heard.markers
        assert zeroing.description == "BAD_zeroing"
        assert zeroing.duration_s == pytest.approx(0.5, abs=0.3)
        assert ("not_zeroed", "began", str(CHANNELS)) in heard.alerts()
        assert ("not_zeroed", "ended", str(CHANNELS)) in heard.alerts()
        assert ("laser_unlocked", "ended", str(CHANNELS)) in heard.alerts()
        assert max(map(abs, heard.driver.status["residual_pt"])) < 20
        again = Heard(device.link)
        calibrated = again.infos[0].channels
        assert [channel.scale for channel in calibrated] != scales
        assert all(channel.detail.calibrated_utc_s > 1.7e9 for channel in calibrated)  # type: ignore[union-attr]
        again.until(lambda: again.blocks)
        assert again.driver.proof("dut-mag") == heard.driver.proof("dut-mag")
        assert again.states() in ([], ["ready"])
        again.close()


def test_a_helmet_may_be_left_as_it_is_found(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS, is_cold=True) as device:
        heard = Heard(device.link, start_up=False)
        heard.until(lambda: heard.driver.status.get("state"))
        assert heard.driver.status["state"] == "off"
        assert heard.command("start_up")["state"] in {"off", "restart"}
        heard.until(lambda: heard.driver.status["state"] == "restart")
        heard.close()


def test_zeroing_tells_its_progress_and_marks_its_span(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS, startup_s=0.8) as device:
        heard = Heard(device.link)
        heard.until(lambda: heard.driver.status.get("state") == "ready")
        values = heard.command("zero", wait_s=10, channels=["OPM001", "OPM004"])
        assert values == {"state": "ready", "passed": True}
        assert heard.states()[-3:] == ["coarse_zero", "fine_zero", "ready"]
        percents = [
            notice.data.get("percent") for notice in heard.notices if "state" in notice.data
        ]
        assert percents[-3:] == ["0", "50", "100"]
        heard.until(lambda: heard.markers)
        assert ("not_zeroed", "began", "2") in heard.alerts()
        heard.close()
    assert [marker.description for marker in heard.markers] == ["BAD_zeroing"]
    assert check_rows(heard.blocks, SOURCE, 0) == 0


def test_a_span_that_a_cut_link_ends_is_marked_up_to_there(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS, startup_s=30.0) as device:
        heard = Heard(device.link)
        heard.command("zero")
        heard.take(read_for(heard.driver, 0.3))
        device.switches.unplug = True
        assert heard.to_the_end().code == "device.link_lost"
    (zeroing,) = heard.markers
    assert 0 < zeroing.duration_s < 5


@pytest.mark.parametrize("name", ["zero", "fine_zero", "calibrate", "self_test", "switch_off"])
def test_what_spoils_samples_is_refused_while_a_recording_is_open(
    tmp_path: Path, name: str
) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS) as device:
        heard = Heard(device.link)
        with pytest.raises(DeviceError) as caught:
            heard.command(name, recording="night-1")
        assert caught.value.code == "device.protected"
        assert "night-1" in str(caught.value)
        heard.take(read_for(heard.driver, 0.1))
        heard.close()
    assert heard.markers == []
    assert set(heard.states()) <= {"ready"}


def test_zeroing_may_be_forced_and_is_marked_in_the_recording(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS, startup_s=0.4) as device:
        heard = Heard(device.link)
        assert heard.command("zero", recording="night-1", force=True, wait_s=5)["passed"]
        heard.until(lambda: heard.markers)
        heard.close()
    (zeroing,) = heard.markers
    assert zeroing.description == "BAD_zeroing"
    told = [n.data for n in heard.notices if n.data.get("what") == "BAD_zeroing"]
    assert [(data["t_ns"], data["duration_s"]) for data in told] == [
        (str(zeroing.t_ns), f"{zeroing.duration_s:.3f}")
    ]


def test_a_helmet_that_is_at_work_or_off_says_why_it_refuses(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS, startup_s=30.0) as device:
        heard = Heard(device.link)
        heard.command("zero")
        with pytest.raises(DeviceError, match="busy"):
            heard.command("calibrate")
        heard.command("switch_off")
        with pytest.raises(DeviceError, match="wrong state"):
            heard.command("zero")
        heard.close()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("zero", {"channels": ["OPM001", "nose"]}),
        ("zero", {"wait_s": "long"}),
        ("zero", {"force": 1}),
        ("set_loop", {"mode": "ajar"}),
        ("self_test", {"signal": "sine"}),
        ("self_test", {"seconds": 60}),
        ("read_register", {}),
        ("read_register", {"address": 0, "size": 3}),
        ("write_register", {"address": 0, "value": -1}),
    ],
)
def test_an_argument_that_is_wrong_is_named(
    tmp_path: Path, name: str, arguments: dict[str, Any]
) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS) as device:
        heard = Heard(device.link)
        with pytest.raises(DeviceError) as caught:
            heard.command(name, **arguments)
        heard.close()
    assert caught.value.code == "device.bad_argument"


def test_an_argument_that_a_command_does_not_have_is_refused_with_those_it_has(
    tmp_path: Path,
) -> None:
    refusals = {}
    with emulated(tmp_path, "opm", channels=CHANNELS) as device:
        heard = Heard(device.link)
        for name in (
            "zero", "set_loop", "read_register", "write_register", "self_test", "channel_test"
        ):  # fmt: skip
            with pytest.raises(DeviceError) as caught:
                heard.command(name, foo=1, force=True)
            assert caught.value.code == "device.bad_argument"
            refusals[name] = caught.value.why
        assert heard.driver.status["state"] == "ready"
        heard.close()
    assert refusals["zero"] == "zero knows no 'foo', only channels, wait_s and force"
    assert all("'foo', only " in why for why in refusals.values())


@pytest.mark.parametrize("name", ["read_register", "write_register"])
def test_a_size_that_is_not_the_registers_is_named(tmp_path: Path, name: str) -> None:
    more = {"value": 1} if name == "write_register" else {}
    with emulated(tmp_path, "opm", channels=CHANNELS) as device:
        heard = Heard(device.link)
        with pytest.raises(DeviceError) as caught:
            heard.command(name, address=0, **more)
        heard.close()
    assert caught.value.code == "device.register"
    assert caught.value.why == "it holds no whole numbers of 8 bits"
    assert "Name its `size`: 1, 2, 4 or 8" in caught.value.remedy


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("laser@0.2+0.3", "laser_unlocked"),
        ("cell@0.2+0.3", "cell_unlocked"),
        ("loop@0.2+0.3", "loop_limit"),
        ("rail@0.2+0.3", "rail"),
    ],
)
def test_a_channel_that_fails_is_told_when_it_begins_and_ends(
    tmp_path: Path, fault: str, word: str
) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS, inject=[fault]) as device:
        heard = Heard(device.link)
        heard.until(lambda: (word, "ended", "1") in heard.alerts())
        heard.close()
    names = {n.data["channels"] for n in heard.notices if n.data.get("what") == word}
    assert (word, "began", "1") in heard.alerts()
    assert names == {"OPM001"}
    assert any(block.flags & BlockFlag.SATURATED for block in heard.blocks) == (word == "rail")


def test_a_fault_of_the_whole_helmet_is_a_state(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS, inject=["fault@0.3"]) as device:
        heard = Heard(device.link)
        heard.until(lambda: "fault" in heard.states())
        assert heard.command("start_up", wait_s=0)["state"] in {"fault", "restart"}
        heard.close()


def test_a_memory_that_overflows_is_an_exact_gap_of_the_device(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS, inject=["overflow@0.4+0.3"]) as device:
        heard = Heard(device.link)
        heard.until(lambda: any(block.gap for block in heard.blocks))
        device.switches.stop = True
        heard.to_the_end()
    lost = check_rows(heard.blocks, SOURCE, 0)
    (gap,) = [block.gap for block in heard.blocks if block.gap is not None]
    assert gap.cause is GapCause.DEVICE
    first = next(block.seq for block in heard.blocks if block.gap is not None) - gap.n
    assert device.ledger()["dropped"] == [[first, gap.n]]
    assert n_rows(heard.blocks) + lost == device.ledger()["emitted"]


def test_a_boot_is_another_run(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS, inject=["boot@0.4"]) as device:
        heard = Heard(device.link)
        assert heard.to_the_end().code == "device.restarted"
        assert check_rows(heard.blocks, SOURCE, 0) == 0
