"""Sealed chunks in segments: who can read them, and what is found out about those who change them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.core.stream import Codec
from brainforge_edge.export.recording import read_parts
from brainforge_edge.recorder.chunk import ChunkFlag, unpack, unsealed
from brainforge_edge.recorder.keyfile import KEYS_FILE, read_keys
from brainforge_edge.recorder.keyring import Keyring, in_folders
from brainforge_edge.recorder.reader import iter_chunks
from brainforge_edge.recorder.verify import Span
from brainforge_edge.security.keystore import FileKeyStore
from tests.unit.recorder_material import LOG_ID, packed, rows_of
from tests.unit.sealed_material import (
    DISK,
    EEG,
    account,
    keyring,
    pair,
    rows_chunk,
    sealed_segment,
    sealing,
    with_crcs,
)


def record(root: Path) -> Path:
    """Three sealed chunks, for the box and for a recovery key."""
    recipients = (pair(root / "box-keys", "box"), pair(root / "site-keys", "recovery"))
    key = sealing(root, recipients).key_for("rec-1", "")
    return sealed_segment(root, key, [rows_chunk(0, 80), rows_chunk(80, 80), rows_chunk(160, 40)])


@pytest.mark.parametrize("keys", ["box-keys", "site-keys"])
def test_each_recipient_reads_what_was_recorded(tmp_path: Path, keys: str) -> None:
    record(tmp_path)
    found = account(tmp_path, tmp_path / keys)
    assert found.is_clean
    assert (found.rows, found.unopened, found.spans) == (200, 0, [Span(1, 0, 200)])
    opened = keyring(tmp_path, tmp_path / keys).opened
    (rows,) = read_parts(tmp_path / "rec-1", EEG.stream_id, DISK, opened=opened)
    assert np.array_equal(rows.line(), rows_of(EEG, 0, 200))


def test_without_a_key_the_account_is_exact_and_says_that_no_row_was_looked_at(
    tmp_path: Path,
) -> None:
    record(tmp_path)
    pair(tmp_path / "stranger", "box")
    found = account(tmp_path, tmp_path / "stranger")
    assert found.is_clean
    assert (found.chunks, found.rows, found.unopened) == (3, 200, 3)
    with pytest.raises(SecurityError, match="wrapped for box, recovery, and no such") as caught:
        read_parts(
            tmp_path / "rec-1", EEG.stream_id, DISK,
            opened=keyring(tmp_path, tmp_path / "stranger").opened,
        )  # fmt: skip
    assert caught.value.code == "security.no_key"
    with pytest.raises(SecurityError, match="no private key was named"):
        read_parts(tmp_path / "rec-1", EEG.stream_id, DISK)


def test_without_the_keys_file_nothing_opens(tmp_path: Path) -> None:
    path = record(tmp_path)
    (tmp_path / "rec-1" / KEYS_FILE).unlink()
    chunk = next(whole for whole in iter_chunks(path) if whole.head.n_samples).chunk()
    with pytest.raises(SecurityError, match="is in no keys file here"):
        keyring(tmp_path, tmp_path / "box-keys").opened(chunk)


def test_no_sample_lies_readable_in_the_file(tmp_path: Path) -> None:
    """Each stretch of 12 packed bytes of the rows is searched for; unsealed every one is found."""
    rows = packed(EEG, 0, 80)
    stretches = {rows[at : at + 12] for at in range(0, len(rows) - 11, 6)}
    as_it_is = replace(rows_chunk(0, 80), codec=Codec.PACKED, body=rows + bytes(4))
    key = sealing(tmp_path, (pair(tmp_path / "box-keys", "box"),)).key_for("rec-1", "")
    sealed = sealed_segment(tmp_path, key, [as_it_is]).read_bytes()
    plain = sealed_segment(tmp_path / "plain", None, [as_it_is]).read_bytes()
    assert all(stretch in plain for stretch in stretches)
    assert not any(stretch in sealed for stretch in stretches)


def test_a_descriptor_is_readable_and_names_the_key(tmp_path: Path) -> None:
    path = record(tmp_path)
    first, second, *_ = (whole.chunk() for whole in iter_chunks(path))
    assert not first.is_sealed
    assert second.is_sealed
    found = read_keys(tmp_path / "rec-1", DISK)
    assert found is not None
    assert (found.log_id, found.keys[0].key_id) == (LOG_ID, second.key_id.hex())
    assert unsealed(first) is first


def _forged(path: Path, number: int, change: str) -> None:
    """Change one chunk and make its CRCs anew: only the seal can tell."""
    wholes = list(iter_chunks(path))
    parts = [whole.data for whole in wholes]
    data = bytearray(parts[number])
    if change == "row":
        data[-20] ^= 1
    elif change == "seq":
        data[48:56] = (1 << 20).to_bytes(8, "little")
    elif change == "time":
        data[56] ^= 1
    elif change == "key":
        data[116] ^= 1
    elif change == "unsealed":
        data[8] ^= ChunkFlag.SEALED
    else:
        body = unpack(parts[3 - number]).body
        data = bytearray(parts[number][: -4 - len(unpack(parts[number]).body)] + body + bytes(4))
        data[108:112] = len(body).to_bytes(4, "little")
    parts[number] = with_crcs(bytes(data))
    path.write_bytes(b"".join(parts))


@pytest.mark.parametrize("change", ["row", "seq", "time", "unsealed", "body of another"])
def test_a_chunk_that_was_changed_is_refused_and_named_though_its_crcs_are_right(
    tmp_path: Path, change: str
) -> None:
    path = record(tmp_path)
    _forged(path, 1, change)
    found = account(tmp_path, tmp_path / "box-keys")
    assert not found.is_clean
    (damaged,) = found.damaged
    assert damaged.numbers == (1,)
    assert "undecodable" in damaged.reason
    opened = keyring(tmp_path, tmp_path / "box-keys").opened
    (rows,) = read_parts(tmp_path / "rec-1", EEG.stream_id, DISK, opened=opened)
    assert rows.n_damaged == 1
    assert [run.seq for run in rows.runs()] == [80, 160]


def test_a_chunk_under_another_key_is_not_opened(tmp_path: Path) -> None:
    path = record(tmp_path)
    _forged(path, 1, "key")
    assert account(tmp_path, tmp_path / "box-keys").unopened == 1


def test_a_sealed_chunk_moved_to_another_segment_is_damage(tmp_path: Path) -> None:
    path = record(tmp_path)
    recipients = (pair(tmp_path / "more-keys", "box"),)
    key = sealing(tmp_path, recipients, seed=12).key_for("rec-1", "")
    other = sealed_segment(tmp_path, key, [rows_chunk(200, 80)], ordinal=2, seed=6)
    moved = list(iter_chunks(other))[1].data
    path.write_bytes(path.read_bytes() + moved)
    found = account(tmp_path, tmp_path / "box-keys")
    assert [torn.reason for torn in found.torn] == ["misplaced"]


def test_one_key_serves_a_recording_until_another_one_begins(tmp_path: Path) -> None:
    maker = sealing(tmp_path, (pair(tmp_path / "box-keys", "box"),))
    one = maker.key_for("rec-1", "p1")
    assert maker.key_for("rec-1", "p1") is one
    assert maker.key_for("rec-1", "p2") != one
    assert maker.key_for("rec-2", "p2") != one
    found = read_keys(tmp_path / "rec-1", DISK)
    assert found is not None
    assert [entry.participant for entry in found.keys] == ["p1", "p2"]
    private = FileKeyStore(tmp_path / "box-keys")
    assert Keyring(private, in_folders([tmp_path / "rec-1"], DISK)).key(LOG_ID, one.key_id) == one
