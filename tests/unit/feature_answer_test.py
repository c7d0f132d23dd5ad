"""What a person is shown at the control socket: bounded, without a NaN, with reasons in words."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from brainforge_edge.cli.features import lines, row
from brainforge_edge.core import ipc, wire
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.core.liveconfig import MOST_PAIRS
from brainforge_edge.pipeline.answer import MOST_CHANNELS, answer
from brainforge_edge.pipeline.figures import packed
from brainforge_edge.pipeline.plan import MOST_CHANNELS as MOST_SENT
from tests.unit.live_material import Rig, eeg, sines, table

MOST_BYTES = 256 * 1024
UNSET_SENDBUF = 212_992  # what Linux gives a socket that asks for nothing


def command(**arguments: object) -> ipc.Command:
    return ipc.Command(token=1, name="features", arguments=dict(arguments))


def test_packed_numbers_are_plain_msgpack_with_null_for_none() -> None:
    values = np.array([1.5, np.nan, -np.inf, 0.0, 1e39, 1e-12])
    rows = [values, np.arange(6.0), values[::-1]]
    found = [msgspec.msgpack.decode(each) for each in packed(np.stack(rows))]
    wanted = [1.5, None, None, 0.0, None, pytest.approx(1e-12)]
    assert found == [wanted, [0, 1, 2, 3, 4, 5], wanted[::-1]]
    assert [msgspec.msgpack.decode(each) for each in packed(np.ones((2, 1)))] == [[1.0], [1.0]]
    assert packed(np.zeros((0, 3))) == []


def test_a_stream_is_shown_as_one_line_and_as_a_whole(tmp_path: Path) -> None:
    with Rig(tmp_path, eeg(), table()) as rig:
        streams = {"cap-eeg": rig.stream}
        assert answer(command(), streams, 0)["streams"] == [
            {"stream_id": "cap-eeg", "state": "warming up"}
        ]
        assert lines(answer(command(stream="cap-eeg"), streams, 0)) == [
            "cap-eeg: warming up: no window is full yet"
        ]
        rig.feed(sines(2.5, 10, 6))
        now = rig.time_ns(rig.seq)
        (line,) = answer(command(), streams, now)["streams"]
        whole = answer(command(stream="cap-eeg"), streams, now)
        old = answer(command(stream="cap-eeg"), streams, now + 7 * 10**9)
        (silent,) = answer(command(), streams, now + 7 * 10**9)["streams"]
    assert line["quality"] == {"good": 2}
    assert line["age_ms"] == 4.0
    assert (row(line)["state"], row(line)["quality"]) == ("computed", "2 good")
    assert (row(silent)["state"], row(silent)["quality"]) == ("no rows", "")
    shown = "\n".join(lines(whole))
    assert "age 4 ms" in shown
    assert "F3  good  1 s   █  " in shown
    assert "4 s warming up: start" in shown
    assert "start: warming up: the window is not full yet" in shown
    assert "14.1 µV" in shown
    assert "no rows" not in shown
    assert "no rows for 7 s: these are the last figures" in "\n".join(lines(old))


def test_the_largest_answer_and_the_largest_message_stay_below_their_bounds(
    tmp_path: Path,
) -> None:
    names = [f"CH{i:03d}" for i in range(MOST_SENT)]
    pairs = [[names[i], names[i + 1]] for i in range(MOST_PAIRS)]
    config = table(asymmetry=pairs, coupling=pairs, wavelets=True)
    rng = np.random.default_rng(3)
    with Rig(tmp_path, eeg(" ".join(names), sfreq=100), config, seconds=4) as rig:
        sent: list[wire.Features] = []
        for _ in range(5):
            sent += rig.feed(rng.standard_normal((100, MOST_SENT)).astype(np.float32))
        newest = rig.stream.newest()
        reply = answer(command(stream="cap-eeg"), {"cap-eeg": rig.stream}, 0)
    assert newest is not None
    assert newest.slow is not None
    assert newest.coupling is not None
    assert rig.stream.dropped == 0
    assert len(sent) == 50
    assert rig.largest < UNSET_SENDBUF
    assert len(reply["features"]["channels"]) == MOST_CHANNELS
    assert len(json.dumps(reply, allow_nan=False)) < MOST_BYTES


def test_channels_are_asked_for_in_parts(tmp_path: Path) -> None:
    with Rig(tmp_path, eeg("a b c d e"), table()) as rig:
        rig.feed(sines(1.2, 3, 6, 10, 20, 35))
        part = answer(command(stream="cap-eeg", first=3, n=1), {"cap-eeg": rig.stream}, 0)
    assert part["features"]["channels"] == ["d"]
    assert len(part["features"]["windows"][0]["powers"]["beta"]) == 1
    assert part["features"]["windows"][0]["relative"]["beta"][0] > 0.9
    assert "1 more" in "\n".join(lines(part))


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (command(stream="nobody"), "unknown_stream"),
        (ipc.Command(token=1, name="zero"), "unknown_command"),
    ],
)
def test_what_cannot_be_answered_is_refused(asked: ipc.Command, code: str) -> None:
    with pytest.raises(BrainforgeError) as refused:
        answer(asked, {}, 0)
    assert refused.value.code.endswith(code)


def test_no_message_holds_a_number_that_is_none(tmp_path: Path) -> None:
    rows = sines(3, 10, 6)
    rows[:, 1] = 7.0  # flat: ratios over nothing
    with Rig(tmp_path, eeg(), table()) as rig:
        messages = rig.feed(rows)
    assert messages[-1].windows[0].ratios["alpha/beta"][1] is None
    for message in messages:
        json.dumps(msgspec.to_builtins(message), allow_nan=False)
    assert isinstance(messages[-1], wire.Features)
