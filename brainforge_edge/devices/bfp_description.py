"""What a BFP/1 device says of itself, checked, as our own words. Pure.

A descriptor comes over a wire: names end in file names and numbers in divisions, so nothing in it
is taken unseen.
"""

import math

import msgspec

from brainforge_edge.core.errors import BrainforgeError, DeviceError
from brainforge_edge.core.ids import checked_name
from brainforge_edge.core.stream import ChannelDetail, ChannelInfo, StreamInfo
from brainforge_edge.devices.bfp import FORMATS, Descriptor, StreamDescription

MOST_STREAMS = 64
MOST_CHANNELS = 1_024
MOST_HZ = 100_000.0
_CLK_HZ = (1e3, 1e10)
_NAME_LENGTH = 64


def stream_infos(descriptor: Descriptor, device: str) -> tuple[StreamInfo, ...]:
    """One for each stream, in the device's order; DeviceError `bad_descriptor`."""
    least, most = _CLK_HZ
    if not least <= descriptor.clk_hz <= most:
        raise _bad(device, f"its clock runs at {descriptor.clk_hz:g} Hz")
    if not 0 < len(descriptor.streams) <= MOST_STREAMS:
        raise _bad(device, f"it has {len(descriptor.streams)} streams")
    numbers = {stream.id for stream in descriptor.streams}
    names = {stream.name for stream in descriptor.streams}
    if not len(numbers) == len(names) == len(descriptor.streams):
        raise _bad(device, "two of its streams have the same number or name")
    return tuple(_stream_info(stream, device) for stream in descriptor.streams)


def _stream_info(stream: StreamDescription, device: str) -> StreamInfo:
    dtype = FORMATS.get(stream.format)
    n_channels = len(stream.channels)
    shown = "".join(c if c.isprintable() else " " for c in stream.name)[:_NAME_LENGTH]
    if (
        dtype is None
        or not 0 < n_channels <= MOST_CHANNELS
        or not 0 < stream.sfreq <= MOST_HZ
        or not 0 < stream.id <= 255
    ):
        raise _bad(
            device,
            f"stream {shown!r}, number {stream.id}: format 0x{stream.format:02X},"
            f" {n_channels} channels at {stream.sfreq:g} Hz",
        )
    stream_id = f"{device}-{stream.name}"
    try:
        checked_name(stream_id, "the stream")
    except BrainforgeError as error:
        raise _bad(device, f"{shown!r} cannot be the name of a stream") from error
    for channel in stream.channels:
        if not _is_usable(channel):
            raise _bad(
                device, f"a channel of stream {shown!r} has no name or scale that can be used"
            )
    return StreamInfo(
        stream_id=stream_id,
        device=device,
        sfreq=stream.sfreq,
        dtype=dtype,
        channels=stream.channels,
    )


def _is_usable(channel: ChannelInfo) -> bool:
    texts = (channel.name, channel.type, channel.unit)
    return (
        all(len(text) <= _NAME_LENGTH and text.isprintable() for text in texts)
        and bool(channel.name)
        and math.isfinite(channel.scale)
        and channel.scale != 0
        and math.isfinite(channel.offset)
    )


def calibrated(
    info: StreamInfo, scales: tuple[float, ...], *, calibrated_utc_s: int, told: tuple[float, ...]
) -> StreamInfo:
    """`info` with measured scales; `told` are the descriptor's own as the device would tell them.

    What is zero, not finite, or the descriptor's own scale leaves the channel as it is.
    """
    channels = []
    for channel, scale, own in zip(info.channels, scales, told, strict=True):
        if not math.isfinite(scale) or not scale or scale == own:
            channels.append(channel)
            continue
        known = channel.detail
        detail = msgspec.structs.replace(
            ChannelDetail() if known is msgspec.UNSET else known, calibrated_utc_s=calibrated_utc_s
        )
        channels.append(msgspec.structs.replace(channel, scale=scale, detail=detail))
    return msgspec.structs.replace(info, channels=tuple(channels))


def _bad(device: str, why: str) -> DeviceError:
    return DeviceError(
        "bad_descriptor",
        f"{device} describes a stream that cannot be decoded",
        why=why,
        remedy="Update this software if the device's firmware is newer, else that firmware",
    )
