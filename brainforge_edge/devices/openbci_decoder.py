"""Cyton packets into rows: counter unwrapped, Daisy halves paired. No I/O, no clock of its own.

A packet has no checksum and its counter only 8 bits. The board's milliseconds say how often the
counter went round, and a packet whose counter and milliseconds contradict each other is left out.
Runs in: acquire process, pull thread.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import Marker, SampleBlock
from brainforge_edge.core.clockfit import ClockFit
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.openbci_motion import Motion, motion_for
from brainforge_edge.devices.openbci_rows import Track
from brainforge_edge.kernels.unpack import CytonScanner

PACKET_HZ = 250.0
PACKET_NS = 4_000_000
WARM_UP = 25  # packets, 0.1 s: the least late of them anchors the clock, not the first
RAIL = 0x7FFFFF
_PACKET_MS = 1000.0 / PACKET_HZ
_WRAP = 256
_STAMPED = frozenset({0xC3, 0xC4, 0xC5, 0xC6})
_RAW_AUX = frozenset({0xC1, 0xC5, 0xC6})  # what carries markers
_RATE_ERROR = 0.002  # board milliseconds against its sample clock
_SLACK = 4.0  # packets: rounding of milliseconds and the board's own queue
_ARRIVAL_SLACK = 60.0  # the same for arrival times, when the board sends no milliseconds
_BACKLOG = 10 * PACKET_HZ  # milliseconds that run further ahead of arrivals are those of a restart
_TRUST = 3  # this many contradicting packets in a row that agree with each other are believed


class Packet(NamedTuple):
    """One that counts: its absolute number, eight samples, end byte, six auxiliary bytes."""

    number: int
    half: NDArray[Any]
    end: int
    aux: bytes


class CytonDecoder:
    """One board. `daisy` pairs even (Daisy, channels 9–16) with the following odd packet (1–8).

    Samples are int32 counts (n, 8) or (n, 16). `sfreq` is 250 Hz, with Daisy 125 Hz; the index of a
    sample is the absolute packet number, halved with Daisy. A lost half is a lost sample. `motion`
    describes the accelerometer's stream, if it is wanted; `markers` what raw auxiliary bytes say;
    `bias_ns` by how much even the quickest packet is late.
    """

    def __init__(
        self,
        info: StreamInfo,
        *,
        daisy: bool,
        counters: LinkCounters | None = None,
        motion: StreamInfo | None = None,
        has_markers: bool = False,
        bias_ns: int = 0,
    ) -> None:
        self.counters = counters or LinkCounters()
        self.fit = ClockFit()
        self.markers: list[Marker] = []  # whoever takes them empties it
        self.late_ns = 0  # of the newest arrival, against the fit
        self._per_row = 2 if daisy else 1
        self._track = Track(info, self.counters, n_packets=self._per_row, rail=RAIL)
        self._motion: Motion | None = None if motion is None else motion_for(motion)
        self._has_markers = has_markers
        self._bias_ns = bias_ns
        self._marked = 0
        self._scanner = CytonScanner()
        self._packet = -1  # absolute number of the last accepted packet
        self._ms: int | None = None
        self._arrived_ns = 0
        self._doubt = 0
        self._doubtful: tuple[int, int] | None = None
        self._plus_minus = 0  # packets, since the last epoch of the clock
        self._is_warming = True
        self._anchor: tuple[int, int] | None = None  # least late (box − device time, device time)
        self._waiting: list[Packet] = []
        self._half: Packet | None = None

    def feed(self, data: bytes, arrived_ns: int) -> list[SampleBlock]:
        """Blocks of the packets that `data` completes, oldest first; of the first ones 0.1 s late."""
        n = self._scanner.feed(data)
        self.counters.bytes_read += len(data)
        self.counters.frames = self._scanner.packets
        self.counters.resyncs = self._scanner.resyncs
        self.counters.skipped_bytes = self._scanner.skipped_bytes
        if not n:
            return []
        samples = np.empty((n, 8), dtype=np.int32)
        rest = np.empty((n, 8), dtype=np.uint8)
        self._scanner.take(samples, rest)
        blocks: list[SampleBlock] = []
        for half, meta in zip(samples, rest.tolist(), strict=True):
            ms = int.from_bytes(bytes(meta[4:8]), "big") if meta[1] in _STAMPED else None
            if self._admit(meta[0], ms, arrived_ns, blocks):
                self._waiting.append(Packet(self._packet, half, meta[1], bytes(meta[2:])))
        self._observe(arrived_ns)
        if not self._is_warming:
            blocks += self._emit()
        return blocks

    def restart(self) -> list[SampleBlock]:
        """The board will count from anew, because it was told so; what was held back until now."""
        blocks = self._emit()
        self._begin_epoch()
        self._track.restart()
        if self._motion is not None:
            self._motion.restart()
        self._half = None
        self._packet, self._ms = -1, None
        return blocks

    def time_ns(self, packet: int) -> int:
        """Box clock of a packet's instant."""
        return self.fit.to_box(packet * PACKET_NS) - self._bias_ns

    def _observe(self, arrived_ns: int) -> None:
        """The newest packet tells the clock by how much it can be late at most."""
        if not self._waiting:
            return
        device_ns = self._packet * PACKET_NS
        if not self._is_warming:
            self.fit.observe(device_ns, arrived_ns)
            self.late_ns = arrived_ns - self.fit.to_box(device_ns)
            return
        pair = (arrived_ns - device_ns, device_ns)
        self._anchor = pair if self._anchor is None else min(self._anchor, pair)
        if len(self._waiting) >= WARM_UP:
            self._settle()

    def _settle(self) -> None:
        if self._is_warming and self._anchor is not None:
            offset, device_ns = self._anchor
            self.fit.seed(device_ns, device_ns + offset)
            self.fit.observe(device_ns, device_ns + offset)
        self._is_warming = False

    def _begin_epoch(self) -> None:
        self._is_warming, self._anchor = True, None

    def _admit(
        self, number: int, ms: int | None, arrived_ns: int, blocks: list[SampleBlock]
    ) -> bool:
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
                self.counters.restarts += 1
                blocks += self.restart()
                self._accept(number, ms, arrived_ns)
                return True
        elif elapsed < _WRAP - _ARRIVAL_SLACK:
            wraps = 0  # bursts and stalls of the link are no loss
        missing = step + wraps * _WRAP - 1
        if missing:
            if slack > _WRAP / 2:
                # The index may be wrong by whole wraps: not one clock any more.
                blocks += self._emit()
                self._begin_epoch()
                self._plus_minus += _WRAP * round(slack / _WRAP + 0.5)
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

    def _emit(self) -> list[SampleBlock]:
        """What waits, as blocks of consecutive rows."""
        packets, self._waiting = self._waiting, []
        if not packets:
            return []
        self._settle()
        if self._plus_minus:
            self._track.doubt(self._plus_minus)
            if self._motion is not None:
                self._motion.doubt(self._plus_minus)
            self._plus_minus = 0
        if self.fit.take_step():
            self._track.step()
            if self._motion is not None:
                self._motion.track.step()
        is_settled = self.fit.is_settled
        if self._has_markers:
            self._hear(packets)
        rows = [pair for packet in packets if (pair := self._pair(packet)) is not None]
        blocks = self._track.blocks(rows, self.time_ns, is_settled=is_settled)
        if self._motion is not None:
            triples = self._motion.take(packets)
            blocks += self._motion.track.blocks(triples, self.time_ns, is_settled=is_settled)
        return blocks

    def _hear(self, packets: list[Packet]) -> None:
        """A marker stands in the two first bytes, for one packet or until the next one."""
        for packet in packets:
            value = int.from_bytes(packet.aux[:2], "big") if packet.end in _RAW_AUX else 0
            if value and value != self._marked:
                self.markers.append(Marker(self.time_ns(packet.number), 0.0, str(value)))
            self._marked = value

    def _pair(self, packet: Packet) -> tuple[int, int, NDArray[Any]] | None:
        """(index, packet of its instant, row) that this packet completes, if it does."""
        if self._per_row == 1:
            return packet.number, packet.number, packet.half
        if packet.number % 2 == 0:
            if self._half is not None:
                self.counters.broken_pairs += 1
            self._half = packet
            return None
        daisy, self._half = self._half, None
        if daisy is None or daisy.number != packet.number - 1:
            self.counters.broken_pairs += 1 if daisy is None else 2
            return None
        row: NDArray[Any] = np.concatenate((packet.half, daisy.half))
        return packet.number // 2, packet.number, row
