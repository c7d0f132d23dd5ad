"""A participant is erased at the aggregator: no file has the key, a box cannot bring it back, ranges stay exact."""

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from brainforge_edge.cloud.store.chunks import ChunkStore, Incoming
from brainforge_edge.cloud.store.erasure import StoreErasure
from brainforge_edge.cloud.store.keys import KeyShelf, entry_of
from brainforge_edge.cloud.store.reader import StoreReader
from brainforge_edge.codec import registry
from brainforge_edge.core.errors import CloudError, SecurityError, StorageError
from brainforge_edge.core.wire import Range, SealedKey, StreamInventory
from brainforge_edge.recorder.chunk import pack, unpack
from brainforge_edge.recorder.keyfile import read_keys
from brainforge_edge.recorder.reader import iter_chunks
from brainforge_edge.recorder.segment import SegmentWriter
from brainforge_edge.security.keystore import FileKeyStore
from brainforge_edge.security.order import EraseOrder
from brainforge_edge.storage.files import Disk
from tests.unit.erasure_material import (
    NOW_NS,
    PEOPLE,
    RECORDING,
    ROLES,
    Session,
    deliver,
    hits,
    info_of,
    opened_by,
    order,
    pairs,
    session,
    write_segment,
)
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed, UnsyncedDisk
from tests.unit.recorder_material import IDENTITY, rows_of, seeded

OTHERS = [who for who in PEOPLE if who != "p2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Session:
    root = tmp_path_factory.mktemp("site")
    return session(root / "box", root / "private", pairs(root / "private"), UnsyncedDisk())


@pytest.fixture
def cloud(tmp_path: Path, made: Session) -> Path:
    deliver(made, tmp_path / "cloud")
    return tmp_path / "cloud"


def erase(cloud: Path, said: EraseOrder | None = None, disk: Disk | None = None) -> StoreErasure:
    erasure = StoreErasure(
        cloud, said or order(), order_id="77", utc_ns=NOW_NS, disk=disk or UnsyncedDisk()
    )
    erasure.run()
    return erasure


def openers(made: Session, cloud: Path, who: str) -> list[str]:
    return opened_by(made, who, KeyShelf(cloud).find)


def test_every_copy_is_unreadable_and_the_other_three_are_as_they_were(
    made: Session, cloud: Path
) -> None:
    secrets = {who: made.secrets(who)["wrapped"] for who in PEOPLE}
    assert sum(hits([cloud], secrets["p2"]).values()) == 3  # the control
    erasure = erase(cloud)
    assert [(each.recording, each.what) for each in erasure.erased] == [
        (RECORDING, made.keys["p2"].key_id.hex())
    ]
    assert erasure.not_reached == []
    assert hits([cloud], secrets["p2"] + made.secrets("p2")["raw"]) == {}
    assert [openers(made, cloud, who) for who in PEOPLE] == [
        [] if who == "p2" else list(ROLES) for who in PEOPLE
    ]
    reader = StoreReader(
        cloud, decode=registry.decode, pack=registry.pack_rows,
        private=FileKeyStore(made.private / "aggregator"),
    )  # fmt: skip
    try:
        for who in OTHERS:
            info = info_of(who)
            rows = [part for _, part in reader.iter_rows(made.log_id, info.stream_id)]
            np.testing.assert_array_equal(np.concatenate(rows), rows_of(info, 0, 320))
        assert reader.ranges(made.log_id, info_of("p2").stream_id) == [Range(1, 0, 320)]
        with pytest.raises(SecurityError) as caught:
            list(reader.iter_rows(made.log_id, info_of("p2").stream_id))
        assert caught.value.code == "security.erased"
    finally:
        reader.close()


def test_a_box_that_sends_the_key_again_is_not_heard_by_a_store_that_was_open_all_the_time(
    made: Session, cloud: Path
) -> None:
    """Its chunks are taken, as bytes that nobody can open: what is stored of which range stays exact."""
    found = read_keys(made.folder, made.disk)
    assert found is not None
    mine = next(entry for entry in found.keys if entry.participant == "p2")
    store = ChunkStore(cloud, decode=registry.decode)
    try:
        assert store.keys.find(made.log_id, mine.key_id) == mine
        erase(cloud)
        assert store.keys.add(made.log_id, mine) == "erased_key"
        assert hits([cloud / "keys"], made.secrets("p2")["wrapped"]) == {}
        info = info_of("p2")
        path = made.folder / info.stream_id / "0002.seg"
        batch = [Incoming("bed-1", info.stream_id, bytes(w.data)) for w in iter_chunks(path)]
        assert {each.outcome for each in store.put(batch)} == {"duplicate"}
    finally:
        store.close()


def test_chunks_under_an_erased_key_that_come_late_are_stored_unreadable(
    made: Session, tmp_path: Path
) -> None:
    cloud = tmp_path / "late"
    deliver(made, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole" / "keys", cloud / "keys")
    store = ChunkStore(cloud, decode=registry.decode)
    try:
        store.register("bed-1", made.log_id, [])
        erase(cloud, order(log_ids=(made.log_id.hex(),)))
        info = info_of("p2")
        path = made.folder / info.stream_id / "0001.seg"
        batch = [Incoming("bed-1", info.stream_id, bytes(w.data)) for w in iter_chunks(path)]
        assert [each.reason for each in store.put(batch)] == [""] * 3
    finally:
        store.close()


def test_what_came_in_the_clear_is_listed(made: Session, tmp_path: Path) -> None:
    plain = Session(tmp_path / "box", made.private, made.recipients, made.disk, made.log_id, {})
    shutil.copytree(made.root, plain.root)
    write_segment(plain, "p2", 3, 2)
    deliver(plain, tmp_path / "cloud")
    stream_id = info_of("p2").stream_id
    _, whole, *_ = iter_chunks(plain.folder / stream_id / "0003.seg")
    other = replace(unpack(bytes(whole.data)), body=bytes(len(whole.chunk().body)))
    store = ChunkStore(tmp_path / "cloud", decode=registry.decode)
    (placed,) = store.put([Incoming("bed-1", stream_id, pack(other))])
    store.close()
    assert placed.reason == "conflict"
    erasure = erase(tmp_path / "cloud")
    assert [(each.kind, each.what.partition("-")[0]) for each in erasure.not_reached] == [
        ("plain", "chunks of head"),
        ("plain", "quarantine/head"),
    ]


def test_only_the_named_recordings_of_the_named_boxes_are_touched(
    made: Session, cloud: Path
) -> None:
    assert erase(cloud, order(nodes=("bed-2", "_aggregator"))).erased == []
    assert erase(cloud, order(recordings=("rec-2",))).erased == []
    left = erase(cloud, order(log_ids=("11" * 16,))).not_reached
    assert [(each.kind, each.what) for each in left] == [
        ("box", f"log {'11' * 16}"),
        ("participant", "p2"),
    ]
    assert openers(made, cloud, "p2") == list(ROLES)
    assert len(erase(cloud, order(recordings=(RECORDING,))).erased) == 1
    assert openers(made, cloud, "p2") == []


def test_killed_at_any_call_to_the_disk_it_is_run_again_and_no_other_key_is_ever_lost(
    made: Session, tmp_path: Path
) -> None:
    deliver(made, tmp_path / "whole")
    secrets = made.secrets("p2")["wrapped"]
    at = 0
    while True:
        cloud = tmp_path / str(at)
        shutil.copytree(tmp_path / "whole", cloud)
        disk = FaultyDisk(at=at, fault="kill" if at % 2 else "kill_torn")
        with contextlib.suppress(Killed):
            erase(cloud, disk=disk)
        disk.bury()
        assert [openers(made, cloud, who) for who in OTHERS] == [list(ROLES)] * 3
        assert len(erase(cloud).erased) == 1
        assert openers(made, cloud, "p2") == []
        assert hits([cloud], secrets) == {}
        shutil.rmtree(cloud)
        if not disk.is_dead:
            break
        at += 1
    assert at > 8


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CloudError) as caught:
        erase(tmp_path)
    assert caught.value.code == "cloud.no_store"


def test_a_name_that_nobody_has_here_is_listed(made: Session, cloud: Path) -> None:
    """Status 0 alone would pass for an erasure."""
    erasure = erase(cloud, order("p22"))
    assert erasure.erased == []
    assert [(each.kind, each.what) for each in erasure.not_reached] == [("participant", "p22")]
    assert "nobody of this name is known here" in erasure.not_reached[0].why
    erase(cloud)
    assert erase(cloud).not_reached == []  # the descriptors still say that p2 was here
    assert openers(made, cloud, "p3") == list(ROLES)


# ---- what a box says is not believed ------------------------------------------------------------

OTHER_BOX = b"E" * 16


def say(cloud: Path, made: Session, key_id: str, *, log_id: bytes, who: str = "p2") -> None:
    """A descriptor that names a key, delivered by a box."""
    info = msgspec.structs.replace(info_of("p2"), stream_id="said-eeg", device="said")
    identity = msgspec.structs.replace(
        IDENTITY, node="bed-1", log_id=log_id, participant=who, recording=RECORDING, key_id=key_id
    )
    folder = cloud.parent / "said" / info.stream_id
    ordinal = 1 + len(list(folder.glob("*.seg")))
    writer = SegmentWriter.create(
        folder, ordinal, info=info, number=9, identity=identity, size=100_000, disk=made.disk,
        random=seeded(70 + ordinal),
    )  # fmt: skip
    writer.close()
    store = ChunkStore(cloud, decode=registry.decode)
    store.register("bed-1", log_id, [StreamInventory(info.stream_id, 9, ())])
    batch = [
        Incoming("bed-1", info.stream_id, bytes(whole.data)) for whole in iter_chunks(writer.path)
    ]
    assert {each.outcome for each in store.put(batch)} == {"stored"}
    store.close()


def test_a_key_id_that_leads_elsewhere_erases_nothing_and_is_listed(
    made: Session, cloud: Path
) -> None:
    """Else one box could have the keys of another wiped, and the orders that were carried out forgotten."""
    theirs = made.keys["p1"].key_id.hex()
    orders = cloud / "orders.json"
    orders.write_text('{"counter": 5}')
    (cloud / "keys" / OTHER_BOX.hex()).mkdir()
    for key_id in (f"../{made.log_id.hex()}/{theirs}", "../../orders", theirs.upper(), "zz"):
        say(cloud, made, key_id, log_id=OTHER_BOX)
    erasure = erase(cloud, order(log_ids=(OTHER_BOX.hex(),)))
    assert erasure.erased == []
    assert [(each.kind, each.what) for each in erasure.not_reached] == [
        ("unclear", "chunks of said-eeg")
    ]
    assert openers(made, cloud, "p1") == list(ROLES)
    assert orders.read_text() == '{"counter": 5}'


def test_the_shelf_takes_no_id_that_is_not_one(made: Session, cloud: Path) -> None:
    shelf = KeyShelf(cloud)
    for key_id in ("../../orders", "", "0123456789ABCDEF", "0123456789abcde", "01 23456789abcde"):
        with pytest.raises(StorageError) as caught:
            shelf.find(made.log_id, key_id)
        assert caught.value.code == "storage.key_id"
        assert repr(key_id) in caught.value.why
        assert "box" in caught.value.remedy
        with pytest.raises(ValueError, match="its id is not 8 bytes in hex"):
            entry_of(SealedKey(key_id, "p2", "", (("0" * 16, "box", b"x"),)))


def test_a_file_among_the_keys_that_is_none_is_listed(made: Session, cloud: Path) -> None:
    folder = cloud / "keys" / made.log_id.hex()
    mine = folder / f"{made.keys['p2'].key_id.hex()}.json"
    shutil.copy(mine, folder / "copy of a key.json")
    erasure = erase(cloud)
    assert [(each.kind, Path(each.what).name) for each in erasure.not_reached] == [
        ("unclear", "copy of a key.json")
    ]
    assert not mine.exists()


def relabel(cloud: Path, made: Session, who: str, now: str) -> Path:
    path = cloud / "keys" / made.log_id.hex() / f"{made.keys[who].key_id.hex()}.json"
    data = path.read_bytes()
    path.write_bytes(data.replace(f'"{who}"'.encode(), f'"{now}"'.encode()))
    return path


def test_a_key_that_one_flipped_bit_gives_to_another_is_not_erased_with_his(
    made: Session, cloud: Path
) -> None:
    """These files have no CRC; descriptors have."""
    theirs, mine = relabel(cloud, made, "p3", "p2"), relabel(cloud, made, "p2", "q2")
    erasure = erase(cloud)
    assert [(each.kind, each.what) for each in erasure.not_reached] == [
        ("unclear", f"key {theirs.stem}")
    ]
    assert "somebody else's" in erasure.not_reached[0].why
    assert theirs.exists()
    assert not mine.exists()


def test_a_key_that_two_participants_have_by_their_descriptors_is_left_and_listed(
    made: Session, cloud: Path
) -> None:
    theirs = made.keys["p3"].key_id.hex()
    say(cloud, made, theirs, log_id=made.log_id)
    erasure = erase(cloud)
    assert [each.what for each in erasure.not_reached] == [f"key {theirs}"]
    assert openers(made, cloud, "p3") == list(ROLES)
    assert openers(made, cloud, "p2") == []
