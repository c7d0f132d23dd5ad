"""Damaged journals: what is read of them, and what recovery makes of them."""

import os
import random
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder.catalog import RecordingFile, write_recording_file
from brainforge_edge.recorder.entry import Entry
from brainforge_edge.recorder.journalfile import journal_files, read_journal, read_journal_header
from brainforge_edge.recorder.ranges import Ranges
from brainforge_edge.recorder.reader import iter_chunks
from brainforge_edge.recorder.recover import RecoveryReport, recover_device
from brainforge_edge.recorder.segment import segment_files
from brainforge_edge.recorder.verify import verify_recording
from tests.faults.bitrot_damage import SECTORS, Damage
from tests.faults.bitrot_readers import Count
from tests.unit.recorder_box import SEGMENT_BYTES, STREAMS, Box, decode, encode
from tests.unit.recorder_faulty_disk import UnsyncedDisk
from tests.unit.recorder_material import packed, seeded

STEPS = 43  # several laps, and rows that no chunk holds yet
_ENTRY_LENGTHS = {"payload": (4, "I"), "flags": (2, "H"), "stream": (8, "I")}
_HEADER_LENGTHS = {"header": (8, "I"), "description": (12, "I"), "file": (56, "Q")}
DISK = UnsyncedDisk()


@dataclass(frozen=True)
class JournalTarget:
    """A box that died; `path` is one file of its journal, `stale` what it held a lap before."""

    root: Path
    path: Path
    data: bytes
    stale: bytes
    header_bytes: int
    entries: tuple[tuple[int, int, Entry], ...]  # offset, end


def crashed(root: Path, *, seed: int) -> tuple[Box, list[JournalTarget]]:
    """The box and every file of its journal that holds entries."""
    disk = UnsyncedDisk()
    box = Box(root, disk, seed=seed)
    box.start()
    folder = root / "rec-1" / "dev.journal"
    before: dict[Path, list[bytes]] = {}
    for _ in range(STEPS):
        for path in journal_files(folder, DISK):
            kept = before.setdefault(path, [])
            data = path.read_bytes()
            if not kept or kept[-1][:64] != data[:64]:
                kept.append(data)
            kept[-1] = data
        _step(box)
    while disk._paths:  # as the kernel closes what a dead process held open
        os.close(disk._paths.popitem()[0])
    write_recording_file(root, RecordingFile("rec-1", None, "node-1"), DISK)
    targets = []
    for path in journal_files(folder, DISK):
        data = path.read_bytes()
        laps = [kept for kept in before[path] if kept[:64] != data[:64] and any(kept)]
        entries, at = [], read_journal_header(path, DISK).header_bytes
        for entry in read_journal(path, DISK):
            entries.append((at, at + entry.total_bytes, entry))
            at += entry.total_bytes
        if entries:
            stale = laps[-1] if laps else bytes(len(data))
            targets.append(JournalTarget(root, path, data, stale, entries[0][0], tuple(entries)))
    return box, targets


def _step(box: Box) -> None:
    """One step of `Box.run`, which counts them anew at each call."""
    step = sum(1 for _ in box.positions)
    box.acquired[1] += 23
    box.acquired[2] += 7 if step % 2 else 0
    box.record()
    if step % 2:
        box.sync()
    if step % 4 == 3 and step < STEPS - 8:
        box.archive()


def sectors(
    target: JournalTarget, others: list[JournalTarget], rng: random.Random
) -> Iterator[Damage]:
    """Zeroed, swapped, stale and misdirected sectors of a journal file."""
    data = target.data
    for size in SECTORS:
        for at in range(0, len(data) - size + 1, size):
            yield Damage(f"journal sector {size} zeroed", ((at, bytes(size)),))
            far = rng.randrange(len(data) // size) * size
            yield Damage(
                f"journal sector {size} swapped",
                ((at, data[far : far + size]), (far, data[at : at + size])),
            )
            yield Damage(f"journal sector {size} stale", ((at, target.stale[at : at + size]),))
            other = rng.choice(others).data
            yield Damage(f"journal sector {size} misdirected", ((at, other[at : at + size]),))
    # Everything but the header from the lap before: entry behind entry, each whole in its own lap.
    body = target.stale[target.header_bytes :]
    yield Damage("journal lap stale", ((target.header_bytes, body),))


def lengths(target: JournalTarget) -> Iterator[Damage]:
    """Lengths and kinds in the header and in every entry."""
    places = [(at + field, code) for at, _, _ in target.entries for field, code in _ENTRY_LENGTHS.values()]  # fmt: skip
    places += _HEADER_LENGTHS.values()
    for at, code in places:
        value = struct.unpack_from("<" + code, target.data, at)[0]
        top = 8 * struct.calcsize(code)
        for changed in {0, 1, value + 1, 2 * value, 2**24, 2**24 + 1, 2 ** (top - 1), 2**top - 1}:
            if changed != value and changed < 2**top:
                yield Damage("journal length", ((at, struct.pack("<" + code, changed)),))


def read(target: JournalTarget, damage: Damage, count: Count) -> None:
    """The file's own reader: whole entries, as they were, each at its place."""
    count.runs += 1
    damaged = damage.of(target.data)
    target.path.write_bytes(damaged)
    true = {entry for _, _, entry in target.entries}
    good = {e for at, end, e in target.entries if damaged[at:end] == target.data[at:end]}
    count.acknowledged += len(true)
    try:
        found = list(read_journal(target.path, DISK))
    except StorageError:
        count.found += 1
        if damaged[: target.header_bytes] == target.data[: target.header_bytes]:
            count.wrong("lost", f"{damage.kind}: a whole header was refused")
        return
    finally:
        target.path.write_bytes(target.data)
    if set(found) - true:
        count.wrong("false_accepts", f"{damage.kind}: {len(set(found) - true)} entries")
    if good - set(found):
        count.wrong("lost", f"{damage.kind}: {len(good - set(found))} whole entries")
    count.duplicated += len(found) - len(set(found))
    count.found += set(found) != true
    count.harmless += set(found) == true


def recover(box: Box, target: JournalTarget, damage: Damage, work: Path, count: Count) -> None:
    """Recovery of a copy of the box: rows as they were, and a word about those that are gone."""
    count.runs += 1
    root = work / "recover"
    shutil.copytree(target.root, root)
    try:
        damaged = damage.of(target.data)
        (root / target.path.relative_to(target.root)).write_bytes(damaged)
        report = recover_device(
            root, "dev", encode=encode, disk=DISK, random=seeded(99), segment_bytes=SEGMENT_BYTES
        )
        given = _rows(root, damage, count)
        good = [e for at, end, e in target.entries if damaged[at:end] == target.data[at:end]]
        _compare(box, target, damage, given, good, report, count)
        _name(root, box, given, damage, report, count)
    finally:
        shutil.rmtree(root)


def _rows(root: Path, damage: Damage, count: Count) -> dict[int, Ranges]:
    given: dict[int, Ranges] = {number: Ranges() for number in STREAMS}
    for number, info in STREAMS.items():
        for path in segment_files(root / "rec-1" / info.stream_id, DISK):
            for whole in iter_chunks(path, disk=DISK):
                if not whole.head.n_samples:
                    continue
                head = whole.head
                count.duplicated += given[number].add(head.seq, head.end)
                if decode(whole.chunk()) != packed(info, head.seq, head.n_samples):
                    count.wrong("false_accepts", f"{damage.kind}: recovered rows of {head.seq}")
    return given


def _compare(
    box: Box, target: JournalTarget, damage: Damage, given: dict[int, Ranges], good: list[Entry],
    report: RecoveryReport, count: Count,
) -> None:  # fmt: skip
    """Every row in chunks, in the other files and in whole entries of this one is there."""
    lost_here = {number: Ranges() for number in STREAMS}
    aside = any(path.name.endswith(target.path.name) for path in report.kept)
    for _, _, entry in target.entries:
        if entry not in good or aside:
            lost_here[entry.stream].add(entry.seq, entry.end)
    for number in STREAMS:
        count.acknowledged += box.journalled[number]
        for first, end in given[number].missing(0, box.journalled[number]):
            for a, b in lost_here[number].missing(first, end):
                count.wrong("lost", f"{damage.kind}: rows {a}–{b} of stream {number}", b - a)


def _name(
    root: Path, box: Box, given: dict[int, Ranges], damage: Damage, report: RecoveryReport, count: Count
) -> None:  # fmt: skip
    account = verify_recording(root / "rec-1", decode=decode, disk=DISK)
    is_said = bool(report.holes or report.kept or report.damaged_headers)
    is_gone = False
    for number, info in STREAMS.items():
        stream = next((s for s in account.streams if s.stream_id == info.stream_id), None)
        named = Ranges()
        for span in stream.missing if stream else ():
            named.add(span.first, span.end)
        for gap in stream.gaps if stream else ():
            named.add(gap.seq - gap.gap.n, gap.seq)
        last = max((end for _, end in given[number]), default=0)
        for first, end in given[number].missing(0, box.journalled[number]):
            is_gone = True
            is_inside = first > 0 and end <= last
            # At a journal's end damage looks like the write that a power cut tore: nothing says more.
            if any(named.missing(first, end)) and is_inside:
                count.wrong("unnamed", f"{damage.kind}: rows {first}–{end} of stream {number}")
            if first == 0 and not is_said:
                count.wrong("unnamed", f"{damage.kind}: first rows of stream {number}")
    count.found += is_gone or is_said
    count.harmless += not (is_gone or is_said)
