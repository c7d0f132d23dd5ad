from typing import Any, final

RESERVE: int
HEAD: int
WRITTEN: int
DURABLE: int
RECORDING: int
EPOCH: int
CURSORS_OFFSET: int
CURSORS_PITCH: int
META_BYTES: int

@final
class Ring:
    """A mapped ring file. Nothing is unmapped while a call runs: the mapping lives as long as the object."""

    def __init__(
        self,
        fd: int,
        *,
        length: int,
        data_offset: int,
        capacity: int,
        stride: int,
        n_channels: int,
        kind: str,
        packs_24bit: bool,
        period_ns: float,
        writable: bool,
    ) -> None:
        """`kind` is the buffer-protocol letter of a sample: h, i, f or d. OSError from mmap, ValueError for a layout that does not fit."""

    def cursor(self, which: int) -> int:
        """Load with acquire order."""

    def advance(self, which: int, row: int) -> None:
        """Store with release order, then wake who waits for it."""

    def lift(self, which: int, row: int, under: int) -> bool:
        """`advance`, unless it would move back or pass the cursor `under`: then False, and it stays."""

    def wake(self, which: int) -> None:
        """Let waiters return without progress (for a shutdown)."""

    def wait(self, which: int, beyond: int, timeout_s: float) -> int:
        """The cursor, as soon as it is > `beyond`, woken, or timed out. Releases the GIL."""

    def room(self, guard: int) -> int:
        """Rows that can be pushed before the last `guard` rows in front of unwritten ones of the open
        recording are reached; the capacity while none is open."""

    def push(
        self,
        data: Any,
        incarnation: int,
        seq: int,
        t_first_ns: int,
        flags: int,
        gap_basis: int,
        gap_cause: int,
        gap_n: int,
        gap_plus_minus: int,
    ) -> int:
        """Append rows (n, n_channels), C order, of the ring's type; the new head. Never waits."""

    def read(
        self, first: int, n: int, out: Any = None
    ) -> list[tuple[int, int, int, int, int, int, int, int, int, int]] | None:
        """Runs (row, n, incarnation, seq, t_first_ns, flags, basis, cause, gap_n, plus_minus) of n rows.

        Rows are copied to `out` (exactly n rows, C order) on the way. None: overwritten meanwhile,
        what `out` holds is torn. ValueError for rows beyond head.
        """

    def copy(self, first: int, n: int, out: Any) -> bool:
        """Rows to `out` (exactly n rows, C order); False: overwritten meanwhile."""

    def packed(self, first: int, n: int, out: Any, at: int = 0) -> int:
        """Rows as packed little-endian bytes to `out` from byte `at`; their number, -1: overwritten meanwhile."""

    def entry(
        self, first: int, n: int, out: Any, *, stream: int, seed: int, offset: int
    ) -> tuple[int, int] | None:
        """A whole journal entry of n rows from `first` at the beginning of `out`; (incarnation, seq after them).

        Its bytes are those of `recorder.entry.pack_entry`. None, and `out` is worth nothing, if the
        rows are not one run, begin after a gap, or were overwritten meanwhile. ValueError for no
        rows, for rows beyond head, and for an `out` that is too short.
        """
