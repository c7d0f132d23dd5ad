"""Sealed journals: recovered with the box's own key, kept without it, and nothing forged is taken."""

import os
from pathlib import Path

import msgspec
import pytest

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause, SampleBlock
from brainforge_edge.core.errors import SecurityError
from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.recorder.catalog import RecordingFile, write_recording_file
from brainforge_edge.recorder.chunk import ChunkFlag
from brainforge_edge.recorder.entry import CRC_BYTES, ENTRY_HEAD, SEALED, Entry
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.recorder.journalfile import (
    journal_files,
    read_journal,
    read_journal_header,
    scan_entries,
)
from brainforge_edge.recorder.leftovers import read_leftovers
from brainforge_edge.recorder.reader import iter_chunks
from brainforge_edge.recorder.recover import RecoveryReport, recover_device
from brainforge_edge.recorder.verify import Span
from brainforge_edge.rings.ring import SampleRing
from brainforge_edge.security.keystore import FileKeyStore
from brainforge_edge.security.seal import JOURNAL, DataKey
from tests.unit.recorder_box import encode
from tests.unit.recorder_material import IDENTITY, LOG_ID, entry, packed, rows_of, seeded, t_of
from tests.unit.sealed_material import DISK, EEG, account, pair, sealing

GAP = Gap(5, 0, GapBasis.DEVICE_INDEX, GapCause.LINK)
ROWS = 30


def data_key(root: Path) -> DataKey:
    """For a box whose keys lie in `box-keys`."""
    return sealing(root, (pair(root / "box-keys", "box"),)).key_for("rec-1", "")


def journal(root: Path, key: DataKey | None) -> Journal:
    key_id = "" if key is None else key.key_id.hex()
    write_recording_file(root, RecordingFile("rec-1", None, "node-1"), DISK)
    return Journal.create(
        root / "rec-1" / "dev.journal", streams={1: EEG}, log_id=LOG_ID, file_bytes=20_000,
        disk=DISK, random=seeded(2), identity=msgspec.structs.replace(IDENTITY, key_id=key_id),
        key=key,
    )  # fmt: skip


def written(root: Path, key: DataKey | None) -> list[Entry]:
    """Entries with and without a gap, on the disk; the process died."""
    made = [
        entry(EEG, 0, 10), entry(EEG, 15, 10, gap=GAP), entry(EEG, 25, ROWS),
    ]  # fmt: skip
    opened = journal(root, key)
    opened.append(made)
    opened.sync()
    opened.close()  # with rows that no segment has: the files stay
    return made


def recover(root: Path, keys: Path | None = None) -> RecoveryReport:
    return recover_device(
        root, "dev", encode=encode, disk=DISK, random=os.urandom,
        private=FileKeyStore(root / "box-keys" if keys is None else keys),
    )  # fmt: skip


def test_what_was_sealed_is_read_back_with_the_key_alone(tmp_path: Path) -> None:
    key = data_key(tmp_path)
    made = written(tmp_path, key)
    (path, _) = journal_files(tmp_path / "rec-1" / "dev.journal", DISK)
    found = list(read_journal(path, DISK, key=key))
    assert [(e.seq, e.gap, bytes(e.payload)) for e in found] == [
        (e.seq, e.gap, bytes(e.payload)) for e in made
    ]
    unopened = list(read_journal(path, DISK))
    assert [(e.seq, e.n_samples, e.gap) for e in unopened] == [
        (e.seq, e.n_samples, e.gap) for e in made
    ]
    assert not any(e.payload for e in unopened)
    whole = path.read_bytes()
    rows = packed(EEG, 25, ROWS)
    assert not any(rows[at : at + 12] in whole for at in range(0, len(rows) - 11, 6))


def test_an_entry_made_in_the_ring_is_sealed_too(tmp_path: Path) -> None:
    key = data_key(tmp_path)
    opened = journal(tmp_path, key)
    opened.append([entry(EEG, 0, 10)])  # a lap is begun by this one
    ring = SampleRing.create(tmp_path / "ring", EEG, seconds=64)
    ring.push(SampleBlock(EEG.stream_id, 1, 10, t_of(EEG, 10), rows_of(EEG, 10, 20), BlockFlag(0)))
    assert opened.append_rows(ring, 1, 0, 20) == (1, 30)
    ring.close()
    opened.close()
    (path, _) = journal_files(tmp_path / "rec-1" / "dev.journal", DISK)
    found = list(read_journal(path, DISK, key=key))
    assert [(e.seq, bytes(e.payload)) for e in found] == [
        (0, packed(EEG, 0, 10)), (10, packed(EEG, 10, 20)),
    ]  # fmt: skip
    assert packed(EEG, 10, 20) not in path.read_bytes()


def test_recovery_with_the_boxs_own_key_makes_sealed_chunks(tmp_path: Path) -> None:
    key = data_key(tmp_path)
    written(tmp_path, key)
    report = recover(tmp_path)
    assert report.rows == {EEG.stream_id: 20 + ROWS}
    found = account(tmp_path, tmp_path / "box-keys")
    assert found.spans == [Span(1, 0, 10), Span(1, 15, 25 + ROWS)]
    assert (found.lost_in_gaps, found.unopened, found.is_clean) == (5, 0, True)
    chunks = [
        whole.chunk() for path in (tmp_path / "rec-1" / EEG.stream_id).glob("*.seg")
        for whole in iter_chunks(path)
    ]  # fmt: skip
    assert all(
        c.is_sealed and c.key_id == key.key_id and c.flags & ChunkFlag.RECOVERED
        for c in chunks if c.n_samples
    )  # fmt: skip
    assert not (tmp_path / "rec-1" / "dev.journal").exists()


def test_without_the_key_the_journal_waits_and_a_new_one_is_written_beside_it(
    tmp_path: Path,
) -> None:
    """As with a TPM that is locked: nothing is lost, nothing stops."""
    written(tmp_path, data_key(tmp_path))
    folder = tmp_path / "rec-1" / "dev.journal"
    before = {path: path.read_bytes() for path in journal_files(folder, DISK)}
    for _ in range(2):
        with pytest.raises(SecurityError, match="wrapped for box, and no such private") as caught:
            recover(tmp_path, tmp_path / "none")
        assert caught.value.code == "security.no_key"
    assert {path: path.read_bytes() for path in journal_files(folder, DISK)} == before
    state = read_leftovers(folder, DISK)
    assert state.n_entries == 3
    again = sealing(tmp_path, (pair(tmp_path / "box-2", "box"),), seed=7).key_for("rec-1", "")
    later = journal(tmp_path, again)
    later.append([entry(EEG, 25 + ROWS, 8)])
    later.sync()
    later.close()
    (tmp_path / "both").mkdir()
    for name in ("box-keys", "box-2"):
        (tmp_path / name / "box.key").rename(tmp_path / "both" / f"{name}.key")
    assert recover(tmp_path, tmp_path / "both").rows == {EEG.stream_id: 28 + ROWS}
    found = account(tmp_path, tmp_path / "both")
    assert found.spans == [Span(1, 0, 10), Span(1, 15, 33 + ROWS)]


@pytest.mark.parametrize("change", ["row", "seq", "unsealed"])
def test_a_forged_entry_costs_itself_alone_and_is_named(tmp_path: Path, change: str) -> None:
    """Its CRC is made anew, which needs no secret; its seal cannot be."""
    written(tmp_path, data_key(tmp_path))
    (path, _) = journal_files(tmp_path / "rec-1" / "dev.journal", DISK)
    header = read_journal_header(path, DISK)
    offset, size, _ = list(scan_entries(path, header, DISK))[1]
    data = bytearray(path.read_bytes())
    if change == "row":
        data[offset + size - CRC_BYTES - 1] ^= 1
    elif change == "seq":
        data[offset + 16] ^= 2
    else:
        _, flags, *_ = ENTRY_HEAD.unpack_from(data, offset)
        data[offset + 2 : offset + 4] = (flags & ~SEALED).to_bytes(2, "little")
        payload = 8 * EEG.row_bytes
        data[offset + 4 : offset + 8] = payload.to_bytes(4, "little")
        size = ENTRY_HEAD.size + 24 + payload + CRC_BYTES
    end = offset + size - CRC_BYTES
    seed = crc32c(offset.to_bytes(8, "little"), crc32c(header.file_id))
    data[end : end + CRC_BYTES] = crc32c(data[offset:end], seed).to_bytes(4, "little")
    path.write_bytes(data)
    report = recover(tmp_path)
    assert [hole.offset for hole in report.holes] == [offset]
    found = account(tmp_path, tmp_path / "box-keys")
    assert found.spans == [Span(1, 0, 10), Span(1, 25, 25 + ROWS)]
    assert found.lost_in_gaps == 15


def test_each_lap_has_a_key_of_its_own_and_each_entry_a_nonce_of_its_own(tmp_path: Path) -> None:
    key = data_key(tmp_path)
    opened = journal(tmp_path, key)
    for k in range(400):
        opened.append([entry(EEG, 10 * k, 10)])
        opened.sync()
        opened.release(opened.appended - 1)
    opened.close()
    headers = [read_journal_header(path, DISK) for path in journal_files(opened.folder, DISK)]
    assert len({header.file_id for header in headers}) == len(headers) == 2
    assert max(header.lap for header in headers) > 1
    path = journal_files(opened.folder, DISK)[0]
    header = read_journal_header(path, DISK)
    seal = key.file(header.file_id, JOURNAL)
    found = list(scan_entries(path, header, DISK, seal=seal))
    assert len({offset for offset, _, _ in found}) == len(found) > 10
    other = key.file(headers[1].file_id, JOURNAL)
    assert not list(scan_entries(path, header, DISK, seal=other))
