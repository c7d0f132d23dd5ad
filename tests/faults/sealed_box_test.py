"""A box that seals: what lies on its disk while it records and after it was killed, and who can read it."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.faults.box import Box, box_in, cli, n_rows, spans
from tests.faults.sealedbox import STREAM, in_journal, kill_acquire, recorded, recording_box

MARK = "patient said: it hurts on the left"


def packed_rows(box: Box) -> list[bytes]:
    """The rows of the recording as a file in the clear would hold them: 24 bit, little-endian."""
    target = box.root / "exported"
    result = cli("export", box.recordings / "night", "--format", "csv", "--output", target)
    assert result.returncode == 0, result.stderr
    with (target / f"night_{STREAM}.csv").open(encoding="utf-8") as lines:
        table = list(csv.reader(line for line in lines if not line.startswith("#")))[1:]
    shutil.rmtree(target)
    rows = [[int(value) for value in row[3:]] for row in table]
    return [b"".join(v.to_bytes(3, "little", signed=True) for v in row) for row in rows]


def readable(folder: Path, wanted: list[bytes]) -> int:
    """How many of these lie in any file below, at any place; known there by their first eight bytes."""
    by_head: dict[bytes, set[bytes]] = {}
    for each in wanted:
        by_head.setdefault(each[:8], set()).add(each)
    heads = np.frombuffer(b"".join(by_head), dtype="<u8")
    found: set[bytes] = set()
    for data in (path.read_bytes() for path in folder.rglob("*") if path.is_file()):
        for shift in range(min(8, len(data))):
            words = np.frombuffer(data, dtype="<u8", count=(len(data) - shift) // 8, offset=shift)
            for place in (shift + 8 * np.flatnonzero(np.isin(words, heads))).tolist():
                of = by_head[data[place : place + 8]]
                found |= {each for each in of if data.startswith(each, place)}
    return sum(each in found for each in wanted)


@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "in the clear"])
def test_the_disk_of_a_box_that_seals_holds_no_readable_row_or_marker(
    tmp_path: Path, *, is_sealed: bool
) -> None:
    """Looked at as a thief of the disk would, at a moment of the recording and after it; a box that does
    not seal shows that the search finds what is there."""
    with box_in(tmp_path) as box:
        recording_box(box, is_sealed=is_sealed)
        box.ask("mark", description=MARK)
        kill_acquire(box)
        recorded(box, 250)
        box.until(lambda: in_journal(box, box.recordings) > 50, 30, "rows in the journal")
        stolen = tmp_path / "stolen"
        shutil.copytree(box.root / "box", stolen)
        box.ask("stop")
        account = box.verify()
        assert account["night"][STREAM]["unopened"] == 0
        rows = packed_rows(box)
        assert len(rows) > 100
        found = readable(stolen, rows), readable(stolen, [MARK.encode()])
        if is_sealed:
            assert found == (0, 0)
            assert readable(box.root / "box", [*rows, MARK.encode()]) == 0
        else:
            assert found[0] >= in_journal(box, stolen / "recordings") > 0
            assert readable(box.root / "box", [MARK.encode()]) == 1


def test_a_box_whose_own_key_is_locked_records_on_and_recovers_when_it_is_back(
    tmp_path: Path,
) -> None:
    """As with a token that is not there yet: recording needs no secret, recovery does."""
    with box_in(tmp_path) as box:
        recording_box(box, is_sealed=True)
        key = box.root / "box" / "keys" / "box.key"
        key.rename(tmp_path / "away.key")
        before = int(box.stream(STREAM)["durable"])
        kill_acquire(box)
        box.until_streaming(STREAM, 20)
        box.until(lambda: box.stream(STREAM).get("recorded"), 30, "the recording to go on")
        recorded(box, 250)
        error = box.worker("acquire:cap")["recording"]["error"]
        assert error["code"] == "security.no_key", error
        assert "wrapped for box" in error["why"]
        (tmp_path / "away.key").rename(key)
        assert box.daemon is not None
        assert box.end(box.daemon) == 0
        box.start()
        box.until_streaming(STREAM, 30)
        box.until(lambda: box.stream(STREAM).get("recorded"), 30, "the recording to go on")
        box.ask("stop")
        account = box.verify()
        stream = account["night"][STREAM]
        assert stream["clean"], stream
        assert stream["in_journal"] == 0
        assert n_rows(account, STREAM) >= before + 250
        assert spans(stream)[0][1] <= before


def test_a_damaged_keys_file_costs_no_row_of_a_recording_that_is_under_way(tmp_path: Path) -> None:
    """The process that records is started again, and finds the file cut off: it sets it aside."""
    with box_in(tmp_path) as box:
        recording_box(box, is_sealed=True)
        path = box.recordings / "night" / "keys"
        whole = path.read_bytes()
        path.write_bytes(whole[:-40])
        stream = box.verify(status=1)["night"][STREAM]  # it names the file
        before = stream["rows"] + stream["in_journal"]
        kill_acquire(box)
        aside = path.with_name("keys.damaged-1")
        box.until(aside.exists, 30, "the file to be set aside")
        recorded(box, 250)
        assert aside.read_bytes() == whole[:-40]
        box.ask("stop")
        stream = box.verify(status=1)["night"][STREAM]
        assert (stream["unopened"], stream["in_journal"]) == (0, 0)
        assert stream["clean"], stream
        assert before > 0
        assert stream["rows"] >= before + 100
