"""What joins one block to the next: incarnations made lasting, gaps named, repeats dropped.

Runs in: acquire process, pull thread. Pure but for the incarnation numbers, which are persisted and
synced before the first row that carries them.
"""

from collections.abc import Callable

from msgspec.structs import replace

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause, SampleBlock

# A gap that only clocks can size is uncertain by the jitter of arrival at both of its ends. A clock
# that was fitted to the first packets of a link starts from the least late of them, and on a busy
# machine all of those may have waited to be read.
CLOCK_UNCERTAINTY_NS = 20_000_000
NEW_CLOCK_UNCERTAINTY_NS = 100_000_000

# Masks as plain ints: flags of an enumeration cost more than the rest of the way through here.
_JOINTS = int(BlockFlag.GAP_BEFORE | BlockFlag.FIRST)


class Continuity:
    """Follows one stream over reconnects, restarts of the device and of the acquire process.

    `open_incarnation(proof)` returns the lasting number for a device's counter: the same number
    for the same non-empty proof (a boot id), a new one otherwise.
    """

    def __init__(self, sfreq: float, open_incarnation: Callable[[str], int]) -> None:
        self._dt_ns = 1e9 / sfreq
        self._open_incarnation = open_incarnation
        self._lasting: dict[int, int] = {}  # the driver's incarnation → ours, for one connection
        self._incarnation: int | None = None
        self._next_seq = 0
        self._t_next_ns = 0
        self._dropped_by_box = False
        self._is_new_fit = False  # a new link or process knows nothing of the old fit of the clock

    def resume(self, *, incarnation: int, next_seq: int, t_next_ns: int) -> None:
        """Go on after the last row that a ring holds (restart of the acquire process).

        What is missing from there on is the box's own doing: it was not there to read.
        """
        self._dropped_by_box = self._is_new_fit = True
        self._incarnation = incarnation
        self._next_seq = next_seq
        self._t_next_ns = t_next_ns

    def reconnected(self) -> None:
        """The driver was opened again: its incarnations count from 0 anew, its clocks are fitted anew."""
        self._lasting.clear()
        self._is_new_fit = True

    def box_dropped(self) -> None:
        """The caller could not keep the block that `admit` returned last."""
        self._dropped_by_box = True

    def knows(self, incarnation: int) -> bool:
        """Whether the driver's incarnation has its lasting number: then `admit` needs no proof."""
        return incarnation in self._lasting

    def admit(self, block: SampleBlock, proof: str) -> tuple[SampleBlock | None, int]:
        """(the block as it may be pushed, or None when all of it is known; rows dropped as repeats)."""
        incarnation = self._lasting.get(block.incarnation)
        if incarnation is None:
            incarnation = self._open_incarnation(proof)
            self._lasting[block.incarnation] = incarnation
        if self._incarnation is None:
            return self._first(block, incarnation), 0
        if self._is_new_fit:
            block = replace(block, flags=block.flags | BlockFlag.CLOCK_STEP)
        if incarnation != self._incarnation:
            return self._restarted(block, incarnation), 0
        if block.seq == self._next_seq and not int(block.flags) & _JOINTS and block.gap is None:
            return _numbered(block, incarnation), 0
        repeated = min(block.data.shape[0], max(0, self._next_seq - block.seq))
        if repeated == block.data.shape[0]:
            return None, repeated
        if repeated:
            block = replace(
                block,
                seq=block.seq + repeated,
                t_first_ns=block.t_first_ns + round(repeated * self._dt_ns),
                data=block.data[repeated:],
                flags=block.flags & ~BlockFlag.GAP_BEFORE,
                gap=None,
            )
        missing = block.seq - self._next_seq
        gap = self._named(block, missing) if missing else None
        flags = block.flags & ~(BlockFlag.GAP_BEFORE | BlockFlag.FIRST)
        if gap is not None:
            flags |= BlockFlag.GAP_BEFORE
        return replace(block, incarnation=incarnation, flags=flags, gap=gap), repeated

    def kept(self, block: SampleBlock) -> None:
        """The block that `admit` returned is in the ring."""
        n = block.data.shape[0]
        self._incarnation = block.incarnation
        self._next_seq = block.seq + n
        self._t_next_ns = block.t_first_ns + round(n * self._dt_ns)
        self._dropped_by_box = self._is_new_fit = False

    def _named(self, block: SampleBlock, missing: int) -> Gap:
        if self._dropped_by_box:
            basis = block.gap.basis if block.gap else GapBasis.DEVICE_INDEX
            plus_minus = block.gap.plus_minus if block.gap else 0
            return Gap(missing, plus_minus, basis, GapCause.BOX)
        if block.gap is not None:
            return replace(block.gap, n=missing)
        return Gap(missing, 0, GapBasis.DEVICE_INDEX, GapCause.LINK)

    def _first(self, block: SampleBlock, incarnation: int) -> SampleBlock:
        flags = (block.flags | BlockFlag.FIRST) & ~BlockFlag.GAP_BEFORE
        return replace(block, incarnation=incarnation, flags=flags, gap=None)

    def _restarted(self, block: SampleBlock, incarnation: int) -> SampleBlock:
        missing = max(0, round((block.t_first_ns - self._t_next_ns) / self._dt_ns))
        after = NEW_CLOCK_UNCERTAINTY_NS if self._is_new_fit else CLOCK_UNCERTAINTY_NS
        plus_minus = 1 + round((CLOCK_UNCERTAINTY_NS + after) / self._dt_ns)
        cause = GapCause.BOX if self._dropped_by_box else GapCause.RESTART
        return replace(
            block,
            incarnation=incarnation,
            flags=block.flags | BlockFlag.FIRST | BlockFlag.GAP_BEFORE,
            gap=Gap(missing, plus_minus, GapBasis.CLOCK, cause),
        )


def within(block: SampleBlock, begins_ns: int, sfreq: float) -> SampleBlock:
    """The first block of a recording that began at `begins_ns`: what is missing before that is not its own."""
    gap = block.gap
    n = max(0, round((block.t_first_ns - begins_ns) * sfreq / 1e9))
    if gap is None or n >= gap.n:
        return block
    if n == 0:
        return replace(block, flags=block.flags & ~BlockFlag.GAP_BEFORE, gap=None)
    plus_minus = max(gap.plus_minus, 1 + round(CLOCK_UNCERTAINTY_NS * sfreq / 1e9))
    return replace(block, gap=Gap(n, plus_minus, GapBasis.CLOCK, gap.cause))


def _numbered(block: SampleBlock, incarnation: int) -> SampleBlock:
    if block.incarnation == incarnation:
        return block
    return SampleBlock(
        block.stream_id, incarnation, block.seq, block.t_first_ns, block.data, block.flags
    )
