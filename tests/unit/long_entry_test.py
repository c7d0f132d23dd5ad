"""A disk that stood still for longer than a journal file holds: the rows that waited go into several files."""

from pathlib import Path

from tests.unit.archive_box import ArchiveBox, check_stored
from tests.unit.recorder_faulty_disk import UnsyncedDisk


def test_rows_that_waited_for_longer_than_a_journal_file_holds_are_recorded(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    box = ArchiveBox(tmp_path / "r", tmp_path / "rings", UnsyncedDisk(), journal_bytes=3_000)
    try:
        box.start()
        box.seconds(4, records=False)
        box.seconds(1)
        assert box.stream.ring.durable == 5_000
        box.finish()
        check_stored(tmp_path / "r", 5_000, 5_000)
    finally:
        box.close()
