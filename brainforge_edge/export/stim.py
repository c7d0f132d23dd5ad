"""Trigger words of a device as a column of the stream that they came with. Runs in: `brainforge-edge export`.

Both streams have the device's own indices. A recording opens and closes between two blocks, so at its
ends the words may lack a frame of the samples, never inside.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.export.recording import StreamRows

SUFFIX = "-trig"
_MOST_ABSENT = 2 * 64  # rows of two frames, as long as they get


def is_trigger(info: StreamInfo) -> bool:
    """Whether a stream holds trigger words, and nothing else."""
    return info.stream_id == f"{info.device}{SUFFIX}" and all(
        channel.type == "stim" for channel in info.channels
    )


def goes_with(words: StreamRows, samples: Sequence[StreamRows]) -> StreamRows | None:
    """The stream of the same device whose indices the words have; None if there is none."""
    for rows in samples:
        info = rows.info
        if (
            info.device == words.info.device
            and info.sfreq == words.info.sfreq
            and not is_trigger(info)
            and column(words, rows) is not None
        ):
            return rows
    return None


def column(words: StreamRows, samples: StreamRows) -> NDArray[np.int32] | None:
    """(n_rows,) of the samples' line, filled in gaps as the line is; None where indices do not agree."""
    theirs = list(_runs(words))
    found = np.zeros(samples.n_rows, np.int32)
    line = words.line()[:, 0]
    absent, filled = 0, 0
    for turn, row, seq, n in _runs(samples):
        absent += n
        if row > filled:
            found[filled:row] = found[filled - 1] if filled else 0
        for their_turn, their_row, their_seq, their_n in theirs:
            low, high = max(seq, their_seq), min(seq + n, their_seq + their_n)
            if their_turn == turn and low < high:
                at = their_row + low - their_seq
                found[row + low - seq : row + high - seq] = line[at : at + high - low]
                absent -= high - low
        filled = row + n
    return None if absent > _MOST_ABSENT else found


def _runs(rows: StreamRows) -> Iterator[tuple[int, int, int, int]]:
    """(which incarnation, row, seq, n) of rows without a gap."""
    turn, last = 0, -1
    run: tuple[int, int, int, int] | None = None
    for item in rows.placed:
        n = item.end - item.seq
        turn += int(last >= 0 and item.incarnation != last)
        last = item.incarnation
        if run is not None and run[0] == turn and run[2] + run[3] == item.seq:
            run = (turn, run[1], run[2], run[3] + n)
            continue
        if run is not None:
            yield run
        run = (turn, item.row, item.seq, n)
    if run is not None:
        yield run
