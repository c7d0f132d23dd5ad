"""What a stream is: channels, rate, sample type. Imports no numpy, so that the supervisor may use it."""

import math
from enum import IntEnum

import msgspec

SOUND_HZ = (1e-6, 1e6)


class Dtype(IntEnum):
    """Sample types as they lie in journals and chunks (little-endian, packed); `I24` is int32 in memory."""

    I16 = 1
    I24 = 2
    I32 = 3
    F32 = 4
    F64 = 5

    @property
    def packed_bytes(self) -> int:
        return (2, 3, 4, 4, 8)[self - 1]

    @property
    def memory(self) -> str:
        """numpy's name of the type in memory."""
        return ("<i2", "<i4", "<i4", "<f4", "<f8")[self - 1]

    @property
    def is_integer(self) -> bool:
        return self <= Dtype.I32


class Codec(IntEnum):
    """How the body of a chunk is coded."""

    PACKED = 0  # plain samples, packed little-endian rows
    LOSSLESS = 1
    DESCRIPTOR = 100  # CBOR map: StreamInfo, node, anchors …
    MARKERS = 101  # CBOR array of [t_ns, duration_s, description]


MARKERS_ID = "markers"  # of the one stream that has no rows
RAW = "raw"  # type of channels that hold a device's own bytes, not samples

Place = tuple[float, float, float]  # metres, in the device's own frame


class FrontEnd(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a channel's amplifier was set; `scale` of the channel holds its gain already."""

    gain: float = 1.0
    is_on: bool = True
    input: str = "normal"  # or what is measured instead: shorted, test …
    reference: str = ""  # "SRB1", "SRB2"; "" between the channel's own two electrodes
    has_bias: bool = False  # whether it takes part in the driven bias electrode


class ChannelDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What some sensors have beside name and scale. Absent keys are not known, or do not apply."""

    group_delay_us: float = 0.0  # by which the sensor's output is later than what it measures
    calibrated_utc_s: int = 0  # when `scale` was measured
    wavelength_nm: float = 0.0  # fNIRS
    source: str = ""  # fNIRS optodes
    detector: str = ""
    source_m: Place | None = None
    detector_m: Place | None = None
    position_m: Place | None = None  # of a sensor
    normal: Place | None = None  # unit vector along its sensitive axis
    front_end: FrontEnd | None = None  # EEG amplifiers


class ChannelInfo(msgspec.Struct, frozen=True):
    """One column: physical value = raw * scale + offset, in `unit` (SI)."""

    name: str
    type: str = "misc"  # MNE spelling: eeg, mag, grad, misc, stim, …
    unit: str = "V"
    scale: float = 1.0
    offset: float = 0.0
    detail: ChannelDetail | msgspec.UnsetType = msgspec.UNSET  # not written where there is none


class StreamInfo(msgspec.Struct, frozen=True):
    """Samples of one rate and type from a device."""

    stream_id: str  # [a-z0-9-], unique at a node
    device: str
    sfreq: float  # Hz, nominal
    dtype: Dtype
    channels: tuple[ChannelInfo, ...]

    @property
    def is_sound(self) -> bool:
        """Whether it can be counted with; one that was read from a disk or a wire may say anything."""
        low, high = SOUND_HZ
        return low <= self.sfreq <= high if self.channels else math.isfinite(self.sfreq)

    @property
    def n_channels(self) -> int:
        return len(self.channels)

    @property
    def ch_names(self) -> list[str]:
        return [channel.name for channel in self.channels]

    @property
    def is_raw(self) -> bool:
        """Whether its rows are bytes of a device: kept and delivered, but nothing to look at."""
        return any(channel.type == RAW for channel in self.channels)

    @property
    def row_bytes(self) -> int:
        """Bytes of one packed row in journals and chunks."""
        return self.n_channels * self.dtype.packed_bytes


# msgspec (0.22) learns a type at its first use, and two threads that do so at once crash the
# process (SIGSEGV): the main thread with a ring that was left, another with a journal. Hence here.
msgspec.msgpack.Decoder(StreamInfo)


class DeviceInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Identity as every driver reports it (Harp's core registers)."""

    who_am_i: str
    serial_number: str = ""
    hardware_version: str = ""
    firmware_version: str = ""
    operation_mode: str = ""
    address: str = ""  # Bluetooth; it proves who answers where there is one


# Chunks are cut on a fixed grid of seq, so that a recovered recording is cut like an unbroken one.
CHUNK_MAX_BYTES = 768 * 1024
CHUNK_MIN_S = 1.0
CHUNK_MAX_S = 8.0


def chunk_samples(info: StreamInfo) -> int:
    """Grid step in samples: 1 s at 1 kHz and above, up to 8 s for slow streams, at most 768 KiB packed."""
    seconds = min(CHUNK_MAX_S, max(CHUNK_MIN_S, 1000.0 / info.sfreq))
    by_time = max(1, round(info.sfreq * seconds))
    return max(1, min(by_time, CHUNK_MAX_BYTES // info.row_bytes))
