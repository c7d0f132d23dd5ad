"""Data keys of old recordings are wrapped for a new recipient, and the aggregator is told of them."""

from pathlib import Path

from brainforge_edge.cloud.store.keys import entry_of
from brainforge_edge.core.wire import SealedKey
from brainforge_edge.fleet.rewrapping import Rewrapping
from brainforge_edge.recorder.desiredfile import Standing, now_recipients, write_standing
from brainforge_edge.recorder.keyfile import KEYS_FILE, add_key, change_keys, read_keys
from brainforge_edge.recorder.keyscraps import ErasedKey
from brainforge_edge.recorder.sealing import Sealing
from brainforge_edge.security.agreement import HeldKeyUnusable
from brainforge_edge.security.desired import SealState, new_desired
from brainforge_edge.security.keystore import FileKeyStore, KeyStore
from brainforge_edge.security.seal import DataKey
from brainforge_edge.security.wrap import KeyEntry, Recipient, WrappedKey, make_data_key, wrap
from brainforge_edge.uplink.keyround import EVERY_S, LOOK_S, MOST_AT_ONCE, KeyRound, as_keys
from tests.unit.erasure_material import ORDER_ID, Make, Session, erase, order
from tests.unit.orders_material import desired, rewrapping
from tests.unit.recorder_material import seeded
from tests.unit.sealed_material import DISK, pair


def entries(made: Session) -> list[KeyEntry]:
    found = read_keys(made.folder, DISK)
    assert found is not None
    return list(found.keys)


def progress(work: Rewrapping) -> tuple[int | None, str, int]:
    return work.left, "" if work.error is None else work.error.code, work.wrapped


def test_every_key_is_wrapped_for_the_new_one_and_stays_open_for_the_old(
    make: Make, tmp_path: Path
) -> None:
    made = make(tmp_path / "box")
    before = {entry.key_id: entry for entry in entries(made)}
    new = pair(tmp_path / "new", "aggregator")
    work = rewrapping(made.recordings, made.private / "box")
    work.begin([new])
    assert work.left is None
    work.look()
    assert progress(work) == (0, "", 5)
    store = FileKeyStore(tmp_path / "new")
    opened = {entry.key_id: store.opened(entry, made.log_id) for entry in entries(made)}
    secrets = {key.key_id.hex(): key for key in made.keys.values()}
    assert opened == secrets
    for entry in entries(made):
        assert entry.wrapped[:3] == before[entry.key_id].wrapped
    version = (made.folder / KEYS_FILE).stat()
    work.look()
    assert (made.folder / KEYS_FILE).stat() == version


def test_a_key_that_is_made_while_it_works_is_found_at_the_next_look(
    make: Make, tmp_path: Path
) -> None:
    """By a process that read who is meant a moment before."""
    made = make(tmp_path / "box")
    new = pair(tmp_path / "new", "aggregator")
    work = rewrapping(made.recordings, made.private / "box")
    work.begin([new])
    work.look()
    made.sealing("p1", seed=2).key_for("rec-1", "p1")
    assert [e for e in entries(made) if e.wrapped_to(new.id) is None]
    work.look()
    assert [e for e in entries(made) if e.wrapped_to(new.id) is None] == []
    assert work.wrapped == 6


def test_what_cannot_be_opened_is_counted_and_tried_again_when_it_can(
    make: Make, tmp_path: Path
) -> None:
    """As with the box's key in a token that is not there."""
    made = make(tmp_path / "box")
    away = tmp_path / "away"
    new = pair(tmp_path / "new", "aggregator")
    work = rewrapping(made.recordings, away)
    work.begin([new])
    work.look()
    assert progress(work) == (5, "security.no_key", 0)
    away.symlink_to(made.private / "box")
    work.look()
    assert progress(work) == (5, "security.no_key", 0)
    work.retry()
    work.look()
    assert progress(work) == (0, "", 5)


def test_one_recording_that_cannot_be_read_does_not_hold_up_the_others(
    make: Make, tmp_path: Path
) -> None:
    made = make(tmp_path / "box")
    bad = made.recordings / "a-bad" / KEYS_FILE
    bad.mkdir(parents=True)
    work = rewrapping(made.recordings, made.private / "box")
    work.begin([pair(tmp_path / "new", "aggregator")])
    work.look()
    assert work.wrapped == 5
    assert work.error is not None
    assert work.error.code.startswith("storage.")


def test_keys_that_were_set_aside_before_the_disk_was_full_are_wrapped_too(
    make: Make, tmp_path: Path
) -> None:
    made = make(tmp_path / "box")
    (made.folder / KEYS_FILE).rename(made.folder / "keys.damaged-1")
    new = pair(tmp_path / "new", "aggregator")
    work = rewrapping(made.recordings, made.private / "box")
    work.begin([new])
    work.look()
    assert progress(work) == (0, "", 5)
    assert [e for e in entries(made) if e.wrapped_to(new.id) is None] == []


def test_an_erased_key_is_never_wrapped_again(make: Make, tmp_path: Path) -> None:
    made = make(tmp_path / "box")
    erase(made, DISK, order())
    new = pair(tmp_path / "new", "aggregator")
    work = rewrapping(made.recordings, made.private / "box")
    work.begin([new])
    work.look()
    assert work.wrapped == 4
    assert "p2" not in {entry.participant for entry in entries(made)}
    found = read_keys(made.folder, DISK)
    assert found is not None
    assert [each.order for each in found.erased] == [ORDER_ID]


def test_a_new_recording_is_sealed_for_whom_the_state_names_at_that_moment(tmp_path: Path) -> None:
    """By a process that runs on: nothing is started again for it."""
    root = tmp_path / "box"
    recordings = root / "recordings"
    DISK.make_folder(recordings)
    box, old, new = (pair(tmp_path / name, name) for name in ("box-key", "old", "new"))
    named = (Recipient("box", box.pem), Recipient("aggregator", old.pem))
    sealing = Sealing(
        named, device="eeg", recordings=recordings, log_id=bytes(16), disk=DISK, random=seeded(1),
        now=lambda those: now_recipients(those, root, DISK),
    )  # fmt: skip
    sealing.key_for("one", "")
    state = desired(seal=SealState(aggregator=new.pem.decode()))
    write_standing(root, Standing(new_desired(state), state, None), DISK)
    sealing.key_for("two", "")
    wrapped = {}
    for name in ("one", "two"):
        found = read_keys(recordings / name, DISK)
        assert found is not None
        wrapped[name] = {each.to for each in found.keys[0].wrapped}
    assert wrapped == {"one": {box.id, old.id}, "two": {box.id, new.id}}


def told(keys: KeyRound, now: float) -> list[str]:
    message = as_keys(bytes(16), keys.turn(now), "")
    return [] if message is None else [key.key_id for key in message.keys]


def test_the_aggregator_is_told_of_every_key_once_a_link_a_few_at_a_time(tmp_path: Path) -> None:
    recordings = tmp_path / "recordings"
    to, other = pair(tmp_path / "a", "aggregator"), pair(tmp_path / "b", "aggregator")
    ids = []
    for name, n in (("one", 7), ("two", 2)):
        for i in range(n):
            key = make_data_key(seeded(100 * n + i))
            ids.append(key.key_id.hex())
            entry = KeyEntry(ids[-1], "", "eeg", wrap(key, bytes(16), (to,)))
            add_key(recordings / name, entry, bytes(16), DISK)
    keys = KeyRound(recordings, DISK, to.id)
    assert told(KeyRound(recordings, DISK, ""), 0.0) == []
    assert told(KeyRound(recordings, DISK, other.id), 0.0) == []
    now, heard = 1.0, []
    for _ in range(4):
        part = told(keys, now)
        assert len(part) <= MOST_AT_ONCE
        assert told(keys, now + EVERY_S / 2) == []
        heard += part
        now += EVERY_S
    assert heard == ids
    assert told(keys, now + LOOK_S) == []
    key = make_data_key(seeded(5))
    entry = KeyEntry(key.key_id.hex(), "", "eeg", wrap(key, bytes(16), (to,)))
    add_key(recordings / "two", entry, bytes(16), DISK)
    assert entry.key_id in told(keys, now + 2 * LOOK_S)
    keys.restart()
    assert told(keys, now + 2 * LOOK_S) == ids[:MOST_AT_ONCE]
    assert isinstance(as_keys(bytes(16), [entry], "").keys[0], SealedKey)  # type: ignore[union-attr]


def test_a_key_that_was_erased_while_keys_are_told_is_not_told(tmp_path: Path) -> None:
    """The aggregator may have erased what it had before, and knows nothing of this one."""
    recordings = tmp_path / "recordings"
    to = pair(tmp_path / "a", "aggregator")
    ids = []
    for i in range(3 * MOST_AT_ONCE):
        key = make_data_key(seeded(i))
        ids.append(key.key_id.hex())
        entry = KeyEntry(ids[-1], "p1", "eeg", wrap(key, bytes(16), (to,)))
        add_key(recordings / "one", entry, bytes(16), DISK)
    keys = KeyRound(recordings, DISK, to.id)
    heard = set(told(keys, 1.0))
    gone = ids[-1]
    change_keys(
        recordings / "one", bytes(16), DISK, lambda those: those, erased=(ErasedKey(gone, 1, "o"),)
    )
    for turn in range(1, 12):
        heard |= set(told(keys, 1.0 + turn * EVERY_S))
    assert heard == set(ids) - {gone}


class Away:
    """A token or TPM that is not there: each question costs seconds."""

    def __init__(self) -> None:
        self.asked = 0

    def opened(self, entry: KeyEntry, log_id: bytes) -> DataKey | None:
        self.asked += 1
        raise HeldKeyUnusable("tpm_absent", "the key was not used", why="no TPM", remedy="Look")


def test_what_holds_the_boxs_key_and_is_away_is_asked_once_until_the_next_try(
    make: Make, tmp_path: Path
) -> None:
    """An order to erase waits for this thread."""
    made, away = make(tmp_path / "box"), Away()
    stores: list[KeyStore] = [away]
    work = Rewrapping(
        made.recordings, DISK, store=lambda: stores[0], is_over=lambda: away.asked > 2
    )
    work.begin([pair(tmp_path / "new", "aggregator")])
    for _ in range(3):
        work.look()
        assert (away.asked, progress(work)) == (1, (5, "security.tpm_absent", 0))
    work.retry()
    work.look()
    assert away.asked == 2
    stores[0] = FileKeyStore(made.private / "box")
    work.retry()
    work.look()
    assert progress(work) == (0, "", 5)


def test_who_is_told_to_end_opens_no_more_keys(make: Make, tmp_path: Path) -> None:
    made, store = make(tmp_path / "box"), FileKeyStore(tmp_path / "nowhere")
    asked = 0

    def is_over() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    work = Rewrapping(made.recordings, DISK, store=lambda: store, is_over=is_over)
    work.begin([pair(tmp_path / "new", "aggregator")])
    work.look()
    assert asked == 4
    assert work.wrapped == 0


def test_after_many_changes_of_keys_the_aggregator_still_takes_what_it_can_open() -> None:
    """A key that names more than it takes would be refused for ever, with the chunks that it opens."""
    key = make_data_key(seeded(1))
    wrapped = [WrappedKey("own", "box", b"1"), WrappedKey("back-again", "aggregator", b"2")]
    wrapped += [WrappedKey(f"{n}", ("aggregator", "recovery")[n % 2], b"3") for n in range(18)]
    message = as_keys(
        bytes(16), [KeyEntry(key.key_id.hex(), "", "eeg", tuple(wrapped))], "back-again"
    )
    assert message is not None
    taken = entry_of(message.keys[0])
    assert [each.to for each in taken.wrapped] == ["own", "back-again", "16", "17"]
