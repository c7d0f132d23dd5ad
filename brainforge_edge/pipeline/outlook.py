"""Once a second: whether each channel can be trusted, and what the eyes do.

Runs in: pipeline worker, a stream's own thread, between two messages.
"""

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core import wire
from brainforge_edge.pipeline.plan import Plan
from brainforge_edge.signal import eyes
from brainforge_edge.signal.quality import judge

Floats = NDArray[np.float64]

_FEWEST = 32  # channels that are judged at once: fewer cost as much


class _Second:
    """Consecutive rows until there is a second of them, with the time of the last."""

    def __init__(self, sfreq: int, n: int) -> None:
        self._rows = np.empty((sfreq, n))
        self._n = 0
        self._is_full = False
        self._t_last_ns = 0
        self._period_ns = 1e9 / sfreq

    def take(self, rows: NDArray[np.floating], t_last_ns: int) -> list[tuple[Floats, int]]:
        """The seconds that these rows completed; each is valid until the next call."""
        found = []
        start = 0
        while start < len(rows):
            n = min(len(rows) - start, len(self._rows) - self._n)
            self._rows[self._n : self._n + n] = rows[start : start + n]
            self._n, start = self._n + n, start + n
            if self._n == len(self._rows):
                self._n = 0
                late = round((len(rows) - start) * self._period_ns)
                found.append((self._rows.copy(), t_last_ns - late))
        return found

    def clear(self) -> None:
        self._n = 0


class Outlook:
    """Of one stream: `judged`, the quality of its channels by the raw rows they rest on, `eyes` by the clean ones."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._raw = None
        if plan.limits is not None and float(plan.info.sfreq).is_integer():
            self._raw = _Second(int(plan.info.sfreq), len(plan.names))
        self._clean = _Second(plan.sfreq, len(plan.eog)) if plan.eog and plan.unit == "V" else None
        self._raw_second: tuple[Floats, int] | None = None
        self._words: list[str] = []  # of the second that is being judged, so far
        self._part = max(_FEWEST, -(-len(plan.names) // max(1, plan.grid.update_hz - 2)))
        self._clean_second: tuple[Floats, int] | None = None
        self._places = [plan.channels[i] for i in plan.eog]
        # Words, and when the last row of that second was taken; one object, for two threads.
        self.judged: tuple[list[str], int | None] = ([""] * len(plan.channels), None)
        self.eyes: wire.EyeFlags | None = None

    def clear(self) -> None:
        """Rows are missing here: what was judged before says nothing of what follows."""
        for second in (self._raw, self._clean):
            if second is not None:
                second.clear()
        self._raw_second = self._clean_second = None
        self._words = []
        self.judged = ([""] * len(self._plan.channels), None)
        self.eyes = None

    def take(self, raw: Floats, clean: NDArray[np.float32], t_last_ns: int) -> None:
        """Keep rows; cheap."""
        if self._raw is not None and (found := self._raw.take(raw, t_last_ns)):
            self._raw_second = found[-1]
            self._words = []
        if self._clean is not None and (
            found := self._clean.take(clean[:, list(self._plan.eog)], t_last_ns)
        ):
            self._clean_second = found[-1]

    def look(self) -> None:
        """Judge the newest second that is complete, if it was not yet: after each hop a part of its
        channels, so that no hop has to wait for all of them."""
        if self._raw_second is not None:
            self._judge(*self._raw_second)
        if self._clean_second is not None:
            rows, t_last_ns = self._clean_second
            self._clean_second = None
            seen = eyes.seen(rows, len(rows))
            self.eyes = wire.EyeFlags(
                t_last_ns=t_last_ns,
                blink=[n for n, is_so in zip(self._places, seen.is_blink, strict=True) if is_so],
                movement=[
                    n for n, is_so in zip(self._places, seen.is_movement, strict=True) if is_so
                ],
            )

    def _judge(self, rows: Floats, t_last_ns: int) -> None:
        plan = self._plan
        assert plan.limits is not None
        part = slice(len(self._words), len(self._words) + self._part)
        rails = None if plan.rails is None else (plan.rails[0][part], plan.rails[1][part])
        found = judge(
            rows[:, part], len(rows), mains_hz=plan.mains_hz, limits=plan.limits, rails=rails
        )
        self._words += [word.value for word in found.quality]
        if len(self._words) == len(plan.names):
            self.judged = (self._of_channels(self._words), t_last_ns)
            self._raw_second = None
            self._words = []

    def _of_channels(self, words: list[str]) -> list[str]:
        """Of a channel that rests on several, the first that is not good."""
        if self._plan.sources is None:
            return words
        return [
            next((words[i] for i in each.tolist() if words[i] != "good"), "good")
            for each in self._plan.sources
        ]
