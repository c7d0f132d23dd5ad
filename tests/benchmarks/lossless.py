"""Lossless codec against FLAC -8 and pcodec 8, cut at the same chunks; real bytes, decoded and compared.

Each peer at its best: FLAC as frames of 8 channels or of pairs with stereo decorrelation, whichever
is smaller, stream headers not counted; pcodec per channel in its wrapped form, file header not counted.
"""

import io
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from pcodec import ChunkConfig, PagingSpec, wrapped

from brainforge_edge.codec.registry import decode, encode
from brainforge_edge.core.stream import Codec
from tests import recordings
from tests.benchmarks.row import Row
from tests.recordings import Recording

_CRC_BYTES = 4


def run() -> list[Row]:
    """Bits per channel-sample for each recording, their geometric mean, and the CPU of encoding."""
    rows = []
    ratios = []
    for name in recordings.names():
        recording = recordings.load(name)
        peers = _peers(recording, recording.chunks())
        ours = _bits(sum(_ours(recording, chunk) for chunk in recording.chunks()), recording)
        best = min(peers, key=lambda peer: peers[peer])
        ratio = ours / peers[best]
        rows.append(
            _row(f"{name}, chunks, against {best}", ours, peers[best], "1.01", ratio <= 1.01)
        )
        if name != "synthetic" or len(recordings.names()) == 1:
            ratios.append(ratio)
        whole = _peers(recording, [recording.data])
        best = min(whole, key=lambda peer: whole[peer])
        rows.append(_row(f"{name}, chunks, against {best} of the whole file", ours, whole[best]))
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    rows.append(Row("geometric mean, chunks", mean, 1.0, "× best peer", mean, "≤ 1.00", mean <= 1))
    return [*rows, *_cpu()]


def _row(case: str, ours: float, peer: float, most: str = "", met: bool | None = None) -> Row:
    goal = f"≤ {most}" if most else ""
    return Row(case, round(ours, 4), round(peer, 4), "bit/sample", round(ours / peer, 4), goal, met)


def _bits(n_bytes: int, recording: Recording) -> float:
    return n_bytes * 8 / recording.data.size


def _ours(recording: Recording, chunk: NDArray[np.int32]) -> int:
    rows = np.ascontiguousarray(chunk, recording.dtype.memory)
    body = encode(Codec.LOSSLESS, rows, recording.dtype)
    back = decode(Codec.LOSSLESS, body, recording.dtype, *rows.shape)
    assert np.array_equal(back, rows)
    return len(body) - _CRC_BYTES  # FLAC's frames carry 3 bytes of CRC each, left as they are


def _peers(recording: Recording, chunks: list[NDArray[np.int32]]) -> dict[str, float]:
    sizes: dict[str, Callable[[NDArray[np.int32]], int]] = {
        "FLAC -8 in frames of 8": lambda chunk: _flac(chunk, 8),
        "FLAC -8 in pairs": lambda chunk: _flac(chunk, 2),
        "pcodec 8": _pcodec,
    }
    return {
        peer: _bits(sum(size(chunk) for chunk in chunks), recording) for peer, size in sizes.items()
    }


def _flac(chunk: NDArray[np.int32], width: int) -> int:
    """Bytes of audio frames, `width` channels together."""
    return sum(
        _flac_frames(np.ascontiguousarray(chunk[:, at : at + width]))
        for at in range(0, chunk.shape[1], width)
    )


def _flac_frames(columns: NDArray[np.int32]) -> int:
    is_short = columns.min() >= -(2**15) and columns.max() < 2**15
    shift, subtype = (16, "PCM_16") if is_short else (8, "PCM_24")
    file = io.BytesIO()
    kind: dict[str, Any] = {"format": "FLAC", "subtype": subtype, "compression_level": 1.0}
    soundfile.write(file, columns << shift, 48000, **kind)
    data = file.getvalue()
    file.seek(0)
    back, _ = soundfile.read(file, dtype="int32", always_2d=True)
    assert np.array_equal(back >> shift, columns)
    at, last = 4, False
    while not last:
        last = data[at] >= 0x80
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    return len(data) - at


def _pcodec(chunk: NDArray[np.int32]) -> int:
    n = len(chunk)
    config = ChunkConfig(compression_level=8, paging_spec=PagingSpec.exact_page_sizes([n]))
    compressor = wrapped.FileCompressor()
    reader, _ = wrapped.FileDecompressor.new(compressor.write_header())
    total = 0
    for column in np.ascontiguousarray(chunk.T):
        coded = compressor.chunk_compressor(column, config)
        meta, page = coded.write_meta(), coded.write_page(0)
        back = np.empty(n, np.int32)
        piece, _ = reader.chunk_decompressor(meta, "i32")
        piece.read_page_into(page, n, back)
        assert np.array_equal(back, column)
        total += len(meta) + len(page)
    return total


def _cpu() -> list[Row]:
    """Process CPU of encoding and decoding the helmet's seconds, per second of 306 channels at 1 kHz."""
    recording = recordings.helmet()
    n_channels = recording.data.shape[1]
    chunks = [np.ascontiguousarray(chunk) for chunk in recording.chunks()]
    dtype = recording.dtype
    bodies = [encode(Codec.LOSSLESS, chunk, dtype) for chunk in chunks]
    writes, reads = [], []
    for _ in range(7):
        start = time.process_time()
        for chunk in chunks:
            encode(Codec.LOSSLESS, chunk, dtype)
        middle = time.process_time()
        for chunk, body in zip(chunks, bodies, strict=True):
            decode(Codec.LOSSLESS, body, dtype, *chunk.shape)
        writes.append(middle - start)
        reads.append(time.process_time() - middle)
    scale = 100 * (306 * 1000) / (len(recording.data) * n_channels)
    write, read = (float(np.median(times)) * scale for times in (writes, reads))
    unit = "% of a core for 306 ch at 1 kHz"
    return [
        Row("encode", round(write, 2), None, unit, None, "≤ 10", write <= 10),
        Row("decode", round(read, 2), None, unit, None),
    ]
