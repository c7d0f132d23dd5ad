"""BFP/1 frames of 306 × 24 bit with both checks, against batched numpy that knows the frame size and checks nothing."""

import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.kernels.unpack import BfpScanner, crc16, pack24
from tests.benchmarks.row import Row
from tests.benchmarks.timing import alternate

N_CHANNELS = 306
GOAL = 4.0
BITMAP = bytes(39)
_HEAD = struct.Struct("<2sBBHBBIQH")
_DATA = struct.Struct("<QHHBBH")


def frames(rows: NDArray[np.int32], *, per_frame: int) -> list[bytes]:
    """The rows as a helmet sends them."""
    made = []
    samples = np.empty(per_frame * N_CHANNELS * 3, np.uint8)
    for seq, at in enumerate(range(0, len(rows), per_frame)):
        pack24(rows[at : at + per_frame].ravel(), samples)
        payload = _DATA.pack(at, per_frame, N_CHANNELS, 3, 1, 0) + BITMAP + samples.tobytes()
        head = _HEAD.pack(b"\xbf\x5a", 1, 1, len(payload), 1, 0, seq, at * 10_000, 7)
        body = head + struct.pack("<H", crc16(head)) + payload
        made.append(body + struct.pack("<I", crc32c(body)))
    return made


def run() -> list[Row]:
    rng = np.random.default_rng(3)
    rows = rng.integers(-(2**23), 2**23, (512, N_CHANNELS), np.int32)
    result = [_speed(rows, per_frame) for per_frame in (1, 8)]
    result += _corruption(rng.integers(-(2**23), 2**23, (16_000, N_CHANNELS), np.int32))
    return result


def _speed(rows: NDArray[np.int32], per_frame: int) -> Row:
    made = frames(rows, per_frame=per_frame)
    stream = b"".join(made)
    scanner = BfpScanner()
    out = np.empty_like(rows)

    def ours() -> None:
        items = scanner.feed(stream)
        assert len(items) == 1
        scanner.rows(0, out)

    samples = np.frombuffer(stream, np.uint8).reshape(len(made), -1)[:, 24 + 16 + 39 : -4]
    samples = samples.reshape(len(made), -1, 3) if samples.flags.c_contiguous else samples
    peers = [_spread(samples, len(made), per_frame), _shifted(samples, len(made), per_frame)]
    ours()
    for peer in peers:
        assert np.array_equal(out, peer().reshape(rows.shape))
    times = alternate(ours, *peers)
    per = 1e6 / len(rows)
    ratio = min(times[1:]) / times[0]
    return Row(
        case=f"{per_frame} rows a frame, CRC-32C; numpy batch of {len(rows)} without",
        ours=times[0] * per,
        peer=min(times[1:]) * per,
        unit="us/row",
        ratio=ratio,
        goal=f">= {GOAL:g}",
        met=ratio >= GOAL,
    )


def _spread(samples: NDArray[Any], n: int, per_frame: int) -> Callable[[], Any]:
    wide = np.zeros((n, per_frame * N_CHANNELS, 4), np.uint8)

    def call() -> Any:
        wide[..., 1:] = samples.reshape(n, -1, 3)
        return wide.view("<i4") >> 8

    return call


def _shifted(samples: NDArray[Any], n: int, per_frame: int) -> Callable[[], Any]:
    def call() -> Any:
        b = samples.reshape(n, per_frame * N_CHANNELS, 3)
        high = b[..., 2].view(np.int8).astype(np.int32)
        return high << 16 | b[..., 1].astype(np.int32) << 8 | b[..., 0]

    return call


def _corruption(rows: NDArray[np.int32]) -> list[Row]:
    """1 % of the frames with one to four changed bytes, read in pieces as a port gives them."""
    per_frame = 1
    made = frames(rows, per_frame=per_frame)
    rng = random.Random(11)
    corrupted = set(rng.sample(range(1, len(made) - 1), len(made) // 100))
    sent = bytearray()
    for number, frame in enumerate(made):
        harmed = bytearray(frame)
        if number in corrupted:
            for place in rng.sample(range(len(frame)), rng.randrange(1, 5)):
                harmed[place] ^= rng.randrange(1, 256)
        sent += harmed
    scanner = BfpScanner()
    counted = accepted = next_seq = 0
    for at in range(0, len(sent), 4095):
        for place, item in enumerate(scanner.feed(sent[at : at + 4095])):
            seq, n_frames, index, n_rows = item[3], item[4], item[7], item[8]
            counted += seq - next_seq
            next_seq = seq + n_frames
            out = np.empty((n_rows, N_CHANNELS), np.int32)
            scanner.rows(place, out)
            same = (out == rows[index : index + n_rows]).all(axis=1)
            accepted += int(np.count_nonzero(~same))
            accepted += sum(number in corrupted for number in range(seq, next_seq))
    return [
        Row(
            case=f"corrupted frames of {len(made)} counted (resyncs {scanner.resyncs})",
            ours=counted,
            peer=len(corrupted),
            unit="frames",
            ratio=counted / len(corrupted),
            goal="= 1",
            met=counted == len(corrupted) and scanner.frames == len(made) - len(corrupted),
        ),
        Row(
            case="corrupted frames or changed rows accepted",
            ours=accepted,
            peer=len(corrupted),
            unit="frames",
            ratio=accepted / len(corrupted),
            goal="= 0",
            met=accepted == 0,
        ),
    ]
