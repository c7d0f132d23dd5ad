"""Any LSL stream as a device, against real liblsl outlets in processes of their own."""

import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainforge_edge.core.block import BlockFlag, GapBasis, GapCause, SampleBlock
from brainforge_edge.core.errors import ConfigError, DeviceError
from brainforge_edge.core.stream import ChannelInfo, Dtype
from brainforge_edge.devices.lsl import Outlet, OutletPlan, discover
from tests.drivers.lsl_network import (
    check_rows,
    driver_for,
    read_for,
    sender,
    time_errors_ms,
    until_open,
)

# Clock correction between two processes of one machine is good to some tens of microseconds.
STAMP_MS = 1.0
# Without usable stamps the time of arrival counts: the outlet's push of 16 rows, and a busy machine.
ARRIVAL_MS = 60.0


def _until_lost(driver: Any) -> tuple[list[SampleBlock], DeviceError]:
    blocks: list[SampleBlock] = []
    try:
        while True:
            blocks += driver.read(0.05)
    except DeviceError as error:
        return blocks, error


@pytest.mark.slow
def test_the_helmet_at_full_rate_is_read_whole_exactly_and_in_time(tmp_path: Path) -> None:
    with sender(tmp_path, channels=306) as helmet:
        driver = driver_for(stream="OMP_Helmet", type="MEG")
        (info,) = until_open(driver)
        assert (info.stream_id, info.n_channels, info.sfreq) == ("dut-meg", 306, 1000.0)
        assert info.dtype is Dtype.F32
        assert info.channels[1] == ChannelInfo("OPM001", "mag", "T", 1e-15)
        blocks = read_for(driver, 8.0)
        driver.close()
        ledger = helmet.stop()
    assert blocks[0].flags & BlockFlag.FIRST
    assert blocks[0].flags & BlockFlag.EMULATED
    first = check_rows(blocks, helmet)
    read = sum(len(block.data) for block in blocks)
    assert [block.gap for block in blocks if block.gap] == []
    assert int(blocks[-1].data[-1, 0]) - first + 1 == read >= 7500
    errors = time_errors_ms(blocks, first, ledger["runs"][0]["started_ns"])
    assert np.abs(errors).max() < STAMP_MS
    state = driver.clock("dut-meg")
    assert state is not None
    assert abs(state.drift_ppm) < 100


def test_counts_arrive_integer_for_integer(tmp_path: Path) -> None:
    with sender(tmp_path, sample_format="int32", name="Cap", kind="EEG") as cap:
        driver = driver_for(stream="Cap", unit="uV")
        (info,) = until_open(driver)
        assert (info.stream_id, info.dtype) == ("dut-eeg", Dtype.I32)
        assert info.channels[1].unit == "counts"  # what the stream says wins
        blocks = read_for(driver, 1.0)
        driver.close()
    check_rows(blocks, cap)
    assert sum(len(block.data) for block in blocks) > 500


@pytest.mark.parametrize(("kind", "sfreq"), [("ECoG", 2000.0), ("Gaze", 60.0), ("fNIRS HbO", 10.0)])
def test_what_has_no_driver_of_its_own_enters_as_a_stream_of_its_type(
    tmp_path: Path, kind: str, sfreq: float
) -> None:
    with sender(tmp_path, kind=kind, name="Other", sfreq=sfreq) as other:
        driver = driver_for(type=kind, silent_s=0.1)  # a slow one is given 20 of its periods
        (info,) = until_open(driver)
        assert info.stream_id == f"dut-{kind.lower().replace(' ', '-')}"
        assert info.sfreq == sfreq
        blocks = read_for(driver, 1.5)
        driver.close()
    first = check_rows(blocks, other)
    n = sum(len(block.data) for block in blocks)
    assert int(blocks[-1].data[-1, 0]) - first + 1 == n >= sfreq


def test_samples_that_the_sender_never_had_are_a_named_gap_by_the_clock(tmp_path: Path) -> None:
    with sender(tmp_path, drop=[4000, 37]) as helmet:
        driver = driver_for(stream="OMP_Helmet")
        until_open(driver)
        blocks = read_for(driver, 0.5)
        while int(blocks[-1].data[-1, 0]) < 4400:
            blocks += driver.read(0.05)
        driver.close()
    first = check_rows(blocks, helmet)
    (block,) = [block for block in blocks if block.gap]
    assert (int(block.data[0, 0]), block.seq) == (4037, 4037 - first)
    assert block.gap is not None
    assert (block.gap.n, block.gap.basis, block.gap.cause) == (37, GapBasis.CLOCK, GapCause.LINK)
    assert 1 <= block.gap.plus_minus <= 5
    assert block.flags & BlockFlag.GAP_BEFORE
    assert driver.counters.lost_samples == 37


def test_stamps_of_a_foreign_clock_are_replaced_by_the_arrival(tmp_path: Path) -> None:
    with sender(tmp_path, clock_offset_s=1.7e9) as helmet:
        driver = driver_for(stream="OMP_Helmet")
        until_open(driver)
        blocks = read_for(driver, 2.0)
        driver.close()
        ledger = helmet.stop()
    first = check_rows(blocks, helmet)
    assert all(block.flags & BlockFlag.ESTIMATED_TIME for block in blocks)
    errors = time_errors_ms(blocks, first, ledger["runs"][0]["started_ns"])
    assert np.abs(errors).max() < ARRIVAL_MS


def test_a_restarted_outlet_is_lost_at_once_and_found_again_by_its_source_id(
    tmp_path: Path,
) -> None:
    with sender(tmp_path, source_id="helmet-7") as helmet:
        driver = driver_for(source_id="helmet-7")
        until_open(driver)
        uids = [one["uid"] for one in discover(0.5)]
        read_for(driver, 0.5)
        helmet.signal(signal.SIGHUP)
        started = time.monotonic()
        _, error = _until_lost(driver)
        driver.close()
        assert (error.code, error.transient) == ("device.lsl_lost", True)
        assert time.monotonic() - started < 2.0
        again = driver_for(source_id="helmet-7")
        until_open(again)
        assert [one["uid"] for one in discover(0.5)] != uids
        blocks = read_for(again, 0.5)
        again.close()
    assert blocks[0].seq == 0
    assert blocks[0].flags & BlockFlag.FIRST
    assert again.proof("dut-meg") == ""  # nothing is proved: a new incarnation


def test_a_stream_that_goes_silent_is_not_shown_as_running(tmp_path: Path) -> None:
    with sender(tmp_path) as helmet:
        driver = driver_for(stream="OMP_Helmet", silent_s=0.5)
        until_open(driver)
        read_for(driver, 0.3)
        helmet.signal(signal.SIGSTOP)
        try:
            _, error = _until_lost(driver)
        finally:
            helmet.signal(signal.SIGCONT)
        driver.close()
    assert (error.code, error.transient) == ("device.silent", True)


def test_two_streams_of_one_name_are_refused_and_a_source_id_decides(tmp_path: Path) -> None:
    with sender(tmp_path, source_id="left"), sender(tmp_path, source_id="right"):
        with pytest.raises(DeviceError) as caught:
            until_open(driver_for(stream="OMP_Helmet", resolve_s=1.0))
        assert caught.value.code == "device.lsl_ambiguous"
        assert "'left'" in str(caught.value)
        assert "source_id" in caught.value.remedy
        found = discover(1.0)
        assert [(one["name"], one["source_id"]) for one in found] == [
            ("OMP_Helmet", "left"),
            ("OMP_Helmet", "right"),
        ]
        assert {k: found[0][k] for k in ("type", "channels", "rate", "format")} == {
            "type": "MEG",
            "channels": 8,
            "rate": 1000.0,
            "format": "float32",
        }
        driver = driver_for(stream="OMP_Helmet", source_id="right")
        until_open(driver)
        assert driver.info is not None
        assert driver.info.serial_number == "right"
        driver.close()


def test_a_stream_that_is_not_there_is_told_with_what_is() -> None:
    with pytest.raises(DeviceError) as caught:
        driver_for(stream="Nothing").open()
    error = caught.value
    assert (error.code, error.transient) == ("device.lsl_not_found", True)
    assert "no stream at all" in error.why


def _outlet(sample_format: str, *, sfreq: float = 0.0, channels: int = 1, kind: str = "Markers") -> Outlet:  # fmt: skip
    described = [ChannelInfo(f"c{index}", "misc", "") for index in range(channels)]
    return Outlet(OutletPlan("Psy", kind, "psy", sfreq, sample_format, described))


def test_a_stream_of_strings_becomes_markers_in_box_time() -> None:
    outlet = _outlet("string")
    driver = driver_for(stream="Psy", prefix="psy: ")
    assert until_open(driver) == ()
    now = time.monotonic_ns()
    outlet.push_text("go", now)
    outlet.push_text("stöp\n", now + 500_000_000)
    outlet.push_text("x" * 5000, now)
    markers: list[Any] = []
    while len(markers) < 3:
        assert list(driver.read(0.1)) == []
        markers += driver.markers()
    assert [m.description for m in markers[:2]] == ["psy: go", "psy: stöp\n"]
    assert len(markers[2].description) == 1000
    assert abs(markers[0].t_ns - now) < STAMP_MS * 1e6
    assert abs(markers[1].t_ns - now - 500_000_000) < STAMP_MS * 1e6
    driver.close()
    outlet.close()


def test_an_irregular_stream_of_numbers_becomes_markers() -> None:
    outlet = _outlet("double64", channels=2, kind="Gaze")
    driver = driver_for(type="Gaze")
    assert until_open(driver) == ()
    now = time.monotonic_ns()
    outlet.push(np.array([[0.1, -3.0]]), now)
    markers: list[Any] = []
    while not markers:
        driver.read(0.1)
        markers += driver.markers()
    assert markers[0].description == "c0=0.1 c1=-3"
    driver.close()
    outlet.close()


@pytest.mark.parametrize(
    ("sample_format", "sfreq", "channels", "code"),
    [
        ("int64", 100.0, 1, "device.lsl_format"),
        ("double64", 20_000.0, 300, "device.lsl_rate"),
        ("int16", 120_000.0, 1, "device.lsl_rate"),
    ],
)
def test_what_cannot_be_recorded_is_refused_by_its_description(
    sample_format: str, sfreq: float, channels: int, code: str
) -> None:
    outlet = _outlet(sample_format, sfreq=sfreq, channels=channels, kind="EEG")
    driver = driver_for(stream="Psy")
    with pytest.raises(DeviceError) as caught:
        until_open(driver)
    driver.close()
    outlet.close()
    assert (caught.value.code, caught.value.transient) == (code, False)


@pytest.mark.parametrize(
    ("sample_format", "dtype", "values"),
    [
        ("int8", Dtype.I16, [-128, 127]),
        ("int16", Dtype.I16, [-32768, 32767]),
        ("double64", Dtype.F64, [0.1, -1e300]),
    ],
)
def test_each_format_keeps_its_values(
    sample_format: str, dtype: Dtype, values: list[float]
) -> None:
    outlet = _outlet(sample_format, sfreq=100.0, channels=2, kind="EEG")
    driver = driver_for(stream="Psy")
    (info,) = until_open(driver)
    assert info.dtype is dtype
    outlet.push(np.array([values, values]), time.monotonic_ns())
    blocks: list[SampleBlock] = []
    while not blocks:
        blocks += driver.read(0.1)
    assert blocks[0].data.dtype == np.dtype(dtype.memory)
    assert blocks[0].data.tolist() == [values, values]
    driver.close()
    outlet.close()


def test_a_device_without_any_name_is_refused_before_it_searches() -> None:
    with pytest.raises(ConfigError, match="source_id"):
        driver_for()


def test_a_closed_driver_says_so() -> None:
    outlet = _outlet("float32", sfreq=100.0, kind="EEG")
    driver = driver_for(stream="Psy")
    until_open(driver)
    driver.close()
    driver.close()
    with pytest.raises(DeviceError) as caught:
        driver.read(0.1)
    assert caught.value.code == "device.closed"
    outlet.close()


def test_without_liblsl_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from brainforge_edge.devices import lsl  # noqa: PLC0415

    lsl._pylsl.cache_clear()
    monkeypatch.setitem(sys.modules, "pylsl", None)
    with pytest.raises(DeviceError, match="PYLSL_LIB") as caught:
        discover(0.1)
    assert caught.value.code == "device.lsl_library"
    lsl._pylsl.cache_clear()
