"""From runs of rows to chunks on the fixed grid. Runs in: acquire process, archive thread; recovery. No I/O."""

from collections.abc import Callable, Iterator

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause
from brainforge_edge.core.stream import Codec, StreamInfo
from brainforge_edge.recorder.chunk import Chunk, ChunkFlag
from brainforge_edge.recorder.identity import Identity

# Packed rows of a stream → codec and body; the codec floor is passed in.
Encode = Callable[[bytes, StreamInfo], tuple[Codec, bytes]]

_CHUNK_FLAGS = {
    BlockFlag.FIRST: ChunkFlag.FIRST,
    BlockFlag.GAP_BEFORE: ChunkFlag.GAP_BEFORE,
    BlockFlag.CLOCK_STEP: ChunkFlag.CLOCK_STEP,
    BlockFlag.SATURATED: ChunkFlag.SATURATED,
    BlockFlag.EMULATED: ChunkFlag.EMULATED,
}
# A row with one of these begins a chunk.
STARTS = BlockFlag.FIRST | BlockFlag.GAP_BEFORE | BlockFlag.CLOCK_STEP


def chunk_flags(flags: BlockFlag) -> ChunkFlag:
    """The chunk's flags for a run's."""
    result = ChunkFlag(0)
    for block_flag, chunk_flag in _CHUNK_FLAGS.items():
        if flags & block_flag:
            result |= chunk_flag
    return result


def grid_pieces(seq: int, n: int, step: int) -> Iterator[tuple[int, int]]:
    """(first, n) of the parts of rows seq..seq+n that cross no multiple of `step`."""
    end = seq + n
    while seq < end:
        stop = min(end, (seq // step + 1) * step)
        yield seq, stop - seq
        seq = stop


def time_of(t_first_ns: int, rows: int, sfreq: float) -> int:
    """Box time of the row `rows` after one at `t_first_ns`."""
    return t_first_ns + round(rows * 1e9 / sfreq)


def gap_record(gap: Gap) -> list[object]:
    """A gap as it stands in a chunk's extension under "gap"."""
    return [gap.n, gap.plus_minus, gap.basis.value, gap.cause.value]


def gap_of(chunk: Chunk) -> Gap | None:
    """The gap before a chunk, if it says there is one; ValueError for a malformed record."""
    if not chunk.flags & ChunkFlag.GAP_BEFORE:
        return None
    record = chunk.extension.get("gap")
    if not isinstance(record, list) or len(record) != 4:
        raise ValueError("its gap record is malformed")
    n, plus_minus, basis, cause = record
    if not all(type(number) is int and number >= 0 for number in (n, plus_minus)):
        raise ValueError("its gap record is malformed")
    return Gap(n, plus_minus, GapBasis(basis), GapCause(cause))


def make_chunk(
    packed: bytes,
    *,
    info: StreamInfo,
    number: int,
    identity: Identity,
    incarnation: int,
    seq: int,
    t_first_ns: int,
    flags: BlockFlag,
    gap: Gap | None,
    encode: Encode,
    extra: ChunkFlag = ChunkFlag(0),  # noqa: B008 (flags are immutable)
) -> Chunk:
    """A chunk of packed rows; it gets its place from `SegmentWriter.append`."""
    codec, body = encode(packed, info)
    utc, uncertainty = identity.utc_of(t_first_ns)
    return Chunk(
        codec=codec,
        dtype=info.dtype,
        n_channels=info.n_channels,
        n_samples=len(packed) // info.row_bytes,
        log_id=identity.log_id,
        incarnation=incarnation,
        stream_number=number,
        seq=seq,
        t_first_ns=t_first_ns,
        sfreq=info.sfreq,
        body=body,
        flags=chunk_flags(flags) | extra,
        t_first_utc_ns=utc,
        utc_uncertainty_ns=uncertainty,
        extension={} if gap is None else {"gap": gap_record(gap)},
    )
