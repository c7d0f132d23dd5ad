"""A whole box on LSL: streams in, outlets out, a script that records. Real processes throughout."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from brainforge_edge.cli.demo.children import python
from brainforge_edge.cloud.broker.ports import free_port
from brainforge_edge.emulators.main import make_source
from brainforge_edge.rings.reader import RingReader
from tests.drivers.lsl_network import sender
from tests.faults.box import Box, box_in
from tests.opened import parts_of

# pylsl of the tests speaks to outlets directly, not through our door: it is the judge.
JUDGE = """
import json, os, sys, time
import pylsl.lib
os.environ["MNE_LSL_LIB"] = os.path.join(os.path.dirname(pylsl.lib.__file__), "liblsl.so")
import numpy as np
from mne_lsl.stream import StreamLSL
stream = StreamLSL(10.0, name="OMP_Helmet").connect(acquisition_delay=0.05, timeout=10)
time.sleep(3.0)
data, stamps = stream.get_data()
np.savez(sys.argv[1], data=data[:, stamps > 0], stamps=stamps[stamps > 0])
print(json.dumps({"names": stream.ch_names, "types": stream.get_channel_types(),
                  "sfreq": stream.info["sfreq"], "sinfo": stream.sinfo.stype}))
stream.disconnect()
"""


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with box_in(tmp_path) as made:
        yield made


def _write_config(box: Box, lsl: str) -> None:
    box.write_config()
    text = box.config.read_text(encoding="utf-8")
    box.config.write_text(f"[lsl]\n{lsl}\n{text}", encoding="utf-8")


def _lsl_device(box: Box, name: str, settings: str) -> None:
    box.devices.append(f'[[device]]\nname = "{name}"\nkind = "lsl"\nsettings = {{ {settings} }}\n')


def _say(script: socket.socket, line: str) -> str:
    script.sendall(line.encode() + b"\n")
    return script.recv(4096).decode()


def _emulated_helmet(box: Box, *, channels: int) -> None:
    box.device("helmet", "opm")
    box.emulate("helmet", "opm", channels=channels)


@pytest.mark.slow
def test_a_script_records_streams_and_markers_across_a_restart_of_the_sender(
    box: Box, tmp_path: Path
) -> None:
    import pylsl  # noqa: PLC0415  after the test's own network is set

    port = free_port()
    _lsl_device(box, "helmet", 'source_id = "seven"')
    _lsl_device(box, "psy", 'stream = "Psy", prefix = "psy: "')
    _write_config(box, f"remote = true\nremote_port = {port}")
    markers = pylsl.StreamOutlet(pylsl.StreamInfo("Psy", "Markers", 1, 0, "string", "psy"))
    with sender(tmp_path, channels=16, source_id="seven", sample_format="int32") as helmet:
        box.start()
        box.until_streaming("helmet-meg", 20)
        box.until(lambda: box.worker("acquire:psy").get("link") == "streaming", 20, "markers")
        with socket.create_connection(("127.0.0.1", port), timeout=60) as script:
            assert _say(script, "filename {participant:P 7} {task:rest}") == "OK"
            assert _say(script, "start") == "OK"
            assert box.status()["recording"] == "sub-p-7-task-rest"
            assert _say(script, "start").startswith("ERROR")
            markers.push_sample(["eyes closed"])
            time.sleep(1.0)
            helmet.signal(signal.SIGHUP)
            box.until_lost("helmet-meg", 5)
            back_s = box.until_streaming("helmet-meg", 20)
            time.sleep(1.0)
            box.until(lambda: box.worker("acquire:psy")["markers"]["stored"] == 1, 10, "the marker")
            assert _say(script, "stop") == "OK"
        assert box.status()["recording"] is None
    assert back_s < 5.0
    account = box.verify()["sub-p-7-task-rest"]
    assert account["markers"]["markers"] == 1
    one, two = account["helmet-meg"]["spans"]
    assert two[0] > one[0]
    (gap,) = account["helmet-meg"]["gaps"]
    assert (gap["basis"], gap["cause"]) == ("clock", "restart")
    assert gap["plus_minus"] > 0
    (rows,) = parts_of(box.recordings / "sub-p-7-task-rest", "helmet-meg")
    for run in rows.runs():
        index = int(run.data[0, 0])
        np.testing.assert_array_equal(run.data, helmet.rows(index, len(run.data)))
    assert [m.description for m in rows.markers] == ["psy: eyes closed"]
    del markers


def _pulled(inlet: Any, seconds: float) -> tuple[NDArray[Any], NDArray[Any]]:
    data, stamps = [], []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        part, times = inlet.pull_chunk(timeout=0.05, max_samples=256, as_numpy=True)
        data.append(part)
        stamps.append(times)
    return np.concatenate(data), np.concatenate(stamps)


def _check_helmet(data: NDArray[Any], channels: int) -> NDArray[Any]:
    """Rows (n, n_channels) as sent are the emulator's in T; their indices."""
    source = make_source("opm", channels=channels)
    scale = np.array([channel.scale for channel in source.channels])
    index = data[:, 0].astype(np.int64)
    for first in range(0, len(index), 500):
        part = index[first : first + 500]
        rows = np.concatenate([source.rows(int(i), 1) for i in part])
        np.testing.assert_array_equal(data[first : first + 500], (rows * scale).astype(np.float32))
    return index


def _ring_times(box: Box, index: NDArray[Any]) -> dict[int, float]:
    """The box's own times, s, of what its ring still holds, by sample index."""
    reader = RingReader(box.run / "rings" / "helmet-mag.ring")
    reader.position = max(0, reader.written - 20_000)
    times = {}
    while (rows := reader.read(8)) is not None:  # a time for each 8 rows, not for a long run
        for run in rows.runs:
            for row in range(run.n):
                at = int(rows.data[run.row - rows.first_row + row, 0])
                times[at] = (run.t_first_ns + row * 1e6) / 1e9
    return {int(i): times[int(i)] for i in index}


@pytest.mark.slow
def test_two_judges_read_our_values_and_times_from_an_outlet(box: Box, tmp_path: Path) -> None:
    import pylsl  # noqa: PLC0415

    channels = 32
    _emulated_helmet(box, channels=channels)
    _write_config(box, "outlets = true")
    box.start()
    box.until_streaming("helmet-mag", 20)
    box.until(lambda: box.status()["lsl"].get("outlets"), 20, "the outlet")

    (info,) = pylsl.resolve_byprop("name", "OMP_Helmet", 1, 10)
    assert (info.type(), info.channel_count(), info.nominal_srate()) == ("MEG", channels, 1000.0)
    assert info.source_id() == "brainforge:box:helmet-mag"
    inlet = pylsl.StreamInlet(info, recover=False)
    full = inlet.info(timeout=5)
    assert full.get_channel_labels()[:2] == ["COUNTER", "OPM001"]
    assert full.get_channel_units()[:2] == ["1", "T"]
    assert full.get_channel_types()[:2] == ["MISC", "MAG"]
    data, stamps = _pulled(inlet, 3.0)
    index = _check_helmet(data, channels)
    np.testing.assert_array_equal(np.diff(index), 1)
    times = _ring_times(box, index)
    off = np.abs(stamps - np.array([times[int(i)] for i in index]))
    assert off.max() < 1e-4  # within a push of 20 rows the outlet counts at the nominal rate

    (about,) = pylsl.resolve_byprop("name", "box-markers", 1, 10)
    marks = pylsl.StreamInlet(about, recover=False)
    marks.open_stream(timeout=5)
    box.ask("record", name="one")
    stored = box.ask("mark", description="blink", duration=0.5)
    (text,), stamp = marks.pull_sample(timeout=10)
    assert text == "blink"
    assert abs(stamp - stored["t_ns"] / 1e9) < 1e-6
    del inlet, marks, full

    saved = tmp_path / "judge.npz"
    told = subprocess.run(
        [sys.executable, "-c", JUDGE, str(saved)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    about_it = json.loads(told.stdout.splitlines()[-1])
    assert about_it["names"][:2] == ["COUNTER", "OPM001"]
    assert set(about_it["types"][1:]) == {"mag"}
    assert (about_it["sfreq"], about_it["sinfo"]) == (1000.0, "MEG")
    loaded = np.load(saved)
    index = _check_helmet(loaded["data"].T.astype(np.float32), channels)
    assert len(index) > 1500
    np.testing.assert_array_equal(np.diff(index), 1)


@pytest.mark.slow
def test_a_killed_lsl_worker_costs_no_row_and_its_outlets_return(box: Box) -> None:
    _emulated_helmet(box, channels=8)
    _write_config(box, 'outlets = ["helmet-mag"]\nmarkers = false')
    box.start()
    box.until_streaming("helmet-mag", 20)
    box.until(lambda: box.status()["lsl"].get("outlets"), 20, "the outlet")
    box.ask("record", name="one")
    os.kill(box.worker("lsl")["pid"], signal.SIGKILL)
    box.until(lambda: box.worker("lsl")["restarts"] == 1, 10, "a restart")
    box.until(lambda: box.status()["lsl"].get("outlets"), 20, "the outlet again")
    box.ask("stop", timeout_s=60)
    stream = box.verify()["one"]["helmet-mag"]
    assert (len(stream["spans"]), stream["gap_samples"]) == (1, 0)


def test_liblsl_is_told_to_keep_to_this_machine_unless_the_configuration_widens_it(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LSLAPICFG")
    box.write_config()
    box.start()
    written = (box.run / "lsl_api.cfg").read_text(encoding="ascii")
    assert "ResolveScope = machine\n" in written
    assert "KnownPeers = {127.0.0.1}\n" in written
    assert box.daemon is not None
    box.end(box.daemon)
    _write_config(box, 'scope = "link"\nsession = "ward-3"\npeers = ["10.1.2.3"]')
    box.start()
    written = (box.run / "lsl_api.cfg").read_text(encoding="ascii")
    assert "ResolveScope = link\n" in written
    assert "KnownPeers = {127.0.0.1, 10.1.2.3}\n" in written
    assert "SessionID = ward-3\n" in written


@pytest.mark.parametrize("entry", ['session = "a} x"', 'peers = ["1.2.3.4\\n[lab]"]', 'scope = "x"'])  # fmt: skip
def test_nothing_but_names_reaches_liblsls_configuration(box: Box, entry: str) -> None:
    _write_config(box, entry)
    result = subprocess.run(
        python("brainforge_edge.cli.main", "config", "check", str(box.config)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 10
    assert "lsl" in result.stderr
