"""A box with closed recordings whose chains are complete, and an aggregator that signs for their segments."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis
from brainforge_edge.core.config import RetentionConfig
from brainforge_edge.core.wire import Attestation, ClosedSegment, Range
from brainforge_edge.fleet.retention import Retention
from brainforge_edge.recorder.attested import AttestedSegment
from brainforge_edge.recorder.catalog import (
    RecordingFile,
    close_recording,
    write_recording_file,
)
from brainforge_edge.recorder.chain import ATTESTED_FILE, CHAIN_FILE, ChainEntry, read_lines
from brainforge_edge.recorder.chaining import extend_chain
from brainforge_edge.recorder.cut import make_chunk
from brainforge_edge.recorder.freed import Freed, read_freed
from brainforge_edge.recorder.segment import SegmentWriter
from brainforge_edge.recorder.verify import Account, verify_recording
from brainforge_edge.security.sign import ATTESTATION, Signed, make_signer, read_signer
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.lines import append_line
from tests.unit.recorder_box import decode, encode
from tests.unit.recorder_faulty_disk import UnsyncedDisk
from tests.unit.recorder_material import IDENTITY, LOG_ID, NO_FLAGS, packed, seeded, stream, t_of

PRIVATE_PEM, PUBLIC_PEM = make_signer()
SIGNER = read_signer(PRIVATE_PEM, "the test")
STRANGER = read_signer(make_signer()[0], "another test")
EEG = stream("eeg")
ROWS = 80  # of a segment, one chunk
GAP_ROWS = 20  # before the third
DAY_NS = 86_400 * 10**9
NOW = 1_800_000_000 * 10**9


def rows_at(ordinal: int) -> Range:
    seq = (ordinal - 1) * ROWS + (GAP_ROWS if ordinal >= 3 else 0)
    return Range(1, seq, seq + ROWS)


def write_segment(folder: Path, ordinal: int, disk: Disk, *, seed: int = 1) -> Path:
    """Rows (ordinal - 1) * 80 to ordinal * 80; from the third on 20 are missing before them."""
    seq = rows_at(ordinal).first
    writer = SegmentWriter.create(
        folder, ordinal, info=EEG, number=1, identity=IDENTITY, size=200_000, disk=disk,
        random=seeded(seed * 1000 + ordinal),
    )  # fmt: skip
    gap = Gap(GAP_ROWS, 0, GapBasis.DEVICE_INDEX) if ordinal == 3 else None
    writer.append(
        make_chunk(
            packed(EEG, seq, ROWS), info=EEG, number=1, identity=IDENTITY, incarnation=1, seq=seq,
            t_first_ns=t_of(EEG, seq), flags=NO_FLAGS if gap is None else BlockFlag.GAP_BEFORE, gap=gap,
            encode=encode,
        )
    )  # fmt: skip
    writer.close()
    return writer.path


class Stand:
    """`root` is the node's."""

    def __init__(self, root: Path, *, n: int = 4, name: str = "rec-1", seed: int = 1) -> None:
        self.root = root
        self.recordings = root / "recordings"
        self.folder = self.recordings / name
        self.disk = UnsyncedDisk()
        card = RecordingFile(name, NOW, "node-1")
        write_recording_file(self.recordings, card, self.disk)
        (self.recordings / "log_id").write_bytes(LOG_ID)
        for ordinal in range(1, n + 1):
            write_segment(self.folder / EEG.stream_id, ordinal, self.disk, seed=seed)

    def close(self) -> None:
        """Close the recording and complete its chain."""
        close_recording(self.folder, self.disk)
        for _ in extend_chain(self.folder, self.disk):
            pass

    @property
    def chain(self) -> list[ChainEntry]:
        return read_lines(self.folder / CHAIN_FILE, UnsyncedDisk(), ChainEntry)

    @property
    def here(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*/*.seg"))

    @property
    def freed(self) -> list[Freed]:
        return read_freed(self.folder, UnsyncedDisk())

    def path(self, entry: ChainEntry) -> Path:
        return self.folder / entry.stream_id / entry.segment

    def attest(self, entry: ChainEntry, **changes: Any) -> None:
        """A line in `attested`."""
        line = AttestedSegment(entry.segment_id, signed(entry, **changes))
        append_line(self.folder / ATTESTED_FILE, msgspec.json.encode(line), self.disk)

    def attest_all(self, *, age_days: float = 8) -> None:
        for entry in self.chain:
            self.attest(entry, age_days=age_days)

    def retention(
        self,
        disk: Disk | None = None,
        *,
        config: RetentionConfig | None = None,
        is_full: Callable[[], bool] = lambda: False,
        utc_ns: int | None = NOW,
        has_verifier: bool = True,
    ) -> Retention:
        return Retention(
            self.recordings,
            config or RetentionConfig(enabled=True),
            log_id=LOG_ID,
            verifier=SIGNER.public if has_verifier else None,
            disk=disk or self.disk,
            utc_ns=lambda: utc_ns,
            is_full=is_full,
        )

    def account(self) -> Account:
        return verify_recording(
            self.folder,
            decode=decode,
            disk=UnsyncedDisk(),
            verifiers={SIGNER.id: SIGNER.public},
        )


def signed(
    entry: ChainEntry,
    *,
    age_days: float = 8,
    log_id: bytes = LOG_ID,
    signer: Any = SIGNER,
    domain: str = ATTESTATION,
    **changes: Any,
) -> Signed:
    """What the aggregator says of a segment; `changes` are fields of it that it says otherwise."""
    ordinal = int(entry.segment.removesuffix(".seg"))
    segment = ClosedSegment(
        stream_id=entry.stream_id, product=entry.product, segment_id=entry.segment_id,
        chunks=entry.chunks, size=entry.size, sha256=entry.sha256, ranges=(rows_at(ordinal),),
        head=entry.head,
    )  # fmt: skip
    statement = Attestation(
        log_id, msgspec.structs.replace(segment, **changes), 0, NOW - round(age_days * DAY_NS)
    )
    made: Signed = signer.sign(domain, msgspec.msgpack.encode(statement))
    return made


def stand_with_chain(root: Path, **options: Any) -> Stand:
    stand = Stand(root, **options)
    stand.close()
    return stand
