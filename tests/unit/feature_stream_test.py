"""From rows in a ring to messages: the library's figures, reasons where there are none, nothing stale."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from brainforge_edge.core import wire
from brainforge_edge.core.block import Gap, GapBasis
from brainforge_edge.core.config import PipelineConfig
from brainforge_edge.core.stream import Dtype
from brainforge_edge.pipeline.pacing import Level
from brainforge_edge.signal.chain import Chain
from brainforge_edge.signal.design import design
from brainforge_edge.signal.featureset import window_features
from brainforge_edge.signal.windows import Windows
from tests.unit.live_material import SFREQ, UV, Rig, eeg, sines, table


def same(message: wire.Features) -> dict[str, Any]:
    """But for when it was computed."""
    whole: dict[str, Any] = msgspec.to_builtins(message)
    del whole["computed_ns"], whole["age_ms"]
    return whole


def test_values_are_the_library_s(tmp_path: Path) -> None:
    rows = sines(6, 10, 6)
    config = table(l_freq=0.5, h_freq=45, notch=50, asymmetry=[["F3", "F4"]])
    with Rig(tmp_path, eeg(), config) as rig:
        newest = rig.feed(rows)[-1]
        chain = Chain(rig.plan.chain, SFREQ, ("F3", "F4"), design=design)
        windows = Windows(rig.plan.grid, 2)
        windows.push(chain.push(rows * np.float64(UV)))
        for figures in newest.windows:
            wanted = window_features(windows, figures.window_s)
            for band, values in figures.powers.items():
                np.testing.assert_array_equal(
                    np.array(values, np.float32), wanted.powers[band].astype(np.float32)
                )
                np.testing.assert_array_equal(
                    np.array(figures.relative[band], np.float32),
                    wanted.relative[band].astype(np.float32),
                )
            assert set(figures.ratios) == set(wanted.ratios)
            alpha = wanted.powers["alpha"]
            assert figures.asymmetry["alpha"] == [pytest.approx(np.log(alpha[1] / alpha[0]))]
            assert figures.trouble == ["", ""]


def test_a_sine_lies_in_its_band_in_the_unit_of_its_channel(tmp_path: Path) -> None:
    with Rig(tmp_path, eeg(), table()) as rig:
        newest = rig.feed(sines(5, 10, 6))[-1]
    assert newest.unit == "V"
    for figures in newest.windows:
        assert figures.powers["alpha"][0] == pytest.approx((20 * UV) ** 2 / 2, rel=0.01)
        assert figures.powers["theta"][1] == pytest.approx((20 * UV) ** 2 / 2, rel=0.01)
        assert figures.relative["alpha"][0] > 0.99  # type: ignore[operator]


def test_a_message_tells_its_newest_row_its_age_and_its_rate(tmp_path: Path) -> None:
    with Rig(tmp_path, eeg(), table()) as rig:
        rig.clock.now_ns = 10_000_000_000
        messages = rig.feed(sines(2, 10, 6))
    assert [m.seq for m in messages] == list(range(24, 500, 25))
    for message in messages:
        assert message.t_last_ns == message.seq * 4_000_000
        assert message.age_ms == pytest.approx((10_000_000_000 - message.t_last_ns) / 1e6)
    assert {m.rate_hz for m in messages} == {10}


def test_a_window_that_is_not_full_has_a_reason_and_no_figure(tmp_path: Path) -> None:
    with Rig(tmp_path, eeg(), table()) as rig:
        newest = rig.feed(sines(2.5, 10, 6))[-1]
    assert [figures.trouble[0] for figures in newest.windows] == ["", "", "start"]
    assert newest.windows[2].powers["alpha"] == [None, None]
    assert newest.windows[2].ratios["alpha/beta"] == [None, None]


CLEANED = {
    "l_freq": 1.0,
    "h_freq": 40.0,
    "notch": 50.0,
    "rails": [-1e-3, 1e-3],
    "asymmetry": [["F3", "F4"]],
    "coupling": [["F3", "F4"]],
    "wavelets": True,
    "eog": ["F4"],
    "eog_fit_s": 10,
}


@pytest.mark.parametrize(
    "more", [CLEANED, CLEANED | {"resample_hz": 200}, CLEANED | {"reference": {"kind": "average"}}]
)
def test_chunks_change_no_bit_of_any_message(tmp_path: Path, more: dict[str, Any]) -> None:
    rows = sines(14, 10, 6)
    rows[1500:1510, 0] = 2000.0  # the rail
    rows[2600, 1] = np.nan
    found = []
    for chunk, most in ((60, 2048), (7, 2048), (50, 41)):
        folder = tmp_path / f"{chunk}-{most}"
        folder.mkdir()
        with Rig(folder, eeg(), table(**more)) as rig:
            found.append([same(m) for m in rig.feed(rows, chunk, most)])
    for other in found[1:]:
        # What is judged between two messages may travel with the one before or after.
        assert [m["windows"] for m in other] == [m["windows"] for m in found[0]]
        assert [(m["seq"], m["t_last_ns"]) for m in other] == [
            (m["seq"], m["t_last_ns"]) for m in found[0]
        ]
        assert [m["slow"] for m in other] == [m["slow"] for m in found[0]]
        assert [m["coupling"] for m in other] == [m["coupling"] for m in found[0]]


def test_a_rail_is_told_until_window_and_filter_forgot_it(tmp_path: Path) -> None:
    rows = sines(9, 10, 6)
    rows[1000:1005, 0] = 1500.0
    config = table(l_freq=1.0, rails=[-1e-3, 1e-3])
    with Rig(tmp_path, eeg(), config) as rig:
        messages = rig.feed(rows)
    railed = [m.seq for m in messages if m.windows[0].trouble[0] == "rail"]
    # 1 s of filter (1 / l_freq) and 1 s of window behind the hop that holds the last bad row.
    assert railed == list(range(1024, 1504, 25))
    assert all(m.windows[0].trouble[1] in {"", "start"} for m in messages)
    assert all(m.windows[0].powers["alpha"][0] is None for m in messages if m.seq in railed)


def test_what_is_no_number_is_told_and_poisons_nothing(tmp_path: Path) -> None:
    rows = sines(10, 10, 6)
    rows[1000, 0], rows[1001, 0] = np.nan, np.inf
    with Rig(tmp_path, eeg(), table(l_freq=1.0)) as rig:
        messages = rig.feed(rows)
        assert rig.stream.stats()["replaced"] == 2
    told = [m for m in messages if m.windows[0].trouble[0] == "not_finite"]
    assert told
    assert messages[-1].windows[2].trouble == ["", ""]
    power = messages[-1].windows[0].powers["alpha"][0]
    assert power == pytest.approx((20 * UV) ** 2 / 2, rel=0.02)


def test_a_gap_begins_all_windows_anew(tmp_path: Path) -> None:
    lost = Gap(30, 0, GapBasis.DEVICE_INDEX)
    with Rig(tmp_path, eeg(), table()) as rig:
        assert rig.feed(sines(5, 10, 6))[-1].windows[2].trouble == ["", ""]
        messages = rig.feed(sines(1.5, 10, 6), gap=lost)
        assert rig.stream.stats()["gaps"] == 1
    assert [m.windows[0].trouble[0] for m in messages] == ["gap"] * 9 + [""] * 6
    assert {m.windows[2].trouble[0] for m in messages} == {"gap"}
    assert messages[0].seq == 1250 + 30 + 24
    assert messages[0].t_last_ns == messages[0].seq * 4_000_000
    assert messages[0].quality == ["", ""]


def test_a_device_that_begins_anew_is_another_incarnation(tmp_path: Path) -> None:
    with Rig(tmp_path, eeg(), table(l_freq=1.0)) as rig:
        rig.feed(sines(5, 10, 6))
        rig.incarnation, rig.seq = 1, 0
        messages = rig.feed(sines(1.5, 10, 6) + 50_000, first=True)
    assert (messages[0].incarnation, messages[0].seq) == (1, 24)
    assert messages[0].windows[0].trouble == ["gap", "gap"]
    # The new offset makes no step: the filter began with it.
    power = messages[-1].windows[0].powers["alpha"][0]
    assert power == pytest.approx((20 * UV) ** 2 / 2, rel=0.05)


def test_a_reader_that_was_overrun_says_gap_and_not_nonsense(tmp_path: Path) -> None:
    with Rig(tmp_path, eeg(), table(), seconds=4) as rig:
        rig.feed(sines(5, 10, 6))
        for _ in range(6):
            rig.push(sines(1, 10, 6))  # nobody reads: the ring holds 4 s
        while rig.stream.step():
            pass
        messages = rig.sent()
        assert rig.stream.stats()["overruns"] == 1
    assert messages[0].windows[2].trouble == ["gap", "gap"]


def test_one_that_is_late_tells_the_newest_and_not_all_that_was(tmp_path: Path) -> None:
    with Rig(tmp_path, eeg(), table()) as rig:
        rig.feed(sines(5, 10, 6))
        rig.push(sines(4, 10, 6))
        while rig.stream.step(300):
            pass
        messages = rig.sent()
    late = [rig.seq - 1 - m.seq for m in messages]
    assert late[-3:] == [50, 25, 0]
    assert len(messages) < 12  # of 40 hops
    assert all(a - b <= 125 for a, b in pairwise(late))  # never half a second without


def test_feedback_begins_anew_with_the_row_of_its_time(tmp_path: Path) -> None:
    with Rig(tmp_path, eeg(), table(coupling=[["F3", "F4"]])) as rig:
        rig.feed(sines(12, 10, 6))
        assert rig.stream.newest() is not None
        rig.stream.feedback_from(rig.time_ns(rig.seq + 125))
        assert rig.stream.newest() is None
        assert rig.feed(sines(0.4, 10, 6)) == []  # rows before it
        assert rig.stream.newest() is None
        messages = rig.feed(sines(1.5, 10, 6))
        newest = rig.stream.newest()
    assert messages[0].seq == 3000 + 125 + 24
    assert [m.windows[0].trouble[0] for m in messages] == ["start"] * 9 + [""] * 5
    assert newest is not None
    assert newest.coupling is not None
    assert newest.coupling.n_segments[0] < 2  # of eleven that there were


def test_quality_is_judged_each_second_on_raw_rows(tmp_path: Path) -> None:
    rows = sines(3, 10, 6)
    rows[:, 1] += 400 * np.sin(2 * np.pi * 50 * np.arange(len(rows)) / SFREQ)
    with Rig(tmp_path, eeg(), table(l_freq=1.0, h_freq=40, notch=50)) as rig:
        messages = rig.feed(rows)
        newest = rig.stream.newest()
    assert messages[5].quality == ["", ""]
    assert messages[-1].quality == ["good", "line_noise"]
    assert newest is not None
    assert newest.quality_ns == rig.time_ns(749)


def test_slow_figures_and_coupling_come_once_a_second(tmp_path: Path) -> None:
    with Rig(tmp_path, eeg(), table(coupling=[["F3", "F4"]], wavelets=True)) as rig:
        messages = rig.feed(sines(12, 10, 6))
    slow = {w: [s for m in messages for s in m.slow if s.window_s == w] for w in (1, 2, 4)}
    assert [len(each) for each in slow.values()] == [12, 12, 12]
    assert slow[4][-1].figures["peak_alpha_hz"][0] == pytest.approx(10, abs=0.05)
    assert slow[1][-1].figures["mobility_hz"][1] == pytest.approx(6, rel=0.05)
    assert slow[1][-1].octaves is not None
    assert [s.seq for s in slow[2][:2]] == [3 * 25 - 1, 13 * 25 - 1]
    coupled = [m.coupling for m in messages if m.coupling is not None]
    assert len(coupled) == 11
    assert coupled[0].measures["coherence"]["alpha"] == [None]  # too few segments
    assert coupled[-1].measures["coherence"]["alpha"][0] is not None


def test_what_is_shed_is_left_out_and_told(tmp_path: Path) -> None:
    with Rig(tmp_path, eeg(), table(coupling=[["F3", "F4"]], wavelets=True)) as rig:
        rig.feed(sines(5, 10, 6))
        rig.pacing.level = Level.NO_OCTAVES
        messages = rig.feed(sines(2, 10, 6))
        assert messages[-1].shed == ["coupling", "octaves"]
        assert not any(m.coupling for m in messages[1:])
        assert {each.octaves is None for m in messages[2:] for each in m.slow} == {True}
        rig.pacing.level = Level.HALF_RATE
        halved = rig.feed(sines(2, 10, 6))
        rig.pacing.level = Level.LOW_RATE
        low = rig.feed(sines(2, 10, 6))
    assert (len(halved), halved[-1].rate_hz) == (10, 5)
    assert (len(low), low[-1].rate_hz) == (4, 2)
    assert not any(m.slow for m in halved[1:] + low)
    assert low[-1].windows[2].trouble == ["", ""]


def test_a_repaired_channel_and_a_bipolar_one_rest_on_others(tmp_path: Path) -> None:
    rows = sines(8, 10, 6, 20)
    rows[1250, 1] = 5000.0
    more = {
        "rails": [-1e-3, 1e-3],
        "repairs": [{"channel": "F3", "neighbours": {"F4": 1.0}}],
        "reference": {"kind": "bipolar", "pairs": [["F3", "Cz"], ["Cz", "F4"]]},
    }
    with Rig(tmp_path, eeg("F3 F4 Cz"), table(**more)) as rig:
        messages = rig.feed(rows)
    assert messages[-1].channels == ["F3-Cz", "Cz-F4"]
    railed = [m.windows[0].trouble for m in messages if m.seq == 1274]
    assert railed == [["rail", "rail"]]


def test_counts_at_the_converter_s_ends_are_the_rail_without_a_word_of_configuration(
    tmp_path: Path,
) -> None:
    info = msgspec.structs.replace(eeg(), dtype=Dtype.I24)
    rows = np.round(100 * sines(4.5, 10, 6))
    rows[500:] = [8_388_607, 100]
    with Rig(tmp_path, info, PipelineConfig(live="features")) as rig:
        newest = rig.feed(rows)[-1]
    assert newest.windows[0].trouble[0] == "rail"
    assert newest.windows[0].trouble[1] in {"", "start"}
    assert newest.quality == ["rail", "flat"]
