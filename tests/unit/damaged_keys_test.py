"""A `keys` file that is damaged: recording goes on, nothing of it is overwritten, and what is whole in it opens."""

import contextlib
import errno
import os
import random as random_module
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.cli.main import main
from brainforge_edge.core.errors import SecurityError
from brainforge_edge.recorder.chunk import Head
from brainforge_edge.recorder.erasure import erase_keys
from brainforge_edge.recorder.keyfile import KEYS_FILE, find_keys, read_keys
from brainforge_edge.recorder.keyring import Keyring, in_folders
from brainforge_edge.recorder.reader import iter_chunks
from brainforge_edge.recorder.sealing import Sealing
from brainforge_edge.recorder.verify import verify_recording
from brainforge_edge.security.keystore import FileKeyStore
from brainforge_edge.security.seal import DataKey
from brainforge_edge.security.wrap import Recipient
from brainforge_edge.storage.files import Disk
from brainforge_edge.uplink.keys import KeyDesk
from tests.unit.recorder_faulty_disk import Killed, UnsyncedDisk
from tests.unit.recorder_material import LOG_ID, seeded
from tests.unit.recorder_powercut_disk import PowerCutDisk
from tests.unit.sealed_material import DISK, account, pair, rows_chunk, sealed_segment, sealing

PEOPLE = ("p1", "p2", "p3")


@pytest.fixture(scope="module")
def recipients(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Recipient, ...]]:
    folder = tmp_path_factory.mktemp("pairs")
    return folder, (pair(folder / "box", "box"), pair(folder / "site", "recovery"))


Recipients = tuple[Path, tuple[Recipient, ...]]


def made(
    root: Path, recipients: Recipients, disk: Disk = DISK, seed: int = 11
) -> dict[str, DataKey]:
    """A recording with a data key for each of three."""
    maker = maker_of(root, recipients, disk, seed)
    return {who: maker.key_for("rec-1", who) for who in PEOPLE}


def maker_of(root: Path, recipients: Recipients, disk: Disk, seed: int) -> Sealing:
    return Sealing(
        recipients[1], device="dev", recordings=root, log_id=LOG_ID, disk=disk, random=seeded(seed)
    )


def opens(root: Path, recipients: Recipients, key: DataKey, role: str = "box") -> bool:
    ring = Keyring(FileKeyStore(recipients[0] / role), in_folders([root / "rec-1"], UnsyncedDisk()))
    try:
        return ring.key(LOG_ID, key.key_id) == key
    except SecurityError:
        return False


def test_at_every_place_where_it_can_be_cut_off_recording_goes_on_with_what_is_whole(
    tmp_path: Path, recipients: Recipients
) -> None:
    keys = made(tmp_path, recipients)
    path = tmp_path / "rec-1" / KEYS_FILE
    text = path.read_bytes()
    ends = [text.index(b"}", text.index(_box(text, key)), len(text)) + 1 for key in keys.values()]
    disk = UnsyncedDisk()
    for at in range(len(text) - 1):
        shutil.rmtree(tmp_path / "rec-1")
        (tmp_path / "rec-1").mkdir()
        path.write_bytes(text[:at])
        new = maker_of(tmp_path, recipients, disk, 5).key_for("rec-1", "p4")
        assert (tmp_path / "rec-1" / "keys.damaged-1").read_bytes() == text[:at]
        assert opens(tmp_path, recipients, new)
        found = [opens(tmp_path, recipients, key) for key in keys.values()]
        assert found == [end <= at for end in ends], at
    for at in (len(text) - 1, len(text)):
        path.write_bytes(text[:at])
        assert [opens(tmp_path, recipients, key) for key in keys.values()] == [True] * 3


def _box(text: bytes, key: DataKey) -> bytes:
    """The start of the entry's first wrapped key, the box's."""
    at = text.index(key.key_id.hex().encode())
    return text[text.index(b'"sealed"', at) :][:60]


def test_every_changed_bit_is_found_and_costs_one_key_at_most(
    tmp_path: Path, recipients: Recipients
) -> None:
    keys = made(tmp_path, recipients)
    path = tmp_path / "rec-1" / KEYS_FILE
    text = path.read_bytes()
    random = random_module.Random(20)
    disk = UnsyncedDisk()
    unseen = []
    for bit in random.sample(range(8 * len(text)), 400):
        shutil.rmtree(tmp_path / "rec-1")
        (tmp_path / "rec-1").mkdir()
        changed = bytearray(text)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        is_found = bool(find_keys(tmp_path / "rec-1", disk).damaged)
        new = maker_of(tmp_path, recipients, disk, 5).key_for("rec-1", "p4")
        assert opens(tmp_path, recipients, new)
        lost = [who for who, key in keys.items() if not opens(tmp_path, recipients, key)]
        assert len(lost) <= 1
        if not is_found:
            unseen.append(bit // 8)
            assert not lost
        else:
            assert (tmp_path / "rec-1" / "keys.damaged-1").read_bytes() == changed
    # Only in the label of the check itself, which then is no check.
    assert all(text.rindex(b',\n "crc"') <= at for at in unseen)


@pytest.mark.parametrize("text", [b"", b"{", b'{"log_id": 3}', b"\xff\xfe", b"null", b'"keys"'])
def test_what_is_no_keys_file_at_all_is_set_aside_under_a_name_of_its_own_each_time(
    tmp_path: Path, recipients: Recipients, text: bytes
) -> None:
    folder = tmp_path / "rec-1"
    folder.mkdir()
    for number in (1, 2, 3):
        (folder / KEYS_FILE).write_bytes(text + b" " * number)
        maker_of(tmp_path, recipients, DISK, number).key_for("rec-1", "p1")
        assert (folder / f"keys.damaged-{number}").read_bytes() == text + b" " * number


def test_a_keys_file_of_another_log_is_set_aside(tmp_path: Path, recipients: Recipients) -> None:
    made(tmp_path, recipients)
    path = tmp_path / "rec-1" / KEYS_FILE
    found = read_keys(tmp_path / "rec-1", DISK)
    assert found is not None
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, log_id=LOG_ID[::-1])))
    new = maker_of(tmp_path, recipients, DISK, 5).key_for("rec-1", "p4")
    assert opens(tmp_path, recipients, new)
    assert (tmp_path / "rec-1" / "keys.damaged-1").exists()
    again = read_keys(tmp_path / "rec-1", DISK)
    assert again is not None
    assert again.log_id == LOG_ID


def test_a_file_of_before_there_was_a_check_is_read(tmp_path: Path, recipients: Recipients) -> None:
    keys = made(tmp_path, recipients)
    path = tmp_path / "rec-1" / KEYS_FILE
    text = path.read_bytes()
    path.write_bytes(text[: text.rindex(b',\n "crc"')] + b"\n}\n")
    assert find_keys(tmp_path / "rec-1", DISK).damaged == ()
    assert all(opens(tmp_path, recipients, key) for key in keys.values())


class BadSector(UnsyncedDisk):
    """The keys file is there, and its bytes cannot be read."""

    def syscall(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        if name == "pread" and os.fstat(args[0]).st_ino == self.bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().syscall(name, function, *args)

    bad = 0


def test_a_sector_that_cannot_be_read_does_not_stop_recording(
    tmp_path: Path, recipients: Recipients
) -> None:
    keys = made(tmp_path, recipients)
    disk = BadSector()
    disk.bad = (tmp_path / "rec-1" / KEYS_FILE).stat().st_ino
    new = maker_of(tmp_path, recipients, disk, 5).key_for("rec-1", "p4")
    assert opens(tmp_path, recipients, new)
    # Perhaps it can be read again one day.
    assert all(opens(tmp_path, recipients, key) for key in keys.values())


def test_it_is_named_by_verify_and_keys_list_and_its_rows_are_still_read(
    tmp_path: Path, recipients: Recipients, capsys: pytest.CaptureFixture[str]
) -> None:
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    own = (pair(tmp_path / "keys", "box"),)
    first = sealing(recordings, own).key_for("rec-1", "p1")
    sealed_segment(recordings, first, [rows_chunk(0, 80)])
    path = recordings / "rec-1" / KEYS_FILE
    path.write_bytes(path.read_bytes().replace(b'"format"', b'"fo\xff\xffat"'))
    second = sealing(recordings, own, seed=12).key_for("rec-1", "p1")
    sealed_segment(recordings, second, [rows_chunk(80, 20)], ordinal=2, seed=6)
    found = account(recordings, tmp_path / "keys")
    assert (found.rows, found.unopened, found.is_clean) == (100, 0, True)
    problems = verify_recording(recordings / "rec-1", decode=lambda _: b"", disk=DISK).problems
    assert [p.partition(" is ")[0] for p in problems] == ["keys.damaged-1"]
    assert main(["keys", "list", str(recordings / "rec-1")]) == 0
    said = capsys.readouterr()
    assert "rec-1/keys.damaged-1 is damaged" in said.err
    assert "1 keys were read in it" in said.err
    assert first.key_id.hex() in said.out
    assert second.key_id.hex() in said.out


def test_the_aggregator_gets_the_keys_of_the_damaged_file_and_of_the_new_one(
    tmp_path: Path, recipients: Recipients
) -> None:
    """As the uplink does: what was kept in the file that was set aside goes before its chunks, too."""
    first = maker_of(tmp_path, recipients, DISK, 3).key_for("rec-1", "p1")
    paths = [sealed_segment(tmp_path, first, [rows_chunk(0, 80)])]
    desk = KeyDesk(tmp_path, DISK, seals=True, aggregator=recipients[1][1].id)
    heads = [_head(paths[0])]
    assert desk.objection("rec-1", heads[0]) == ""
    path = tmp_path / "rec-1" / KEYS_FILE
    path.write_bytes(path.read_bytes()[:-2])
    second = maker_of(tmp_path, recipients, DISK, 5).key_for("rec-1", "p1")
    heads.append(_head(sealed_segment(tmp_path, second, [rows_chunk(80, 80)], ordinal=2)))
    assert desk.has_changed()
    for key, head in zip((first, second), heads, strict=True):
        assert desk.objection("rec-1", head) == ""
        sent = desk.to_send("rec-1", LOG_ID, head)
        assert sent is not None
        assert [each.key_id for each in sent.keys] == [key.key_id.hex()]
        assert len(sent.keys[0].wrapped) == 2


def _head(path: Path) -> Head:
    return next(whole.head for whole in iter_chunks(path) if whole.head.n_samples)


def test_a_power_cut_while_it_is_set_aside_loses_no_key(
    tmp_path: Path, recipients: Recipients
) -> None:
    """At every call that changes something; what was readable before is readable after, and what was
    acknowledged is there."""
    source = tmp_path / "source"
    source.mkdir()
    keys = made(source, recipients)
    text = (source / "rec-1" / KEYS_FILE).read_bytes()
    cut_text = text[: text.rindex(b'"erased"')]
    at = 0
    while True:
        root, after = tmp_path / "r", tmp_path / "after"
        (root / "rec-1").mkdir(parents=True)
        (root / "rec-1" / KEYS_FILE).write_bytes(cut_text)
        disk = PowerCutDisk(root, at=at, seed=at)
        disk.take_stock(root)
        new = None
        with contextlib.suppress(Killed):
            new = maker_of(root, recipients, disk, 5).key_for("rec-1", "p4")
        disk.platter(after)
        for seed in (6, 7):
            assert all(opens(after, recipients, key) for key in keys.values()), at
            assert new is None or opens(after, recipients, new), at
            later = maker_of(after, recipients, UnsyncedDisk(), seed).key_for("rec-1", "p5")
            assert opens(after, recipients, later)
        kept = [path.read_bytes() for path in (after / "rec-1").glob("keys.damaged-*")]
        assert cut_text in kept
        shutil.rmtree(root)
        shutil.rmtree(after)
        if not disk.is_dead:
            break
        at += 1
    assert at > 5


def test_what_a_keys_file_held_before_a_change_is_overwritten(
    tmp_path: Path, recipients: Recipients
) -> None:
    """Each replaced file is looked at under a second name that the test keeps."""
    maker = maker_of(tmp_path, recipients, DISK, 3)
    maker.key_for("rec-1", "p1")
    fd = os.open(tmp_path / "rec-1" / KEYS_FILE, os.O_RDONLY)
    try:
        before = os.pread(fd, 10_000, 0)
        maker.key_for("rec-1", "p2")
        assert os.pread(fd, 10_000, 0) == bytes(len(before))
    finally:
        os.close(fd)
    assert sorted(path.name for path in (tmp_path / "rec-1").iterdir()) == [KEYS_FILE]


def test_who_reads_while_others_add_keys_never_sees_the_file_that_is_overwritten(
    tmp_path: Path, recipients: Recipients
) -> None:
    keys = made(tmp_path, recipients)
    disk = UnsyncedDisk()
    stop = threading.Event()

    def add() -> None:
        seed = 100
        while not stop.is_set():
            seed += 1
            maker_of(tmp_path, recipients, disk, seed).key_for("rec-1", "p4")

    thread = threading.Thread(target=add)
    thread.start()
    try:
        reader = UnsyncedDisk()
        for _ in range(1500):
            found = find_keys(tmp_path / "rec-1", reader)
            assert found.damaged == ()
            assert found.file is not None
            assert len(found.file.keys) >= len(keys)
    finally:
        stop.set()
        thread.join()


def test_an_entry_of_which_nobody_knows_whose_it_is_is_nobodys(
    tmp_path: Path, recipients: Recipients
) -> None:
    """It says so in the list, and an order for what names nobody does not reach it."""
    made(tmp_path, recipients)
    path = tmp_path / "rec-1" / KEYS_FILE
    path.write_bytes(path.read_bytes().replace(b'"participant": "p2"', b'"participan\xff: "p2"'))
    found = read_keys(tmp_path / "rec-1", DISK)
    assert found is not None
    assert [entry.participant for entry in found.keys] == ["p1", "?", "p3"]
    erase_keys(tmp_path / "rec-1", "", log_id=LOG_ID, order="77", utc_ns=None, disk=DISK)
    again = read_keys(tmp_path / "rec-1", DISK)
    assert again is not None
    assert len(again.keys) == 3
