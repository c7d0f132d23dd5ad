"""What goes next, and how much may be under way. Runs in: uplink process, pump thread. Pure but for heads.

Live lane: the newest announced chunk first. Backfill: oldest first, under a rate cap, and never in
the last slots of the window, which the live lane keeps.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from brainforge_edge.uplink.index import LogIndex
from brainforge_edge.uplink.segments import Found, Track

LIVE_SLOTS = 4
LIVE_WAITING = 256  # older ones are found by the backfill lane
LEAST_TIMEOUT_S = 2.0
MOST_TIMEOUT_S = 30.0
Key = tuple[bytes, int]  # segment id, chunk number


@dataclass(slots=True, eq=False)
class Item:
    """A chunk under way."""

    track: Track
    found: Found
    live: bool
    mid: int = -1
    written_at: float | None = None  # when it left this process
    due: float = float("inf")  # when it is sent again
    tries: int = 0
    refusals: int = 0

    @property
    def key(self) -> Key:
        assert self.found.head is not None
        return self.found.head.segment_id, self.found.head.number

    @property
    def size(self) -> int:
        return self.found.end - self.found.offset


class TokenBucket:
    """A rate cap in bytes per second, 0 for none; at most one second's worth saved up."""

    def __init__(self, bytes_s: float, now: float) -> None:
        self._rate = bytes_s
        self._level = bytes_s
        self._at = now

    def wait_s(self, now: float) -> float:
        """Seconds until something may be sent: the level must not be negative."""
        if self._rate <= 0:
            return 0.0
        self._level = min(self._rate, self._level + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, -self._level / self._rate)

    def take(self, n: int) -> None:
        if self._rate > 0:
            self._level -= n


class Window:
    """Chunks under way: a count, a size, the aggregator's credits, and when to send again."""

    def __init__(self, chunks: int, size: int) -> None:
        self.items: dict[Key, Item] = {}
        self.credits = chunks
        self.bytes = 0
        self.rtt = 0.25
        self._chunks = chunks
        self._size = size

    def room(self, *, live: bool) -> bool:
        most = max(1, min(self._chunks, self.credits))
        if not live:
            most -= min(LIVE_SLOTS, most // 4)
        return len(self.items) < most and (not self.items or self.bytes < self._size)

    def add(self, item: Item) -> None:
        self.items[item.key] = item
        self.bytes += item.size

    def remove(self, item: Item) -> None:
        if self.items.pop(item.key, None) is not None:
            self.bytes -= item.size

    def clear(self) -> None:
        self.items.clear()
        self.bytes = 0

    @property
    def timeout_s(self) -> float:
        return min(MOST_TIMEOUT_S, max(LEAST_TIMEOUT_S, 4.0 * self.rtt))

    def written(self, item: Item, now: float) -> None:
        """The message left: its receipt is awaited from now."""
        item.written_at = now
        item.due = now + min(MOST_TIMEOUT_S, self.timeout_s * 2.0 ** max(0, item.tries - 1))

    def measured(self, item: Item, now: float) -> None:
        """A receipt came; only first transmissions say how long the way is (Karn's rule)."""
        if item.tries == 1 and item.written_at is not None:
            self.rtt += 0.125 * (now - item.written_at - self.rtt)

    def overdue(self, now: float) -> list[Item]:
        return [item for item in self.items.values() if item.due <= now]


class Lanes:
    """Chooses the next chunk that is neither stored, nor under way, nor left behind."""

    def __init__(self, index: LogIndex, is_under_way: Callable[[Key], bool]) -> None:
        self._index = index
        self._is_under_way = is_under_way
        self._live: deque[tuple[Track, int]] = deque(maxlen=LIVE_WAITING)
        self.held: set[tuple[Track, int]] = set()  # too large for this broker

    def announce(self, chunks: list[tuple[Track, int]]) -> None:
        self._live.extend(reversed(chunks))  # of one announcement the oldest goes first

    def next_live(self) -> Item | None:
        while self._live:
            track, offset = self._live.pop()
            found = self._wanted(track, offset)
            if found is not None:
                return Item(track, found, live=True)
        return None

    def next_backfill(self) -> Item | None:
        for track in list(self._index.order):
            for found in self._walk(track):
                return Item(track, found, live=False)
        return None

    def restart(self) -> None:
        """A new connection, or an answer to hello: look again at everything beyond the cursors."""
        self.held.clear()
        for track in self._index.order:
            track.walked = track.cursor

    def _walk(self, track: Track) -> Iterator[Found]:
        while track.walked < track.limit:
            found = self._wanted(track, track.walked)
            if found is not None:
                track.walked = found.end
                yield found

    def _wanted(self, track: Track, offset: int) -> Found | None:
        """The chunk at `offset` if it is to be sent now. Moves `walked` past what is not."""
        backfill = offset == track.walked
        if track.done.covers(offset, offset + 1):
            if backfill:
                end = next(e for f, e in track.done if f <= offset < e)
                track.walked = min(end, track.limit)
            return None
        found = self._index.look_at(track, offset)
        wanted = False
        if found.head is None:
            self._index.quarantine(track, found, "damaged")
        elif self._index.is_stored(track, found.head):
            self._index.done(track, found)
        elif self._index.is_quarantined(track, offset):
            self._index.done(track, found, receipted=False)
        else:
            key = (found.head.segment_id, found.head.number)
            wanted = not self._is_under_way(key) and (track, offset) not in self.held
        if backfill and not wanted:
            track.walked = found.end
        return found if wanted else None
