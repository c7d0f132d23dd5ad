"""Byte streams of serial links: BFP/1 frames and its description, Cyton packets."""

import binascii
import json
import struct
import zlib
from contextlib import suppress
from pathlib import Path

from brainforge_edge.core.block import BlockFlag, SampleBlock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import Dtype, StreamInfo
from brainforge_edge.devices.bfp import (
    EVENT,
    HEADER_BYTES,
    HELLO,
    STATE,
    STATUS,
    TIME_REPLY,
    EventCode,
    FrameFlag,
    FrameType,
    OpmState,
    Request,
    build_frame,
    event_of,
    unpack_descriptor,
)
from brainforge_edge.devices.bfp_beside import Residuals, Triggers, residual_info, trigger_info
from brainforge_edge.devices.bfp_clock import Probes
from brainforge_edge.devices.bfp_decoder import BfpDecoder
from brainforge_edge.devices.bfp_description import stream_infos
from brainforge_edge.devices.bfp_health import Health
from brainforge_edge.devices.openbci_decoder import CytonDecoder
from brainforge_edge.emulators.source import cyton_channels
from brainforge_edge.kernels.crc import crc32c
from tests.fuzz.target import Bytes, Target, pieces, plain

CAPTURES = Path(__file__).parents[1] / "drivers" / "captures"
PACKED = (CAPTURES / "helmet5.descriptor").read_bytes()
DESCRIPTOR = unpack_descriptor(PACKED)
HELMET = stream_infos(DESCRIPTOR, "dut")[0]
BOARD = StreamInfo("dut-eeg", "dut", 125.0, Dtype.I24, cyton_channels(16))
_STEPS = (0, 0, 0, 24, 33, 100, 165, 400)  # byte by byte: tests/drivers
_NOW_NS = 5_000_000_000
_SYNC = b"\xbf\x5a"


def check(blocks: list[SampleBlock]) -> None:
    """What every block must be, whatever it was made of."""
    for block in blocks:
        is_word = block.stream_id.endswith("-trig")
        assert block.data.shape[1] == (1 if is_word else HELMET.n_channels)
        assert len(block.data)
        assert 0 <= block.seq < 2**63
        assert -(2**63) <= block.t_first_ns < 2**63
        assert (block.gap is not None) == bool(block.flags & BlockFlag.GAP_BEFORE)


def mended(data: bytes) -> bytes:
    """The same with right checks wherever a frame begins, so that what is in it is looked at."""
    out = bytearray(data)
    at = out.find(_SYNC)
    while 0 <= at <= len(out) - HEADER_BYTES - 4:
        length = int.from_bytes(out[at + 4 : at + 6], "little")
        end = at + HEADER_BYTES + length
        if end + 4 > len(out):  # cut by a mutation: it is as long as what is left
            end = len(out) - 4
            out[at + 4 : at + 6] = (end - at - HEADER_BYTES).to_bytes(2, "little")
        out[at + 2] = 1
        out[at + 22 : at + 24] = binascii.crc_hqx(out[at : at + 22], 0xFFFF).to_bytes(2, "little")
        out[end : end + 4] = crc32c(bytes(out[at:end])).to_bytes(4, "little")
        at = out.find(_SYNC, end + 4)
    return bytes(out)


def run_bfp(data: bytes) -> None:
    source = Bytes(data)
    mode = source.number()
    body = source.rest()
    if mode & 1:
        body = mended(body)
    (stream,) = DESCRIPTOR.streams
    decoder = BfpDecoder(
        {stream.id: (HELMET, stream.format)},
        clk_hz=DESCRIPTOR.clk_hz,
        schema=crc32c(PACKED) & 0xFFFF,
        flags=BlockFlag(0),
    )
    decoder.triggers[stream.id] = Triggers(trigger_info(HELMET))
    decoder.residuals = Residuals(
        residual_info(HELMET, 1000), clk_hz=DESCRIPTOR.clk_hz, flags=BlockFlag(0)
    )
    health = Health({stream.id: HELMET}, has_states=True)
    probes = Probes()
    now = _NOW_NS
    for piece in pieces(body, _STEPS[mode >> 1 & 7]):
        now += 8_000_000
        check(decoder.feed(piece, now))
        for kind, number, boot, ticks, payload in decoder.control():
            Request.unpack(payload)
            if kind == FrameType.STATUS:
                fields_pt = health.take_status(number, payload)
                check(decoder.residual(fields_pt, ticks, boot))
            event = event_of(payload)
            if kind == FrameType.EVENT and event is not None:
                decoder.box_ns(ticks, boot)
                assert len(health.take_test(event[2])) < 1000
                health.take_event(event[0], event[2])
            trip = probes.answer(payload, boot, now) if kind == FrameType.TIME else None
            if trip is not None:
                decoder.probe(trip.ticks, trip.host_ns, trip.rtt_ns, boot=boot)
    decoder.figures()
    decoder.proof(HELMET.stream_id)
    decoder.spans.end()
    assert all(marker.duration_s >= 0 for marker in decoder.spans.take())
    json.dumps(health.status, allow_nan=True)
    health.take()


def bfp_seeds() -> list[bytes]:
    captured = zlib.decompress((CAPTURES / "helmet5.bfp.z").read_bytes())
    frames = captured[:990]  # six of them
    n = HELMET.n_channels
    status = STATUS.pack(9, 3100, 5000, 1, 2, 3, 4, OpmState.READY, 0)
    beside = (
        (FrameType.STATUS, status + bytes([0, 1, 2, 4, 8]) + struct.pack(f"<{n}f", *range(n))),
        (FrameType.EVENT, EVENT.pack(EventCode.STATE, 5) + STATE.pack(OpmState.FINE_ZERO, 40)),
        (FrameType.EVENT, EVENT.pack(EventCode.SEAM, 5) + b"seam"),
        (FrameType.TIME, TIME_REPLY.pack(_NOW_NS, 50_000_000, 50_000_100)),
        (FrameType.REP, Request(1, 1, 2, 0, 1, b"\x01\xbf").pack()),
        (FrameType.HELLO, HELLO.pack(0xBF01, 1, 2)),
        (FrameType.LOG, b"text"),
    )
    control = b"".join(build_frame(kind, payload, boot=0x5A5A) for kind, payload in beside)
    both = frames[:330] + control + frames[330:495]
    modes = (0, 1, 3, 7, 15)
    head = bytearray(frames[:165])
    n_samples = int.from_bytes(head[32:34], "little")
    head[7] |= FrameFlag.DIGITAL
    words = bytes(head[:41]) + bytes(range(2 * n_samples)) + bytes(head[41:])
    words = words[:4] + (len(words) - 28).to_bytes(2, "little") + words[6:]
    bodies = (frames[:495], both, control, words + frames[165:330])
    return [bytes([mode]) + body for mode in modes for body in bodies]


def run_description(data: bytes) -> None:
    source = Bytes(data)
    mode = source.number()
    body = source.rest()
    with suppress(DeviceError):
        descriptor = unpack_descriptor(zlib.compress(body, 0) if mode & 1 else body)
        for info in stream_infos(descriptor, "dut"):
            assert not {"/", "\0"} & set(info.stream_id)
            assert info.sfreq > 0
            assert info.channels


def description_seeds() -> list[bytes]:
    text = zlib.decompress(PACKED)
    optical = text.replace(
        b'"offset":0.0', b'"offset":0.0,"detail":{"wavelength_nm":760.0,"source":"S1"}', 2
    )
    return [b"\0" + PACKED, b"\1" + text, b"\1" + optical, b"\1" + text.replace(b"}", b"", 1)]


def run_cyton(data: bytes) -> None:
    source = Bytes(data)
    mode = source.number()
    decoder = CytonDecoder(BOARD, daisy=bool(mode & 1))
    width = 16 if mode & 1 else 8
    now = _NOW_NS
    for piece in pieces(source.rest(), _STEPS[mode >> 1 & 7]):
        now += (4, 132, 1_100, 40_000)[mode >> 4 & 3] * 1_000_000
        for block in decoder.feed(piece, now):
            assert block.data.shape[1] == width
            assert 0 <= block.seq < 2**63
            assert -(2**63) <= block.t_first_ns < 2**63


def cyton_seeds() -> list[bytes]:
    captured = zlib.decompress((CAPTURES / "cyton16.z").read_bytes())
    packets = [captured[at : at + 33] for at in range(0, 660, 33)]
    plain = b"".join(bytes([0xA0, n]) + p[2:32] + b"\xc0" for n, p in enumerate(packets[:8]))
    holes = b"".join(packets[:4] + packets[7:9] + packets[:6])
    bodies = (captured[:495], plain, holes)
    return [bytes([mode]) + body for mode in (0, 1, 9, 27, 42, 57) for body in bodies]


TARGETS = (
    Target("bfp", bfp_seeds, plain(run_bfp)),
    Target("bfp-description", description_seeds, plain(run_description), 2048),
    Target("cyton", cyton_seeds, plain(run_cyton), 512),
)
