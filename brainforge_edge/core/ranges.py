"""Sets of integers kept as half-open ranges. Runs in: uplink, cloud. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Intervals:
    """Merged, sorted ranges first <= x < end."""

    __slots__ = ("_ends", "_firsts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        for first, end in ranges:
            self.add(first, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._firsts, self._ends, strict=True)))

    def __len__(self) -> int:
        return len(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Intervals) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def total(self) -> int:
        """How many integers are in the set."""
        return sum(self._ends) - sum(self._firsts)

    def add(self, first: int, end: int) -> None:
        """Join first <= x < end to the set; neighbours merge."""
        if end <= first:
            return
        low = bisect_left(self._ends, first)
        high = bisect_right(self._firsts, end)
        if low < high:
            first = min(first, self._firsts[low])
            end = max(end, self._ends[high - 1])
        self._firsts[low:high] = [first]
        self._ends[low:high] = [end]

    def covers(self, first: int, end: int) -> bool:
        """Whether all of first <= x < end is in the set; an empty range is."""
        if end <= first:
            return True
        at = bisect_right(self._firsts, first) - 1
        return at >= 0 and self._ends[at] >= end

    def missing(self, first: int, end: int) -> list[tuple[int, int]]:
        """The parts of first <= x < end that are not in the set, in order."""
        parts: list[tuple[int, int]] = []
        at = bisect_right(self._ends, first)
        while first < end and at < len(self._firsts) and self._firsts[at] < end:
            if self._firsts[at] > first:
                parts.append((first, self._firsts[at]))
            first = self._ends[at]
            at += 1
        if first < end:
            parts.append((first, end))
        return parts
