"""A packet counter of few bits as an absolute number. Pure.

Runs in: acquire process, pull thread.
"""

_LATE = 32  # packets: older ones are not late, but wrong
_BACKLOG = 128  # packets that a stalled link may hand over at once
_TRUST = 3  # this many contradicting packets in a row that agree with each other are believed
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
        if delta < 0 or delta > elapsed + self._backlog:
            if not self._believe(raw):
                return None
            self.restarts += 1
            return self._accept(raw, arrived_ns)
        slack = elapsed * _RATE_ERROR + _SLACK_NS / self._period_ns
        self.is_ambiguous = elapsed > self.modulus / 2 and slack > self.modulus / 2
        return self._accept(self._last + delta, arrived_ns)

    def _believe(self, raw: int) -> bool:
        goes_on = self._doubt > 0 and 0 <= (raw - self._doubtful) % self.modulus <= _TRUST
        self._doubt = self._doubt + 1 if goes_on else 1
        self._doubtful = raw
        return self._doubt >= _TRUST

    def _accept(self, number: int, arrived_ns: int) -> int:
        self._last, self._arrived_ns, self._doubt = number, arrived_ns, 0
        return number
