"""What a box says of its data keys is bounded at the aggregator."""

from pathlib import Path

from brainforge_edge.cloud.store.keys import MOST_KEPT, KeyShelf
from brainforge_edge.core.wire import MOST_RECIPIENTS
from brainforge_edge.security.wrap import KeyEntry, WrappedKey
from tests.unit.recorder_faulty_disk import UnsyncedDisk

LOG = bytes(range(16))


def entry(n: int, recipients: range) -> KeyEntry:
    wrapped = tuple(WrappedKey(f"{to:016x}", "aggregator", b"sealed") for to in recipients)
    return KeyEntry(f"{n:016x}", "p1", "", wrapped)


def test_one_key_is_given_no_recipients_without_end(tmp_path: Path) -> None:
    shelf = KeyShelf(tmp_path, disk=UnsyncedDisk())
    said = [
        shelf.add(LOG, entry(1, range(first, first + MOST_RECIPIENTS)))
        for first in range(0, 10 * MOST_RECIPIENTS, MOST_RECIPIENTS)
    ]
    assert set(said[: MOST_KEPT // MOST_RECIPIENTS]) == {""}
    assert set(said[MOST_KEPT // MOST_RECIPIENTS :]) == {"too_many_recipients"}
    assert shelf.add(LOG, entry(1, range(3))) == ""  # which are there
    kept = KeyShelf(tmp_path).find(LOG, entry(1, range(0)).key_id)
    assert isinstance(kept, KeyEntry)
    assert kept == entry(1, range(MOST_KEPT))


def test_a_recipient_who_is_named_twice_counts_twice(tmp_path: Path) -> None:
    shelf = KeyShelf(tmp_path, disk=UnsyncedDisk())
    shelf.add(LOG, entry(1, range(MOST_KEPT - 1)))
    again = entry(1, range(MOST_KEPT, MOST_KEPT + 1))
    twice = KeyEntry(again.key_id, "p1", "", again.wrapped * 2)
    assert shelf.add(LOG, twice) == "too_many_recipients"


def test_one_log_has_no_keys_without_end_and_another_is_not_touched_by_it(tmp_path: Path) -> None:
    for _ in range(2):  # again by a process that counts anew
        shelf = KeyShelf(tmp_path, disk=UnsyncedDisk(), most_keys=3)
        said = [shelf.add(LOG, entry(n, range(1))) for n in range(5)]
        assert said == ["", "", "", "too_many_keys", "too_many_keys"]
    assert shelf.add(bytes(16), entry(4, range(1))) == ""
    assert shelf.add(LOG, entry(0, range(2))) == ""  # one more recipient of one that is there
