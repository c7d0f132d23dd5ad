"""BFP/1, the wire of our own devices: frames, registers, descriptor (docs/bfp.md).

Pure: bytes in, values out. Used by the drivers of our devices and by their emulators. The frames
of a byte stream are found by the kernel `unpack.BfpScanner`; here they are made and read.
"""

import binascii
import json
import struct
import zlib
from collections.abc import Iterable
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

import msgspec

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.core.stream import ChannelInfo, Dtype
from brainforge_edge.kernels.crc import crc32c

SYNC = b"\xbf\x5a"
VERSION = 1
HEADER = struct.Struct("<2sBBHBBIQH")  # then the CRC-16 of these 22 bytes
HEADER_BYTES = 24
DATA_HEADER = struct.Struct("<QHHBBH")
REQUEST = struct.Struct("<HBBHH")
TIME_REQUEST = struct.Struct("<Q")  # t1, the host's own, sent back as it came
TIME_REPLY = struct.Struct("<QQQ")  # t1, ticks at arrival, ticks at sending
HELLO = struct.Struct("<HIQ")  # WHO_AM_I, descriptor CRC, stream start in ticks (2^64-1: no stream)
EVENT = struct.Struct("<HQ")  # code, sample index; then what belongs to the code, else UTF-8 text
STATE = struct.Struct("<BB")  # state, percent; then one bit per channel: it failed
TESTED = struct.Struct("<I")  # which tests were done; then one bit per channel: it failed
STATUS = struct.Struct("<IhHHHQIBB")
AT_CHANGE = 1  # last byte of the figures of a STATUS that is told for a change, between periods
MAX_PAYLOAD = 16_384
PAGE_BYTES = 1_024
PACKET_BYTES = 1_400  # of a datagram: it fits into an Ethernet frame, also inside a tunnel
NOT_STARTED = 2**64 - 1


class FrameType(IntEnum):
    DATA = 0x01
    STATUS = 0x02
    EVENT = 0x03
    LOG = 0x04
    HELLO = 0x05
    REQ = 0x10
    REP = 0x11
    TIME = 0x12


class FrameFlag(IntFlag):
    FIRST = 0x01
    DROPPED = 0x02
    TEST_SIGNAL = 0x04
    SATURATED = 0x08
    DISCIPLINED = 0x10
    ZEROING = 0x20
    DIGITAL = 0x40


class EventCode(IntEnum):
    STATE = 0x0001  # the start-up machine moved
    SELF_TEST = 0x0002  # what SELF_TEST asked for is done
    SEAM = 0x8001  # emulators: the replayed recording begins anew at this sample


class Register(IntEnum):
    WHO_AM_I = 0
    TIME = 8
    OPERATION = 10
    RESET = 11
    NAME = 12
    UID = 16
    TAG = 17
    HEARTBEAT = 18
    VERSION = 19
    KEEP_RUNNING = 20
    DESC_SIZE = 32
    DESC_CRC = 33
    DESC_PAGE = 34
    STREAM_EN = 40
    FRAME_SAMPLES = 41
    STREAM_START = 42
    TEST_SIGNAL = 48
    SELF_TEST = 49
    OPM_STATE = 64
    CHANNEL_MASK = 65
    LOOP_MODE = 66
    CALIBRATION = 67
    CALIBRATED = 68
    PROTECTED = 69
    LED_POWER = 80
    DETECTOR_GAIN = 81


class OpmState(IntEnum):
    """Of an OPM helmet; what is written to OPM_STATE begins there and goes on to READY."""

    OFF = 0
    RESTART = 1  # heaters, lasers
    LOCKED = 2
    LOOP_SET = 3
    COARSE_ZERO = 4
    FINE_ZERO = 5
    CALIBRATE = 6
    READY = 7
    FAULT = 8


FORCED = 0x80  # or-ed to what is written to OPM_STATE: also while PROTECTED is set
FORCED_TEST = 1 << 31  # the same for SELF_TEST, which has 32 bits
ALL_TESTS = 0x07  # electronics, light or laser, coils


class ChannelStatus(IntFlag):
    """A channel's byte in STATUS frames, and in DATA frames of status mode 2."""

    RAIL = 0x01
    LOOP_LIMIT = 0x02
    LASER = 0x04  # unlocked
    CELL = 0x08  # temperature unlocked
    NOT_ZEROED = 0x10
    STALE = 0x20  # calibration
    DISABLED = 0x40
    LINK = 0x80


class TestSignal(IntEnum):
    """What a device sends instead of what it measures; `bfp_test_signal` says which numbers."""

    __test__ = False  # no test of pytest's

    OFF = 0
    ZEROS = 1
    RAMP = 2
    SQUARE = 3
    PRBS31 = 4


class PayloadType(IntEnum):
    """Harp's bits: size, 0x40 float, 0x80 signed."""

    U8 = 1
    U16 = 2
    U32 = 4
    U64 = 8
    F32 = 0x44

    @property
    def item_bytes(self) -> int:
        return self & 0x0F


class Op(IntEnum):
    READ = 1
    WRITE = 2
    FAILED = 0x80  # or-ed to the operation in a reply


REGISTER_ERRORS = {
    1: "no such register",
    2: "wrong type",
    3: "read only",
    4: "wrong count",
    5: "out of range",
    6: "busy",
    7: "wrong state",
}
WHO_AM_I = {0xBF01: "OPM helmet", 0xBF02: "optical helmet", 0xBF03: "accelerometer hat"}
FORMATS = {0x02: Dtype.I16, 0x03: Dtype.I24, 0x04: Dtype.I32, 0x14: Dtype.F32}


def build_frame(
    frame_type: int,
    payload: bytes,
    *,
    stream: int = 0,
    flags: int = 0,
    seq: int = 0,
    ticks: int = 0,
    boot: int = 0,
) -> bytes:
    """One whole frame with both checks."""
    head = HEADER.pack(
        SYNC, VERSION, frame_type, len(payload), stream, flags, seq & 0xFFFFFFFF, ticks, boot
    )
    head += binascii.crc_hqx(head, 0xFFFF).to_bytes(2, "little")
    body = head + payload
    return body + crc32c(body).to_bytes(4, "little")


class Request(NamedTuple):
    token: int
    op: int
    payload_type: int
    address: int
    n_items: int
    data: bytes

    def pack(self) -> bytes:
        """Payload of a REQ or REP frame."""
        return REQUEST.pack(*self[:5]) + self.data

    @classmethod
    def unpack(cls, payload: bytes) -> "Request | None":
        """None if the payload is too short to be one."""
        if len(payload) < REQUEST.size:
            return None
        token, op, payload_type, address, n_items = REQUEST.unpack_from(payload)
        return cls(token, op, payload_type, address, n_items, payload[REQUEST.size :])


class StreamDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stream as its device describes it. Unknown keys are allowed: newer firmware says more."""

    id: int
    name: str
    sfreq: float
    format: int
    channels: tuple[ChannelInfo, ...]
    trigger: bool = False  # its frames bring digital words (flag b6)


class Descriptor(msgspec.Struct, frozen=True):
    """What a device says about itself: JSON, compressed with zlib, read in pages of 1,024 bytes."""

    kind: str
    clk_hz: float
    streams: tuple[StreamDescription, ...]
    serial_number: str = ""
    firmware: str = ""
    hardware: str = ""
    emulated: bool = False


_descriptor = msgspec.json.Decoder(Descriptor)  # by the thread that imports: see core/stream.py


def samples_per_packet(descriptor: Descriptor) -> int:
    """As many as a frame of the widest stream may have to travel in one packet; at least 1."""
    most = MAX_PAYLOAD
    for stream in descriptor.streams:
        n_channels = len(stream.channels)
        form = FORMATS.get(stream.format)
        row_bytes = n_channels * (form.packed_bytes if form is not None else 4) + 2  # digital word
        head_bytes = HEADER_BYTES + DATA_HEADER.size + n_channels + 4
        most = min(most, max(1, (PACKET_BYTES - head_bytes) // row_bytes))
    return most


def pack_descriptor(descriptor: Descriptor) -> bytes:
    text = json.dumps(msgspec.to_builtins(descriptor), separators=(",", ":"))
    return zlib.compress(text.encode(), 9)


def unpack_descriptor(packed: bytes) -> Descriptor:
    """DeviceError if it is damaged or does not say what is needed."""
    try:
        inflate = zlib.decompressobj()
        text = inflate.decompress(packed, 4 * 1024 * 1024)  # a damaged one must not fill the memory
        return _descriptor.decode(text)
    except (zlib.error, *GARBLED) as error:
        raise DeviceError(
            "bad_descriptor",
            "the device does not describe itself",
            why=f"its descriptor cannot be read ({error})",
            remedy="Switch the device off and on; if this repeats, its firmware does not fit",
            transient=True,
        ) from error


def event_of(payload: bytes) -> tuple[int, int, bytes] | None:
    """(code, sample index, what belongs to the code) of an EVENT payload; None if it is too short."""
    if len(payload) < EVENT.size:
        return None
    code, index = EVENT.unpack_from(payload)
    return code, index, payload[EVENT.size :]


class Status(NamedTuple):
    """A STATUS payload: the device's figures, a byte for each channel, fields in pT of an OPM."""

    figures: dict[str, Any]
    channels: bytes
    fields_pt: tuple[float, ...]
    is_periodic: bool = True


def status_of(payload: bytes, n_channels: int) -> Status | None:
    """None if it is too short; bytes or fields that are not there are empty."""
    if len(payload) < STATUS.size:
        return None
    uptime, temperature, supply, level, high, dropped, rx_errors, state, kind = STATUS.unpack_from(
        payload
    )
    figures = {
        "uptime_s": uptime,
        "temperature_c": temperature / 100,
        "supply_v": supply / 1000,
        "fifo_level": level / 1000,
        "fifo_high_water": high / 1000,
        "dropped_samples": dropped,
        "rx_crc_errors": rx_errors,
        "state": state,
    }
    rest = payload[STATUS.size :]
    if len(rest) < n_channels:
        return Status(figures, b"", (), kind != AT_CHANGE)
    fields = rest[n_channels : 5 * n_channels]
    is_whole = len(fields) == 4 * n_channels
    fields_pt = struct.unpack(f"<{n_channels}f", fields) if is_whole else ()
    return Status(figures, rest[:n_channels], fields_pt, kind != AT_CHANGE)


def bits_of(packed: bytes, n: int) -> list[int]:
    """Which of `n` bits are set, least significant first."""
    return [at for at in range(n) if at // 8 < len(packed) and packed[at // 8] >> at % 8 & 1]


def pack_bits(set_bits: Iterable[int], n: int) -> bytes:
    packed = bytearray((n + 7) // 8)
    for at in set_bits:
        packed[at // 8] |= 1 << at % 8
    return bytes(packed)
