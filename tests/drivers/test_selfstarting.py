"""FreeEEG32 and NeuroSky: frames over five transports, the drivers at their emulators, BrainFlow as judge."""

import os
import pty
import random
import subprocess
import sys
import threading
import tty
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainforge_edge.core.block import GapBasis, SampleBlock
from brainforge_edge.core.errors import ConfigError, DeviceError
from brainforge_edge.devices import freeeeg32, neurosky
from brainforge_edge.devices.base import DeviceCommand, LinkCounters
from brainforge_edge.emulators.main import make_source
from brainforge_edge.emulators.selfstarting import (
    freeeeg_frame,
    thinkgear_frame,
    thinkgear_packet,
)
from tests.drivers.emulated import (
    check_rows,
    driver_for,
    emulated,
    n_rows,
    read_for,
    read_to_the_end,
)
from tests.unit.transports import TRANSPORTS, UNHARMED, Transport

PERIOD_NS = 1e9 / 512
ROOT = Path(__file__).parents[2]
FREEEEG = make_source("freeeeg32")


def arriving(sent: bytes, transport: Transport, seed: int, size: int) -> list[tuple[bytes, int]]:
    parts, seen = [], 0
    for part in transport(sent, random.Random(seed)):
        seen += len(part)
        parts.append((part, 10**12 + round(seen / size * PERIOD_NS)))
    return parts


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda t: t.__name__)
def test_frames_of_a_freeeeg32_are_true_whatever_the_link_does(
    transport: Transport, seed: int
) -> None:
    sent = b"".join(freeeeg_frame(n, FREEEEG.rows(n, 1)[0]) for n in range(700))
    decoder = freeeeg32.FreeEegDecoder(freeeeg32.stream("e"), LinkCounters())
    blocks: list[SampleBlock] = []
    for part, arrived_ns in arriving(sent, transport, seed, 106):
        blocks += decoder.feed(part, arrived_ns)
    blocks += decoder.feed(b"\xa0", 10**12 + round(701 * PERIOD_NS))
    lost = check_rows(blocks, FREEEEG)
    assert lost == decoder.counters.lost_samples
    assert decoder.said() == {"frame_bytes": 106}
    if transport in UNHARMED:
        assert (n_rows(blocks), lost) == (700, 0)
    else:
        assert n_rows(blocks) > 350


@pytest.mark.parametrize("length", [99, 106, 131])
def test_the_length_of_a_frame_is_learned(length: int) -> None:
    decoder = freeeeg32.FreeEegDecoder(freeeeg32.stream("e"), LinkCounters())
    frames = [freeeeg_frame(n, FREEEEG.rows(n, 1)[0])[:98] for n in range(60)]
    sent = b"".join(frame + bytes(length - 99) + b"\xc0" for frame in frames)
    blocks = decoder.feed(sent[17:] + b"\xa0", 10**12)
    assert decoder.said() == {"frame_bytes": length}
    assert check_rows(blocks, FREEEEG) == 0
    assert n_rows(blocks) == 59


def thinkgear(n: int) -> bytes:
    """Samples that tell their own number."""
    return b"".join(thinkgear_frame(k, np.array([k - 20_000])) for k in range(n))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda t: t.__name__)
def test_samples_of_a_thinkgear_are_true_and_damage_is_a_gap(
    transport: Transport, seed: int
) -> None:
    decoder = neurosky.ThinkGearDecoder(neurosky.stream("e"), LinkCounters())
    blocks: list[SampleBlock] = []
    for part, arrived_ns in arriving(thinkgear(1500), transport, seed, 8):
        blocks += decoder.feed(part, arrived_ns)
    numbers = np.concatenate([block.data[:, 0] for block in blocks]).astype(int) + 20_000
    assert (np.diff(numbers) > 0).all()
    if transport in UNHARMED:
        np.testing.assert_array_equal(numbers, np.arange(1500))
        assert {block.gap for block in blocks} == {None}
        said = decoder.said()
        assert (said["poor_signal"], said["attention"], said["bands"]["delta"]) == (0, 50, 0x000102)
        return
    assert len(numbers) > 500
    last = int(blocks[0].data[0, 0]) - 1
    for block in blocks:
        true = int(block.data[0, 0]) - last - 1
        if block.gap is None:
            assert true == 0 or block is blocks[0]
        else:
            assert block.gap.basis is GapBasis.CLOCK
            assert abs(block.gap.n - true) <= block.gap.plus_minus
        last = int(block.data[-1, 0])


def test_contact_blinks_and_unknown_rows_of_a_thinkgear() -> None:
    decoder = neurosky.ThinkGearDecoder(neurosky.stream("e"), LinkCounters())
    decoder.feed(thinkgear_packet(bytes((0x02, 200))), 1)
    decoder.feed(thinkgear_packet(bytes((0x16, 77, 0x55, 0x80, 2, 1, 2, 0x99, 1, 7))), 5)
    decoder.feed(thinkgear_packet(bytes((0x02, 0))), 9)
    assert [(n.data["what"], n.data["change"]) for n in decoder.notices()] == [
        ("lead_off", "began"),
        ("lead_off", "ended"),
    ]
    assert [(m.t_ns, m.description) for m in decoder.markers()] == [(5, "blink 77")]
    assert decoder.counters.unparsed_bytes == 3


@settings(max_examples=60, deadline=None)  # a busy machine is no failure
@given(st.lists(st.binary(max_size=300), max_size=20))
def test_no_bytes_make_the_decoders_raise(parts: list[bytes]) -> None:
    free = freeeeg32.FreeEegDecoder(freeeeg32.stream("e"), LinkCounters())
    gear = neurosky.ThinkGearDecoder(neurosky.stream("e"), LinkCounters())
    for at, part in enumerate(parts):
        free.feed(part, at)
        gear.feed(part, at)
        gear.feed(thinkgear_packet(part[:169]), at)
        body = (part + bytes(105))[:104]
        free.feed((b"\xa0" + body + b"\xc0") * 3, at)


def test_a_freeeeg32_is_read_whole_and_equals_its_source(tmp_path: Path) -> None:
    with emulated(tmp_path, "freeeeg32") as board:
        driver = driver_for("freeeeg32", board.link)
        (info,) = driver.open()
        blocks = read_for(driver, 1.5)
        with pytest.raises(DeviceError) as caught:
            driver.command(DeviceCommand(name="impedance"))
        board.switches.unplug = True
        more, error = read_to_the_end(driver)
        driver.close()
    assert (info.n_channels, info.sfreq, info.channels[0].unit) == (32, 512.0, "V")
    assert (caught.value.code, error.code) == ("device.unsupported", "device.link_lost")
    blocks += more
    first = int(blocks[0].data[0, 0])  # its channel 0 holds the index
    at = first
    for block in blocks:
        assert block.gap is None
        np.testing.assert_array_equal(block.data, FREEEEG.rows(at, len(block.data)))
        at += len(block.data)
    assert at - first > 512


def test_a_neurosky_is_read_whole_and_equals_its_source(tmp_path: Path) -> None:
    source = make_source("neurosky")
    with emulated(tmp_path, "neurosky") as headset:
        driver = driver_for("neurosky", headset.link)
        driver.open()
        blocks = read_for(driver, 2.2)
        status: dict[str, Any] = driver.status  # type: ignore[attr-defined]
        driver.close()
    got = np.concatenate([block.data[:, 0] for block in blocks])
    loop = source.rows(0, source.loop_rows)[:, 0]
    starts = [k for k in range(len(loop)) if np.array_equal(np.roll(loop, -k)[:200], got[:200])]
    assert len(starts) == 1
    np.testing.assert_array_equal(got, source.rows(starts[0], len(got))[:, 0])
    assert len(got) > 900
    assert {block.gap for block in blocks} == {None}
    assert status["attention"] == 50


@pytest.mark.parametrize("kind", ["freeeeg32", "neurosky"])
def test_something_else_on_the_port_is_refused(tmp_path: Path, kind: str) -> None:
    other = {"freeeeg32": "neurosky", "neurosky": "freeeeg32"}[kind]
    with emulated(tmp_path, other) as device:
        driver = driver_for(kind, device.link, answer_s=0.5)
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert (caught.value.code, caught.value.transient) == ("device.wrong_device", True)
    with emulated(tmp_path, "cyton") as silent:
        driver = driver_for(kind, silent.link, answer_s=0.3)
        with pytest.raises(DeviceError) as nothing:
            driver.open()
        driver.close()
    assert nothing.value.code == "device.no_answer"


def test_a_headset_that_freezes_is_silent_in_words_that_are_true_of_it() -> None:
    headset, port = pty.openpty()
    tty.setraw(port)
    threading.Timer(0.3, os.write, (headset, thinkgear(64))).start()
    driver = driver_for("neurosky", os.ttyname(port), silent_s=0.3)
    driver.open()
    _, error = read_to_the_end(driver)
    driver.close()
    os.close(headset)
    os.close(port)
    assert error.code == "device.silent"
    assert error.why == "nothing came for 0.3 s over a link that is up"


def test_a_wrong_number_of_names_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        driver_for("freeeeg32", tmp_path / "port", ch_names=["Cz"])


def test_an_independent_client_reads_our_freeeeg32(tmp_path: Path) -> None:
    output = tmp_path / "found.npz"
    with emulated(tmp_path, "freeeeg32") as board:
        command = [sys.executable, "-m", "tests.drivers.brainflow_client", "FREEEEG32_BOARD"]
        result = subprocess.run(
            [*command, str(board.link), "1.5", "1", str(output)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
    with np.load(output) as found:
        run, rows = found["run0"], found["rows_eeg"]
    counts = np.rint(run[rows].T / (2.5e6 / 8 / (2**23 - 1))).astype(np.int64)
    steps = np.diff(counts[:, 0])
    late = np.flatnonzero(steps != 1)  # what lay in the port when it began to read
    begin = int(late[-1]) + 1 if len(late) else 0
    assert begin < len(counts) // 2
    new = counts[begin:]
    # BrainFlow scales in float32: a part in 2^24 of large values.
    np.testing.assert_allclose(new, FREEEEG.rows(int(new[0, 0]), len(new)), rtol=2e-7, atol=0.5)
    assert len(new) > 400
