"""The journal: what was appended is read back, what is stale or torn is not."""

import errno
import threading
from pathlib import Path

import pytest

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause
from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder.entry import Entry, JournalDamaged
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.recorder.journalfile import journal_files, read_journal, read_journal_header
from brainforge_edge.storage.files import Buffer, Disk
from tests.unit.recorder_faulty_disk import FaultyDisk, MortalDisk
from tests.unit.recorder_material import IDENTITY, LOG_ID, entry, seeded, stream

EEG = stream("eeg")
HEADER = 8192
GAP = Gap(5, 1, GapBasis.CLOCK, GapCause.BOX)


def make(folder: Path, disk: Disk | None = None, *, file_bytes: int = 4096) -> Journal:
    return Journal.create(
        folder,
        streams={1: EEG},
        log_id=LOG_ID,
        file_bytes=file_bytes,
        disk=disk or MortalDisk(),
        random=seeded(),
        identity=IDENTITY,
    )


def read_all(folder: Path) -> list[Entry]:
    disk = MortalDisk()
    entries: list[Entry] = []
    for path in journal_files(folder, disk):
        try:
            entries += read_journal(path, disk)
        except JournalDamaged:
            continue
    return sorted(entries, key=lambda found: found.seq)


def plain(entries: list[Entry]) -> list[Entry]:
    return [found._replace(payload=bytes(found.payload)) for found in entries]


def test_entries_come_back_as_they_were_appended(tmp_path: Path) -> None:
    journal = make(tmp_path / "j")
    written = [
        entry(EEG, 0, 7, flags=BlockFlag.FIRST),
        entry(EEG, 7, 1),
        entry(EEG, 13, 4, gap=GAP),
    ]
    assert journal.append(written[:2]) == 2
    assert journal.append(written[2:]) == 3
    assert journal.sync() == 3
    assert read_all(tmp_path / "j") == plain(written)
    header = read_journal_header(tmp_path / "j" / "0001.jrn", MortalDisk())
    assert header.streams == {1: EEG}
    assert header.identity == IDENTITY
    assert header.log_id == LOG_ID


def test_a_closed_journal_is_gone_if_all_is_released_and_stays_if_not(tmp_path: Path) -> None:
    journal = make(tmp_path / "a")
    journal.append([entry(EEG, 0, 7)])
    journal.close()
    assert len(read_all(tmp_path / "a")) == 1
    journal = make(tmp_path / "b")
    journal.append([entry(EEG, 0, 7)])
    journal.release(1)
    journal.close()
    assert not (tmp_path / "b").exists()


def test_laps_are_used_in_turn_and_a_stale_entry_never_passes(tmp_path: Path) -> None:
    journal = make(tmp_path / "j")
    seq = 0
    for _ in range(40):  # six to a lap: two laps are left, the later with four of six
        journal.append([entry(EEG, seq, 100)])
        seq += 100
        journal.release(journal.appended - 3)
    found = read_all(tmp_path / "j")
    seqs = [item.seq for item in found]
    assert seqs == list(range(3000, 4000, 100)), "an entry of an earlier lap was read"
    assert len(journal_files(tmp_path / "j", MortalDisk())) == 2
    assert all(item.payload == entry(EEG, item.seq, 100).payload for item in found)


def test_more_files_are_opened_while_the_archive_lags_and_removed_when_it_caught_up(
    tmp_path: Path,
) -> None:
    journal = make(tmp_path / "j")
    for i in range(40):
        journal.append([entry(EEG, 100 * i, 100)])
    disk = MortalDisk()
    assert len(journal_files(tmp_path / "j", disk)) > 3
    assert [item.seq for item in read_all(tmp_path / "j")] == list(range(0, 4000, 100))
    journal.release(journal.appended)
    journal.sync()
    assert len(journal_files(tmp_path / "j", disk)) == 2


def test_many_entries_in_one_call_spread_over_files(tmp_path: Path) -> None:
    journal = make(tmp_path / "j")
    assert journal.append([entry(EEG, 100 * i, 100) for i in range(20)]) == 20
    assert [item.seq for item in read_all(tmp_path / "j")] == list(range(0, 2000, 100))


def test_every_truncation_leaves_the_whole_entries_before_it(tmp_path: Path) -> None:
    journal = make(tmp_path / "j")
    written = [entry(EEG, 0, 3), entry(EEG, 3, 2, gap=GAP), entry(EEG, 5, 4)]
    journal.append(written)
    path = tmp_path / "j" / "0001.jrn"
    whole = path.read_bytes()
    ends = [HEADER]
    for item in written:
        ends.append(ends[-1] + item.total_bytes)
    for length in [*range(0, HEADER, 97), *range(HEADER - 6, ends[-1] + 3)]:
        path.write_bytes(whole[:length])
        expected = sum(end <= length for end in ends[1:])
        if length < HEADER:
            with pytest.raises(JournalDamaged):
                list(read_journal(path, MortalDisk()))
        else:
            assert plain(written[:expected]) == list(read_journal(path, MortalDisk()))


def test_every_flipped_bit_costs_its_own_entry_and_no_other(tmp_path: Path) -> None:
    journal = make(tmp_path / "j")
    written = [entry(EEG, 0, 3), entry(EEG, 3, 2, gap=GAP), entry(EEG, 5, 4)]
    journal.append(written)
    path = tmp_path / "j" / "0001.jrn"
    whole = path.read_bytes()
    starts = [HEADER]
    for item in written:
        starts.append(starts[-1] + item.total_bytes)
    for bit in range(HEADER * 8, starts[-1] * 8, 3):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        hit = next(i for i in range(3) if bit // 8 < starts[i + 1])
        expected = [item for i, item in enumerate(plain(written)) if i != hit]
        assert list(read_journal(path, MortalDisk())) == expected


def test_a_whole_entry_at_another_offset_is_refused(tmp_path: Path) -> None:
    journal = make(tmp_path / "j")
    one, two = entry(EEG, 0, 3), entry(EEG, 3, 3)
    journal.append([one, two])
    path = tmp_path / "j" / "0001.jrn"
    data = bytearray(path.read_bytes())
    size = one.total_bytes
    data[HEADER : HEADER + size] = data[HEADER + size : HEADER + 2 * size]
    path.write_bytes(data)
    assert [item.seq for item in read_journal(path, MortalDisk())] == [3]


def test_a_failed_sync_stops_durable_and_append_until_abandon(tmp_path: Path) -> None:
    disk = FaultyDisk(watched={"fdatasync"}, at=3, fault=errno.EIO)  # 0 and 1 make the files
    journal = make(tmp_path / "j", disk)
    journal.append([entry(EEG, 0, 10)])
    assert journal.sync() == 1
    journal.append([entry(EEG, 10, 10)])
    with pytest.raises(StorageError) as caught:
        journal.sync()
    assert caught.value.facts["errno"] == errno.EIO
    assert journal.sync() == 1, "the same descriptor must not count again"
    with pytest.raises(StorageError):
        journal.append([entry(EEG, 20, 10)])
    journal.abandon()
    assert journal.append([entry(EEG, 10, 10), entry(EEG, 20, 10)]) == 4
    assert journal.sync() == 4
    assert {item.seq for item in read_journal(tmp_path / "j" / "0002.jrn", MortalDisk())} == {
        10,
        20,
    }


def test_rows_that_were_written_while_their_file_was_given_up_do_not_count(tmp_path: Path) -> None:
    class GivesUp(MortalDisk):
        journal: Journal | None = None

        def pwrite_all(self, fd: int, data: Buffer, at: int) -> None:
            super().pwrite_all(fd, data, at)
            if self.journal is not None:
                self.journal.abandon()  # the sync thread, at the worst moment

    disk = GivesUp()
    journal = make(tmp_path / "j", disk)
    journal.append([entry(EEG, 0, 10)])
    disk.journal = journal
    with pytest.raises(StorageError):
        journal.append([entry(EEG, 10, 10)])
    disk.journal = None
    assert journal.append([entry(EEG, 0, 10), entry(EEG, 10, 10)]) == 3
    assert journal.sync() == 3


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC])
def test_a_failed_write_is_not_retried_on_its_descriptor(tmp_path: Path, fault: int) -> None:
    folder = tmp_path / "j"
    journal = make(folder)
    journal.append([entry(EEG, 0, 10)])
    assert journal.sync() == 1
    disk = FaultyDisk(watched={"pwrite"}, at=0, fault=fault, is_sticky=True)
    disk._paths, journal._disk._paths = journal._disk._paths, {}  # type: ignore[attr-defined]
    journal._disk = disk
    with pytest.raises(StorageError):
        journal.append([entry(EEG, 10, 10)])
    journal.abandon()
    assert journal.append([entry(EEG, 10, 10)]) == 2
    assert journal.sync() == 2
    assert [item.seq for item in read_all(folder)] == [0, 10]


def test_short_writes_and_interrupts_are_finished(tmp_path: Path) -> None:
    for fault in ("short", errno.EINTR):
        for at in range(12, 16):
            folder = tmp_path / f"{fault}-{at}"
            journal = make(folder, FaultyDisk(watched={"pwrite"}, at=at, fault=fault))
            for i in range(12):
                journal.append([entry(EEG, 100 * i, 100)])
            assert len(read_all(folder)) == 12


def test_append_waits_neither_for_a_running_sync_nor_for_a_release(tmp_path: Path) -> None:
    inside, go_on = threading.Event(), threading.Event()

    class Slow(MortalDisk):
        is_slow = False

        def fdatasync(self, fd: int) -> None:
            if self.is_slow:
                inside.set()
                assert go_on.wait(20)
            super().fdatasync(fd)

    disk = Slow()
    journal = make(tmp_path / "j", disk)
    journal.append([entry(EEG, 0, 10)])
    disk.is_slow = True
    confirmed: list[int] = []
    syncing = threading.Thread(target=lambda: confirmed.append(journal.sync()))
    syncing.start()
    assert inside.wait(20)
    for i in range(1, 40):
        journal.append([entry(EEG, 100 * i, 100)])  # would hang if it waited
        journal.release(journal.appended - 2)
    go_on.set()
    syncing.join(20)
    assert confirmed[0] >= 1
    assert journal.sync() == journal.appended == 40


def test_rows_that_are_not_what_they_claim_are_refused(tmp_path: Path) -> None:
    journal = make(tmp_path / "j")
    with pytest.raises(ValueError, match="rows are not"):
        journal.append([entry(EEG, 0, 3)._replace(n_samples=2)])
    with pytest.raises(ValueError, match="gap"):
        journal.append([entry(EEG, 0, 3)._replace(gap=GAP)])
    with pytest.raises(ValueError, match="fits in no"):
        journal.append([entry(EEG, 0, 3000)])


def test_a_new_life_leaves_the_files_of_the_last_one(tmp_path: Path) -> None:
    make(tmp_path / "j").append([entry(EEG, 0, 3)])
    second = make(tmp_path / "j")
    second.append([entry(EEG, 3, 3)])
    second.release(1)
    second.close()
    assert [item.seq for item in read_all(tmp_path / "j")] == [0]
