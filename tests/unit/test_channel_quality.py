"""The rule for electrodes: rail, lead off, flat; told once when it begins and once when it ends."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.devices.base import Notice
from brainforge_edge.devices.channel_quality import ChannelQuality

RAILS = (0, 4095)
INFO = StreamInfo(
    "dut-eeg",
    "dut",
    256.0,
    Dtype.I16,
    tuple(ChannelInfo(name, "eeg", "V", 0.5e-6) for name in ("TP9", "AF7", "AF8", "TP10")),
)


def seconds(n: int, seed: int = 1, **given_: NDArray[Any] | int) -> NDArray[Any]:
    """`n` s of EEG of 20 µV around the middle; columns by name are replaced."""
    rows = np.random.default_rng(seed).normal(2048, 40, (256 * n, 4))
    for name, column in given_.items():
        rows[:, INFO.ch_names.index(name)] = column
    return np.clip(rows, *RAILS).astype(np.int16)


def fed(quality: ChannelQuality, rows: NDArray[Any], size: int = 12) -> list[Notice]:
    blocks = (
        SampleBlock("dut-eeg", 0, at, 0, rows[at : at + size]) for at in range(0, len(rows), size)
    )
    return quality.take(blocks)


def told(notices: list[Notice]) -> list[tuple[str, str, str]]:
    return [(n.data["what"], n.data["change"], n.data["channels"]) for n in notices]


def test_good_electrodes_are_not_told_of() -> None:
    quality = ChannelQuality(INFO, rails=RAILS)
    assert fed(quality, seconds(10)) == []
    assert (quality.bad, quality.counted) == ({}, {})


@pytest.mark.parametrize(
    ("word", "column"),
    [
        ("rail", np.where(np.arange(768) % 5 == 0, 4095, 2048)),
        ("rail", np.zeros(768)),
        ("lead_off", 2048 + 1900 * np.sin(2 * np.pi * 50 / 256 * np.arange(768))),
        ("flat", np.full(768, 2048)),
    ],
)
def test_a_trouble_is_told_once_with_its_channel_and_a_reason(
    word: str, column: NDArray[Any]
) -> None:
    quality = ChannelQuality(INFO, rails=RAILS)
    notices = fed(quality, seconds(3, AF8=column))
    assert told(notices) == [(word, "began", "AF8")]
    assert notices[0].data["why"]
    assert (quality.bad, quality.counted) == ({"AF8": word}, {word: 1})
    assert fed(quality, seconds(1)) == []  # one good second is not enough
    assert told(fed(quality, seconds(3))) == [(word, "ended", "AF8")]
    assert quality.bad == {}


def test_a_trouble_at_the_limit_does_not_come_and_go() -> None:
    quality = ChannelQuality(INFO, rails=RAILS)
    notices = [
        notice
        for turn in range(20)
        for notice in fed(quality, seconds(1, TP9=0) if turn % 2 else seconds(1), 256)
    ]
    assert told(notices) == [("rail", "began", "TP9")]


def test_channels_of_one_trouble_are_one_notice() -> None:
    quality = ChannelQuality(INFO, rails=RAILS)
    assert told(fed(quality, seconds(2, TP9=0, TP10=4095, AF7=1000))) == [
        ("rail", "began", "TP9,TP10"),
        ("flat", "began", "AF7"),
    ]


def test_numbers_of_24_bits_do_not_overflow() -> None:
    channels = (ChannelInfo("EEG1", "eeg", "V", 1.87e-9),)
    info = StreamInfo("dut-eeg", "dut", 200.0, Dtype.I24, channels)
    quality = ChannelQuality(info, rails=(-(2**23), 2**23 - 1))
    rows = np.where(np.arange(600) % 2, 2**23 - 2, -(2**23) + 1).astype(np.int32)[:, None]
    assert told(fed(quality, rows)) == [("lead_off", "began", "EEG1")]


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=20),
    st.sampled_from([0, 4095, 2048, None]),
    st.integers(0, 2**31),
)
def test_began_and_ended_alternate_whatever_comes(
    sizes: list[int], column: int | None, seed: int
) -> None:
    quality = ChannelQuality(INFO, rails=RAILS)
    bad: set[tuple[str, str]] = set()
    for turn, size in enumerate(sizes):
        is_bad = column is not None and turn % 3 == 0
        rows = seconds(2, seed + turn, TP9=column) if is_bad and column is not None else seconds(2)
        for word, change, channels in told(fed(quality, rows[:size], 37)):
            for channel in channels.split(","):
                assert ((channel, word) in bad) == (change == "ended")
                (bad.add if change == "began" else bad.remove)((channel, word))
    assert dict(bad) == quality.bad
