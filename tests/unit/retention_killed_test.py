"""Freeing that is killed, fails or loses power at any call: nothing is gone without its line and evidence."""

import contextlib
import errno
import shutil
from pathlib import Path

import msgspec
import pytest

from brainforge_edge.core.config import RetentionConfig
from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder import freeing
from brainforge_edge.recorder.chain import FREED_FILE
from brainforge_edge.recorder.freed import Freed, read_freed
from brainforge_edge.recorder.freeing import free_segment
from brainforge_edge.recorder.verify import verify_recording
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.lines import append_line
from tests.unit.recorder_box import decode
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed, UnsyncedDisk
from tests.unit.recorder_material import LOG_ID
from tests.unit.recorder_powercut_disk import PowerCutDisk
from tests.unit.retention_material import (
    NOW,
    SIGNER,
    STRANGER,
    Stand,
    rows_at,
    signed,
    stand_with_chain,
)

ALL = ["0001.seg", "0002.seg", "0003.seg", "0004.seg"]
ON = RetentionConfig(enabled=True)


def check(folder: Path) -> None:
    """Nothing is gone without its line and evidence; no line stands twice."""
    account = verify_recording(
        folder, decode=decode, disk=UnsyncedDisk(), verifiers={SIGNER.id: SIGNER.public}
    )
    assert account.is_clean, account
    here = {path.name for path in folder.glob("*/*.seg")}
    proven = {line.segment for stream in account.streams for line in stream.freed}
    assert here | proven == set(ALL)
    assert not here & proven


def lines(folder: Path) -> list[str]:
    path = folder / FREED_FILE
    whole = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [msgspec.json.decode(line, type=Freed).segment for line in whole]


@pytest.mark.parametrize("fault", ["kill", "kill_torn", errno.ENOSPC, errno.EIO])
def test_an_end_or_an_error_at_any_call_leaves_the_account_right(
    tmp_path: Path, fault: str | int
) -> None:
    at = 0
    while True:
        root = tmp_path / f"r{at}"
        stand = stand_with_chain(root)
        stand.attest_all()
        disk = FaultyDisk(at=at, fault=fault)
        with contextlib.suppress(Killed, StorageError):
            stand.retention(disk).once()
        check(stand.folder)
        after = stand.retention()
        after.finish()  # as the next start does
        check(stand.folder)
        assert {line.segment for line in stand.freed} & set(stand.here) == set()
        after.once()
        assert stand.here == []
        assert sorted(lines(stand.folder)) == ALL
        check(stand.folder)
        shutil.rmtree(root)
        if disk.count <= at:
            break
        at += 1
    assert at > 20


def powercut(tmp_path: Path, at: int, mutant: str = "") -> int:
    root, after = tmp_path / "r", tmp_path / "after"
    stand = stand_with_chain(root)
    stand.attest_all()
    disk = PowerCutDisk(root, at=at, mutant=mutant, seed=max(at, 0))
    disk.take_stock(root)
    try:
        with contextlib.suppress(Killed):
            stand.retention(disk).once()
        disk.platter(after)
        folder = after / "recordings" / "rec-1"
        check(folder)
        again = Stand.__new__(Stand)
        again.recordings, again.disk = after / "recordings", UnsyncedDisk()
        retention = again.retention()
        retention.finish()
        retention.once()
        check(folder)
        assert sorted(line.segment for line in read_freed(folder, UnsyncedDisk())) == ALL
        return disk.count
    finally:
        shutil.rmtree(root)
        shutil.rmtree(after, ignore_errors=True)


def all_powercuts(tmp_path: Path, mutant: str = "") -> None:
    calls = powercut(tmp_path, -1)
    assert calls > 12
    for at in range(calls):
        powercut(tmp_path, at, mutant)


def test_a_power_cut_at_any_call_leaves_nothing_gone_without_its_line(tmp_path: Path) -> None:
    all_powercuts(tmp_path)


@pytest.mark.parametrize("mutant", ["no_sync", "no_folder_sync"])
def test_the_power_cut_would_show_a_line_that_was_not_synced(tmp_path: Path, mutant: str) -> None:
    with pytest.raises(AssertionError):
        all_powercuts(tmp_path, mutant)


def test_removing_before_the_line_is_written_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(path: Path, line: bytes, disk: Disk) -> None:
        gone = msgspec.json.decode(line, type=Freed)
        disk.unlink(path.parent / gone.stream_id / gone.segment)
        append_line(path, line, disk)

    def killed_anywhere() -> None:
        for at in range(30):
            stand = stand_with_chain(tmp_path / f"r{at}")
            stand.attest_all()
            with contextlib.suppress(Killed, StorageError):
                stand.retention(FaultyDisk(at=at)).once()
            check(stand.folder)

    monkeypatch.setattr(freeing, "append_line", careless)
    with pytest.raises(AssertionError):
        killed_anywhere()


def test_a_removal_that_was_begun_is_finished_though_retention_is_off_now(tmp_path: Path) -> None:
    stand = stand_with_chain(tmp_path)
    stand.attest(stand.chain[0])
    path = stand.path(stand.chain[0])
    data = path.read_bytes()
    stand.retention().once()
    path.write_bytes(data)  # as after a power cut before the folder was synced
    assert not stand.retention(config=RetentionConfig()).finish().errors
    assert stand.here == ALL[1:]
    assert lines(stand.folder) == ["0001.seg"]


def test_a_line_in_freed_that_proves_nothing_removes_nothing(tmp_path: Path) -> None:
    stand = stand_with_chain(tmp_path)
    for signer, log_id in ((STRANGER, LOG_ID), (SIGNER, bytes(16))):
        for entry in stand.chain:
            line = Freed(
                log_id=log_id, stream_id=entry.stream_id, number=1, segment=entry.segment,
                segment_id=entry.segment_id, size=entry.size, sha256=entry.sha256,
                held=(rows_at(int(entry.segment[:4])),), named=(),
                freed_utc_ns=None, attestation=signed(entry, signer=signer, log_id=log_id),
            )  # fmt: skip
            append_line(stand.folder / FREED_FILE, msgspec.json.encode(line), stand.disk)
        stand.retention().finish()
        assert stand.here == ALL
    assert stand.account().is_clean  # they are here, whatever the lines say
    stand.path(stand.chain[0]).unlink()
    assert stand.account().is_clean  # of another log, but genuine: the copy of a clone proves it
    stand.folder.joinpath(FREED_FILE).unlink()
    assert not stand.account().is_clean


@pytest.mark.parametrize("has_key", [True, False])
def test_what_was_freed_without_evidence_is_a_problem(tmp_path: Path, *, has_key: bool) -> None:
    stand = stand_with_chain(tmp_path)
    stand.attest_all()
    stand.retention().once()
    verifiers = {STRANGER.id: STRANGER.public} if has_key else {}
    account = verify_recording(
        stand.folder, decode=decode, disk=UnsyncedDisk(), verifiers=verifiers
    )
    assert not account.is_clean
    assert sum("was freed without evidence" in problem for problem in account.problems) == 4


def test_the_one_place_that_removes_refuses_without_proof(tmp_path: Path) -> None:
    stand = stand_with_chain(tmp_path)
    entry = stand.chain[0]
    for proof in (signed(entry, signer=STRANGER), bytes(32)):
        with pytest.raises(StorageError, match="was not removed") as refused:
            free_segment(
                stand.folder, entry, log_id=LOG_ID, proof=proof, verifiers={SIGNER.id: SIGNER.public},
                utc_ns=NOW, disk=stand.disk,
            )  # fmt: skip
        assert refused.value.code == "storage.not_proven"
    assert stand.here == ALL
