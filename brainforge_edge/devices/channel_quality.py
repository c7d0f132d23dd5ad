"""Which channels cannot be trusted: at the rail, lead off, flat. No I/O, no clock; about one look a second.

How a driver uses it: one `ChannelQuality` for each stream of electrodes, made where the stream is
described; after each `read`, `notices += quality.take(blocks)` with the blocks of that stream, and
these are handed out by `notices()` (`base.TellsNews`); `status["channels"]` gets
`{stream_id: quality.counted}`. A device that reports contact itself (impedance) says so on its own.

    quality = ChannelQuality(info, rails=(-RAIL - 1, RAIL))
    notices += quality.take(block for block in blocks if block.stream_id == info.stream_id)

The rule, for each channel and each stretch of about a second of rows:

- `rail`: a tenth of the rows or more lie at an end of the range.
- `lead_off`: the rows swing by more than `lead_off` (in the channel's unit, standard deviation). An
  electrode that floats picks up mains and static far above any EEG. The default is ours, 0.5 mV:
  EEG is some ten microvolts, blinks and muscles some hundred; no publication gives a limit.
- `flat`: the rows do not move at all: a channel that is switched off, or a converter that hangs.

A trouble begins with the first such stretch and ends after two without it, so that one at the limit
does not come and go. The first of these words that applies is the channel's trouble.
Runs in: acquire process, pull thread.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.events import EventType
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices.base import Notice

LEAD_OFF_V = 500e-6
_RAIL_PART = 0.1
_GOOD_STRETCHES = 2  # in a row, until a trouble is over
_NAMED = 16  # channels that a notice names; it always tells how many there are
_WHY = {
    "rail": "at the end of the input's range: electrode off, dry or with too large an offset",
    "lead_off": "swings far more than any EEG: electrode off the skin, or its wire broken",
    "flat": "does not move at all: channel switched off, shorted, or the device hangs",
}
_OVER = "this trouble is over"
_NONE = 0
_WORDS = ("", *_WHY)


class ChannelQuality:
    """One stream of raw integers; `rails`: the lowest and highest count the device can send."""

    def __init__(
        self,
        info: StreamInfo,
        *,
        rails: tuple[int, int],
        lead_off: float = LEAD_OFF_V,
        stretch_s: float = 1.0,
    ) -> None:
        self._info = info
        self._low, self._high = rails
        scale = np.array([abs(channel.scale) for channel in info.channels])
        self._swing = lead_off / scale  # counts
        self._n = max(2, round(info.sfreq * stretch_s))
        self._waiting: list[NDArray[Any]] = []
        self._n_waiting = 0
        self._trouble = np.zeros(info.n_channels, np.int8)
        self._good = np.zeros(info.n_channels, np.int8)  # stretches in a row

    @property
    def bad(self) -> dict[str, str]:
        """Channel → its trouble; empty when all are good."""
        pairs = zip(self._info.ch_names, self._trouble.tolist(), strict=True)
        return {name: _WORDS[trouble] for name, trouble in pairs if trouble}

    @property
    def counted(self) -> dict[str, int]:
        """Trouble → how many channels have it."""
        found = self._trouble[self._trouble > 0].tolist()
        return {_WORDS[trouble]: found.count(trouble) for trouble in sorted(set(found))}

    def take(self, blocks: Iterable[SampleBlock]) -> list[Notice]:
        """What began or ended with these blocks; mostly nothing."""
        notices: list[Notice] = []
        for block in blocks:
            self._waiting.append(block.data)
            self._n_waiting += len(block.data)
            if self._n_waiting >= self._n:
                rows = np.concatenate(self._waiting)
                self._waiting.clear()
                self._n_waiting = 0
                notices += self._compare(self._troubles(rows))
        return notices

    def _troubles(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The trouble of each channel in these rows: int8 (n_channels,)."""
        railed = ((rows <= self._low) | (rows >= self._high)).mean(axis=0) >= _RAIL_PART
        is_flat = rows.min(axis=0) == rows.max(axis=0)
        is_off = rows.std(axis=0, dtype=np.float64) > self._swing
        found: NDArray[Any] = np.select(
            [railed, is_off, is_flat],
            [_WORDS.index("rail"), _WORDS.index("lead_off"), _WORDS.index("flat")],
            _NONE,
        ).astype(np.int8)
        return found

    def _compare(self, found: NDArray[Any]) -> list[Notice]:
        before = self._trouble
        self._good = np.where(found == _NONE, np.minimum(self._good + 1, _GOOD_STRETCHES), 0)
        is_over = (found == _NONE) & (self._good >= _GOOD_STRETCHES)
        now = np.where(found != _NONE, found, np.where(is_over, _NONE, before)).astype(np.int8)
        self._trouble = now
        if (now == before).all():
            return []
        return [
            self._notice(word, change, which)
            for trouble, word in enumerate(_WORDS[1:], start=1)
            for change, which in (
                ("began", (now == trouble) & (before != trouble)),
                ("ended", (before == trouble) & (now != trouble)),
            )
            if which.any()
        ]

    def _notice(self, word: str, change: str, which: NDArray[Any]) -> Notice:
        names = [self._info.channels[at].name for at in np.flatnonzero(which)]
        data = {
            "what": word,
            "change": change,
            "n": str(len(names)),
            "channels": ",".join(names[:_NAMED]),
            "why": _WHY[word] if change == "began" else _OVER,
        }
        return Notice(EventType.QUALITY_ALERT, self._info.stream_id, data)
