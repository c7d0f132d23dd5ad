"""Window, rate cap and cursors without a network."""

from pathlib import Path

import pytest

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.wire import Range
from brainforge_edge.storage.sqlite import Database
from brainforge_edge.uplink.cursor import CursorStore, Quarantined, Ref, SegmentCursor
from brainforge_edge.uplink.lanes import Item, TokenBucket, Window
from brainforge_edge.uplink.segments import Found, Track

REF = Ref("r1", "opm-mag", "0001.seg")


def track() -> Track:
    return Track(REF, Path("nowhere"), limit=100)


def test_the_cursor_waits_for_the_oldest_chunk() -> None:
    t = track()
    t.mark_done(Found(40, 60, None), receipted=False)
    assert t.cursor == 0
    t.mark_done(Found(0, 40, None), receipted=False)
    assert t.cursor == 60
    t.mark_done(Found(60, 100, None), receipted=False)
    assert t.is_finished
    t.move_back()
    assert (t.cursor, t.n_done, t.is_finished) == (0, 0, False)


def test_a_rate_cap_holds_on_average_and_saves_at_most_a_second() -> None:
    bucket = TokenBucket(1000.0, now=0.0)
    sent, now = 0, 0.0
    while now < 10.0:
        if bucket.wait_s(now) == 0.0:
            bucket.take(700)
            sent += 700
        else:
            now += bucket.wait_s(now) + 1e-9
    assert 10_000 <= sent <= 12_000
    assert bucket.wait_s(now + 100.0) == 0.0
    bucket.take(3000)
    assert bucket.wait_s(now + 100.0) == pytest.approx(2.0)


def test_no_rate_cap_never_waits() -> None:
    bucket = TokenBucket(0.0, now=0.0)
    bucket.take(10**9)
    assert bucket.wait_s(0.0) == 0.0


def test_the_window_keeps_slots_for_the_live_lane_and_heeds_credits() -> None:
    window = Window(16, 10**6)
    for i in range(12):
        window.items[bytes(16), i] = Item(track(), Found(0, 10, None), live=False)
    assert not window.room(live=False)
    assert window.room(live=True)
    window.credits = 4
    assert not window.room(live=True)


def test_a_window_in_bytes_always_lets_one_chunk_through() -> None:
    window = Window(16, 10)
    assert window.room(live=False)
    window.items[bytes(16), 0] = Item(track(), Found(0, 5000, None), live=False)
    window.bytes = 5000
    assert not window.room(live=True)


def test_retransmission_waits_longer_each_time_and_never_measures_the_way() -> None:
    window = Window(16, 10**6)
    item = Item(track(), Found(0, 10, None), live=False, tries=1)
    window.written(item, 100.0)
    assert item.due == pytest.approx(102.0)
    window.measured(item, 100.05)
    assert window.rtt < 0.25
    before = window.rtt
    item.tries = 3
    window.written(item, 200.0)
    assert item.due == pytest.approx(208.0)
    window.measured(item, 250.0)
    assert window.rtt == before


def test_cursors_and_quarantine_survive_a_restart(tmp_path: Path) -> None:
    store = CursorStore(tmp_path / "uplink.sqlite")
    saved = SegmentCursor(REF, b"s" * 16, 1, 0, 900, 3, (Range(0, 0, 50),))
    store.save([saved])
    store.quarantine(REF, Quarantined(10, 20, "crc"))
    store.set_generation(2)
    store.close()
    store = CursorStore(tmp_path / "uplink.sqlite")
    assert store.segments() == [saved]
    assert store.quarantined() == {REF: [Quarantined(10, 20, "crc")]}
    assert store.generation == 2
    store.forget([REF])
    assert store.segments() == []
    store.close()


def test_migrations_run_once_and_a_newer_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    first = ("CREATE TABLE a (x)",)
    both = (*first, "CREATE TABLE b (x); INSERT INTO b VALUES (1)")
    Database(path, migrations=first).close()
    for _ in range(2):
        database = Database(path, migrations=both)
        assert database.query("SELECT x FROM b") == [(1,)]
        assert database.one("PRAGMA synchronous") == (2,)
        database.close()
    with pytest.raises(StorageError, match="newer program"):
        Database(path, migrations=first)


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.sqlite", migrations=("CREATE TABLE a (x UNIQUE)",))

    def twice() -> None:
        with database.transaction():
            database.execute("INSERT INTO a VALUES (1)")
            database.execute("INSERT INTO a VALUES (1)")

    with pytest.raises(StorageError, match="UNIQUE"):
        twice()
    assert database.query("SELECT x FROM a") == []
    database.close()
