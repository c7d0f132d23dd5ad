"""Channel settings reach the board, are read back, and stand in the stream's description."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from brainforge_edge.core.errors import ConfigError, DeviceError
from brainforge_edge.core.stream import ChannelDetail, FrontEnd
from brainforge_edge.devices.openbci_settings import Channel, Settings
from brainforge_edge.emulators.main import make_source
from brainforge_edge.emulators.openbci_front_end import FrontEnd as EmulatedFrontEnd
from tests.drivers.emulated import driver_for, emulated, of_stream, read_for

CHANNELS: list[dict[str, Any]] = [
    {"number": 2, "gain": 6},
    {"number": 3, "on": False},
    {"number": 4, "input": "shorted", "bias": False},
    {"number": 16, "srb2": False},
]


def settings(
    *channels: Channel, n_channels: int = 8, gain: int = 24, srb1: bool = False
) -> Settings:
    return Settings(channels, n_channels=n_channels, gain=gain, srb1=srb1, names=(), device="dut")


def test_settings_of_each_channel_are_set_read_back_and_described(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton", channels=16) as board:
        driver = driver_for("openbci", board.link, channels=CHANNELS)
        info = driver.open()[0]
        blocks = of_stream(read_for(driver, 0.6), "dut-eeg")
        status = dict(driver.status)  # type: ignore[attr-defined]
        driver.close()
    assert status["settings_verified"] is True
    front_ends = [c.detail.front_end for c in info.channels if isinstance(c.detail, ChannelDetail)]
    assert front_ends[0] == FrontEnd(24, reference="SRB2", has_bias=True)
    assert front_ends[1] == FrontEnd(6, reference="SRB2", has_bias=True)
    assert front_ends[2] == FrontEnd(24, is_on=False, reference="SRB2", has_bias=True)
    assert front_ends[3] == FrontEnd(24, input="shorted", reference="SRB2")
    assert front_ends[15] == FrontEnd(24, has_bias=True)
    assert [c.type for c in info.channels[:5]] == ["eeg", "eeg", "misc", "misc", "eeg"]
    assert info.channels[1].scale == pytest.approx(4 * info.channels[0].scale)
    rows = np.concatenate([block.data for block in blocks])
    volts = rows * np.array([c.scale for c in info.channels])
    source = make_source("cyton", channels=16)
    true = source.rows(blocks[0].seq, len(rows)) * info.channels[0].scale
    np.testing.assert_allclose(volts[:, 1], true[:, 1], atol=info.channels[1].scale)
    assert not rows[:, 2:4].any()


def test_a_description_holds_the_calibration_also_in_a_recording() -> None:
    described = settings(Channel(number=1, gain=2)).described()
    again = msgspec.convert(msgspec.to_builtins(described[0]), type(described[0]))
    assert again == described[0]
    assert isinstance(again.detail, ChannelDetail)
    assert again.detail.front_end == FrontEnd(2, reference="SRB2", has_bias=True)


def test_the_delay_of_filter_and_averaging_stands_at_each_channel() -> None:
    alone = [c.detail.group_delay_us for c in settings().described() if c.detail]
    both = [c.detail.group_delay_us for c in settings(n_channels=16).described() if c.detail]
    assert alone == [6_000.0] * 8
    assert both == [8_000.0] * 8 + [12_000.0] * 8


def test_only_what_differs_from_the_default_is_sent() -> None:
    assert settings().commands() == []
    assert settings(Channel(number=2, on=False), Channel(number=8, gain=1)).commands() == [
        "x2160110X",
        "x8000110X",
    ]
    assert settings(Channel(number=9, input="test"), n_channels=16).commands() == ["xQ065110X"]
    assert len(settings(srb1=True).commands()) == 8


def test_a_board_that_did_not_take_them_is_refused() -> None:
    front_end = EmulatedFrontEnd(8, [5e3])
    printed = front_end.registers()
    assert settings().verify(printed)
    assert not settings().verify("")
    for wrong in (
        settings(Channel(number=1, gain=2)),
        settings(Channel(number=5, on=False)),
        settings(srb1=True),
    ):
        with pytest.raises(DeviceError) as caught:
            wrong.verify(printed)
        assert caught.value.code == "device.settings_differ"
        for command in wrong.commands():
            assert (front_end.command(command) or "").startswith("Success")
        assert wrong.verify(front_end.registers())
        front_end.reset()


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": [{"number": 1, "gain": 5}]},
        {"channels": [{"number": 1}, {"number": 1}]},
        {"channels": [{"number": 17}]},
        {"channels": [{"number": 1, "input": "nose"}]},
        {"channels": [{"number": 1, "gian": 2}]},
    ],
)
def test_settings_that_no_board_knows_are_a_configuration_error(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as caught:
        driver_for("openbci", tmp_path / "port", **wrong)
    assert len(str(caught.value).splitlines()) == 1


def test_channels_that_only_a_daisy_has_are_refused_without_it(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton", channels=8) as board:
        driver = driver_for("openbci", board.link, channels=[{"number": 9, "on": False}])
        with pytest.raises(ConfigError) as caught:
            driver.open()
        driver.close()
    assert "channel 9" in str(caught.value)
