"""One of four participants is erased at a box: nobody opens those rows any more, the others' are as they were."""

import os
import shutil
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest

from brainforge_edge.codec import registry
from brainforge_edge.core.errors import SecurityError, SessionError
from brainforge_edge.core.stream import Dtype
from brainforge_edge.export.recording import read_parts
from brainforge_edge.recorder.catalog import close_recording
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.erasure import erase_keys
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.recorder.keyfile import KEYS_FILE, add_key, change_keys, find_keys, read_keys
from brainforge_edge.recorder.keyring import Keyring, in_folders
from brainforge_edge.recorder.recover import recover_device
from brainforge_edge.recorder.verify import Account, Span, verify_recording
from brainforge_edge.security.keystore import FileKeyStore
from tests.unit.erasure_material import (
    NOW_NS,
    ORDER_ID,
    PEOPLE,
    RECORDING,
    ROLES,
    Make,
    Session,
    erase,
    found_by,
    hits,
    info_of,
    opened_by,
    order,
    write_segment,
)
from tests.unit.recorder_box import encode
from tests.unit.recorder_material import IDENTITY, entry, rows_of, seeded
from tests.unit.sealed_material import DISK

OTHERS = [who for who in PEOPLE if who != "p2"]


def account(made: Session) -> Account:
    ring = Keyring(FileKeyStore(made.private / "recovery"), in_folders([made.folder], DISK))

    def decode(sealed: Chunk) -> bytes:
        chunk = ring.opened(sealed)
        dtype = Dtype(chunk.dtype)
        rows = registry.decode(chunk.codec, chunk.body, dtype, chunk.n_samples, chunk.n_channels)
        return registry.pack_rows(rows, dtype)

    return verify_recording(made.folder, decode=decode, disk=DISK)


def test_every_wrapped_form_is_gone_from_every_file_and_the_other_three_read_on(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    searched = {who: made.secrets(who) for who in PEOPLE}
    assert [found_by(made, who) for who in PEOPLE] == [list(ROLES)] * 4
    assert sum(hits([made.root], searched["p2"]["wrapped"]).values()) == 3  # the control
    erasure = erase(made)
    assert [each.what for each in erasure.erased] == [made.keys["p2"].key_id.hex()]
    assert hits([made.root], searched["p2"]["wrapped"] + searched["p2"]["raw"]) == {}
    assert found_by(made, "p2") == []
    for who in OTHERS:
        assert found_by(made, who) == list(ROLES)
        assert sum(hits([made.root], searched[who]["wrapped"]).values()) == 3
    found = account(made)
    assert found.is_clean
    assert {s.stream_id: (s.rows, s.unopened, s.erased) for s in found.streams} == {
        info_of(who).stream_id: (320, 0, 4 if who == "p2" else 0) for who in PEOPLE
    }
    ring = Keyring(FileKeyStore(made.private / "box"), in_folders([made.folder], DISK))
    for who in OTHERS:
        info = info_of(who)
        (rows,) = read_parts(made.folder, info.stream_id, DISK, opened=ring.opened)
        np.testing.assert_array_equal(rows.line(), rows_of(info, 0, 320))
    with pytest.raises(SecurityError) as caught:
        read_parts(made.folder, info_of("p2").stream_id, DISK, opened=ring.opened)
    assert caught.value.code == "security.erased"


def test_a_reader_is_told_that_a_key_was_erased_when_and_by_which_order(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    erase(made)
    ring = Keyring(FileKeyStore(made.private / "box"), in_folders([made.folder], DISK))
    with pytest.raises(SecurityError) as caught:
        ring.key(made.log_id, made.keys["p2"].key_id)
    assert caught.value.code == "security.erased"
    assert f"was erased on 2027-01-15 by order {ORDER_ID}" in caught.value.why
    assert caught.value.remedy == "Nothing can open it any more"


def test_nothing_brings_an_erased_key_back(tmp_path: Path, make: Make) -> None:
    """Neither a rewrap that had read it before, nor a copy of the entry."""
    made = make(tmp_path / "box")
    before = read_keys(made.folder, DISK)
    assert before is not None
    secrets = made.secrets("p2")["wrapped"]
    erase(made)
    change_keys(made.folder, made.log_id, DISK, lambda _: before.keys)
    add_key(made.folder, before.keys[1], made.log_id, DISK)
    assert found_by(made, "p2") == []
    assert hits([made.root], secrets) == {}


def test_only_the_recordings_that_are_named_are_touched(tmp_path: Path, make: Make) -> None:
    made = make(tmp_path / "box")
    shutil.copytree(made.folder, made.recordings / "rec-2")
    erasure = erase(made, said=order(recordings=("rec-2", "rec-3")))
    assert found_by(made, "p2") == list(ROLES)
    assert {each.recording for each in erasure.erased} == {"rec-2"}
    assert opened_by(made, "p2", in_folders([made.recordings / "rec-2"], DISK)) == []
    assert ("rec-3", "there is none of this name here") in {
        (each.recording, each.why) for each in erasure.not_reached
    }


def test_a_name_that_nobody_has_here_is_listed(tmp_path: Path, make: Make) -> None:
    """Status 0 alone would pass for an erasure."""
    made = make(tmp_path / "box")
    erasure = erase(made, said=order("p22"))
    assert erasure.erased == []
    assert [(each.kind, each.what) for each in erasure.not_reached] == [("participant", "p22")]
    assert "nobody of this name is known here" in erasure.not_reached[0].why
    for _ in range(2):  # what was erased before is known all the same
        assert "participant" not in {each.kind for each in erase(made).not_reached}


def test_a_label_that_was_changed_hides_no_key(tmp_path: Path, make: Make) -> None:
    """Descriptors name keys, too: an entry under another name, or in a file that was set aside."""
    made = make(tmp_path / "box")
    secrets = made.secrets("p2")["wrapped"]
    path = made.folder / KEYS_FILE
    path.write_bytes(path.read_bytes().replace(b'"participant": "p2"', b'"participant": "q2"'))
    made.sealing("p1", seed=2).key_for(RECORDING, "p1")
    assert (made.folder / "keys.damaged-1").exists()
    erase(made)
    assert hits([made.root], secrets) == {}
    assert found_by(made, "p2") == []
    assert [found_by(made, who) for who in OTHERS] == [list(ROLES)] * 3
    (damaged,) = find_keys(made.folder, DISK).damaged
    assert damaged.n_read == 4


def test_a_place_of_which_nobody_can_say_whose_it_is_stays_and_is_named(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    theirs = made.secrets("p3")["wrapped"]
    path = made.folder / KEYS_FILE
    data = path.read_bytes()
    at = data.index(b'"key_id"', data.index(made.keys["p3"].key_id.hex().encode()) - 20)
    path.write_bytes(data[:at] + b'"kex_id"' + data[at + 8 :])
    made.sealing("p1", seed=2).key_for(RECORDING, "p1")
    erasure = erase(made)
    assert [e.what for e in erasure.not_reached if e.kind == "unclear"] == ["keys.damaged-1"]
    assert found_by(made, "p2") == []
    assert sum(hits([made.folder / "keys.damaged-1"], theirs).values()) == 3


def test_what_was_recorded_in_the_clear_and_the_markers_are_listed_as_not_reached(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    sealed = made.keys.pop("p2")
    write_segment(made, "p2", 3, 2)
    made.keys["p2"] = sealed
    erasure = erase(made, said=order(nodes=("bed-1",)))
    assert [(each.kind, each.what) for each in erasure.not_reached] == [
        ("markers", f"markers under key {made.keys[''].key_id.hex()}"),
        ("plain", f"{info_of('p2').stream_id}/0003.seg"),
        ("aggregator", "its copies of the wrapped keys"),
    ]


def test_rows_of_nobody_in_particular_are_erased_where_their_recording_is_named(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    erase(made, said=order("", recordings=(RECORDING,)))
    assert found_by(made, "") == []
    assert [found_by(made, who) for who in PEOPLE] == [list(ROLES)] * 4


# ---- while others record -----------------------------------------------------------------------


def journal_of(made: Session, who: str, wearer: str = "") -> Journal:
    """Of the headset of `who`, worn by somebody else perhaps."""
    key = made.keys[wearer or who]
    identity = msgspec.structs.replace(
        IDENTITY, log_id=made.log_id, participant=wearer or who, recording=RECORDING,
        key_id=key.key_id.hex(),
    )  # fmt: skip
    return Journal.create(
        made.folder / f"head-{who}.journal", streams={1 + PEOPLE.index(who): info_of(who)},
        log_id=made.log_id, file_bytes=20_000, disk=DISK, random=seeded(2), identity=identity,
        key=key,
    )  # fmt: skip


@pytest.mark.parametrize("begun", [False, True])
def test_a_participant_who_is_being_recorded_is_refused_before_anything_is_touched(
    tmp_path: Path, make: Make, *, begun: bool
) -> None:
    made = make(tmp_path / "box")
    before = (made.folder / KEYS_FILE).read_bytes()
    journal = journal_of(made, "p2")
    if begun:
        journal.append([entry(info_of("p2"), 320, 10, number=2)])
    try:
        with pytest.raises(SessionError) as caught:
            erase(made)
        assert caught.value.code == "session.participant_recorded"
        assert "Stop the recording" in caught.value.remedy
        assert (made.folder / KEYS_FILE).read_bytes() == before
        assert [each.kind for each in erase(made, said=order("p3")).erased] == ["key"]
    finally:
        journal.close()
    erase(made)


def test_others_record_on_and_no_key_of_theirs_is_lost_meanwhile(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    stop = threading.Event()
    new: list[tuple[str, bytes]] = []

    def record() -> None:
        seed = 100
        while not stop.is_set() or seed < 110:
            seed += 1
            key = made.sealing("p3", seed=seed).key_for(RECORDING, "p3")
            new.append(("p3", key.key_id))

    thread = threading.Thread(target=record)
    thread.start()
    try:
        erase(made)
    finally:
        stop.set()
        thread.join()
    found = read_keys(made.folder, DISK)
    assert found is not None
    assert {key_id.hex() for _, key_id in new} <= {each.key_id for each in found.keys}
    assert [found_by(made, who) for who in PEOPLE] == [
        [] if who == "p2" else list(ROLES) for who in PEOPLE
    ]


@pytest.mark.parametrize("is_all", [True, False])
def test_a_journal_of_an_erased_key_does_not_keep_recovery_from_ending(
    tmp_path: Path, make: Make, *, is_all: bool
) -> None:
    """The process died before its rows became chunks. With a journal of another participant in the
    same folder, as where the device went from one to the other, that one is recovered."""
    made = make(tmp_path / "box")
    journal = journal_of(made, "p2")
    journal.append([entry(info_of("p2"), 320, 10, number=2)])
    journal.sync()
    journal.close()
    if not is_all:
        other = journal_of(made, "p2", "p3")
        other.append([entry(info_of("p2"), 340, 10, number=2)])
        other.sync()
        other.close()
    erase_keys(
        made.folder, "p2", log_id=made.log_id, order=ORDER_ID, utc_ns=NOW_NS, disk=DISK
    )  # fmt: skip
    report = recover_device(
        made.recordings, "head-p2", encode=encode, disk=DISK, random=os.urandom,
        private=FileKeyStore(made.private / "box"),
    )  # fmt: skip
    assert len(report.erased) == 1
    assert report.rows == ({} if is_all else {info_of("p2").stream_id: 10})
    assert not (made.folder / "head-p2.journal").exists()
    found = {stream.stream_id: stream for stream in account(made).streams}
    mine_now = found[info_of("p2").stream_id]
    assert mine_now.is_clean, mine_now
    assert mine_now.lost_in_gaps == (0 if is_all else 20)  # recovery says what it did not find


def test_rows_that_went_with_a_journal_are_no_damage_beside_what_was_erased(
    tmp_path: Path, make: Make
) -> None:
    """As where recovery had no key for a long time, and recording went on."""
    made = make(tmp_path / "box")
    write_segment(made, "p2", 4, 2)
    close_recording(made.folder, DISK)
    streams = {stream.stream_id: stream for stream in account(made).streams}
    before = streams[info_of("p2").stream_id]
    assert (before.missing, before.erased_spans) == ([Span(1, 320, 480)], [])
    erase(made)
    streams = {stream.stream_id: stream for stream in account(made).streams}
    after = streams[info_of("p2").stream_id]
    assert (after.missing, after.erased_spans) == ([], [Span(1, 320, 480)])
    assert after.is_clean
