"""Sets of rows as sorted, disjoint (first, end) ranges. No I/O."""

from bisect import bisect_right, insort
from collections.abc import Iterator


class Ranges:
    """Rows of one incarnation of one stream."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def __bool__(self) -> bool:
        return bool(self._ranges)

    @property
    def n_rows(self) -> int:
        return sum(end - first for first, end in self._ranges)

    def add(self, first: int, end: int) -> int:
        """Add rows; how many of them were there already."""
        if end <= first:
            return 0
        known = end - first - sum(stop - start for start, stop in self.missing(first, end))
        kept = []
        for start, stop in self._ranges:
            if stop < first or start > end:
                kept.append((start, stop))
            else:
                first, end = min(first, start), max(end, stop)
        self._ranges = kept
        insort(self._ranges, (first, end))
        return known

    def missing(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of first..end that are not in the set."""
        for start, stop in self._ranges:
            if stop <= first:
                continue
            if start >= end:
                break
            if start > first:
                yield first, start
            first = max(first, stop)
        if first < end:
            yield first, end

    def end_before(self, row: int) -> int | None:
        """End of the last range that begins before `row`, None if there is none."""
        at = bisect_right(self._ranges, (row, -1)) - 1
        return self._ranges[at][1] if at >= 0 else None
