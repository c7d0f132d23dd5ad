"""The `attested` file: whole lines, whatever a power cut did; statements that are about this very segment."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.wire import Attestation, ClosedSegment, Range
from brainforge_edge.recorder.attested import (
    AttestedSegment,
    add_attested,
    attestation_of,
    read_attested,
    set_aside,
)
from brainforge_edge.recorder.chain import ATTESTED_FILE, NO_HEAD, ChainEntry, head_after
from brainforge_edge.security.sign import ATTESTATION, Signed, make_signer, read_signer
from brainforge_edge.storage.files import SystemDisk
from brainforge_edge.storage.lines import append_line
from tests.unit.recorder_faulty_disk import WRITING, FaultyDisk, Killed

DISK = SystemDisk()
LOG_ID = bytes(range(16))
SIGNER = read_signer(make_signer()[0], "test")


def entry(number: int) -> ChainEntry:
    segment_id, sha256 = bytes([number]) * 16, bytes([number]) * 32
    head = head_after(NO_HEAD, segment_id=segment_id, size=1000, sha256=sha256)
    return ChainEntry("opm", f"{number:04d}.seg", segment_id, 0, 3, 1000, sha256, head)


def statement(closed: ChainEntry) -> Signed:
    fields = {name: getattr(closed, name) for name in closed.__struct_fields__ if name != "segment"}
    said = Attestation(LOG_ID, ClosedSegment(**fields, ranges=(Range(0, 0, 50),)), 0, 1)
    return SIGNER.sign(ATTESTATION, msgspec.msgpack.encode(said))


def line(number: int) -> AttestedSegment:
    return AttestedSegment(entry(number).segment_id, statement(entry(number)))


def known(folder: Path) -> set[int]:
    entries = [entry(n) for n in range(10)]
    found = read_attested(folder, entries, DISK, log_id=LOG_ID, verifier=SIGNER.public)
    return {key[0] for key in found}


def test_lines_are_read_back(tmp_path: Path) -> None:
    for n in range(3):
        add_attested(tmp_path, line(n), DISK)
    assert known(tmp_path) == {0, 1, 2}
    assert known(tmp_path / "absent") == set()


@pytest.mark.parametrize("torn", [b'{"segment_id":"AA', bytes(40), b'{"segment_id":"\xff'])
def test_a_torn_last_line_is_none_and_never_spoils_the_next(tmp_path: Path, torn: bytes) -> None:
    add_attested(tmp_path, line(0), DISK)
    with (tmp_path / ATTESTED_FILE).open("ab") as file:
        file.write(torn)
    assert known(tmp_path) == {0}
    add_attested(tmp_path, line(1), DISK)
    assert known(tmp_path) == {0, 1}


def test_a_line_cut_at_any_byte_costs_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / ATTESTED_FILE
    add_attested(tmp_path, line(0), DISK)
    first = path.stat().st_size
    add_attested(tmp_path, line(1), DISK)
    whole = path.read_bytes()
    for length in range(first, len(whole), 7):
        path.write_bytes(whole[:length])
        add_attested(tmp_path, line(2), DISK)
        assert known(tmp_path) == {0, 2}


@pytest.mark.parametrize("fault", ["kill", "kill_torn", 5])
def test_a_disk_that_fails_at_any_call_keeps_what_was_kept(
    tmp_path: Path, fault: str | int
) -> None:
    add_attested(tmp_path, line(0), DISK)
    counting = FaultyDisk()
    add_attested(tmp_path, line(1), counting)
    for at in range(counting.count):
        folder = tmp_path / str(at)
        folder.mkdir()
        append_line(folder / ATTESTED_FILE, msgspec.json.encode(line(0)), DISK)
        with pytest.raises((StorageError, Killed)):
            add_attested(folder, line(1), FaultyDisk(watched=WRITING, at=at, fault=fault))
        assert known(folder) >= {0}
        add_attested(folder, line(2), DISK)
        assert known(folder) >= {0, 2}
    FaultyDisk.bury()


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": bytes(32)},
        {"size": 999},
        {"chunks": 2},
        {"head": bytes(32)},
        {"segment_id": bytes(16)},
        {"stream_id": "eeg"},
        {"product": 1},
        {"log_id": bytes(16)},
    ],
)
def test_a_statement_about_anything_else_is_none(changes: dict[str, Any]) -> None:
    one = entry(1)
    changed = dict(changes)
    log_id = changed.pop("log_id", LOG_ID)
    fields = {name: getattr(one, name) for name in one.__struct_fields__ if name != "segment"}
    segment = ClosedSegment(**(fields | {"ranges": ()} | changed))
    said = msgspec.msgpack.encode(Attestation(log_id, segment, 0, 1))
    for domain in (ATTESTATION, "ack bf/v1/bed-1/ack/-"):
        signed = SIGNER.sign(domain, said)
        assert attestation_of(signed, one, log_id=LOG_ID, verifier=SIGNER.public) is None


def test_a_statement_by_another_or_that_is_none_is_none() -> None:
    one, other = entry(1), read_signer(make_signer()[0], "other")
    genuine = statement(one)
    assert attestation_of(genuine, one, log_id=LOG_ID, verifier=SIGNER.public) is not None
    assert attestation_of(genuine, one, log_id=LOG_ID, verifier=other.public) is None
    for body in (b"", b"\xc1", os.urandom(200)):
        signed = SIGNER.sign(ATTESTATION, body)
        assert attestation_of(signed, one, log_id=LOG_ID, verifier=SIGNER.public) is None
    in_another_domain = SIGNER.sign("ack bf/v1/bed-1/ack/-", genuine.body)
    assert attestation_of(in_another_domain, one, log_id=LOG_ID, verifier=SIGNER.public) is None


def test_lines_that_no_longer_hold_are_set_aside_and_kept(tmp_path: Path) -> None:
    assert not set_aside(tmp_path, DISK)
    for number in (1, 2):
        add_attested(tmp_path, line(0), DISK)
        assert set_aside(tmp_path, DISK)
        assert known(tmp_path) == set()
        assert (tmp_path / f"{ATTESTED_FILE}.{number}").is_file()
