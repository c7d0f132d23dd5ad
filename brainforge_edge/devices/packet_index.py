"""A packet counter of few bits as an absolute number. Pure.

A packet can be late, never early. Of all packets the least late one tells which number would arrive
on time now; a packet has the highest number that is not beyond it. So a link that stalls for nearly
a round of the counter and then hands everything over has lost nothing, and one that stays out for
rounds has lost them. The packet before alone could not tell: it may itself have been late.
Runs in: acquire process, pull thread.
"""

from brainforge_edge.core.clockfit import MOST_RATE

_LATE = 32  # packets: older ones are not late, but wrong
_BACKLOG = 128  # packets that a stalled link may hand over at once
_JITTER, _JITTER_NS = 8, 50_000_000  # packets, or so long, may one be early without being doubted
_TRUST_JUMP, _TRUST_RESTART = 2, 3  # so many doubtful packets that agree with each other are true
_RATE_ERROR = 0.002  # of the device's clock against ours, at worst
_LATEST_NS = 2_000_000_000  # by which a packet may be late


class PacketIndex:
    """Counter modulo `modulus`, one step each `period_ns`. Several characteristics may share it.

    `is_ambiguous` is True when the round could be another one: the packet would be late by a round
    more, and still by less than two seconds. A bit that flipped on the way gives a number that fits
    no time: it is left out.
    """

    def __init__(self, modulus: int, period_ns: float) -> None:
        self.modulus = modulus
        self.is_ambiguous = False
        self.restarts = 0
        self._period_ns = period_ns
        self._jitter = min(modulus // 8, max(_JITTER, round(_JITTER_NS / period_ns)))
        self._backlog = min(_BACKLOG, modulus // 4)
        self._last: int | None = None
        self._on_time = (0, 0)  # the least late packet of late: number, arrival
        self._doubt = 0
        self._doubtful = 0

    def place(self, raw: int, arrived_ns: int) -> int | None:
        """The absolute number, at or before the newest one for a late packet; None: not plausible.

        When `restarts` has grown, the device counts anew and this number is its first.
        """
        last = self._last
        if last is None:
            return self._begin(raw, arrived_ns)
        least_late, since_ns = self._on_time
        elapsed = (arrived_ns - since_ns) / self._period_ns
        slack = elapsed * _RATE_ERROR
        ahead = min(self._jitter + slack, self.modulus / 2)
        most = max(last + self._jitter, int(least_late + elapsed + ahead))
        number = most - (most - raw) % self.modulus
        if last - _LATE <= number <= last:
            return number
        if number < last:
            agreeing = self._doubt_of(raw)
            is_jump = number + self.modulus <= most + self._backlog
            if agreeing < (_TRUST_JUMP if is_jump else _TRUST_RESTART):
                return None
            if not is_jump:
                self.restarts += 1
                return self._begin(raw, arrived_ns)
            number += self.modulus
        oldest = least_late + elapsed - slack - _LATEST_NS / self._period_ns
        self.is_ambiguous = number - self.modulus > max(last, oldest)
        if number >= least_late + elapsed * (1 - MOST_RATE):
            self._on_time = (number, arrived_ns)
        self._last, self._doubt = number, 0
        return number

    def _doubt_of(self, raw: int) -> int:
        """How many doubtful packets in a row agree with each other, this one included."""
        agrees = self._doubt > 0 and 0 <= (raw - self._doubtful) % self.modulus <= _LATE // 8
        self._doubt = self._doubt + 1 if agrees else 1
        self._doubtful = raw
        return self._doubt

    def _begin(self, number: int, arrived_ns: int) -> int:
        self._last, self._on_time, self._doubt = number, (number, arrived_ns), 0
        self.is_ambiguous = False
        return number
