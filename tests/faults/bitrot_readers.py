"""Every reader of a segment over a damaged one: what it gives out is as it was, and the rest is named.

Two depths. `reach` reads what a damage can reach: the chunks it touches and the next one, by the reader, as the uplink
looks at them, and at the aggregator's door. Behind a chunk that is read whole at its own offset every reader is in the
state that it has without the damage: offset and numbers seen are all that they carry on. The id of the segment is voted by headers, hence
read anew where a header is touched. `whole` runs everything over all of the recording.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from brainforge_edge.cloud.store.chunks import ChunkStore, Incoming, Outcome
from brainforge_edge.codec import registry
from brainforge_edge.core.errors import StorageError
from brainforge_edge.export.recording import read_parts
from brainforge_edge.recorder.chunk import HEADER_BYTES, ChunkDamaged, unpack
from brainforge_edge.recorder.ranges import Ranges
from brainforge_edge.recorder.reader import Damage as Found
from brainforge_edge.recorder.reader import Whole, iter_chunks, read_segment, scan
from brainforge_edge.recorder.recover import repair_recording
from brainforge_edge.recorder.verify import Account, verify_recording
from brainforge_edge.uplink.cursor import CursorStore
from brainforge_edge.uplink.index import LogIndex
from brainforge_edge.uplink.lanes import Lanes
from brainforge_edge.uplink.segments import look
from tests.faults.bitrot_damage import Damage
from tests.faults.bitrot_material import Piece, Target, decode
from tests.unit.recorder_faulty_disk import UnsyncedDisk
from tests.unit.recorder_material import IDENTITY, seeded

OLD = 1_000_000_000  # a time of change long past: no recovery is to come


@dataclass
class Count:
    """What became of the damages of one class."""

    runs: int = 0
    found: int = 0
    harmless: int = 0  # nothing that a reader gives out changed
    acknowledged: int = 0  # rows in reach of the damage
    false_accepts: int = 0
    lost: int = 0  # rows of chunks that were not touched, and are not read
    unnamed: int = 0  # damages that no account names
    duplicated: int = 0
    whys: list[str] = field(default_factory=list)  # the first few

    def wrong(self, what: str, why: str, n: int = 1) -> None:
        setattr(self, what, getattr(self, what) + n)
        if len(self.whys) < 5:
            self.whys.append(f"{what}: {why}")

    @property
    def is_met(self) -> bool:
        return not (self.false_accepts or self.lost or self.unnamed or self.duplicated)


class Readers:
    """All that reads the segments of one target; `close` it."""

    def __init__(self, target: Target, work: Path, *, other: Target | None = None) -> None:
        """`other`: whose sectors come here; its chunks are true wherever they lie, and not of this segment."""
        self.target = target
        self.work = work
        self.true = {piece.data for piece in target.pieces}
        self.true |= {piece.data for piece in other.pieces} if other else set()
        self.disk = UnsyncedDisk()
        self.truth = {piece.number: piece for piece in target.pieces}
        self.stream = target.info.stream_id
        self.fd = os.open(target.path, os.O_RDWR)
        self.store = ChunkStore(work / "store", decode=registry.decode)
        self.store.register(IDENTITY.node, IDENTITY.log_id, [])
        assert self._put(target.pieces[0].data) is not Outcome.REFUSED

    def close(self) -> None:
        os.close(self.fd)
        self.store.close()

    @contextmanager
    def damaged(self, damage: Damage) -> Iterator[None]:
        """The segment with the damage in it."""
        data = self.target.data
        for at, new in damage.patches:
            os.pwrite(self.fd, new, at)
        if damage.length is not None:
            os.ftruncate(self.fd, damage.length)
        try:
            yield
        finally:
            for at, new in damage.patches:
                os.pwrite(self.fd, data[at : at + len(new)], at)
            if damage.length is not None:
                os.pwrite(self.fd, data[damage.length :], damage.length)
            os.ftruncate(self.fd, len(data))

    def touched(self, damage: Damage) -> list[int]:
        """Chunks of which bytes differ, by index."""
        data, hit = self.target.data, set()
        for at, new in damage.patches:
            for index in range(self.target.at(at), len(self.target.pieces)):
                piece = self.target.pieces[index]
                first, end = max(at, piece.offset), min(at + len(new), piece.end)
                if first >= end:
                    break
                if data[first:end] != new[first - at : end - at]:
                    hit.add(index)
        if damage.length is not None:
            hit |= set(range(self.target.at(damage.length), len(self.target.pieces)))
        return sorted(hit)

    def read(self, damage: Damage, count: Count, *, is_whole: bool) -> None:
        """Put the damage into the file and read it, as far as it reaches or all."""
        count.runs += 1
        with self.damaged(damage):
            try:
                (self.whole if is_whole else self.reach)(damage, count)
            except StorageError as error:  # a reader that gives up reads nothing
                count.wrong("lost", f"{damage.kind}: {error}")

    def reach(self, damage: Damage, count: Count) -> None:
        """The damage is in the file: read what it can reach."""
        pieces = self.target.pieces
        hit = self.touched(damage)
        if not hit:
            count.harmless += 1
            return
        is_found = False
        for first, last in _runs(hit):
            end = pieces[last].end if last + 1 == len(pieces) else pieces[last + 1].end
            if damage.length is not None:
                end = damage.length
            near = pieces[first : last + 2]
            count.acknowledged += sum(piece.head.n_samples for piece in near)
            is_found |= self._read_near(damage, first, last, end, count)
            self._send_near(damage, first, last, end, count)
        count.found += is_found

    def _read_near(self, damage: Damage, first: int, last: int, end: int, count: Count) -> bool:
        pieces = self.target.pieces
        at = pieces[first].offset
        segment_id = self.target.segment_id
        if any(_is_in_header(self.target, place) for place, _ in damage.patches):
            info = read_segment(self.target.path, disk=self.disk)
            if info.segment_id != segment_id:
                count.wrong("lost", f"{damage.kind}: the segment took another id")
                return True
        given: dict[int, bytes] = {}
        named: list[Found] = []
        for piece in scan(self.target.path, at, end, segment_id=segment_id, disk=self.disk):
            if isinstance(piece, Whole):
                self._judge(piece.data, f"{damage.kind}: reader", count)
                count.duplicated += piece.head.number in given
                given[piece.head.number] = piece.data
            else:
                named.append(piece)
        for hit in pieces[first : last + 1]:
            is_named = any(n.offset < hit.end and hit.offset < n.end for n in named)
            is_gone = damage.length is not None and damage.length <= hit.offset
            if not (is_named or is_gone or damage.is_sealed):
                count.wrong("unnamed", f"{damage.kind}: chunk {hit.number} at {hit.offset}")
        if (
            last + 1 < len(pieces)
            and damage.length is None
            and pieces[last + 1].number not in given
        ):
            behind = pieces[last + 1]
            count.wrong("lost", f"{damage.kind}: chunk {behind.number}", behind.head.n_samples)
        return bool(named) or damage.is_sealed or damage.length is not None

    def _send_near(self, damage: Damage, first: int, last: int, end: int, count: Count) -> None:
        """What the uplink takes for chunks goes through the aggregator's check."""
        pieces = self.target.pieces
        limit = len(self.target.data) if damage.length is None else damage.length
        behind = pieces[last + 1] if last + 1 < len(pieces) and damage.length is None else None
        at, is_sent = pieces[first].offset, behind is None
        while at < end:
            found = look(self.disk, self.fd, at, limit, is_to_be_sent=True)
            if found.head is not None:
                data = self.disk.pread(self.fd, found.end - found.offset, found.offset)
                if behind is not None and data == behind.data:
                    is_sent = True
                else:
                    self._offer(data, damage, count)
            at = found.end
        if behind is not None and not is_sent:
            rows = behind.head.n_samples
            count.wrong("lost", f"{damage.kind}: uplink, chunk {behind.number}", rows)

    def _offer(self, data: bytes, damage: Damage, count: Count) -> None:
        if data in self.true:
            return  # as it was written: not stored here, so that damaged ones find no rows to conflict with
        if damage.is_sealed:
            self._judge(data, f"{damage.kind}: aggregator", count)  # it asks C; who decodes asks P
        elif self._put(data) is not Outcome.REFUSED:
            count.wrong("false_accepts", f"{damage.kind}: stored by the aggregator")

    def _put(self, data: bytes) -> Outcome:
        return self.store.put([Incoming(IDENTITY.node, self.stream, data)])[0].outcome

    def _judge(self, data: bytes, who: str, count: Count) -> bool:
        """Whether a chunk that a reader gave out is as it was; one that no decoder takes is none."""
        with suppress(ChunkDamaged):
            chunk = unpack(data)
            piece = self.truth.get(chunk.number)
            if piece is not None and piece.data == data:
                return True
            with suppress(StorageError, ValueError):
                if not piece or not piece.has_rows or decode(chunk) != piece.rows or chunk.seq != piece.head.seq:  # fmt: skip
                    count.wrong("false_accepts", f"{who}: chunk {chunk.number}")
        return False

    def whole(self, damage: Damage, count: Count) -> None:
        """The damage is in the file: everything over all of the recording."""
        hit = {self.target.pieces[index].number for index in self.touched(damage)}
        given = self._give(damage, hit, count)
        account = verify_recording(self.target.folder, decode=decode, disk=self.disk)
        gone = sorted(set(self.truth) - given)
        count.acknowledged += sum(piece.head.n_samples for piece in self.target.pieces)
        count.found += bool(hit)
        count.harmless += not hit
        if hit:
            self._name(damage, account, gone, count)
        elif not account.is_clean:
            count.wrong("unnamed", f"{damage.kind}: named, but nothing changed")
        self._export(damage, given, count)
        self._uplink(damage, given, count)
        self._repair(damage, given, count)

    def _give(self, damage: Damage, hit: set[int], count: Count) -> set[int]:
        given: set[int] = set()
        for whole in iter_chunks(self.target.path, disk=self.disk):
            count.duplicated += whole.head.number in given
            if self._judge(whole.data, f"{damage.kind}: all of the file", count):
                given.add(whole.head.number)
        lost = [self.truth[number] for number in set(self.truth) - hit - given]
        for piece in lost:
            count.wrong(
                "lost", f"{damage.kind}: chunk {piece.number}", max(1, piece.head.n_samples)
            )
        return given

    def _name(self, damage: Damage, account: Account, gone: list[int], count: Count) -> None:
        """File, offset, number of the chunk, and the rows that are missing."""
        (stream,) = account.streams
        named = [n for n in (*stream.damaged, *stream.torn) if n.file == str(self.target.path)]
        numbers = {number for found in named for number in found.numbers}
        missing: dict[int, Ranges] = {}
        for span in stream.missing:
            missing.setdefault(span.incarnation, Ranges()).add(span.first, span.end)
        places = [(n.offset, n.end) for n in named]
        # A whole copy of a chunk in the place of another: nothing says which of the two is the copy.
        places += [
            (whole.offset, whole.end)
            for whole in iter_chunks(self.target.path, disk=self.disk)
            if whole.offset != self.truth[whole.head.number].offset
        ]
        size = self.target.path.stat().st_size
        tail = max((piece.end for n, piece in self.truth.items() if n not in gone), default=0)
        for number in gone:
            piece = self.truth[number]
            is_at = any(first < piece.end and piece.offset < end for first, end in places)
            # Behind the last chunk that is read nothing says how many there were, but the rows.
            is_numbered = number in numbers or (piece.offset >= tail and bool(numbers))
            head = piece.head
            rows = missing.get(head.incarnation, Ranges())
            has_gap = not head.n_samples or not any(rows.missing(head.seq, head.end))
            if not (is_at and is_numbered and (has_gap or self._is_last)):
                why = f"{damage.kind}: chunk {number} at {piece.offset}, file of {size} bytes"
                count.wrong("unnamed", f"{why}: {is_at=} {is_numbered=} {has_gap=}")
        if account.is_clean:
            count.wrong("unnamed", f"{damage.kind}: the account is clean")

    @property
    def _is_last(self) -> bool:
        return self.target.path == max(self.target.path.parent.iterdir())

    def _export(self, damage: Damage, given: set[int], count: Count) -> None:
        rows: dict[int, bytes] = {}
        parts = read_parts(self.target.folder, self.stream, self.disk)
        for run in (run for part in parts for run in part.runs()):
            rows[run.seq] = registry.pack_rows(run.data, self.target.info.dtype)
        for number, piece in self.truth.items():
            if piece.has_rows and (number in given or piece.head.seq in rows):
                got = rows.get(piece.head.seq)
                if got is None:
                    count.wrong(
                        "lost", f"{damage.kind}: export, chunk {number}", piece.head.n_samples
                    )
                elif got != piece.rows:
                    count.wrong("false_accepts", f"{damage.kind}: export, chunk {number}")

    def _uplink(self, damage: Damage, given: set[int], count: Count) -> None:
        """A start of the uplink that knows nothing of the segment: all that is whole is sent."""
        os.utime(self.target.path, (OLD, OLD))
        path = self.work / "uplink.sqlite"
        cursors = CursorStore(path)
        try:
            index = LogIndex(self.target.root, cursors, self.disk)
            index.scan()
            while index.check_one():
                pass
            lanes = Lanes(index, lambda _: False)
            sent: set[bytes] = set()
            while (item := lanes.next_backfill()) is not None:
                if item.track.path == self.target.path:
                    sent.add(index.read(item.track, item.found))
        finally:
            cursors.close()
            for left in path.parent.glob("uplink.sqlite*"):
                left.unlink()
        for number in sorted(given):
            piece = self.truth[number]
            if piece.data not in sent:
                count.wrong(
                    "lost", f"{damage.kind}: uplink, chunk {number}", max(1, piece.head.n_samples)
                )
        for data in sent:
            self._offer(data, damage, count)

    def _repair(self, damage: Damage, given: set[int], count: Count) -> None:
        """Repair makes nothing worse: what was read before is read after it."""
        copy = self.work / "copy"
        shutil.copytree(self.target.folder, copy / self.target.folder.name)
        try:
            repair_recording(
                copy / self.target.folder.name, encode=registry.encode_packed, disk=self.disk,
                random=seeded(),
            )  # fmt: skip
            path = copy / self.target.path.relative_to(self.target.root)
            found = iter_chunks(path, disk=self.disk) if path.exists() else ()
            after = {
                w.head.number for w in found if self._judge(w.data, f"{damage.kind}: repair", count)
            }
        finally:
            shutil.rmtree(copy)
        if after != given:
            count.wrong("lost", f"{damage.kind}: repair, chunks {sorted(given - after)}")


def _runs(indices: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of indices in a row."""
    first = indices[0]
    for one, two in pairwise([*indices, indices[-1] + 2]):
        if two > one + 1:
            yield first, one
            first = two


def _is_in_header(target: Target, offset: int) -> bool:
    piece: Piece = target.pieces[min(target.at(offset), len(target.pieces) - 1)]
    return offset < piece.offset + HEADER_BYTES or piece.number == 0
