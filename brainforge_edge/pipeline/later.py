"""What of a hop is computed after its message, and travels with the next: slow figures and coupling.

Runs in: pipeline worker, a stream's own thread; `slow` and `coupling` are read by the main thread too.
"""

from brainforge_edge.core import wire
from brainforge_edge.pipeline.figures import coupling_figures, slow_window
from brainforge_edge.pipeline.pacing import Level
from brainforge_edge.pipeline.plan import SEGMENTS, Plan
from brainforge_edge.signal.connectivity import Segments
from brainforge_edge.signal.grid import WINDOWS_S
from brainforge_edge.signal.windows import Windows


class Later:
    """Of one stream. `slow`: window → its newest figures; replaced, never changed."""

    def __init__(self, windows: Windows, plan: Plan) -> None:
        self._windows = windows
        self._plan = plan
        self._segments = self._new_segments()
        self._unsent: list[wire.SlowWindow] = []
        self._sent_coupling: wire.CouplingFigures | None = None
        self.slow: dict[int, wire.SlowWindow] = {}
        self.coupling: wire.CouplingFigures | None = None

    def _new_segments(self) -> Segments | None:
        pairs = list(self._plan.coupling)
        return Segments(self._windows, pairs, n_segments=SEGMENTS) if pairs else None

    def forget(self) -> None:
        """Figures of rows before this one are not to be shown."""
        self.slow, self._unsent = {}, []
        self.coupling = None

    def begin_anew(self) -> None:
        """… and nothing of them is to go into later ones."""
        self.forget()
        self._segments = self._new_segments()

    def keep(self, level: Level) -> bool:
        """After each hop; True when it ended a segment."""
        return self._segments is not None and level < Level.NO_COUPLING and self._segments.take()

    def compute(self, level: Level, seq: int, t_last_ns: int) -> None:
        """What is due after this hop, whose newest row is `seq`."""
        if self.keep(level) and self._segments is not None:
            found = self._segments.coupling()
            self.coupling = coupling_figures(found, self._windows, self._plan, t_last_ns)
        if level >= Level.NO_SLOW:
            return
        for window_s in self._slow_now():
            has_octaves = level < Level.NO_OCTAVES
            slow = slow_window(
                self._windows, window_s, has_octaves=has_octaves, seq=seq, t_last_ns=t_last_ns
            )
            self.slow = self.slow | {window_s: slow}
            self._unsent.append(slow)

    def _slow_now(self) -> tuple[int, ...]:
        """Windows whose turn it is after this hop: one at a time, not where coupling is, if there are
        hops enough in a second."""
        update_hz = self._windows.grid.update_hz
        at = self._windows.hops % update_hz
        if update_hz <= 2 * len(WINDOWS_S):
            return WINDOWS_S if at == 0 else ()
        turn = at // 2 if at % 2 else len(WINDOWS_S)
        return WINDOWS_S[turn : turn + 1]

    def unsent(self) -> tuple[list[wire.SlowWindow], wire.CouplingFigures | None]:
        """What was computed since the last call, for the message that is being made."""
        slow, self._unsent = self._unsent, []
        is_new = self.coupling is not self._sent_coupling
        self._sent_coupling = self.coupling
        return slow, self.coupling if is_new else None
