"""What a box called durable, and when, as another process sees it: through the rings, once a millisecond."""

import threading
import time
from bisect import bisect_right
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from brainforge_edge.rings.reader import RingReader


class Seen(NamedTuple):
    """Cursors of one stream, as sequence numbers: rows before `durable` were acknowledged."""

    t_ns: int  # CLOCK_MONOTONIC after `durable` was read: it was so then
    durable: int
    head: int  # read before `durable`


class Witness:
    """`with Witness({stream: ring}) as witness`; `at` tells what had been acknowledged."""

    def __init__(self, rings: dict[str, Path]) -> None:
        self._readers = {stream: RingReader(path) for stream, path in rings.items()}
        self._ahead: dict[str, int] = {}  # sequence number of a row, less its place in the ring
        self.seen: dict[str, list[Seen]] = {stream: [] for stream in rings}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="witness")

    def __enter__(self) -> Self:
        for stream, reader in self._readers.items():
            (newest,) = reader.snapshot(1).runs
            self._ahead[stream] = newest.seq - newest.row
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.001):
            for stream, reader in self._readers.items():
                head, durable = reader.head, reader.durable
                seen = self.seen[stream]
                ahead = self._ahead[stream]
                if not seen or durable + ahead > seen[-1].durable or head + ahead > seen[-1].head:
                    seen.append(Seen(time.monotonic_ns(), durable + ahead, head + ahead))

    def at(self, t_ns: int) -> dict[str, Seen]:
        """The last that was seen of each stream before `t_ns`."""
        found = {}
        for stream, seen in self.seen.items():
            number = bisect_right(seen, t_ns, key=lambda each: each.t_ns)
            if number:
                found[stream] = seen[number - 1]
        return found

    def unacknowledged_ns(self, t_ns: int, stream: str) -> int:
        """How old the oldest row is that was in the ring and not durable."""
        seen = self.seen[stream]
        number = bisect_right(seen, t_ns, key=lambda each: each.t_ns)
        durable = seen[number - 1].durable if number else 0
        came = bisect_right(seen, durable, key=lambda each: each.head)
        return max(0, t_ns - seen[came].t_ns) if came < number else 0
