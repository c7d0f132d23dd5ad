"""Cyton packets into rows: counter unwrapped, Daisy halves paired. No I/O, no clock of its own.

A packet has no checksum and its counter only 8 bits. The board's milliseconds say how often the
counter went round, and a packet whose counter and milliseconds contradict each other is left out.
Runs in: acquire process, pull thread.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause, SampleBlock
from brainforge_edge.core.clockfit import ClockFit
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.kernels.unpack import CytonScanner

PACKET_HZ = 250.0
_PACKET_MS = 1000.0 / PACKET_HZ
_WRAP = 256
_STAMPED = frozenset({0xC3, 0xC4, 0xC5, 0xC6})
_RATE_ERROR = 0.002  # board milliseconds against its sample clock
_SLACK = 4.0  # packets: rounding of milliseconds and the board's own queue
_ARRIVAL_SLACK = 60.0  # the same for arrival times, when the board sends no milliseconds
_BACKLOG = 10 * PACKET_HZ  # milliseconds that run further ahead of arrivals are those of a restart
_TRUST = 3  # this many contradicting packets in a row that agree with each other are believed


class CytonDecoder:
    """One board. `daisy` pairs even (Daisy, channels 9–16) with the following odd packet (1–8).

    Samples are int32 counts (n, 8) or (n, 16). `sfreq` is 250 Hz, with Daisy 125 Hz; the index of a
    sample is the absolute packet number, halved with Daisy. A lost half is a lost sample.
    """

    def __init__(
        self,
        info: StreamInfo,
        *,
        daisy: bool,
        counters: LinkCounters | None = None,
    ) -> None:
        self.counters = counters or LinkCounters()
        self.fit = ClockFit()
        self._info = info
        self._per_row = 2 if daisy else 1
        self._period_ns = 1e9 / (PACKET_HZ / self._per_row)
        self._scanner = CytonScanner()
        self._incarnation = -1
        self._is_new = True
        self._packet = -1  # absolute number of the last accepted packet
        self._ms: int | None = None
        self._arrived_ns = 0
        self._doubt = 0
        self._doubtful: tuple[int, int] | None = None
        self._plus_minus = 0  # packets, since the last row
        self._by_clock = False
        self._half: NDArray[Any] | None = None
        self._half_packet = -1
        self._next_row = 0
        self._t_next_ns = 0

    def feed(self, data: bytes, arrived_ns: int) -> list[SampleBlock]:
        """Blocks of the packets that `data` completes, oldest first."""
        n = self._scanner.feed(data)
        self.counters.bytes_read += len(data)
        self.counters.frames = self._scanner.packets
        self.counters.resyncs = self._scanner.resyncs
        if not n:
            self._count_skipped()
            return []
        samples = np.empty((n, 8), dtype=np.int32)
        rest = np.empty((n, 8), dtype=np.uint8)
        self._scanner.take(samples, rest)
        blocks: list[SampleBlock] = []
        run: list[NDArray[Any]] = []
        first = 0
        for half, meta in zip(samples, rest.tolist(), strict=True):
            ms = int.from_bytes(bytes(meta[4:8]), "big") if meta[1] in _STAMPED else None
            if not self._admit(meta[0], ms, arrived_ns):
                continue
            row = self._pair(half)
            if row is None:
                continue
            index = self._packet // self._per_row
            if run and (self._is_new or index != first + len(run)):
                blocks.append(self._block(first, run, arrived_ns))
                run = []
            if not run:
                first = index
                if self._is_new:
                    blocks.append(self._first_block(index, row, arrived_ns))
                    continue
            run.append(row)
        if run:
            blocks.append(self._block(first, run, arrived_ns))
        self._count_skipped()
        return blocks

    def _count_skipped(self) -> None:
        self.counters.skipped_bytes = self._scanner.skipped_bytes

    def _admit(self, number: int, ms: int | None, arrived_ns: int) -> bool:
        """Follow the counter; False for a packet that cannot be true."""
        if self._packet < 0:
            self._accept(number, ms, arrived_ns)
            return True
        step = (number - self._packet) % _WRAP or _WRAP
        elapsed, slack = self._elapsed(ms, arrived_ns)
        wraps = max(0, round((elapsed - step) / _WRAP))
        if ms is not None and self._ms is not None:
            by_arrival = (arrived_ns - self._arrived_ns) / 1e6 / _PACKET_MS
            is_false = (
                abs(elapsed - step - wraps * _WRAP) > slack or elapsed > by_arrival + _BACKLOG
            )
            if is_false and not self._believe(number, ms):
                self.counters.implausible += 1
                return False
            if self._doubt >= _TRUST:
                self._restart(number, ms, arrived_ns)
                return True
        elif elapsed < _WRAP - _ARRIVAL_SLACK:
            wraps = 0  # bursts and stalls of the link are no loss
        missing = step + wraps * _WRAP - 1
        if missing:
            if slack > _WRAP / 2:
                self._plus_minus += _WRAP * round(slack / _WRAP + 0.5)
                self._by_clock = True
            self.counters.lost_frames += missing
        self._accept(self._packet + missing + 1, ms, arrived_ns)
        return True

    def _elapsed(self, ms: int | None, arrived_ns: int) -> tuple[float, float]:
        """(packets since the last one by the best clock there is, how far that may be wrong)."""
        if ms is not None and self._ms is not None:
            passed = ((ms - self._ms) & 0xFFFFFFFF) / _PACKET_MS
            return passed, _SLACK + passed * _RATE_ERROR
        passed = (arrived_ns - self._arrived_ns) / 1e6 / _PACKET_MS
        return passed, _ARRIVAL_SLACK + passed * _RATE_ERROR

    def _believe(self, number: int, ms: int) -> bool:
        """A contradiction that goes on consistently is the truth: the board has restarted."""
        last = self._doubtful
        goes_on = last is not None and 0 < (number - last[0]) % _WRAP <= _SLACK
        in_time = last is not None and 0 < (ms - last[1]) & 0xFFFFFFFF <= _SLACK * _PACKET_MS * 2
        self._doubt = self._doubt + 1 if goes_on and in_time else 1
        self._doubtful = (number, ms)
        return self._doubt >= _TRUST

    def _accept(self, packet: int, ms: int | None, arrived_ns: int) -> None:
        self._packet, self._ms, self._arrived_ns = packet, ms, arrived_ns
        self._doubt, self._doubtful = 0, None

    def _restart(self, number: int, ms: int, arrived_ns: int) -> None:
        self.counters.restarts += 1
        self._is_new = True
        self._half = None
        self._accept(number, ms, arrived_ns)

    def _pair(self, half: NDArray[Any]) -> NDArray[Any] | None:
        """The row that this packet completes, if it does."""
        if self._per_row == 1:
            return half
        if self._packet % 2 == 0:
            if self._half is not None:
                self.counters.broken_pairs += 1
            self._half, self._half_packet = half, self._packet
            return None
        daisy, self._half = self._half, None
        if daisy is None or self._half_packet != self._packet - 1:
            self.counters.broken_pairs += 1 if daisy is None else 2
            return None
        row: NDArray[Any] = np.concatenate((half, daisy))
        return row

    def _first_block(self, index: int, row: NDArray[Any], arrived_ns: int) -> SampleBlock:
        """First row of an incarnation."""
        had = self._incarnation >= 0
        t_old = self._t_next_ns
        self._incarnation += 1
        self._is_new = False
        self._next_row = index
        self._plus_minus, self._by_clock = 0, False
        self.fit.restart()
        block = self._block(index, [row], arrived_ns)
        flags = block.flags | BlockFlag.FIRST
        gap = None
        if had:
            missing = max(0, round((block.t_first_ns - t_old) / self._period_ns))
            plus_minus = 1 + round(_ARRIVAL_SLACK / self._per_row)
            self.counters.lost_samples += missing
            gap = Gap(missing, plus_minus, GapBasis.CLOCK, GapCause.RESTART)
            flags |= BlockFlag.GAP_BEFORE | BlockFlag.CLOCK_STEP
        return SampleBlock(
            block.stream_id,
            block.incarnation,
            block.seq,
            block.t_first_ns,
            block.data,
            flags,
            gap,
        )

    def _block(self, first: int, run: list[NDArray[Any]], arrived_ns: int) -> SampleBlock:
        """Consecutive rows from `first` on, with the gap before them."""
        flags = BlockFlag(0)
        gap: Gap | None = None
        missing = first - self._next_row
        if missing:
            plus_minus = -(-self._plus_minus // self._per_row)
            basis = GapBasis.CLOCK if self._by_clock else GapBasis.UNWRAPPED
            gap = Gap(missing, plus_minus, basis, GapCause.LINK)
            flags |= BlockFlag.GAP_BEFORE
            self.counters.lost_samples += missing
            if plus_minus:
                self.fit.restart()  # the index may be wrong by whole wraps: not one clock any more
                flags |= BlockFlag.CLOCK_STEP
        self._plus_minus, self._by_clock = 0, False
        last = first + len(run) - 1
        self.fit.observe(round(last * self._period_ns), arrived_ns)
        t_first = self.fit.to_box(round(first * self._period_ns))
        if self.fit.take_step():
            flags |= BlockFlag.CLOCK_STEP
        if not self.fit.is_settled:
            flags |= BlockFlag.ESTIMATED_TIME
        self._next_row = last + 1
        self._t_next_ns = t_first + round(len(run) * self._period_ns)
        data = np.stack(run)
        if np.any(np.abs(data) >= 0x7FFFFF):
            flags |= BlockFlag.SATURATED
        return SampleBlock(
            self._info.stream_id, self._incarnation, first, t_first, data, flags, gap
        )
