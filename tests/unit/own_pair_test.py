"""A box's own pair, and who else it seals for: damage of a file stops no recording, and no private key is given up."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from brainforge_edge.core.config import EdgeConfig, NodeConfig, SealConfig
from brainforge_edge.core.errors import SecurityError, StorageError
from brainforge_edge.recorder.keyfile import read_keys
from brainforge_edge.recorder.sealing import (
    KEYS_FOLDER,
    Sealing,
    configured,
    own_recipient,
    sealing_of,
)
from brainforge_edge.security.keystore import FileKeyStore, read_private
from brainforge_edge.security.wrap import KeyEntry, make_data_key, wrap
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed
from tests.unit.recorder_material import LOG_ID, seeded
from tests.unit.sealed_material import DISK, pair

SEAL = SealConfig()


def opens(root: Path) -> bool:
    """Whether what is sealed for the box as it is now can be opened with its private key."""
    key = make_data_key(seeded(1))
    entry = KeyEntry(
        key.key_id.hex(), "", "eeg", wrap(key, LOG_ID, (own_recipient(SEAL, root, DISK),))
    )
    return FileKeyStore(root / KEYS_FOLDER).opened(entry, LOG_ID) == key


@pytest.mark.parametrize("fault", ["kill", "kill_torn", errno.ENOSPC])
def test_a_pair_that_could_not_be_written_whole_is_made_at_the_next_start(
    tmp_path: Path, fault: str | int
) -> None:
    """By a cut of power or a full disk, at any call."""
    for at in range(100):
        root = tmp_path / str(at)
        disk = FaultyDisk(at=at, fault=fault)
        try:
            own_recipient(SEAL, root, disk)
        except (Killed, StorageError):
            assert opens(root)
        if disk.count <= at:
            break
    assert at > 5


@pytest.mark.parametrize("public", [None, b"", b"-----BEGIN PUBLIC KEY-----\nMFkwEw", bytes(178)])
def test_a_public_half_that_was_lost_is_made_again_and_what_it_sealed_stays_open(
    tmp_path: Path, public: bytes | None
) -> None:
    own = own_recipient(SEAL, tmp_path, DISK)
    path = tmp_path / KEYS_FOLDER / "box.pem"
    secret = (tmp_path / KEYS_FOLDER / "box.key").read_bytes()
    if public is None:
        path.unlink()
    else:
        path.write_bytes(public)
    assert own_recipient(SEAL, tmp_path, DISK) == own
    assert path.read_bytes() == own.pem
    assert (tmp_path / KEYS_FOLDER / "box.key").read_bytes() == secret


def test_a_pair_that_is_there_needs_no_folder_that_can_be_written(tmp_path: Path) -> None:
    """As one that root owns: the lock can neither be made nor opened."""
    own = own_recipient(SEAL, tmp_path, DISK)
    lock = tmp_path / KEYS_FOLDER / ".lock"
    lock.unlink()
    lock.mkdir()
    assert own_recipient(SEAL, tmp_path, DISK) == own


def test_a_private_key_that_cannot_be_read_is_named_and_left_where_it_is(tmp_path: Path) -> None:
    own_recipient(SEAL, tmp_path, DISK)
    path = tmp_path / KEYS_FOLDER / "box.key"
    damaged = path.read_bytes().replace(b"M", b"!")
    path.write_bytes(damaged)
    (tmp_path / KEYS_FOLDER / "box.pem").unlink()
    with pytest.raises(SecurityError, match=r"box\.key was not used"):
        own_recipient(SEAL, tmp_path, DISK)
    assert path.read_bytes() == damaged
    with pytest.raises(SecurityError):
        read_private(path)


def spoil(path: Path, how: str) -> None:
    if how == "garbage":
        path.write_bytes(b"\0garbage\xff")
    elif (
        how == "loop"
    ):  # as a folder that nobody may look into: no file is there, and none is absent
        path.unlink()
        path.symlink_to(path.name)
    elif how == "pipe":
        path.unlink()
        os.mkfifo(path)
    else:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("how", ["garbage", "loop", "folder", "pipe"])
def test_a_key_of_somebody_else_that_was_spoilt_stops_no_recording(
    tmp_path: Path, how: str
) -> None:
    """Neither in a process that runs on, nor in one that is started again."""
    site = tmp_path / "site"
    aggregator, recovery = pair(site, "aggregator"), pair(site, "recovery")
    seal = SealConfig(aggregator=str(site / "aggregator.pem"), recovery=str(site / "recovery.pem"))
    config = EdgeConfig(node=NodeConfig(id="box", root=str(tmp_path / "box")), seal=seal)
    own = own_recipient(SEAL, tmp_path / "box", DISK)

    def started() -> Sealing:
        made = sealing_of(config, "eeg", log_id=LOG_ID, disk=DISK, random=seeded(1))
        assert made is not None
        return made

    def wrapped(sealing: Sealing, recording: str) -> set[str]:
        sealing.key_for(recording, "")
        found = read_keys(tmp_path / "box" / "recordings" / recording, DISK)
        assert found is not None
        return {each.to for each in found.keys[0].wrapped}

    before = started()
    assert wrapped(before, "one") == {own.id, aggregator.id, recovery.id}
    spoil(site / "aggregator.pem", how)
    assert wrapped(before, "two") == {own.id, aggregator.id, recovery.id}
    assert wrapped(started(), "three") == {own.id, recovery.id}


def test_a_process_that_records_on_needs_nothing_of_its_keys_folder(tmp_path: Path) -> None:
    config = EdgeConfig(node=NodeConfig(id="box", root=str(tmp_path)))
    sealing = sealing_of(config, "eeg", log_id=LOG_ID, disk=DISK, random=seeded(1))
    assert sealing is not None
    shutil.rmtree(tmp_path / KEYS_FOLDER)
    (tmp_path / KEYS_FOLDER).write_bytes(b"")
    sealing.key_for("one", "")


def test_a_file_that_nobody_may_look_at_is_complained_of_when_it_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "aggregator.pem"
    path.symlink_to(path.name)
    with pytest.raises(SecurityError, match=r"aggregator\.pem, cannot be read"):
        configured(SealConfig(aggregator=str(path)))
    long = tmp_path / ("a" * 300) / "aggregator.pem"
    with pytest.raises(SecurityError, match="name too long"):
        configured(SealConfig(aggregator=str(long)))


def spoilt_own(root: Path, how: str, site: Path) -> tuple[EdgeConfig, Path]:
    """A box whose own public key cannot be used, and a recovery key that is in order."""
    pair(site, "recovery")
    recovery = str(site / "recovery.pem")
    if how == "pair":
        own_recipient(SEAL, root, DISK)
        (root / KEYS_FOLDER / "box.pem").unlink()
        secret = root / KEYS_FOLDER / "box.key"
        secret.write_bytes(secret.read_bytes().replace(b"M", b"!"))
        return EdgeConfig(
            node=NodeConfig(id="box", root=str(root)), seal=SealConfig(recovery=recovery)
        ), secret
    own = site / "box.pem"
    pair(site, "box")
    spoil(own, how)
    seal = SealConfig(box=str(own), recovery=recovery)
    return EdgeConfig(node=NodeConfig(id="box", root=str(root)), seal=seal), own


@pytest.mark.parametrize("how", ["garbage", "loop", "folder", "pipe", "pair"])
def test_a_key_of_the_box_itself_that_was_spoilt_stops_no_recording_for_others(
    tmp_path: Path, how: str
) -> None:
    root = tmp_path / "box"
    config, path = spoilt_own(root, how, tmp_path / "site")
    sealing = sealing_of(config, "eeg", log_id=LOG_ID, disk=DISK, random=seeded(1))
    assert sealing is not None
    sealing.key_for("one", "")
    assert sealing.error is not None
    assert sealing.error.code == "security.own_key_unusable"
    assert str(path) in sealing.error.why
    assert "next recording" in sealing.error.remedy
    if how == "folder":
        path.rmdir()
    else:
        path.unlink()
    if how != "pair":
        path.write_bytes(pair(tmp_path / "another", "box").pem)
    sealing.key_for("two", "")
    assert sealing.error is None
    roles = []
    for name in ("one", "two"):
        found = read_keys(root / "recordings" / name, DISK)
        assert found is not None
        roles.append(sorted(each.role for each in found.keys[0].wrapped))
    assert roles == [["recovery"], ["box", "recovery"]]


def test_where_nobody_is_left_to_seal_for_nothing_is_recorded_and_why_is_said(
    tmp_path: Path,
) -> None:
    config, path = spoilt_own(tmp_path / "box", "garbage", tmp_path / "site")
    (tmp_path / "site" / "recovery.pem").write_bytes(b"")
    sealing = sealing_of(config, "eeg", log_id=LOG_ID, disk=DISK, random=seeded(1))
    assert sealing is not None
    with pytest.raises(SecurityError) as caught:
        sealing.key_for("one", "")
    assert caught.value.code == "security.no_recipient"
    assert str(path) in caught.value.why
    assert not (tmp_path / "box" / "recordings").exists()
    with pytest.raises(SecurityError):
        configured(config.seal, own_alone=True)


def test_a_box_starts_with_a_spoilt_key_of_its_own_where_it_can_seal_for_others(
    tmp_path: Path,
) -> None:
    config, _ = spoilt_own(tmp_path / "box", "garbage", tmp_path / "site")
    assert [each.role for each in configured(config.seal, own_alone=True)] == ["recovery"]
    with pytest.raises(SecurityError):
        configured(config.seal)
