"""What lies on a disk that nobody trusts: journals, segments, chunks and their bodies."""

import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from brainforge_edge.codec import lossless, registry
from brainforge_edge.core.block import BlockFlag, Gap, GapBasis
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Codec, Dtype, StreamInfo
from brainforge_edge.export.recording import read_parts
from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.recorder.chunk import (
    FOOTER_BYTES,
    HEADER_BYTES,
    MAGIC,
    Chunk,
    ChunkDamaged,
    footer_crc,
    pack,
    read_head,
    unpack,
)
from brainforge_edge.recorder.cut import gap_of, make_chunk
from brainforge_edge.recorder.entry import (
    CRC_BYTES,
    ENTRY_HEAD,
    ENTRY_MAGIC,
    GAP_RECORD,
    pack_description,
    pack_entry,
    pack_header,
)
from brainforge_edge.recorder.journalfile import read_journal
from brainforge_edge.recorder.leftovers import read_leftovers, uncovered_pieces
from brainforge_edge.recorder.segment import Descriptor, pack_descriptor, read_descriptor
from brainforge_edge.recorder.verify import verify_recording
from brainforge_edge.security import tpmfile
from brainforge_edge.security.agreement import point_of
from brainforge_edge.storage.files import Disk
from tests.fuzz.target import Bytes, Target, plain
from tests.unit.recorder_material import IDENTITY, LOG_ID, entry, packed, stream, t_of

INFO = stream()
FOLDER = Path("rec-1")
SEGMENT_ID = bytes(range(16))
_FILE_ID = bytes(range(16, 32))
_MOST_BODY = 512
_CLOSED = b'{"recording":"rec-1","created_utc_ns":1,"node":"node-1","closed":true}'


class MemoryDisk:
    """Files that are read only, by path."""

    def __init__(self, files: Mapping[Path, bytes]) -> None:
        self._files = dict(files)
        self._paths = list(self._files)

    def open(self, path: Path, mode: str) -> int:
        assert mode == "read"
        return self._paths.index(path)

    def close(self, fd: int) -> None:
        assert fd < len(self._paths)

    def size(self, fd: int) -> int:
        return len(self._files[self._paths[fd]])

    def pread(self, fd: int, n: int, at: int) -> bytes:
        return self._files[self._paths[fd]][at : at + n]

    def read_file(self, path: Path) -> bytes:
        return self._files[path]

    def names(self, path: Path) -> list[str]:
        depth = len(path.parts)
        inside = [found.parts for found in self._paths if found.parts[:depth] == path.parts]
        return sorted({parts[depth] for parts in inside if len(parts) > depth})


def decoded(chunk: Chunk) -> bytes:
    """As `brainforge-edge verify` does it."""
    dtype = Dtype(chunk.dtype)
    rows = registry.decode(chunk.codec, chunk.body, dtype, chunk.n_samples, chunk.n_channels)
    return registry.pack_rows(rows, dtype)


def mended_chunks(data: bytes) -> bytes:
    """The same with right checks wherever a chunk begins."""
    out = bytearray(data)
    at = out.find(MAGIC)
    while 0 <= at <= len(out) - HEADER_BYTES - FOOTER_BYTES:
        body_at = HEADER_BYTES - 20  # five u32 before the header's own check
        left = len(out) - at - HEADER_BYTES - FOOTER_BYTES
        body, extension = struct.unpack_from("<II", out, at + body_at)
        if body + extension > left:  # cut by a mutation: it is as long as what is left
            extension = min(extension, left)
            body = left - extension
            struct.pack_into("<II", out, at + body_at, body, extension)
        head_end, end = at + HEADER_BYTES, at + HEADER_BYTES + body + extension
        struct.pack_into("<I", out, head_end - 4, crc32c(bytes(out[at : head_end - 4])))
        crc = footer_crc(bytes(out[head_end - 4 : head_end]), bytes(out[head_end:end]))
        struct.pack_into("<I", out, end, crc)
        at = out.find(MAGIC, end + FOOTER_BYTES)
    return bytes(out)


def rows_chunk(seq: int, n: int, info: StreamInfo = INFO, gap: Gap | None = None) -> Chunk:
    return make_chunk(
        packed(info, seq, n),
        info=info,
        number=1,
        identity=IDENTITY,
        incarnation=1,
        seq=seq,
        t_first_ns=t_of(info, seq),
        flags=BlockFlag.FIRST if gap is None else BlockFlag.GAP_BEFORE,
        gap=gap,
        encode=registry.encode_packed,
    )


def descriptor_chunk() -> Chunk:
    said = Descriptor(info=INFO, number=1, identity=IDENTITY, ordinal=1, size=4096)
    return Chunk(
        codec=Codec.DESCRIPTOR, dtype=0, n_channels=0, n_samples=0, log_id=LOG_ID, incarnation=0,
        stream_number=1, seq=0, t_first_ns=0, sfreq=INFO.sfreq, body=pack_descriptor(said),
    )  # fmt: skip


def markers_chunk() -> Chunk:
    body = bytes.fromhex("81831a3b9aca00f93800657075") + b"lse"  # [[10^9, 0.5, "pulse"]]
    return Chunk(
        codec=Codec.MARKERS, dtype=0, n_channels=0, n_samples=1, log_id=LOG_ID, incarnation=0,
        stream_number=1, seq=0, t_first_ns=0, sfreq=INFO.sfreq, body=body,
    )  # fmt: skip


def segment(*chunks: Chunk) -> bytes:
    return b"".join(pack(c.placed(SEGMENT_ID, n)) for n, c in enumerate(chunks))


def recording_disk(body: bytes) -> Disk:
    """A closed recording with one segment."""
    path = FOLDER / INFO.stream_id / "0001.seg"
    return cast(Disk, MemoryDisk({FOLDER / "recording.json": _CLOSED, path: body}))


def run_segment(data: bytes) -> None:
    source = Bytes(data)
    mode = source.number()
    body = source.rest()
    if mode & 1:
        body = mended_chunks(body)
    disk = recording_disk(body)
    account = verify_recording(FOLDER, decode=decoded, disk=disk)
    assert all(each.rows >= 0 for each in account.streams)
    if mode & 2:
        with suppress(StorageError):
            for rows in read_parts(FOLDER, INFO.stream_id, disk):
                assert sum(len(run.data) for run in rows.runs()) <= rows.n_rows


def segment_seeds() -> list[bytes]:
    gap = Gap(5, 0, GapBasis.DEVICE_INDEX)
    whole = segment(descriptor_chunk(), rows_chunk(0, 3), rows_chunk(8, 4, gap=gap))
    twice = segment(descriptor_chunk(), rows_chunk(0, 6), rows_chunk(3, 6), markers_chunk())
    return [bytes([mode]) + body for mode in (0, 1, 3) for body in (whole, twice)]


def run_chunk(data: bytes) -> None:
    source = Bytes(data)
    mode = source.number()
    body = source.rest()
    if mode & 1:
        body = mended_chunks(body)
    with suppress(StorageError):
        chunk = unpack(body)
        assert len(pack(chunk)) >= HEADER_BYTES
        if chunk.codec is Codec.DESCRIPTOR:
            said = read_descriptor(chunk.body)
            assert said.info.n_channels == len(said.info.ch_names)
            return
        with suppress(ValueError):  # of a gap record and a type that are none: readers expect it
            gap_of(chunk)
            decoded(chunk)
    with suppress(ChunkDamaged):
        assert read_head(body).total_bytes >= HEADER_BYTES + FOOTER_BYTES


def chunk_seeds() -> list[bytes]:
    gap = Gap(5, 0, GapBasis.DEVICE_INDEX)
    made = (
        rows_chunk(0, 8), rows_chunk(8, 4, gap=gap), rows_chunk(0, 5, stream(dtype=Dtype.I16)),
        rows_chunk(0, 5, stream(dtype=Dtype.F32)), descriptor_chunk(), markers_chunk(),
    )  # fmt: skip
    return [bytes([mode]) + segment(chunk) for mode in (0, 1) for chunk in made]


def run_codec(data: bytes) -> None:
    source = Bytes(data)
    dtype = Dtype(1 + source.number() % 5)
    n_samples, n_channels = source.number() % 65, 1 + source.number() % 9
    body = source.rest()
    for codec in (Codec.PACKED, Codec.LOSSLESS):
        with suppress(StorageError):
            registry.decode(codec, body, dtype, n_samples, n_channels)
    with suppress(StorageError):
        rows = lossless.decode(memoryview(body), dtype, n_samples, n_channels)  # CRC not asked
        assert rows.shape == (n_samples, n_channels)
        assert rows.dtype.str == dtype.memory


def codec_seeds() -> list[bytes]:
    seeds = []
    for dtype in Dtype:
        for n, n_channels in ((40, 2), (64, 1)):
            info = stream(n_channels=n_channels, dtype=dtype)
            steep = bytes(at * at & 0xFF for at in range(n * info.row_bytes))
            bytes_of_rows = steep if n == 64 else packed(info, 0, n)
            rows = registry.unpack_rows(bytes_of_rows, dtype, n_channels)
            body = registry.encode(Codec.LOSSLESS, rows, dtype)
            seeds.append((bytes([dtype - 1, n, n_channels - 1]) + body)[:_MOST_BODY])
    return seeds


def mended_entries(data: bytes, base: int) -> bytes:
    """The same with right checks wherever an entry begins; `base` is its place in the file."""
    out = bytearray(data)
    at = out.find(ENTRY_MAGIC)
    seed = crc32c(_FILE_ID)
    while 0 <= at <= len(out) - ENTRY_HEAD.size - CRC_BYTES:
        flags, length = struct.unpack_from("<HI", out, at + 2)
        gap_bytes = GAP_RECORD.size if flags & BlockFlag.GAP_BEFORE else 0
        end = at + ENTRY_HEAD.size + gap_bytes + length
        if end + CRC_BYTES <= len(out):
            crc = crc32c(bytes(out[at:end]), crc32c(struct.pack("<Q", base + at), seed))
            struct.pack_into("<I", out, end, crc)
        else:
            end = at + 1
        at = out.find(ENTRY_MAGIC, end)
    return bytes(out)


def run_journal(data: bytes) -> None:
    source = Bytes(data)
    mode = source.number()
    description = source.take(source.number() << 8 | source.number())
    entries = source.rest()
    whole = pack_header(
        file_id=_FILE_ID, log_id=LOG_ID, lap=1, file_bytes=8192, description=description
    )
    body = mended_entries(entries, len(whole)) if mode & 1 else entries
    path = FOLDER / "0001.jrn"
    files = {path: (whole + body) if mode & 2 else entries}
    disk = cast(Disk, MemoryDisk(files))
    state = read_leftovers(FOLDER, disk)
    for number, info in state.streams.items():
        for piece in uncovered_pieces(state, number, {}, disk):
            assert len(piece.packed) % info.row_bytes == 0
    with suppress(StorageError):
        assert sum(1 for _ in read_journal(path, disk)) <= len(body)


def journal_seeds() -> list[bytes]:
    infos: dict[int, Any] = {1: INFO, 2: stream("acc", n_channels=1, dtype=Dtype.I16)}
    description = pack_description(infos, IDENTITY)
    base = len(
        pack_header(
            file_id=_FILE_ID, log_id=LOG_ID, lap=1, file_bytes=8192, description=description
        )
    )
    rows = b""
    gap = Gap(4, 0, GapBasis.DEVICE_INDEX)
    for made in (
        entry(INFO, 0, 4, flags=BlockFlag.FIRST),
        entry(infos[2], 0, 3, number=2),
        entry(INFO, 8, 2, gap=gap),
        entry(INFO, 9, 3),
    ):
        rows += b"".join(pack_entry(made, seed=crc32c(_FILE_ID), offset=base + len(rows)))
    head = len(description).to_bytes(2, "big") + description
    whole = pack_header(
        file_id=_FILE_ID, log_id=LOG_ID, lap=1, file_bytes=8192, description=description
    )
    bare = b"\0\0\0" + whole[:200]
    return [bytes([mode]) + head + rows for mode in (2, 3)] + [bare, b"\3" + head]


def run_tpm_key(data: bytes) -> None:
    """A key's file as it is, or with its CRC made anew around a public half."""
    source = Bytes(data)
    is_mended = source.number() % 2
    body = (
        tpmfile.encoded(tpmfile.TpmKey(source.rest(), b"wrapped", (7,)))
        if is_mended
        else source.rest()
    )
    with suppress(ValueError, msgspec.DecodeError):
        tpmfile.decoded(body).public_key()


def tpm_key_seeds() -> list[bytes]:
    private = ec.derive_private_key(7, ec.SECP256R1())
    point = point_of(private.public_key())
    found = []
    for policy in (b"", bytes(32)):
        area = tpmfile.template(policy)[2:-4] + b"\0\x20" + point[1:33] + b"\0\x20" + point[33:]
        public = len(area).to_bytes(2, "big") + area
        found += [
            b"\1" + public,
            b"\0" + tpmfile.encoded(tpmfile.TpmKey(public, b"wrapped", (4, 7))),
        ]
    return found


TARGETS = (
    Target("segment", segment_seeds, plain(run_segment), 1536),
    Target("journal", journal_seeds, plain(run_journal), 1024),
    Target("chunk", chunk_seeds, plain(run_chunk), 1024),
    Target("tpm-key", tpm_key_seeds, plain(run_tpm_key), 512),
    Target("codec", codec_seeds, plain(run_codec), _MOST_BODY),
)
