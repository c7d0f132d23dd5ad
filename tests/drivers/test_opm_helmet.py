"""The OPM driver against the emulated helmet on a real pseudo-terminal."""

import os
import random
import threading
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from brainforge_edge.core.block import BlockFlag, GapBasis, GapCause
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import Dtype
from brainforge_edge.devices import bfp_clock
from brainforge_edge.devices.base import DeviceCommand
from brainforge_edge.devices.bfp import PayloadType, Register
from brainforge_edge.devices.bfp_registers import Registers
from brainforge_edge.devices.link import FdTransport, link_lost
from brainforge_edge.emulators.bfp_kinds import Circumstances, helmet
from brainforge_edge.emulators.device import Switches, run
from brainforge_edge.emulators.ledger import Ledger
from brainforge_edge.emulators.main import make_source
from brainforge_edge.emulators.pty import PtyPort
from tests.drivers.emulated import (
    check_rows,
    check_times,
    driver_for,
    emulated,
    n_rows,
    read_for,
    read_to_the_end,
)

CHANNELS = 306
SOURCE = make_source("opm", channels=CHANNELS)
SOURCE_9 = make_source("opm", channels=9)


def test_a_helmet_is_read_whole_and_equals_its_source(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS) as device:
        driver = driver_for("opm", device.link)
        info = driver.open()[0]
        assert (info.stream_id, info.n_channels, info.sfreq) == ("dut-mag", CHANNELS, 1000.0)
        assert info.dtype is Dtype.I24
        assert info.channels[1].scale == 1e-15
        assert driver.info is not None
        assert driver.info.serial_number == "BF-OPM-EMU-1"
        blocks = read_for(driver, 2.0)
        assert driver.proof("dut-mag").startswith("boot:")
        device.switches.stop = True
        rest, error = read_to_the_end(driver)
        blocks += rest
        driver.close()
    assert error.code == "device.link_lost"
    ledger = device.ledger()
    assert ledger["final"]
    assert ledger["dropped"] == []
    assert blocks[0].seq == 0
    assert blocks[0].flags & BlockFlag.FIRST
    assert check_rows(blocks, SOURCE) == 0
    assert n_rows(blocks) == ledger["emitted"] >= 1900
    check_times(blocks, 1000.0)
    assert driver.counters.skipped_bytes == 0


def test_rows_that_come_during_the_last_question_of_the_handshake_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Registers.read_number

    def slowly(registers: Registers, address: int, kind: PayloadType) -> int:
        if address == Register.HEARTBEAT:
            time.sleep(0.1)  # frames of samples lie before its answer
        return ask(registers, address, kind)

    monkeypatch.setattr(Registers, "read_number", slowly)
    with emulated(tmp_path, "opm", channels=CHANNELS) as device:
        driver = driver_for("opm", device.link)
        driver.open()
        blocks = read_for(driver, 0.5)
        driver.close()
    assert blocks[0].seq == 0
    assert check_rows(blocks, SOURCE) == 0
    assert driver.counters.repeated_frames == 0


def test_a_link_that_is_lost_while_it_is_asked_for_the_time_takes_no_rows_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bfp_clock, "EVERY_NS", 0)
    with emulated(tmp_path, "opm", channels=9) as device:
        driver = driver_for("opm", device.link)
        driver.open()
        blocks = read_for(driver, 0.3)
        time.sleep(0.05)  # the next read brings samples
        with monkeypatch.context() as broken:
            broken.setattr(FdTransport, "write", gone)
            rest, error = read_to_the_end(driver)
        blocks += rest + read_for(driver, 0.3)  # what lies in the port still
        driver.close()
    assert error.code == "device.link_lost"
    assert check_rows(blocks, SOURCE_9) == 0


def gone(_link: FdTransport, _data: bytes) -> None:
    raise link_lost("port", None)


def test_a_pulled_cable_is_one_exact_gap_in_the_same_incarnation(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS) as device:
        driver = driver_for("opm", device.link)
        driver.open()
        before = read_for(driver, 0.6)
        proof = driver.proof("dut-mag")
        device.switches.unplug = True
        rest, error = read_to_the_end(driver)
        before += rest
        driver.close()
        assert error.code == "device.link_lost"
        assert not device.link.exists()
        with pytest.raises(DeviceError) as caught:
            driver_for("opm", device.link).open()
        assert caught.value.code == "device.no_such_port"
        time.sleep(0.5)
        device.switches.replug = True
        deadline = time.monotonic() + 5
        while not device.link.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        driver = driver_for("opm", device.link)
        driver.open()
        assert driver.proof("dut-mag") == proof
        after = read_for(driver, 0.6)
        device.switches.stop = True
        after += read_to_the_end(driver)[0]
        driver.close()
    assert check_rows(before, SOURCE) == 0
    assert check_rows(after, SOURCE) == 0
    gap = after[0].seq - (before[-1].seq + len(before[-1].data))
    assert gap >= 500
    assert n_rows(before) + gap + n_rows(after) == device.ledger()["emitted"]


def test_a_reader_that_is_too_slow_is_a_counted_drop_with_an_exact_gap(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS, fifo_s=0.2) as device:
        driver = driver_for("opm", device.link)
        driver.open()
        blocks = read_for(driver, 0.4)
        time.sleep(0.8)
        blocks += read_for(driver, 0.4)
        device.switches.stop = True
        blocks += read_to_the_end(driver)[0]
        driver.close()
    ledger = device.ledger()
    lost = check_rows(blocks, SOURCE)
    assert lost == sum(n for _, n in ledger["dropped"]) > 400
    assert n_rows(blocks) + lost == ledger["emitted"]
    gaps = [block.gap for block in blocks if block.gap is not None]
    assert {gap.cause for gap in gaps} == {GapCause.DEVICE}
    assert {gap.basis for gap in gaps} == {GapBasis.DEVICE_INDEX}
    assert driver.counters.device_dropped == len(gaps) == len(ledger["dropped"])


def test_a_helmet_that_restarts_is_joined_anew_with_another_proof(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=9) as device:
        driver = driver_for("opm", device.link)
        driver.open()
        read_for(driver, 0.3)
        proof = driver.proof("dut-mag")
        device.switches.restart = True
        _, error = read_to_the_end(driver)
        driver.close()
        assert error.code == "device.restarted"
        assert error.transient
        driver = driver_for("opm", device.link)
        driver.open()
        blocks = read_for(driver, 0.3)
        driver.close()
        assert driver.proof("dut-mag") != proof
        assert blocks[0].seq == 0
        assert check_rows(blocks, make_source("opm", channels=9)) == 0


def test_a_box_that_restarts_joins_the_run_where_it_is(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=9) as device:
        driver = driver_for("opm", device.link)
        driver.open()
        read_for(driver, 0.3)
        proof = driver.proof("dut-mag")
        driver.close()
        driver = driver_for("opm", device.link)
        driver.open()
        blocks = read_for(driver, 0.3)
        driver.close()
        assert driver.proof("dut-mag") == proof
        assert blocks[0].seq > 100
        check_rows(blocks, make_source("opm", channels=9))
        assert len(device.ledger()["runs"]) == 1


def test_a_helmet_that_falls_silent_is_a_lost_link(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=9) as device:
        driver = driver_for("opm", device.link, silent_s=0.3)
        driver.open()
        read_for(driver, 0.2)
        standby = threading.Thread(
            target=driver.command,
            args=(DeviceCommand(name="write_register", arguments={"address": 10, "value": 0}),),
        )
        standby.start()
        _, error = read_to_the_end(driver)
        standby.join()
        driver.close()
    assert error.code == "device.silent"
    assert error.transient


@pytest.mark.parametrize("seed", range(3))
def test_noise_from_the_host_does_not_disturb_the_helmet(tmp_path: Path, seed: int) -> None:
    with emulated(tmp_path, "opm", channels=9) as device:
        driver = driver_for("opm", device.link)
        driver.open()
        driver._transport.write(random.Random(seed).randbytes(4000))  # type: ignore[attr-defined]
        driver._transport.write(b"\xbf\x5a" * 20)  # type: ignore[attr-defined]
        blocks = read_for(driver, 0.3)
        driver.close()
    assert check_rows(blocks, make_source("opm", channels=9), 0) == 0


@pytest.mark.parametrize("mutant", ["drops a frame", "swaps frames", "shifts a label"])
def test_the_account_of_these_tests_catches_a_wrong_decoder(tmp_path: Path, mutant: str) -> None:
    with emulated(tmp_path, "opm", channels=9) as device:
        driver = driver_for("opm", device.link)
        driver.open()
        blocks = read_for(driver, 0.3)
        driver.close()
    source = make_source("opm", channels=9)
    assert check_rows(blocks, source, 0) == 0
    if mutant == "drops a frame":
        blocks = blocks[:5] + blocks[6:]
    elif mutant == "swaps frames":
        blocks[5], blocks[6] = blocks[6], blocks[5]
    else:
        blocks[5:] = [replace(block, seq=block.seq + 1) for block in blocks[5:]]
    with pytest.raises(AssertionError):
        check_rows(blocks, source, 0)


def test_registers_can_be_read_while_samples_flow(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=9) as device:
        driver = driver_for("opm", device.link)
        driver.open()
        replies = []
        asker = threading.Thread(
            target=lambda: replies.append(
                driver.command(
                    DeviceCommand(name="read_register", arguments={"address": 0, "size": 2})
                )
            )
        )
        asker.start()
        blocks = read_for(driver, 0.5)
        asker.join()
        assert replies[0].values == {"data": "01bf"}
        with pytest.raises(DeviceError) as caught:
            driver.command(DeviceCommand(name="dance"))
        assert caught.value.code == "device.unknown_command"
        driver.close()
    assert check_rows(blocks, make_source("opm", channels=9)) == 0


def test_another_device_of_ours_on_the_port_is_refused_by_identity(tmp_path: Path) -> None:
    clock = SystemClock()
    ledger = Ledger(None)
    around = Circumstances(ledger, os.urandom, clock.monotonic_ns())
    hat = helmet(make_source("opm", channels=3), around, identity=0xBF03)
    switches = Switches()
    link, ready = tmp_path / "port", threading.Event()
    thread = threading.Thread(
        target=run,
        args=(hat, PtyPort(link)),
        kwargs={
            "ledger": ledger,
            "clock": clock,
            "switches": switches,
            "plugged": ready.set,
        },
    )
    thread.start()
    assert ready.wait(10)
    driver = driver_for("opm", link)
    with pytest.raises(DeviceError) as caught:
        driver.open()
    driver.close()
    switches.stop = True
    thread.join(10)
    assert caught.value.code == "device.wrong_device"
    assert "accelerometer hat (0xBF03)" in str(caught.value)


def test_another_helmet_than_the_one_expected_is_refused(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=3) as device:
        driver = driver_for("opm", device.link, serial_number="BF-OPM-0042")
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert caught.value.code == "device.wrong_device"
    assert "BF-OPM-EMU-1" in str(caught.value)


def test_a_cyton_where_the_helmet_should_be_does_not_answer(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton") as cyton:
        driver = driver_for("opm", cyton.link)
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert caught.value.code == "device.no_answer"
