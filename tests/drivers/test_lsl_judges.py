"""pylsl and mne-lsl, each in a process of its own, read the outlets of a box: values, times, resets.

The truth is the emulator's row for the index in channel 0, and the box's ring for its time. The
judges know nothing of this project.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from brainforge_edge.emulators.main import make_source
from brainforge_edge.rings.reader import RingReader
from tests.drivers import lsl_network
from tests.faults.box import Box, box_in

assert lsl_network.SESSION
CHANNELS = 16
READ_S = 4.0
# Only the last row of a push of 20 carries its time, the others follow at the nominal rate.
MOST_S = 1e-4

PYLSL = """
import sys, time
import numpy as np, pylsl
(info,) = pylsl.resolve_byprop("name", sys.argv[2], 1, 15)
inlet = pylsl.StreamInlet(info, recover=False, processing_flags=0)
inlet.open_stream(timeout=10)
data, stamps, until = [], [], time.monotonic() + float(sys.argv[3])
while time.monotonic() < until:
    part, times = inlet.pull_chunk(timeout=0.05, max_samples=512, as_numpy=True)
    data.append(part), stamps.append(times)
np.savez(sys.argv[1], data=np.concatenate(data), stamps=np.concatenate(stamps),
         correction=inlet.time_correction(timeout=5))
"""
MNE_LSL = """
import os, sys, time
import pylsl.lib
os.environ["MNE_LSL_LIB"] = os.path.join(os.path.dirname(pylsl.lib.__file__), "liblsl.so")
import numpy as np
from mne_lsl.stream import StreamLSL
seconds = float(sys.argv[3])
stream = StreamLSL(seconds + 2, name=sys.argv[2])
stream.connect(acquisition_delay=0.05, timeout=15)
time.sleep(seconds)
data, stamps = stream.get_data()
np.savez(sys.argv[1], data=data.T[stamps > 0], stamps=stamps[stamps > 0], correction=0.0)
stream.disconnect()
"""
JUDGES = {"pylsl": PYLSL, "mne-lsl": MNE_LSL}


class Seen(NamedTuple):
    data: NDArray[Any]  # (n, n_channels) as sent
    stamps: NDArray[np.float64]  # s
    correction_s: float


class Judge:
    """Reads the helmet's outlet for some seconds."""

    def __init__(self, which: str, folder: Path, seconds: float = READ_S) -> None:
        self._saved = folder / f"{which}-{time.monotonic_ns()}.npz"
        command = [
            sys.executable,
            "-c",
            JUDGES[which],
            str(self._saved),
            "OMP_Helmet",
            str(seconds),
        ]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def seen(self) -> Seen:
        _, said = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, said
        with np.load(self._saved) as saved:
            return Seen(saved["data"], saved["stamps"], float(saved["correction"]))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[Callable[..., Judge]]:
    """Makes judges; none outlives its test."""
    made: list[Judge] = []

    def make(which: str, seconds: float = READ_S) -> Judge:
        made.append(Judge(which, tmp_path, seconds))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with box_in(tmp_path) as made:
        made.device("helmet", "opm")
        made.emulate("helmet", "opm", channels=CHANNELS)
        made.write_config()
        text = made.config.read_text(encoding="utf-8")
        made.config.write_text(f"[lsl]\noutlets = true\n{text}", encoding="utf-8")
        made.start()
        made.until_streaming("helmet-mag", 20)
        made.until(lambda: made.status()["lsl"].get("outlets"), 20, "the outlet")
        yield made


def _index(seen: Seen) -> NDArray[np.int64]:
    return np.asarray(np.rint(seen.data[:, 0]).astype(np.int64))


def _integers(seen: Seen) -> NDArray[np.int64]:
    """What was sent in T, as the counts of the helmet: one is 1 fT."""
    scale = np.array([c.scale for c in make_source("opm", channels=CHANNELS).channels])
    return np.asarray(np.rint(seen.data.astype(np.float64) / scale).astype(np.int64))


def _check_values(seen: Seen) -> None:
    source = make_source("opm", channels=CHANNELS)
    index = _index(seen)
    wanted = np.concatenate([source.rows(int(i), 1) for i in index])
    np.testing.assert_array_equal(_integers(seen), wanted)


def _time_errors_s(box: Box, seen: Seen) -> NDArray[np.float64]:
    """Against the box's own time of each row that its ring still holds."""
    reader = RingReader(box.run / "rings" / "helmet-mag.ring")
    reader.position = max(0, reader.written - 25_000)
    times: dict[int, float] = {}
    while (rows := reader.read(8)) is not None:
        for run in rows.runs:
            at = rows.data[run.row - rows.first_row :][: run.n, 0]
            times |= {int(i): (run.t_first_ns + k * 1e6) / 1e9 for k, i in enumerate(at)}
    stamps = seen.stamps + seen.correction_s
    return np.array([stamp - times[int(i)] for i, stamp in zip(_index(seen), stamps, strict=True)])


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_both_judges_get_each_integer_and_its_time_from_one_reader_of_the_ring(
    box: Box, judge: Callable[..., Judge]
) -> None:
    judges = {name: judge(name) for name in JUDGES}
    more = [judge("pylsl") for _ in range(2)]
    seen = {name: one.seen() for name, one in judges.items()}
    others = [one.seen() for one in more]
    for name, one in {**seen, "viewer 2": others[0], "viewer 3": others[1]}.items():
        assert len(one.data) > 1500
        np.testing.assert_array_equal(np.diff(_index(one)), 1)
        _check_values(one)
        errors = _time_errors_s(box, one)
        print(f"{name}: {len(errors)} rows, time error at most {np.abs(errors).max() * 1e6:.0f} us")
        assert np.abs(errors).max() < MOST_S + abs(one.correction_s)
        assert abs(one.correction_s) < 1e-3
    # Four viewers, one outlet: each row of the ring was read and pushed once.
    status = box.status()["lsl"]["outlets"]
    assert set(status) == {"helmet-mag", "helmet-residual"}
    last = max(int(_index(one)[-1]) for one in (*seen.values(), *others))
    first = min(int(_index(one)[0]) for one in (*seen.values(), *others))
    assert status["helmet-mag"]["sent"] <= last - first + 1 + 2000
    assert status["helmet-mag"]["lost"] == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("which", JUDGES)
def test_a_helmet_that_is_switched_off_and_on_counts_anew_in_the_same_outlet(
    box: Box, judge: Callable[..., Judge], which: str
) -> None:
    reader = judge(which, 9.0)
    box.until(lambda: box.status()["lsl"]["outlets"]["helmet-mag"]["is_read"], 60, "the judge")
    time.sleep(1.5)
    box.signal("helmet", signal.SIGHUP)
    seen = reader.seen()
    index = _index(seen)
    (reset,) = np.flatnonzero(np.diff(index) != 1)  # one joint, where the count begins anew
    assert index[reset + 1] < index[reset]
    assert len(index) - reset > 500
    assert (np.diff(seen.stamps) > 0).all()
    _check_values(seen)
    pause_s = seen.stamps[reset + 1] - seen.stamps[reset]
    assert 0.05 < pause_s < 5.0
