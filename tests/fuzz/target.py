"""What a target is, and how its bytes are split and mended. Imports nothing of the project."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

Run = Callable[
    [bytes], None
]  # takes any bytes and raises nothing: what a parser may refuse, it suppresses


class Target(NamedTuple):
    """`start` opens what the parser needs; inside, each input is given to what it yields."""

    name: str
    seeds: Callable[[], list[bytes]]
    start: Callable[[], AbstractContextManager[Run]]
    max_bytes: int = 1024


def plain(run: Run) -> Callable[[], AbstractContextManager[Run]]:
    """For a parser that needs nothing."""
    return lambda: nullcontext(run)


class Bytes:
    """Takes numbers and stretches off the front of an input; what is missing is zero, or short."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_left(self) -> bool:
        return self._at < len(self._data)

    def take(self, n: int) -> bytes:
        piece = self._data[self._at : self._at + n]
        self._at += n
        return piece

    def number(self) -> int:
        """0 to 255."""
        return int.from_bytes(self.take(1), "little")

    def rest(self) -> bytes:
        return self.take(len(self._data))


def pieces(data: bytes, step: int) -> Iterator[bytes]:
    """As a link might split them; the whole with step 0."""
    step = step or max(1, len(data))
    for at in range(0, len(data), step):
        yield data[at : at + step]


def records(*packets: tuple[int, int, bytes]) -> bytes:
    """Notifications as `read_records` takes them: which characteristic, when, what."""
    return b"".join(bytes([which, delay, len(data)]) + data for which, delay, data in packets)


def read_records(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(which, ms since the one before, contents) of each notification."""
    source = Bytes(data)
    while source.is_left:
        which, delay, n = source.number(), source.number(), source.number()
        # Long silences now and then: counters wrap meanwhile.
        yield which, delay * delay * delay if delay > 200 else delay, source.take(n)
