"""Recordings that a guest handed over, row for row against their source. Runs in: the test process."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.codec import registry
from brainforge_edge.core.stream import Dtype
from brainforge_edge.emulators.source import RowSource
from tests.faults.box import cli
from tests.opened import opened_chunks


class Account(NamedTuple):
    """What the recordings hold of one stream."""

    rows: int
    differing: int  # rows that are not those of the source
    missing: int  # rows between the first and the last that are not there
    gaps: int  # rows in the gaps that `verify` names
    incarnations: int
    duplicates: int  # rows that lie in two chunks, equal


def read(recordings: Path, stream_id: str, source: RowSource) -> Account:
    """AssertionError if `verify` finds anything damaged, missing or in conflict."""
    result = cli("verify", recordings, "--json")
    assert result.returncode in {0, 1}, result.stdout + result.stderr
    for recording in json.loads(result.stdout)["recordings"]:
        assert not recording["problems"], result.stdout
        for stream in recording["streams"]:
            bad = ("missing", "damaged", "torn", "conflicts")
            assert not any(stream[word] for word in bad), result.stdout
    named = [
        stream
        for recording in json.loads(result.stdout)["recordings"]
        for stream in recording["streams"]
        if stream["stream_id"] == stream_id
    ]
    rows = differing = 0
    ends: dict[int, tuple[int, int]] = {}
    for incarnation, first, data in _chunks(recordings, stream_id):
        expected = source.rows(first, len(data))
        differing += int(np.any(data != expected, axis=1).sum())
        rows += len(data)
        low, high = ends.get(incarnation, (first, first))
        ends[incarnation] = (min(low, first), max(high, first + len(data)))
    return Account(
        rows=rows,
        differing=differing,
        missing=sum(high - low for low, high in ends.values())
        - (rows - (duplicates := sum(int(stream["duplicates"]) for stream in named))),
        gaps=sum(int(gap["n"]) for stream in named for gap in stream["gaps"]),
        incarnations=len(ends),
        duplicates=duplicates,
    )


def _chunks(recordings: Path, stream_id: str) -> Iterator[tuple[int, int, NDArray[Any]]]:
    for recording in sorted(recordings.iterdir()):
        for chunk in opened_chunks(recording, stream_id):
            rows = registry.decode(
                chunk.codec, chunk.body, Dtype(chunk.dtype), chunk.n_samples, chunk.n_channels
            )
            yield chunk.incarnation, chunk.seq, rows
