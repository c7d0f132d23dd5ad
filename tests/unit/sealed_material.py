"""A sealed recording of a few chunks, and pairs of keys, for the tests of sealing."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from brainforge_edge.codec import registry
from brainforge_edge.core.stream import Dtype
from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.recorder.catalog import RecordingFile, write_recording_file
from brainforge_edge.recorder.chunk import HEADER_BYTES, Chunk, footer_crc
from brainforge_edge.recorder.cut import make_chunk
from brainforge_edge.recorder.keyring import Keyring, in_folders
from brainforge_edge.recorder.sealing import Sealing
from brainforge_edge.recorder.segment import SegmentWriter
from brainforge_edge.recorder.verify import StreamAccount, verify_recording
from brainforge_edge.security.keystore import FileKeyStore, make_pair
from brainforge_edge.security.seal import DataKey
from brainforge_edge.security.wrap import Recipient
from brainforge_edge.storage.files import SystemDisk
from tests.unit.recorder_box import encode
from tests.unit.recorder_material import IDENTITY, LOG_ID, NO_FLAGS, packed, seeded, stream, t_of

DISK = SystemDisk()
EEG = stream("eeg", dtype=Dtype.I24)


def pair(folder: Path, role: str) -> Recipient:
    folder.mkdir(exist_ok=True)
    return make_pair(folder, role, DISK.write_new)


def sealing(root: Path, recipients: Sequence[Recipient], *, seed: int = 11) -> Sealing:
    return Sealing(
        recipients, device="dev", recordings=root, log_id=LOG_ID, disk=DISK, random=seeded(seed)
    )


def rows_chunk(seq: int, n: int) -> Chunk:
    return make_chunk(
        packed(EEG, seq, n), info=EEG, number=1, identity=IDENTITY, incarnation=1, seq=seq,
        t_first_ns=t_of(EEG, seq), flags=NO_FLAGS, gap=None, encode=encode,
    )  # fmt: skip


def sealed_segment(
    root: Path, key: DataKey | None, chunks: Sequence[Chunk], *, ordinal: int = 1, seed: int = 5
) -> Path:
    """`rec-1` with one segment of these chunks, closed."""
    key_id = "" if key is None else key.key_id.hex()
    writer = SegmentWriter.create(
        root / "rec-1" / EEG.stream_id, ordinal, info=EEG, number=1,
        identity=msgspec.structs.replace(IDENTITY, key_id=key_id), size=100_000, disk=DISK,
        random=seeded(seed), key=key,
    )  # fmt: skip
    for item in chunks:
        writer.append(item)
    writer.close()
    write_recording_file(root, RecordingFile("rec-1", None, "node-1", closed=True), DISK)
    return writer.path


def keyring(root: Path, keys: Path) -> Keyring:
    return Keyring(FileKeyStore(keys), in_folders([root / "rec-1"], DISK))


def account(root: Path, keys: Path) -> StreamAccount:
    opened = keyring(root, keys).opened

    def decode(sealed: Chunk) -> bytes:
        chunk = opened(sealed)
        dtype = Dtype(chunk.dtype)
        rows = registry.decode(chunk.codec, chunk.body, dtype, chunk.n_samples, chunk.n_channels)
        return registry.pack_rows(rows, dtype)

    (found,) = verify_recording(root / "rec-1", decode=decode, disk=DISK).streams
    return found


def with_crcs(chunk: bytes) -> bytes:
    """As a forger would: both CRCs made anew over changed bytes."""
    head = chunk[: HEADER_BYTES - 4]
    header_crc = crc32c(head).to_bytes(4, "little")
    rest = chunk[HEADER_BYTES:-4]
    return head + header_crc + rest + footer_crc(header_crc, rest).to_bytes(4, "little")
