"""One stream's features: rows ≤ `written` → cleaning → windows → a message for each hop.

What a hop's message needs is computed at once; quality, what is slow, and coupling are computed after
it was sent, and travel with the next. Nothing here writes to the ring, and the record is not touched.
Runs in: pipeline worker, a thread of its own for each stream, beside the one that shows its rows.
"""

import errno
import socket
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core import wire
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.pipeline.cleaning import Cleaning
from brainforge_edge.pipeline.figures import window_figures
from brainforge_edge.pipeline.later import Later
from brainforge_edge.pipeline.motionsource import MotionSource
from brainforge_edge.pipeline.outlook import Outlook
from brainforge_edge.pipeline.pacing import Level, Load, Pacing, every, shed
from brainforge_edge.pipeline.plan import Plan
from brainforge_edge.rings.layout import Run
from brainforge_edge.rings.reader import RingReader, Rows
from brainforge_edge.signal.design import Cascade, designed
from brainforge_edge.signal.windows import Trouble, Windows

WAIT_S = 0.1
PIECE_S = 0.025
STALE_S = 0.25
MOST_ROWS = 2048
_AGES = 600
_NO_ROOM = {errno.EMSGSIZE, errno.ENOBUFS}  # of the kernel, for so large a datagram


class FeatureStream:
    """Thread body: call `run`. Figures for the heartbeat in `stats()`, the newest message in `newest()`."""

    def __init__(
        self,
        ring: Path,
        plan: Plan,
        *,
        pacing: Pacing,
        out: socket.socket | None,
        clock: Clock,
        motion_ring: Callable[[], Path | None] = lambda: None,
        design: Callable[[Cascade], NDArray[np.float64]] = designed,
    ) -> None:
        """`out`: None, and nothing is sent. `motion_ring`: of the stream that `plan` names."""
        self._reader = RingReader(ring)
        self._plan = plan
        self._pacing = pacing
        self._out = out
        self._clock = clock
        self._motion_ring = motion_ring
        self._design = design
        self._windows = Windows(plan.grid, len(plan.channels), has_wavelets=plan.wavelets)
        self._later = Later(self._windows, plan)
        self._outlook = Outlook(plan)
        self._cleaning: Cleaning | None = None
        self._period_ns = 1e9 / plan.info.sfreq
        self._incarnation = 0
        self._expected: tuple[int, int] | None = None  # incarnation, seq of the next row
        self._asked: deque[int] = deque()  # times from which feedback is to begin anew
        self._from_ns: int | None = None  # the one that its rows have not come to yet
        self._newest: wire.Features | None = None
        self._ages_ms: deque[float] = deque(maxlen=_AGES)
        self._worked_ns = 0
        self._told = 0  # the hop of the last message
        self.sent = 0
        self.dropped = 0
        self.gaps = 0
        self.stop = threading.Event()
        self.crashed: BaseException | None = None
        self.refused: BrainforgeError | None = None  # it cannot be computed as configured

    @property
    def is_replaced(self) -> bool:
        """The ring's name belongs to another ring now."""
        return self._reader.is_replaced

    def load(self) -> Load:
        waiting = max(0, self._reader.written - self._reader.position)
        behind_s = waiting / self._plan.info.sfreq if self._cleaning else 0.0
        return Load(self._worked_ns, behind_s)

    def stats(self) -> dict[str, Any]:
        """`age_*_ms`: from the time of a hop's last row to its message."""
        ages = sorted(self._ages_ms)
        newest = self._newest
        return {
            "sent": self.sent,
            "dropped": self.dropped,
            "gaps": self.gaps,
            "overruns": self._reader.overruns,
            "replaced": self._cleaning.n_replaced if self._cleaning else 0,
            "rate_hz": None if newest is None else newest.rate_hz,
            "age_p50_ms": round(ages[len(ages) // 2], 2) if ages else None,
            "age_p99_ms": round(ages[int(len(ages) * 0.99)], 2) if ages else None,
        }

    def newest(self) -> wire.Features | None:
        """The newest figures of all kinds; None while there are none. From any thread."""
        newest = self._newest
        if newest is None or self._asked or self._from_ns is not None:
            return None
        quality, quality_ns = self._outlook.judged
        whole = msgspec.structs.replace(
            newest,
            quality=quality,
            quality_ns=quality_ns,
            slow=list(self._later.slow.values()),
            coupling=self._later.coupling,
            eyes=self._outlook.eyes,
        )
        return msgspec.msgpack.decode(msgspec.msgpack.encode(whole), type=wire.Features)

    def feedback_from(self, t_ns: int) -> None:
        """All windows begin anew with the first row of that time or a later one; nothing is shown until
        then. From any thread."""
        self._asked.append(t_ns)

    def run(self) -> None:
        try:
            self.begin()
            while not self.stop.is_set():
                wanted = self._wanted()
                if self._reader.wait(WAIT_S, wanted) >= wanted:
                    began_ns = self._clock.monotonic_ns()
                    self.step()
                    self._worked_ns += self._clock.monotonic_ns() - began_ns
        except BrainforgeError as error:
            self.refused = error
        except Exception as error:  # noqa: BLE001  outermost loop: main ends the process
            self.crashed = error

    def _wanted(self) -> int:
        """Rows that are worth a look: those that a hop lacks, and no more than a part of one at once.
        Rows that complete nothing lie as well in the ring."""
        piece = max(1, round(PIECE_S * self._plan.info.sfreq))
        if self._plan.resample_hz:
            return piece
        return min(piece, self._plan.grid.hop - self._windows.pending)

    def begin(self) -> None:
        """Design the filters, and follow from here on. ConfigError: they cannot be made."""
        plan = self._plan
        motion = None
        if plan.motion:
            motion = MotionSource(
                self._motion_ring, plan.chain.l_freq, design=self._design, clock=self._clock
            )
        self._cleaning = Cleaning(plan, design=self._design, motion=motion)
        self._reader.position = self._reader.written  # what came while filters were designed

    def step(self, most: int = MOST_ROWS) -> int:
        """Take what is there, at most so many rows; messages of the hops that they complete. Rows taken."""
        rows = self._reader.read(most)
        if rows is None:
            return 0
        self._take(rows)
        return len(rows.data)

    def _take(self, rows: Rows) -> None:
        for run in rows.runs:
            start = run.row - rows.first_row
            data = rows.data[start : start + run.n, self._plan.picks]
            self._follow(run)
            self._push(data * self._plan.scale + self._plan.offset, run.seq, run.t_first_ns)
            self._expected = (run.incarnation, run.seq + run.n)

    def _follow(self, run: Run) -> None:
        """Whether these rows are the next ones; if not, windows begin anew."""
        expected, self._incarnation = self._expected, run.incarnation
        if expected is None or (expected == (run.incarnation, run.seq) and run.gap is None):
            return
        assert self._cleaning is not None
        is_same = expected[0] == run.incarnation and run.seq >= expected[1]
        self._cleaning.gap(run.seq - expected[1] if is_same else None)
        self._outlook.clear()
        self._windows.gap()
        self._later.forget()
        self.gaps += 1

    def _push(self, rows: NDArray[np.float64], seq: int, t_first_ns: int) -> None:
        while self._asked:
            self._from_ns = self._asked.popleft()
        if self._from_ns is not None:
            # Rows before it are cleaned like all others, so that the filter is warm; none is shown.
            early = int(np.ceil((self._from_ns - t_first_ns) / self._period_ns))
            early = min(len(rows), max(0, early))
            self._clean(rows[:early], seq, t_first_ns)
            if early == len(rows):
                return
            self._begin_feedback()
            rows, seq = rows[early:], seq + early
            t_first_ns += round(early * self._period_ns)
        self._clean(rows, seq, t_first_ns)

    def _begin_feedback(self) -> None:
        self._windows.gap(Trouble.START)
        self._later.begin_anew()
        self._newest = None
        self._from_ns = None

    def _clean(self, rows: NDArray[np.float64], seq: int, t_first_ns: int) -> None:
        if not len(rows):
            return
        assert self._cleaning is not None
        times = (t_first_ns + np.arange(len(rows)) * self._period_ns).astype(np.float64)
        clean = self._cleaning.push(rows, times)
        self._outlook.take(rows, clean.rows, round(times[-1]))
        for part in self._windows.cut(clean.rows):
            troubles = None if clean.troubles is None else clean.troubles[part]
            if self._windows.push(clean.rows[part], troubles):
                at = int(clean.at[part.stop - 1])
                self._hop(seq + at, round(times[at]), n_newer=len(rows) - 1 - at)

    def _is_overtaken(self, n_newer: int) -> bool:
        """Whether rows are there that will bring fresher figures: then these are left out, so that the
        stream comes up with its rows; yet never so many that none is shown for half a second."""
        n_newer += max(0, self._reader.written - self._reader.position)
        is_late = n_newer > STALE_S * self._plan.info.sfreq
        return is_late and self._windows.hops - self._told < self._windows.grid.update_hz / 2

    def _hop(self, seq: int, t_last_ns: int, n_newer: int) -> None:
        level = self._pacing.level
        if self._is_overtaken(n_newer):
            self._later.keep(level)
            return
        hops, update_hz = self._windows.hops, self._windows.grid.update_hz
        if hops % every(level, update_hz) == 0 and self._from_ns is None:
            self._told = hops
            self._message(seq, t_last_ns, level)
        self._later.compute(level, seq, t_last_ns)
        self._outlook.look()

    def _message(self, seq: int, t_last_ns: int, level: Level) -> None:
        plan, cleaning = self._plan, self._cleaning
        assert cleaning is not None
        figures = window_figures(self._windows, plan)
        now = self._clock.monotonic_ns()
        age_ms = (now - t_last_ns) / 1e6
        quality, quality_ns = self._outlook.judged
        slow, coupling = self._later.unsent()
        features = wire.Features(
            stream_id=plan.info.stream_id,
            incarnation=self._incarnation,
            seq=seq,
            t_last_ns=t_last_ns,
            computed_ns=now,
            age_ms=round(age_ms, 2),
            sfreq=plan.sfreq,
            unit=plan.unit,
            channels=list(plan.channels),
            rate_hz=self._windows.grid.update_hz / every(level, self._windows.grid.update_hz),
            shed=shed(level),
            quality=quality,
            quality_ns=quality_ns,
            eyes_removed=cleaning.eyes_removed,
            motion_removed=cleaning.motion_removed,
            windows=figures,
            pairs=[(plan.channels[a], plan.channels[b]) for a, b in plan.asymmetry],
            slow=slow,
            coupling=coupling,
            eyes=self._outlook.eyes,
        )
        self._ages_ms.append(age_ms)
        if self._out is not None:
            self._send(self._out, features)
        self._newest = features

    def _send(self, out: socket.socket, features: wire.Features) -> None:
        name = features.stream_id.encode()
        head = bytes([len(name)]) + name + wire.FEATURES
        try:
            out.send(head + msgspec.msgpack.encode(features), socket.MSG_DONTWAIT)
            self.sent += 1
        except (BlockingIOError, ConnectionError):
            self.dropped += 1  # latest wins: the next message is fresher
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self.dropped += 1
