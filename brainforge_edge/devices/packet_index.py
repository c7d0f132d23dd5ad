"""A packet counter of few bits as an absolute number. Pure.

Runs in: acquire process, pull thread.
"""

_LATE = 32  # packets: older ones are not late, but wrong
_BACKLOG = 128  # packets that a stalled link may hand over at once
_JITTER = 8  # packets by which a number may be ahead of the arrivals without being doubted
_TRUST_JUMP, _TRUST_RESTART = 2, 3  # so many doubtful packets that agree with each other are true
_RATE_ERROR = 0.002  # of the device's clock against ours, at worst
_SLACK_NS = 500_000_000  # by which arrivals may be late


class PacketIndex:
    """Counter modulo `modulus`, one step each `period_ns`. Several characteristics may share it.

    The number of rounds is the one that arrival times say; `is_ambiguous` is True when they could
    be wrong by one. A bit that flipped on the way gives a number that fits no time: it is left out.
    """

    def __init__(self, modulus: int, period_ns: float) -> None:
        self.modulus = modulus
        self.is_ambiguous = False
        self.restarts = 0
        self._period_ns = period_ns
        self._backlog = min(_BACKLOG, modulus // 4)
        self._last: int | None = None
        self._arrived_ns = 0
        self._doubt = 0
        self._doubtful = 0

    def place(self, raw: int, arrived_ns: int) -> int | None:
        """The absolute number, at or before the newest one for a late packet; None: not plausible.

        When `restarts` has grown, the device counts anew and this number is its first.
        """
        if self._last is None:
            return self._accept(raw, arrived_ns)
        elapsed = (arrived_ns - self._arrived_ns) / self._period_ns
        step = (raw - self._last) % self.modulus
        delta = step + self.modulus * round((elapsed - step) / self.modulus)
        if -_LATE <= delta <= 0:
            return self._last + delta
        if delta < 0 or delta > elapsed + _JITTER:
            agreeing = self._doubt_of(raw)
            is_jump = 0 < delta <= elapsed + self._backlog
            if agreeing < (_TRUST_JUMP if is_jump else _TRUST_RESTART):
                return None
            if not is_jump:
                self.restarts += 1
                return self._accept(raw, arrived_ns)
        slack = elapsed * _RATE_ERROR + _SLACK_NS / self._period_ns
        self.is_ambiguous = elapsed > self.modulus / 2 and slack > self.modulus / 2
        return self._accept(self._last + delta, arrived_ns)

    def _doubt_of(self, raw: int) -> int:
        """How many doubtful packets in a row agree with each other, this one included."""
        agrees = self._doubt > 0 and 0 <= (raw - self._doubtful) % self.modulus <= _LATE // 8
        self._doubt = self._doubt + 1 if agrees else 1
        self._doubtful = raw
        return self._doubt

    def _accept(self, number: int, arrived_ns: int) -> int:
        self._last, self._arrived_ns, self._doubt = number, arrived_ns, 0
        return number
