"""What the aggregator signed before its store was restored frees nothing, wherever the work on a segment stood."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from brainforge_edge.core.config import RetentionConfig
from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder import freeing
from brainforge_edge.recorder.attested import FREEING_LOCK, set_aside
from brainforge_edge.recorder.copies import code_of, copy_recording, release_recording
from brainforge_edge.recorder.digest import FileDigest, file_digest
from brainforge_edge.recorder.freed import COPIED_FILE
from brainforge_edge.recorder.medium import Place
from brainforge_edge.uplink.claims import Claims
from tests.unit.recorder_faulty_disk import Killed, UnsyncedDisk
from tests.unit.recorder_material import LOG_ID
from tests.unit.retention_material import SIGNER, Stand

OFF = RetentionConfig()


class KilledBeforeUnlink(UnsyncedDisk):
    """A process that dies between the line and the removal."""

    def unlink(self, path: Path) -> None:
        raise Killed


def closed(root: Path, n: int = 2) -> Stand:
    stand = Stand(root, n=n)
    stand.close()
    stand.attest_all()
    return stand


def killed(stand: Stand) -> None:
    with pytest.raises(Killed):
        stand.retention(KilledBeforeUnlink()).once()


def put_back(stand: Stand) -> None:
    """By an operator, from a backup."""
    copies = {path: path.read_bytes() for path in stand.folder.glob("*/*.seg")}
    stand.retention().once()
    for path, data in copies.items():
        path.write_bytes(data)


@pytest.mark.parametrize("brought_back", [killed, put_back])
def test_a_file_beside_its_line_stays_once_attestations_were_set_aside(
    tmp_path: Path, brought_back: Callable[[Stand], None]
) -> None:
    stand = closed(tmp_path)
    brought_back(stand)
    n_lines = len(stand.freed)
    set_aside(stand.folder, stand.disk)
    assert not stand.retention(config=OFF).finish().errors
    assert not stand.retention().once().errors
    assert stand.here == ["0001.seg", "0002.seg"]
    account = stand.account()
    assert account.is_clean, account
    assert not account.chain.freed
    assert account.streams[0].rows == 160
    stand.attest_all(age_days=9)
    assert not stand.retention().once().errors
    assert stand.here == []
    assert len(stand.freed) == 2
    whole = (stand.folder / "freed").read_bytes().count(b"\n")
    assert whole == n_lines + 2  # the new statement stands in a line of its own
    assert stand.account().is_clean


def hashing(meanwhile: Callable[[], object]) -> Callable[..., FileDigest]:
    """The digest takes long; this happens before it is there."""

    def digest(*given: Any, **options: Any) -> FileDigest:
        found = file_digest(*given, **options)
        meanwhile()
        return found

    return digest


def test_a_statement_that_was_set_aside_while_its_file_was_hashed_frees_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = closed(tmp_path, n=1)
    monkeypatch.setattr(
        freeing, "file_digest", hashing(lambda: set_aside(stand.folder, stand.disk))
    )
    retention = stand.retention()
    (error,) = retention.once().errors
    assert error.code == "storage.void"
    assert error.transient
    assert error.remedy
    assert stand.here == ["0001.seg"]
    assert not stand.freed
    assert not retention.once().errors
    monkeypatch.setattr(freeing, "file_digest", file_digest)
    stand.attest_all()
    assert retention.once().freed  # by the same process
    assert stand.here == []


def test_a_release_whose_copy_is_not_told_of_any_more_frees_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = closed(tmp_path / "box", n=1)
    (tmp_path / "medium").mkdir()

    def look(path: Path) -> Place:
        return Place(2 if path.is_relative_to(tmp_path / "medium") else 1, "ext4", "")

    at: dict[str, Any] = {"utc_ns": 1, "disk": stand.disk, "look": look}
    code = code_of(copy_recording(stand.folder, tmp_path / "medium", **at))
    proof, (entry,) = release_recording(stand.folder, tmp_path / "medium", code, **at)
    forget = (stand.folder / COPIED_FILE).unlink
    monkeypatch.setattr(freeing, "file_digest", hashing(forget))
    with pytest.raises(StorageError, match="set aside") as refused:
        freeing.free_segment(
            stand.folder, entry, log_id=LOG_ID, proof=proof, verifiers={}, utc_ns=1, disk=stand.disk
        )
    assert refused.value.code == "storage.void"
    assert stand.here == ["0001.seg"]


def test_the_uplink_waits_for_who_is_removing_a_segment(tmp_path: Path) -> None:
    stand = closed(tmp_path, n=1)
    index: Any = SimpleNamespace(recordings=stand.recordings, disk=UnsyncedDisk())
    claims = Claims(index, node="box", log_id=LOG_ID, verifier=SIGNER.public, random=bytes)
    voiding = threading.Thread(target=claims.void)
    with stand.disk.exclusive(stand.recordings / FREEING_LOCK):
        voiding.start()
        voiding.join(0.2)
        assert (stand.folder / "attested").exists()
    voiding.join(10.0)
    assert not voiding.is_alive()
    assert not (stand.folder / "attested").exists()
