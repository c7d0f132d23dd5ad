"""Stretches that a BFP/1 device flags in its frames, as markers for the recording. No I/O.

Runs in: acquire process, pull thread.
"""

from brainforge_edge.core.block import Marker
from brainforge_edge.devices.bfp import FrameFlag

# MNE leaves out what is annotated BAD…
FLAGGED = {int(FrameFlag.ZEROING): "BAD_zeroing", int(FrameFlag.TEST_SIGNAL): "BAD_test_signal"}
MOST_NS = 5_000_000_000  # a longer stretch is told in pieces: a cut link costs at most the last one
FLAGGED_BITS = sum(FLAGGED)


class Spans:
    """Follows the flags of the first stream that is seen; streams of a device carry the same."""

    def __init__(self) -> None:
        self._stream: int | None = None
        self.began: dict[int, tuple[int, int]] = {}  # flag → first and last box time so far
        self._ended: list[Marker] = []

    def see(self, stream: int, flags: int, t_first_ns: int, t_end_ns: int) -> None:
        """Samples with these flags, from the first one's box time to behind the last one's.

        None of them need be told of while neither they have one of `FLAGGED_BITS` nor `began` holds one.
        """
        if self._stream is None:
            self._stream = stream
        if stream != self._stream:
            return
        for flag in FLAGGED:
            began = self.began.get(flag)
            if began and t_first_ns < began[0]:
                self._end(
                    flag
                )  # the clock was set back: a stretch does not last for less than nothing
                began = None
            if flags & flag:
                first = began[0] if began else t_first_ns
                self.began[flag] = (first, t_end_ns)
                if t_end_ns - first >= MOST_NS:
                    self._end(flag)
            elif began:
                self._end(flag)

    def end(self) -> None:
        """The link is lost: what was under way ends with its last sample."""
        for flag in list(self.began):
            self._end(flag)

    def take(self) -> list[Marker]:
        """Stretches that ended since the last call."""
        if not self._ended:
            return self._ended
        ended, self._ended = self._ended, []
        return ended

    def _end(self, flag: int) -> None:
        first, last = self.began.pop(flag)
        self._ended.append(Marker(first, (last - first) / 1e9, FLAGGED[flag]))
