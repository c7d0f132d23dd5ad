"""What a channel has beside name and scale is kept in files, and absent where it is not known."""

import cbor2
import msgspec

from brainforge_edge.core.stream import ChannelDetail, ChannelInfo, Dtype, StreamInfo
from brainforge_edge.devices.bfp_description import calibrated


def stream(*channels: ChannelInfo) -> StreamInfo:
    return StreamInfo("dut-mag", "dut", 1000.0, Dtype.I24, channels)


def test_a_channel_without_details_is_written_as_it_always_was() -> None:
    written = msgspec.to_builtins(stream(ChannelInfo("A", "mag", "T", 1e-15)))
    (channel,) = written["channels"]
    assert channel == {"name": "A", "type": "mag", "unit": "T", "scale": 1e-15, "offset": 0.0}


def test_details_come_back_from_every_form_that_is_stored_or_sent() -> None:
    detail = ChannelDetail(
        group_delay_us=3200.0, wavelength_nm=760.0, source="S1", detector="D2", source_m=(0.1, 0, 0)
    )
    info = stream(ChannelInfo("A", detail=detail), ChannelInfo("B"))
    body = cbor2.dumps(msgspec.to_builtins(info), canonical=True)
    assert msgspec.convert(cbor2.loads(body), StreamInfo) == info
    assert msgspec.json.decode(msgspec.json.encode(info), type=StreamInfo) == info
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(info), type=StreamInfo) == info
    assert "calibrated_utc_s" not in msgspec.to_builtins(info)["channels"][0]["detail"]


def test_a_calibration_changes_only_what_it_measured() -> None:
    delayed = ChannelInfo("B", "mag", "T", 2e-15, detail=ChannelDetail(group_delay_us=4.0))
    info = stream(ChannelInfo("A", "mag", "T", 1e-15), delayed, ChannelInfo("C"), ChannelInfo("D"))
    nan = float("nan")
    found = calibrated(
        info, (1e-15, 3e-15, nan, 0.0), calibrated_utc_s=9, told=(1e-15, 2e-15, 1, 1)
    )
    assert found.channels[0] == info.channels[0]
    assert found.channels[2:] == info.channels[2:]
    assert found.channels[1].scale == 3e-15
    assert found.channels[1].detail == ChannelDetail(group_delay_us=4.0, calibrated_utc_s=9)
