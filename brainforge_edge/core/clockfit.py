"""Device clock → box clock: a line under the cloud of arrival times. Pure, cheap, no numpy.

A message can only be late, never early: of all arrivals in 2 s the least late one counts. A line
through the last 60 s of these, fitted thrice without the residuals above the 70th percentile,
stays within hundredths of a millisecond where arrivals jitter by tens. Even the quickest message is
late by a constant: where a device answers round trips, the quickest of the last 60 s tells by how
much, give or take half of its duration. What is published never steps and never runs backwards: it
is steered by at most 500 ppm, until the first line is reached by up to half of the time that passes,
since the first message of all may have been very late; blocks are flagged ESTIMATED_TIME so long.
Rows that waited in the device's memory come seconds or minutes late, and would bend the line: no
clock is further off its nominal rate than `MOST_RATE`, so that what comes less late proves them to be
late. A label that lies seconds behind the arrival of what it labels is proven wrong: then the fit
begins anew there, and says so (`take_step`).
Runs in: acquire process, pull thread. Measured against the table of `docs/clock.md`.
"""

from collections import deque
from typing import NamedTuple

BIN_NS = 2_000_000_000
WINDOW_BINS = 30
REFIT_NS = 1_000_000_000
SLEW = 500e-6
FIRST_SLEW = 0.5  # until settled for the first time
MOST_RATE = 0.02  # no crystal, and no nominal rate of a device without one, is further off
STEP_NS = 2_000_000_000  # what is wrong by less is steered
KEPT = 0.7
PASSES = 3
_PROBES_NS = 60_000_000_000  # how long a round trip counts
_MIN_BINS = 3  # below, the nominal rate is better than any slope of arrivals


class ClockState(NamedTuple):
    """How a stream was put on the box's clock, as it lies in each chunk: a later fit can start from it."""

    offset_ns: int  # box − device, as published
    drift_ppm: float  # by how much the device's clock is slower than the box's
    residual_ns: float  # SD of the arrivals that the line rests on


class ClockFit:
    """Follows one device clock of nominal rate 1 (device time in ns since any start).

    Feed pairs with `observe`, ask with `to_box`. A device without a clock uses its sample index
    times the nominal period: the fit then finds the true rate. `restart` begins a new epoch.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget everything: the device's clock began anew."""
        self._bins: deque[tuple[int, float]] = deque(maxlen=WINDOW_BINS)
        self._bin = -1
        self._bin_device = 0
        self._bin_offset = 0
        self._has_anchor = False
        self._origin = 0  # host − device at the start: keeps the floats small
        self._at = 0  # published: offset = _level + (_slope + _steer) * (device − _at)
        self._level = 0.0
        self._slope = 0.0
        self._has_line = False
        self.is_settled = False  # a line is fitted, and what is published lies within 1 ms of it
        self._has_settled = False  # once: from then on SLEW holds
        self._has_stepped = False
        self._steer = 0.0  # ends a second after _at, so that a long silence cannot stretch it
        self._fit_level = 0.0  # of the fitted line at _at
        self._fit_slope = 0.0
        self.residual_ns = 0.0
        self.bias_ns = 0.0  # of the line, taken off what is published
        self._probes: deque[tuple[int, int, float]] = deque()  # round trip, device time, offset
        self._next_refit = 0

    @property
    def drift_ppm(self) -> float:
        """By how much the device's clock is slower (positive) than the box's."""
        return self._fit_slope * 1e6

    @property
    def offset_ns(self) -> int:
        """Box − device at the last refit, as published."""
        return self._origin + round(self._level)

    @property
    def state(self) -> ClockState | None:
        """None until a line is fitted."""
        if not self.is_settled:
            return None
        return ClockState(self.offset_ns, round(self.drift_ppm, 4), round(self.residual_ns, 1))

    def take_step(self) -> bool:
        """Whether labels have begun anew since the last call: the next block is a CLOCK_STEP."""
        stepped, self._has_stepped = self._has_stepped, False
        return stepped

    def seed(self, device_ns: int, host_ns: int) -> None:
        """Start from a pair that is known to be good (a round trip), before any arrival."""
        self.restart()
        self._anchor(device_ns, host_ns)

    def observe(self, device_ns: int, host_ns: int) -> None:
        """A message made at `device_ns` had arrived at `host_ns`."""
        if not self._has_anchor:
            self._anchor(device_ns, host_ns)
        offset = host_ns - device_ns - self._origin
        index = device_ns // BIN_NS
        if index != self._bin:
            if self._bin >= 0:
                self._bins.append((self._bin_device, float(self._bin_offset)))
            self._bin = index
            self._bin_device, self._bin_offset = device_ns, offset
        elif offset < self._bin_offset:
            self._bin_device, self._bin_offset = device_ns, offset
        if self._published(device_ns) - offset > STEP_NS:
            self._step(device_ns, offset)
        elif device_ns >= self._next_refit:
            self._refit(device_ns)

    def probe(self, device_ns: int, host_ns: int, rtt_ns: int) -> None:
        """A round trip of `rtt_ns`, in whose middle the device's clock and the box's were these."""
        if self._has_anchor:
            self._probes.append((rtt_ns, device_ns, host_ns - device_ns - self._origin))

    @property
    def quickest_ns(self) -> int | None:
        """The round trip that `bias_ns` rests on; None where the device answers none."""
        return min(self._probes)[0] if self._probes else None

    def to_box(self, device_ns: int) -> int:
        """Box clock of a device time, in ns."""
        return device_ns + self._origin + round(self._published(device_ns))

    def _published(self, device_ns: int) -> float:
        since = device_ns - self._at
        return self._level + self._slope * since + self._steer * min(since, REFIT_NS)

    def _anchor(self, device_ns: int, host_ns: int) -> None:
        self._has_anchor = True
        self._origin = host_ns - device_ns
        self._at = device_ns
        self._next_refit = device_ns + REFIT_NS

    def _step(self, device_ns: int, offset: int) -> None:
        """What was published is later than an arrival: this one is the best that is known."""
        self._at, self._level = device_ns, float(offset)
        self._fit_level = self._level
        self._slope = self._steer = self._fit_slope = 0.0
        self._has_line = self._has_settled = self.is_settled = False
        self._has_stepped = True
        self._next_refit = device_ns + REFIT_NS

    def _refit(self, now: int) -> None:
        points = _possible([(float(at - now), offset) for at, offset in self._bins])
        self._has_line = len(points) >= _MIN_BINS
        if not self._has_line:
            points.append((float(self._bin_device - now), float(self._bin_offset)))
            self._fit_slope = self._probed_slope()
            self._fit_level = min(offset - self._fit_slope * at for at, offset in points)
        else:
            self._fit_level, self._fit_slope, self.residual_ns = _lower_line(points)
            least, most = self._possible_slopes()
            if not least <= self._fit_slope <= most and least <= most:
                self._fit_slope = max(least, min(most, self._fit_slope))
                self._fit_level = min(offset - self._fit_slope * at for at, offset in points)
        self._take_off_bias(now)
        level = self._published(now)
        self._at, self._level = now, level
        self.is_settled = self._has_line and abs(self._fit_level - level) < 1e6
        self._has_settled = self._has_settled or self.is_settled
        most = SLEW if self._has_settled else FIRST_SLEW
        self._steer = max(-most, min(most, (self._fit_level - level) / REFIT_NS))
        self._slope = self._fit_slope
        self._next_refit = now + REFIT_NS

    def _probed_slope(self) -> float:
        """Of the first and last round trip, where it is more than these leave open; else 0.

        The rate of a crystal that is far off is so known after a second, not after three bins.
        """
        if len(self._probes) < 2:
            return 0.0
        (rtt_first, first, before), (rtt_last, last, after) = self._probes[0], self._probes[-1]
        open_ns = (rtt_first + rtt_last) / 2
        if last <= first or abs(after - before) < 4 * open_ns:
            return 0.0
        return (after - before) / (last - first)

    def _possible_slopes(self) -> tuple[float, float]:
        """Between which crystals and the round trips put it; arrivals of a busy machine may tell anything."""
        least, most = -MOST_RATE, MOST_RATE
        if self._probes:
            rtt_best, best, level = min(self._probes)
            for rtt, at, offset in self._probes:
                if at != best:
                    one, other = (
                        (offset - level + give) / (at - best)
                        for give in (-(rtt + rtt_best) / 2, (rtt + rtt_best) / 2)
                    )
                    least, most = max(least, min(one, other)), min(most, max(one, other))
        return least, most

    def _take_off_bias(self, now: int) -> None:
        """The true offset never lies above the line, since no message comes before it is made; nor
        below what half a round trip leaves open."""
        while self._probes and now - self._probes[0][1] > _PROBES_NS:
            self._probes.popleft()
        if self._probes:
            trip, at, offset = min(self._probes)
            line = self._fit_level + self._fit_slope * (at - now)
            self.bias_ns = max(0.0, line - offset) + min(0.0, line - offset + trip / 2)
            self._fit_level -= self.bias_ns


def _possible(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without those that another one proves to be late: offsets change by at most `MOST_RATE`."""
    kept = points
    for _ in range(2):  # there and back
        least = last = float("inf")
        passed: list[tuple[float, float]] = []
        for x, y in kept:
            least = min(y, least + MOST_RATE * abs(x - last)) if passed else y
            last = x
            if y <= least:
                passed.append((x, y))
        kept = passed[::-1]
    return kept


def _lower_line(points: list[tuple[float, float]]) -> tuple[float, float, float]:
    """(level at 0, slope, SD of the residuals) after three passes that drop the late ones."""
    kept = points
    level, slope = _line(kept)
    for _ in range(PASSES):
        residuals = sorted(y - level - slope * x for x, y in kept)
        if len(kept) <= _MIN_BINS:
            break
        limit = residuals[max(_MIN_BINS, round(KEPT * len(residuals))) - 1]
        kept = [(x, y) for x, y in kept if y - level - slope * x <= limit]
        level, slope = _line(kept)
    spread = [y - level - slope * x for x, y in kept]
    return level, slope, (sum(r * r for r in spread) / len(spread)) ** 0.5


def _line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Least squares: (level at 0, slope)."""
    n = len(points)
    mean_x = sum(x for x, _ in points) / n
    mean_y = sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    return mean_y - slope * mean_x, slope
