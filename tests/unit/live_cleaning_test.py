"""Motion and eyes taken out of live rows: the reference from another ring, by box time."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.pipeline.motionsource import MotionSource
from brainforge_edge.rings.ring import SampleRing
from brainforge_edge.signal.design import design
from tests.unit.live_material import SFREQ, HandClock, Rig, eeg, sines, table

HAT_HZ = 100.0
HAT = StreamInfo(
    "hat-acc",
    "hat",
    HAT_HZ,
    Dtype.F32,
    tuple(ChannelInfo(f"ACC{axis}", "misc", "m/s^2", 1.0) for axis in "XYZ"),
)


class PassingClock(HandClock):
    """A millisecond passes with each look, so that nobody waits for ever."""

    def monotonic_ns(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns


class Hat:
    """An accelerometer's ring; `shift_ns` moves its labels."""

    def __init__(self, folder: Path, *, shift_ns: int = 0) -> None:
        self.path = folder / "hat-acc.ring"
        self.ring = SampleRing.create(self.path, HAT, seconds=90)
        self._shift_ns = shift_ns
        self._seq = 0

    def push(self, rows: NDArray[np.floating], *, seq: int | None = None) -> None:
        self._seq = self._seq if seq is None else seq
        t_ns = self._shift_ns + round(self._seq * 1e9 / HAT_HZ)
        data = np.ascontiguousarray(rows, np.float32)
        self.ring.push(SampleBlock("hat-acc", 0, self._seq, t_ns, data))
        self._seq += len(rows)
        self.ring.set_written(self.ring.head)


def ramp(first: int, n: int) -> NDArray[np.float64]:
    rows: NDArray[np.float64] = np.arange(float(n))[:, None] + [first, first + 1e3, first + 2e3]
    return rows


def source(hat: Hat | None) -> MotionSource:
    path = None if hat is None else hat.path
    return MotionSource(lambda: path, 0.0, design=design, clock=PassingClock())


def test_the_reference_lies_on_the_line_between_two_rows(tmp_path: Path) -> None:
    hat = Hat(tmp_path)
    found = source(hat)
    assert np.isnan(found.at(np.array([1e7]))).all()  # opened, and nothing read yet
    hat.push(ramp(0, 10))
    times = np.array([0.0, 2.5e6, 85e6])
    wanted = np.array([[0, 1000, 2000], [0.25, 1000.25, 2000.25], [8.5, 1008.5, 2008.5]])
    assert np.abs(found.at(times) - wanted).max() < 1e-3
    hat.ring.close()


def test_where_there_is_no_reference_there_is_a_hole(tmp_path: Path) -> None:
    hat = Hat(tmp_path)
    found = source(hat)
    found.at(np.array([0.0]))
    hat.push(ramp(0, 10))
    hat.push(ramp(20, 10), seq=20)  # ten rows are missing
    at = found.at(np.array([-1e6, 50e6, 150e6, 250e6, 400e6]))
    assert np.isnan(at).all(axis=1).tolist() == [True, False, True, False, True]
    assert np.isnan(source(None).at(np.array([0.0]))).all()
    hat.ring.close()


def movement(seconds: float, sfreq: float) -> NDArray[np.float64]:
    """Three axes whose truth is a function of time, at any rate."""
    t = np.arange(round(seconds * sfreq)) / sfreq
    return np.stack(
        [np.sin(2 * np.pi * hz * t + i) for i, hz in enumerate((1.7, 2.3, 3.1))], axis=1
    )


@pytest.mark.parametrize("has_hat", [True, False])
def test_motion_falls_and_the_signal_stays(tmp_path: Path, has_hat: bool) -> None:
    seconds = 20
    moved = movement(seconds, SFREQ) @ np.array([[200.0, -90.0], [60.0, 150.0], [-80.0, 40.0]])
    rows = sines(seconds, 10, 6) + moved
    hat = Hat(tmp_path)
    config = table(l_freq=0.5, motion="hat-acc")
    with Rig(tmp_path, eeg(), config, motion=hat.path if has_hat else None) as rig:
        axes = movement(seconds + 1, HAT_HZ)
        hat.push(axes[:10])  # it is ahead, as if rows had waited for it
        messages = []
        for second in range(seconds):
            rig.clock.now_ns = second * 10**9
            hat.push(axes[10 + second * 100 : 10 + (second + 1) * 100])
            messages += rig.feed(rows[second * SFREQ : (second + 1) * SFREQ])
    newest = messages[-1]
    assert newest.motion_removed is not None
    delta, alpha = (newest.windows[2].powers[band][0] for band in ("delta", "alpha"))
    assert delta is not None
    assert alpha is not None
    before = (200e-6) ** 2 / 2
    if has_hat:
        assert newest.motion_removed == 1.0
        assert delta < before / 100
        assert alpha == pytest.approx((20e-6) ** 2 / 2, rel=0.1)
    else:
        assert newest.motion_removed == 0.0
        assert delta > before / 2
    hat.ring.close()


def test_eyes_are_fitted_once_then_taken_out_and_told(tmp_path: Path) -> None:
    seconds = 24
    n = seconds * SFREQ
    blink = np.zeros(n)
    for at in range(100, n - 100, 300):
        blink[at : at + 60] += 300 * np.hanning(60)
    rows = sines(seconds, 10, 6)
    rows[:, 1] = blink
    rows[:, 0] += (0.5 * blink).astype(np.float32)
    config = table(l_freq=0.5, eog=["F4"], eog_fit_s=10)
    with Rig(tmp_path, eeg(), config) as rig:
        messages = rig.feed(rows)
    fitted = [m.seq for m in messages if m.eyes_removed]
    assert fitted[0] == 10 * SFREQ - 1
    before, after = (
        next(m for m in messages if m.seq == seq).windows[2].powers["delta"][0]
        for seq in (9 * SFREQ - 1, seconds * SFREQ - 1)
    )
    assert before is not None
    assert after is not None
    assert after < before / 50
    assert messages[-1].eyes is not None
    assert {name for m in messages if m.eyes for name in m.eyes.blink} == {"F4"}
