"""Whatever comes over the wire with right checks: errors of ours or nothing, never another exception."""

import json
import struct
import zlib
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from brainforge_edge.core.block import BlockFlag
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.devices.base import FrameSink
from brainforge_edge.devices.bfp import (
    EventCode,
    FrameType,
    Op,
    PayloadType,
    Request,
    bits_of,
    build_frame,
    event_of,
    pack_bits,
    unpack_descriptor,
)
from brainforge_edge.devices.bfp_clock import Probes
from brainforge_edge.devices.bfp_decoder import BfpDecoder
from brainforge_edge.devices.bfp_description import stream_infos
from brainforge_edge.devices.bfp_health import Health
from brainforge_edge.devices.bfp_registers import Registers

INFO = StreamInfo(
    "dut-mag", "dut", 1000.0, Dtype.I24, tuple(ChannelInfo(f"C{n}") for n in range(3))
)
U64 = st.integers(0, 2**64 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
CHANNEL = st.fixed_dictionaries(
    {"name": st.text(max_size=4)},
    optional={"scale": st.floats(), "offset": st.floats(), "unit": JSON, "detail": JSON},
)
STREAM = st.fixed_dictionaries(
    {
        "id": st.integers(-2, 300),
        "name": st.sampled_from(["mag", "../../etc", "", "a b", "x" * 80, "flow", "\0"]),
        "sfreq": st.floats() | st.integers(),
        "format": st.sampled_from([2, 3, 4, 0x14, 99, -1]),
        "channels": st.lists(CHANNEL, max_size=3),
    }
)
DESCRIPTOR = st.fixed_dictionaries(
    {
        "kind": st.text(max_size=4),
        "clk_hz": st.floats() | st.sampled_from([1e7, 0, -1]),
        "streams": st.lists(STREAM, max_size=3) | JSON,
    }
)


@given(st.binary(max_size=200) | DESCRIPTOR.map(lambda d: zlib.compress(json.dumps(d).encode())))
def test_a_descriptor_is_used_whole_or_refused(packed: bytes) -> None:
    with suppress(DeviceError):
        for info in stream_infos(unpack_descriptor(packed), "dut"):
            assert "/" not in info.stream_id
            assert "\0" not in info.stream_id
            assert info.sfreq > 0
            assert info.channels


def test_a_descriptor_that_swells_does_not_fill_the_memory() -> None:
    packed = zlib.compress(bytes(200_000_000), 9)
    with suppress(DeviceError):
        unpack_descriptor(packed)
        raise AssertionError


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 1, 1, 2, 3, 5, 0x11, 0x12, 0x77]),
            st.integers(0, 3),
            st.integers(0, 255),
            st.integers(0, 2**32 - 1),
            U64,
            st.integers(0, 3),
            U64,
            st.integers(0, 3),
            st.binary(max_size=40),
        ),
        max_size=12,
    )
)
def test_frames_with_right_checks_and_wrong_contents_are_counted(
    frames: list[tuple[int, int, int, int, int, int, int, int, bytes]],
) -> None:
    decoder = BfpDecoder({1: (INFO, 3)}, clk_hz=1e7, schema=7, flags=BlockFlag(0))
    health = Health({1: INFO}, has_states=True)
    probes = Probes()
    total = 0
    for kind, stream, flags, seq, ticks, boot, index, n, junk in frames:
        payload = junk
        if kind == FrameType.DATA:
            digital = bytes(2 * n) if flags & 0x40 else b""
            payload = struct.pack("<QHHBBH", index, n, 3, 3, 0, 7) + digital + bytes(9 * n)
        data = build_frame(
            kind, payload, stream=stream, flags=flags, seq=seq, ticks=ticks, boot=boot
        )
        for block in decoder.feed(data, 5_000_000_000):
            assert len(block.data)
            assert 0 <= block.seq < 2**63
            assert -(2**63) <= block.t_first_ns < 2**63
            total += len(block.data)
    for kind, stream, boot, _, payload in decoder.control():
        if kind == FrameType.STATUS:
            health.take_status(stream, payload)
        event = event_of(payload)
        if event is not None:
            health.take_event(event[0], event[2])
            health.take_event(EventCode.STATE, event[2])
        trip = probes.answer(payload, boot, 5_000_000_000)
        if trip is not None:
            decoder.probe(trip.ticks, trip.host_ns, trip.rtt_ns, boot=boot)
    decoder.figures()
    decoder.spans.end()
    assert all(marker.duration_s >= 0 for marker in decoder.spans.take())
    assert decoder.counters.frames == len(frames)
    assert total <= sum(frame[7] for frame in frames)


class Nowhere:
    """A link that keeps what is written; what comes back is made up."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def read(self, timeout_s: float) -> bytes:
        raise NotImplementedError

    @property
    def dropped_packets(self) -> int:
        return 0

    def fill(self, sink: FrameSink, timeout_s: float) -> int:
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        raise NotImplementedError


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**16 - 1), st.binary(max_size=8))
def test_an_answer_with_any_contents_is_a_value_or_a_refusal(
    op: int, kind: int, count: int, data: bytes
) -> None:
    link = Nowhere()

    def pump(_: float) -> None:
        sent = Request.unpack(link.written[-1][24:-4])
        assert sent is not None
        registers.answer(b"x")
        reply = Request(sent.token, op, kind, sent.address, count, data)
        registers.answer(reply.pack())

    registers = Registers(link, clock=SystemClock(), token=1, pump=pump)
    with suppress(DeviceError):
        assert registers.read(0, PayloadType.U16) == data
        assert not op & Op.FAILED


@given(st.sets(st.integers(0, 99)), st.integers(0, 100))
def test_bits_are_unpacked_as_they_were_packed(bits: set[int], n: int) -> None:
    inside = {bit for bit in bits if bit < n}
    assert bits_of(pack_bits(inside, n), n) == sorted(inside)
