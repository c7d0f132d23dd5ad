"""Which features a stream gets: sensible ones without configuration, else what its table says, or why not."""

from typing import Any

import msgspec
import pytest

from brainforge_edge.cli.config import stream_notes
from brainforge_edge.core.config import PipelineConfig, parse
from brainforge_edge.core.errors import ConfigError
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.pipeline.plan import live_mode, plan
from brainforge_edge.signal.quality import EEG, OPM
from tests.unit.live_material import eeg, table

NODE = '[node]\nid = "box"\n'


def of(kind: str, unit: str, sfreq: float, n: int = 2, dtype: Dtype = Dtype.I24) -> StreamInfo:
    channels = tuple(ChannelInfo(f"c{i}", kind, unit, 1e-6) for i in range(n))
    return StreamInfo("cap-eeg", "cap", sfreq, dtype, channels)


def test_a_stream_of_a_head_needs_no_configuration() -> None:
    found = plan(eeg(), PipelineConfig())
    assert found is not None
    assert (found.chain.l_freq, found.chain.h_freq) == (0.5, 100)
    assert (found.chain.notch, found.chain.harmonics) == (50, 2)
    assert found.limits is EEG
    assert found.channels == ("F3", "F4")
    assert not found.is_sent
    assert found.rails is None  # floats have no end


def test_a_slow_stream_has_the_bands_and_the_filter_that_fit() -> None:
    found = plan(of("eeg", "V", 52), PipelineConfig())
    assert found is not None
    assert found.chain.h_freq == pytest.approx(0.45 * 52)
    assert found.chain.notch == 0
    assert [band.name for band in found.grid.bands] == ["delta", "theta", "alpha"]


def test_a_magnetometer_is_judged_in_tesla() -> None:
    found = plan(of("mag", "T", 1000, 306), PipelineConfig(notch=60))
    assert found is not None
    assert found.limits is OPM
    assert found.mains_hz == 60


@pytest.mark.parametrize(
    "info",
    [
        of("misc", "m/s^2", 250),
        of("stim", "1", 1000),
        of("raw", "1", 100),
        of("ecg", "V", 130),
        of("eeg", "V", 250.5),
        of("eeg", "V", 5),
    ],
)
def test_what_is_no_signal_of_a_head_has_none_and_nobody_is_told(info: StreamInfo) -> None:
    assert plan(info, PipelineConfig()) is None


def test_other_channels_of_the_stream_are_left_out() -> None:
    channels = (
        ChannelInfo("STIM", "stim", "1"),
        ChannelInfo("F3", "eeg", "V"),
        ChannelInfo("T", "misc", "K"),
        ChannelInfo("EOG", "eog", "V"),
    )
    found = plan(StreamInfo("a-b", "a", 250, Dtype.I24, channels), PipelineConfig())
    assert found is not None
    assert found.picks.tolist() == [1, 3]
    assert found.names == ("F3", "EOG")


@pytest.mark.parametrize(
    ("dtype", "offset", "low", "high"),
    [
        (Dtype.I24, 0, -8_388_607, 8_388_607),
        (Dtype.I16, 0, -32_767, 32_767),
        (Dtype.I16, -2048, -2048, 2047),  # counts 0 to 4095
        (Dtype.I16, -8192, -8192, 8191),
    ],
)
def test_ends_of_the_range_follow_from_the_type(
    dtype: Dtype, offset: int, low: int, high: int
) -> None:
    channel = ChannelInfo("a", "eeg", "V", 2.0, 2.0 * offset)
    found = plan(StreamInfo("a-b", "a", 250, dtype, (channel,)), PipelineConfig())
    assert found is not None
    assert found.rails is not None
    assert [end.tolist() for end in found.rails] == [[2.0 * low], [2.0 * high]]


def test_modes_and_features_are_switched_for_all_or_for_one() -> None:
    config = table(live="off", features=False)
    assert live_mode("cap-eeg", config) == "off"
    assert plan(eeg(), config) is None
    assert live_mode("other-eeg", config) == "preview"
    assert plan(eeg(stream_id="other-eeg"), config) is not None
    assert plan(eeg(), PipelineConfig(features=False)) is None


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"channels": ["Fz"]}, "'Fz'"),
        ({"channels": ["F3", "F3"]}, "twice"),
        ({"asymmetry": [["F3", "Fz"]]}, "'Fz'"),
        ({"coupling": [["Fz", "F3"]]}, "'Fz'"),
        ({"eog": ["EOG"]}, "'EOG'"),
        ({"h_freq": 200.0}, "200"),
        ({"notch": 120.0}, "120"),
        ({"resample_hz": 77.77}, "77.77"),
        ({"repairs": [{"channel": "F3", "neighbours": {"Fz": 1.0}}]}, "'Fz'"),
        ({"reference": {"kind": "channels", "channels": ["M1"]}}, "'M1'"),
    ],
)
def test_a_table_that_does_not_fit_the_stream_is_refused(more: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        plan(eeg(), table(**more))


def test_a_stream_that_was_asked_for_and_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="whole number of Hz"):
        plan(eeg(sfreq=250.5), table())
    with pytest.raises(ConfigError, match="0 channels"):
        plan(of("misc", "1", 250), table())
    with pytest.raises(ConfigError, match="600 channels"):
        plan(of("eeg", "V", 250, 600), table())


def test_any_channel_can_be_looked_at_by_name() -> None:
    found = plan(of("misc", "m/s^2", 250, 3), table(channels=["c2"]))
    assert found is not None
    assert found.names == ("c2",)
    assert found.limits is None  # nobody knows what is good there


def test_a_table_in_the_file() -> None:
    text = f"""{NODE}
[pipeline]
live = "off"
[[pipeline.stream]]
id = "cap-eeg"
live = "features"
l_freq = 1.0
reference = {{ kind = "average" }}
asymmetry = [["F3", "F4"]]
"""
    config = parse(text).pipeline
    found = plan(eeg(), config)
    assert found is not None
    assert found.is_sent
    assert found.asymmetry == ((0, 1),)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("lfreq = 1", ["$.pipeline.stream[0]", "lfreq"]),
        ('live = "all"', ["pipeline.stream[0].live", "'preview'"]),
        ("l_freq = -1", ["pipeline.stream[0].l_freq", "0 to 10000"]),
        ("harmonics = 9", ["pipeline.stream[0].harmonics", "1 to 7"]),
        ("eog_fit_s = 5", ["pipeline.stream[0].eog_fit_s", "10 to 600"]),
        ("l_freq = 30\nh_freq = 20", ["pipeline.stream[0].l_freq", "not below h_freq"]),
        ('coupling = [["a", "a"]]', ["pipeline.stream[0].coupling", "itself"]),
        ('asymmetry = [["a", "b"], ["a", "b"]]', ["pipeline.stream[0].asymmetry", "twice"]),
        ('asymmetry = [["a"]]', ["pipeline.stream[0].asymmetry[0]"]),
        ('motion = "cap-eeg"', ["pipeline.stream[0].motion"]),
        ("rails = [1, -1]", ["pipeline.stream[0].rails"]),
        ('reference = { kind = "mean" }', ["pipeline.stream[0].reference.kind", "'median'"]),
        ('[[pipeline.stream]]\nid = "cap-eeg"', ["pipeline.stream[1].id", "again"]),
        (f"coupling = {[[f'a{i}', 'b'] for i in range(257)]}", ["pipeline.stream[0].coupling", "256"]),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_named_by_its_path(entry: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(f'{NODE}[[pipeline.stream]]\nid = "cap-eeg"\n{entry}\n')
    for word in words:
        assert word in str(refused.value)


def test_a_table_for_a_stream_that_cannot_come_is_noted() -> None:
    device = '[[device]]\nname = "cap"\nkind = "openbci"\n'
    tables = """[[pipeline.stream]]
id = "cap-eeg"
motion = "hat-acc"
[[pipeline.stream]]
id = "cup-eeg"
"""
    assert stream_notes(parse(NODE + device + tables)) == [
        "pipeline.stream[1].id is 'cup-eeg', and no device here has such a stream",
        "pipeline.stream[0].motion is 'hat-acc', and no device here has such a stream",
    ]


def test_the_configuration_survives_the_way_to_the_worker() -> None:
    config = table(asymmetry=[["F3", "F4"]], repairs=[{"channel": "F3", "neighbours": {"F4": 1.0}}])
    packed = msgspec.msgpack.encode(config)
    assert msgspec.msgpack.decode(packed, type=PipelineConfig) == config
