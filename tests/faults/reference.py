"""A whole recording, and what of it a damaged copy still has: every row, once, as it was."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.codec import registry
from brainforge_edge.core.stream import Dtype
from brainforge_edge.recorder.chunk import Chunk
from tests.opened import opened_chunks


@dataclass(frozen=True)
class Found:
    """Rows, summed over streams and damages."""

    lost: int = 0  # acknowledged, and not there
    duplicated: int = 0
    different: int = 0  # there with other values, or never recorded

    def __add__(self, other: "Found") -> "Found":
        return Found(
            self.lost + other.lost,
            self.duplicated + other.duplicated,
            self.different + other.different,
        )

    @property
    def is_bad(self) -> bool:
        return bool(self.lost or self.duplicated or self.different)


class Reference:
    """Of the streams of the recording in `folder`; each has one incarnation and no gap."""

    def __init__(self, folder: Path, streams: tuple[str, ...]) -> None:
        self._bodies: dict[str, dict[int, bytes]] = {}  # of chunks, by their first row
        self._rows: dict[str, tuple[int, NDArray[Any]]] = {}
        for stream in streams:
            chunks = sorted(opened_chunks(folder, stream), key=lambda chunk: chunk.seq)
            self._bodies[stream] = {chunk.seq: bytes(chunk.body) for chunk in chunks}
            self._rows[stream] = chunks[0].seq, np.concatenate([_decoded(c) for c in chunks])

    def first(self, stream: str) -> int:
        """Sequence number of the first row that was recorded."""
        return self._rows[stream][0]

    def compare(self, folder: Path, stream: str, *, acknowledged: int) -> Found:
        """A copy of the recording in `folder`; rows before `acknowledged` must be there."""
        first, rows = self._rows[stream]
        times = np.zeros(len(rows), np.int64)
        different = 0
        for chunk in opened_chunks(folder, stream):
            at, end = chunk.seq - first, chunk.seq - first + chunk.n_samples
            if at < 0 or end > len(rows):
                different += chunk.n_samples
                continue
            times[at:end] += 1
            if bytes(chunk.body) != self._bodies[stream].get(chunk.seq):
                different += int(np.any(_decoded(chunk) != rows[at:end], axis=1).sum())
        lost = int(np.count_nonzero(times[: max(0, acknowledged - first)] == 0))
        return Found(lost, int(times.sum() - np.count_nonzero(times)), different)


def _decoded(chunk: Chunk) -> NDArray[Any]:
    return registry.decode(
        chunk.codec, chunk.body, Dtype(chunk.dtype), chunk.n_samples, chunk.n_channels
    )
