"""BFP/1 bytes into blocks: exact gaps, restarts, the device's clock. No I/O, no clock of its own.

Runs in: acquire process, pull thread.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import BLOCK_FLAGS, BlockFlag, Gap, GapBasis, GapCause, SampleBlock
from brainforge_edge.core.clockfit import ClockFit
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.bfp import FrameFlag, FrameType
from brainforge_edge.devices.bfp_beside import Residuals, Triggers
from brainforge_edge.devices.bfp_spans import FLAGGED_BITS, Spans
from brainforge_edge.kernels.unpack import BfpScanner

# What arrival times leave open at both ends of a gap that only clocks can size.
ARRIVAL_NS = 20_000_000
_DATA = int(FrameType.DATA)
_DIGITAL = int(FrameFlag.DIGITAL)
_DROPPED = int(FrameFlag.DROPPED)  # plain ints: an enumeration's `&` costs microseconds a frame
_SATURATED = int(FrameFlag.SATURATED)
_TEST = int(FrameFlag.TEST_SIGNAL)
_FIRST = int(BlockFlag.FIRST)
_STEP = int(BlockFlag.CLOCK_STEP)
_GAP = int(BlockFlag.GAP_BEFORE)
_LEVEL = (0, int(BlockFlag.SATURATED))  # by whether a frame says so
_TIME = (int(BlockFlag.ESTIMATED_TIME), 0)  # by whether the clock is settled
_MOST_INDEX = 2**62  # beyond it nothing is a sample's index or a time
_HOLES = 64  # gaps that are remembered, to tell a late frame from a repeated one

Control = tuple[int, int, int, int, bytes]  # type, stream, boot id, ticks, payload


@dataclass(slots=True)
class _Stream:
    info: StreamInfo
    wire_format: int
    period_ns: float
    memory: np.dtype[Any]
    fit: ClockFit = field(default_factory=ClockFit)
    boot: int = -1
    incarnation: int = -1
    start_ticks: int | None = None  # of sample 0, if the device said so or it was seen
    next_index: int = 0
    next_frame: int = 0
    last_ticks: int = 0
    t_next_ns: int = 0
    holes: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_HOLES))


class BfpDecoder:
    """Streams of one device. `streams` maps the id on the wire to (StreamInfo, format on the wire).

    `schema` is the descriptor's hash (low 16 bits); frames that name another are counted and left
    out, and `needs_descriptor` is set. Frames of other types are handed out by `control`.
    """

    def __init__(
        self,
        streams: dict[int, tuple[StreamInfo, int]],
        *,
        clk_hz: float,
        schema: int,
        flags: BlockFlag,
    ) -> None:
        self._counters = LinkCounters()
        self.needs_descriptor = False
        self._tick_ns = 1e9 / clk_hz
        self._schema = schema
        self._flags = int(flags)
        self.scanner = BfpScanner()
        self.spans = Spans()
        self.on_test: Callable[[int, int, NDArray[Any]], None] | None = None  # stream, index, rows
        self.triggers: dict[int, Triggers] = {}  # by stream
        self.residuals: Residuals | None = None  # of the first stream
        self.has_control = False  # frames wait in `control`
        self._control: list[Control] = []
        self._streams = {
            number: _Stream(info, wire_format, 1e9 / info.sfreq, np.dtype(info.dtype.memory))
            for number, (info, wire_format) in streams.items()
        }

    def device_ns(self, ticks: int) -> int:
        """Device time in ns since its boot."""
        return round(ticks * self._tick_ns)

    def seed(self, stream: int, *, boot: int, start_ticks: int, ticks: int, host_ns: int) -> None:
        """What the device said at open: its boot, when sample 0 was, and one round trip."""
        state = self._streams[stream]
        state.boot, state.start_ticks = boot, start_ticks
        state.fit.seed(self.device_ns(ticks), host_ns)

    def proof(self, stream_id: str) -> str:
        """boot id and start of the sample count in ticks; "" while the start is unknown."""
        if self.residuals is not None and stream_id == self.residuals.info.stream_id:
            return self.residuals.proof
        state = self._state(stream_id)
        if state.start_ticks is None:
            return ""
        return f"boot:{state.boot:04x}:start:{state.start_ticks}"

    def probe(self, ticks: int, host_ns: int, rtt_ns: int, *, boot: int) -> None:
        """A round trip to the device, for the clock of each stream of that boot."""
        for state in self._streams.values():
            if state.boot == boot:
                state.fit.probe(self.device_ns(ticks), host_ns, rtt_ns)

    @property
    def counters(self) -> LinkCounters:
        """As they stand now: what the scanner counts is put in when it is asked for, not with each frame."""
        counters, scanner = self._counters, self.scanner
        counters.frames = scanner.frames
        counters.skipped_bytes = scanner.skipped_bytes
        counters.resyncs = scanner.resyncs
        counters.bad_header_crc = scanner.bad_headers
        counters.bad_frame_crc = scanner.bad_crcs
        return counters

    @property
    def infos(self) -> dict[int, StreamInfo]:
        """Number on the wire → stream."""
        return {number: state.info for number, state in self._streams.items()}

    def figures(self) -> dict[str, int]:
        """How the labels of the first stream stand against the quickest round trip, µs."""
        for state in self._streams.values():
            quickest = state.fit.quickest_ns
            if quickest is not None:
                return {
                    "bias_us": round(state.fit.bias_ns / 1000),
                    "bias_uncertainty_us": quickest // 2000,
                }
        return {}

    def fit(self, stream_id: str) -> ClockFit:
        return self._state(stream_id).fit

    def _state(self, stream_id: str) -> _Stream:
        """Of a stream, or of the one that it stands beside."""
        for number, state in self._streams.items():
            beside = self.triggers.get(number)
            if stream_id in {state.info.stream_id, beside.info.stream_id if beside else ""}:
                return state
        return next(iter(self._streams.values()))

    def box_ns(self, ticks: int, boot: int) -> int | None:
        """Box time of device time; None without a clock for it."""
        state = next(iter(self._streams.values()), None)
        if state is None or boot != state.boot or ticks * self._tick_ns > _MOST_INDEX:
            return None
        return state.fit.to_box(self.device_ns(ticks))

    def residual(self, fields_pt: tuple[float, ...], ticks: int, boot: int) -> list[SampleBlock]:
        """The row of a periodic STATUS frame, if residual fields are a stream here."""
        state = next(iter(self._streams.values()), None)
        if self.residuals is None or state is None or len(fields_pt) != state.info.n_channels:
            return []
        if boot != state.boot or ticks * self._tick_ns > _MOST_INDEX:
            return []  # no clock that this time could be told by
        row = self.residuals.row(fields_pt, ticks=ticks, boot=boot, fit=state.fit)
        return [] if row is None else [row]

    def control(self) -> list[Control]:
        """Frames other than DATA since the last call."""
        frames, self._control, self.has_control = self._control, [], False
        return frames

    def feed(self, data: bytes, arrived_ns: int) -> list[SampleBlock]:
        """Blocks of the frames that `data` completes, oldest first."""
        return self.found(self.scanner.feed(data), len(data), arrived_ns)

    def found(
        self, items: list[tuple[Any, ...]], n_bytes: int, arrived_ns: int
    ) -> list[SampleBlock]:
        """Blocks of what `scanner` found last in `n_bytes` more bytes, oldest first."""
        blocks: list[SampleBlock] = []
        for number, item in enumerate(items):
            if item[0] == _DATA:
                block = self._data(number, item, arrived_ns)
                if block is not None:
                    blocks.append(block)
                    if item[2] & _DIGITAL and item[1] in self.triggers:
                        words = np.empty(len(block.data), np.uint16)
                        self.scanner.digital(number, words)
                        blocks.append(self.triggers[item[1]].beside(block, words))
            else:
                payload = self.scanner.payload(number)
                self.has_control = True
                self._control.append((item[0], item[1], item[6], item[5], payload))
        self._counters.bytes_read += n_bytes
        return blocks

    def _data(self, number: int, item: tuple[Any, ...], arrived_ns: int) -> SampleBlock | None:
        (_, stream, flags, seq, n_frames, ticks, boot, index, n, n_channels, form, _, schema) = item
        state = self._streams.get(stream)
        if (
            state is None
            or schema != self._schema
            or n_channels != state.info.n_channels
            or form != state.wire_format
            or not n
        ):
            self._counters.wrong_schema += n_frames
            self.needs_descriptor = True
            return None
        if index > _MOST_INDEX or ticks * self._tick_ns > _MOST_INDEX:
            self._counters.implausible += n_frames
            return None
        if flags & _DROPPED:
            self._counters.device_dropped += 1
        block_flags = self._flags
        gap: Gap | None = None
        # The count fell while the device's clock went on; an old frame that comes again fails this.
        has_fallen = index < state.next_index and ticks > state.last_ticks
        if state.incarnation < 0 or boot != state.boot or has_fallen:
            is_new = state.incarnation >= 0
            self._restart(state, boot=boot, index=index, ticks=ticks, keep_fit=not is_new)
            block_flags |= _FIRST
        else:
            is_new = False
            if index < state.next_index:
                self._came_again(state, index, n, n_frames)
                return None
            if index > state.next_index:
                missing = index - state.next_index
                cause = GapCause.DEVICE if flags & _DROPPED else GapCause.LINK
                gap = Gap(missing, 0, GapBasis.DEVICE_INDEX, cause)
                self._counters.lost_samples += missing
                state.holes.append((state.next_index, index))
            self._counters.lost_frames += (seq - state.next_frame) & 0xFFFFFFFF
        # A message cannot leave before its last sample: that one is compared with the arrival.
        first_ns, fit = self.device_ns(ticks), state.fit
        fit.observe(first_ns + round((n - 1) * state.period_ns), arrived_ns)
        t_first = fit.to_box(first_ns)
        if fit.take_step() or is_new:
            block_flags |= _STEP
        if is_new:
            gap = self._restart_gap(state, t_first)
        if gap is not None:
            block_flags |= _GAP
        block_flags |= _LEVEL[bool(flags & _SATURATED)] | _TIME[fit.is_settled]
        rows = np.empty((n, n_channels), state.memory)
        self.scanner.rows(number, rows)
        if flags & _TEST and self.on_test is not None:
            self.on_test(stream, index, rows)
        state.next_index = index + n
        state.next_frame = (seq + n_frames) & 0xFFFFFFFF
        state.last_ticks = ticks
        state.t_next_ns = t_first + round(n * state.period_ns)
        if flags & FLAGGED_BITS or self.spans.began:
            self.spans.see(stream, flags, t_first, state.t_next_ns)
        return SampleBlock(
            state.info.stream_id,
            state.incarnation,
            index,
            t_first,
            rows,
            BLOCK_FLAGS[block_flags],
            gap,
        )

    def _came_again(self, state: _Stream, index: int, n: int, n_frames: int) -> None:
        """Datagrams overtake each other, or come twice: what is late lies in a gap that was named."""
        for at, (first, end) in enumerate(state.holes):
            if first <= index < end:
                del state.holes[at]
                state.holes.extend(
                    hole for hole in ((first, index), (index + n, end)) if hole[0] < hole[1]
                )
                self._counters.late_frames += n_frames
                return
        self._counters.repeated_frames += n_frames

    def _restart(
        self, state: _Stream, *, boot: int, index: int, ticks: int, keep_fit: bool
    ) -> None:
        if not keep_fit:
            self._counters.restarts += 1
        if not keep_fit or boot != state.boot:
            state.start_ticks = None
            state.fit.restart()
            state.holes.clear()
        if state.start_ticks is None and index == 0:
            state.start_ticks = ticks
        state.boot = boot
        state.incarnation += 1

    def _restart_gap(self, state: _Stream, t_first: int) -> Gap:
        missing = max(0, round((t_first - state.t_next_ns) / state.period_ns))
        self._counters.lost_samples += missing
        plus_minus = 1 + round(2 * ARRIVAL_NS / state.period_ns)
        return Gap(missing, plus_minus, GapBasis.CLOCK, GapCause.RESTART)
