"""The chain of a recording: complete, in order, on the disk; and `verify` names what does not fit it."""

import base64
import contextlib
import errno
import hashlib
import json
import re
import shutil
from pathlib import Path

import msgspec
import pytest

from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder.catalog import close_recording, read_recording, segment_sizes
from brainforge_edge.recorder.chain import CHAIN_FILE, ChainEntry, is_chained, read_lines
from brainforge_edge.recorder.chaining import extend_chain
from brainforge_edge.recorder.freed import Copied, CopiedSegment, Freed, Released
from brainforge_edge.recorder.recover import repair_recording
from brainforge_edge.recorder.segment import SegmentWriter
from brainforge_edge.storage.audit import AuditLine
from tests.structure.tree import DOCS
from tests.unit.codec_examples import block
from tests.unit.recorder_box import Box, encode
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed, UnsyncedDisk
from tests.unit.recorder_material import IDENTITY, seeded
from tests.unit.recorder_powercut_disk import PowerCutDisk
from tests.unit.retention_material import EEG, Stand, write_segment


def extended(folder: Path, disk: UnsyncedDisk | None = None) -> list[str]:
    return [entry.segment for entry in extend_chain(folder, disk or UnsyncedDisk())]


def check_complete(folder: Path) -> None:
    """Every segment is in the chain, once, as it is."""
    entries = read_lines(folder / CHAIN_FILE, UnsyncedDisk(), ChainEntry)
    assert is_chained(entries)
    names = [f"{entry.stream_id}/{entry.segment}" for entry in entries]
    sizes = segment_sizes(read_recording(folder, UnsyncedDisk()), UnsyncedDisk())
    assert sorted(names) == sorted(sizes)
    for entry, name in zip(entries, names, strict=True):
        data = (folder / name).read_bytes()
        assert (entry.size, entry.sha256) == (len(data), hashlib.sha256(data).digest())


def test_a_closed_recording_is_chained_whole_and_in_order(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.close()
    assert [entry.segment for entry in stand.chain] == ["0001.seg", "0002.seg", "0003.seg", "0004.seg"]  # fmt: skip
    assert all(entry.chunks == 2 for entry in stand.chain)
    assert len({entry.segment_id for entry in stand.chain}) == 4
    check_complete(stand.folder)
    assert extended(stand.folder) == []
    assert stand.account().is_clean


def test_while_it_grows_only_segments_that_were_closed_are_chained(tmp_path: Path) -> None:
    stand = Stand(tmp_path, n=2)
    assert extended(stand.folder) == ["0001.seg"]  # the second may be the one that is written to
    open_one = SegmentWriter.create(
        stand.folder / EEG.stream_id, 3, info=EEG, number=1, identity=IDENTITY, size=200_000,
        disk=stand.disk, random=seeded(7),
    )  # fmt: skip
    assert extended(stand.folder) == ["0002.seg"]
    write_segment(stand.folder / EEG.stream_id, 4, stand.disk)
    assert extended(stand.folder) == []  # the third was not cut to its content: perhaps it still is
    open_one.close()
    assert extended(stand.folder) == ["0003.seg"]
    close_recording(stand.folder, stand.disk)
    assert extended(stand.folder) == ["0004.seg"]
    check_complete(stand.folder)


def test_after_an_end_anywhere_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    close_recording(stand.folder, stand.disk)
    assert next(iter(extend_chain(stand.folder, stand.disk))).segment == "0001.seg"
    assert extended(stand.folder) == ["0002.seg", "0003.seg", "0004.seg"]
    check_complete(stand.folder)


def test_a_line_that_was_torn_anywhere_is_cut_off_and_never_continued(tmp_path: Path) -> None:
    stand = Stand(tmp_path, n=3)
    stand.close()
    path = stand.folder / CHAIN_FILE
    whole = path.read_bytes()
    before = whole.rindex(b"\n", 0, -1) + 1
    for end in range(before, len(whole)):
        path.write_bytes(whole[:end])
        assert extended(stand.folder) == ["0003.seg"]
        assert path.read_bytes() == whole
    path.write_bytes(whole[:before] + bytes(40) + b"\n")  # a sector of it never came
    assert extended(stand.folder) == ["0003.seg"]
    check_complete(stand.folder)


def powercut(tmp_path: Path, at: int, mutant: str = "", bad_sync: int = -1) -> int:
    """Cut the power at a call; the calls that there were."""
    root, after = tmp_path / "r", tmp_path / "after"
    stand = Stand(root, n=3)
    close_recording(stand.folder, stand.disk)
    disk = PowerCutDisk(root, at=at, mutant=mutant, seed=max(at, 0), bad_sync=bad_sync)
    disk.take_stock(root)
    told: list[ChainEntry] = []
    try:
        with contextlib.suppress(Killed):
            for _ in range(1 + (bad_sync >= 0)):
                with contextlib.suppress(StorageError):
                    told += extend_chain(stand.folder, disk)
        disk.platter(after)
        folder = after / "recordings" / "rec-1"
        kept = read_lines(folder / CHAIN_FILE, UnsyncedDisk(), ChainEntry)
        assert kept[: len(told)] == told  # what was said to be there is there
        extended(folder)
        check_complete(folder)
        return disk.count
    finally:
        shutil.rmtree(root)
        shutil.rmtree(after, ignore_errors=True)


def all_powercuts(tmp_path: Path, mutant: str = "") -> None:
    calls = powercut(tmp_path, -1)
    assert calls > 8
    for at in range(calls):
        powercut(tmp_path, at, mutant)


def test_a_power_cut_at_any_call_costs_no_line_that_was_told(tmp_path: Path) -> None:
    all_powercuts(tmp_path)


def test_a_sync_that_failed_leaves_nothing_that_counts(tmp_path: Path) -> None:
    for bad_sync in range(3):
        powercut(tmp_path, -1, bad_sync=bad_sync)


@pytest.mark.parametrize("mutant", ["no_sync", "no_folder_sync"])
def test_the_power_cut_would_show_a_missing_sync(tmp_path: Path, mutant: str) -> None:
    with pytest.raises(AssertionError):
        all_powercuts(tmp_path, mutant)


@pytest.mark.parametrize("fault", ["kill", "kill_torn", errno.ENOSPC, errno.EIO])
def test_an_end_or_an_error_at_any_call_is_made_good_by_the_next_look(
    tmp_path: Path, fault: str | int
) -> None:
    at = 0
    while True:
        stand = Stand(tmp_path / f"r{at}", n=3)
        close_recording(stand.folder, stand.disk)
        disk = FaultyDisk(at=at, fault=fault)
        with contextlib.suppress(Killed, StorageError):
            extended(stand.folder, disk)
        extended(stand.folder)
        check_complete(stand.folder)
        if disk.count <= at:
            break
        at += 1
    assert at > 8


def test_what_recovery_made_of_a_crash_is_chained_too(tmp_path: Path) -> None:
    stand = Stand(tmp_path, n=0)
    box = Box(stand.recordings, stand.disk)
    box.start()
    box.run(14)  # … and no word more
    assert extended(stand.folder) == []  # a journal is left: nothing is closed
    close_recording(stand.folder, stand.disk)
    assert extended(stand.folder) == []
    repair_recording(stand.folder, encode=encode, disk=UnsyncedDisk(), random=seeded(9))
    assert len(extended(stand.folder)) >= 2
    check_complete(stand.folder)


def test_verify_names_a_segment_that_was_removed_replaced_or_changed(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.close()
    one, two, three, four = (stand.path(entry) for entry in stand.chain)
    one.unlink()
    data = bytearray(two.read_bytes())
    data[-1] ^= 1
    two.write_bytes(data)
    three.write_bytes(four.read_bytes())
    account = stand.account()
    assert not account.is_clean
    said = "\n".join(account.chain.problems)
    assert f"{one} is in the chain and not here" in said
    assert f"{two} is not the file that was closed" in said
    assert f"{three} is not the file that was closed" in said
    assert str(four) not in said


def test_verify_sees_a_line_of_the_chain_that_was_changed_or_taken_out(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.close()
    path = stand.folder / CHAIN_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))
    account = stand.account()
    assert not account.chain.holds
    assert any("the chain does not hold" in problem for problem in account.problems)
    assert account.chain.unchained == [f"{EEG.stream_id}/0002.seg"]
    assert not account.is_clean


def test_the_chain_on_the_page_is_what_the_page_says_and_what_the_program_reads() -> None:
    head = bytes(32)
    lines = [json.loads(line) for line in block("json", "chain", "formats.md").splitlines()]
    for line, content in zip(lines, (b"first segment", b"second segment"), strict=True):
        digest = hashlib.sha256(content).digest()
        segment_id = base64.b64decode(line["segment_id"])
        size = len(content).to_bytes(8, "little")
        head = hashlib.sha256(b"brainforge chain 1" + head + segment_id + size + digest).digest()
        assert base64.b64decode(line["sha256"]) == digest
        assert base64.b64decode(line["head"]) == head
        assert line["size"] == len(content)
    entries = [msgspec.convert(line, ChainEntry) for line in lines]
    assert is_chained(entries)
    keys = re.findall(r"`(\w+)`", block_of_table("## Chain"))
    assert set(ChainEntry.__struct_fields__) <= set(keys)


@pytest.mark.parametrize(
    ("section", "kinds"),
    [("## Freed", (Freed, Copied, CopiedSegment, Released)), ("## Audit file", (AuditLine,))],
)
def test_every_key_of_the_other_lines_is_on_the_page(section: str, kinds: tuple[type, ...]) -> None:
    keys = set(re.findall(r"`(\w+)`", block_of_table(section)))
    for kind in kinds:
        assert set(kind.__struct_fields__) <= keys  # type: ignore[attr-defined]


def block_of_table(section: str) -> str:
    text = (DOCS / "formats.md").read_text(encoding="utf-8")
    return text.partition(f"{section}\n")[2].partition("\n## ")[0]
