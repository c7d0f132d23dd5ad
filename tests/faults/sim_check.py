"""What must hold at any time in the simulation, and what must be true in the end."""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainforge_edge.cloud.store.chunks import StreamKey
from brainforge_edge.cloud.store.reader import StoreReader
from brainforge_edge.codec import registry
from brainforge_edge.codec.packed import pack_rows
from brainforge_edge.core.ranges import Intervals
from brainforge_edge.core.stream import Codec
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.cut import gap_of
from brainforge_edge.recorder.log import read_log_id
from brainforge_edge.recorder.reader import iter_chunks
from brainforge_edge.recorder.verify import verify_recording
from brainforge_edge.storage.files import SystemDisk
from brainforge_edge.storage.sqlite import Database
from tests.faults.sim_box import BOOT_ROWS, STREAMS, Box, Key
from tests.faults.sim_cloud import WINDOW_CHUNKS
from tests.faults.turns import rows_of
from tests.unit.recorder_box import decode

if TYPE_CHECKING:
    from tests.faults.sim_world import World

MOST_WAITING = 500  # words in the uplink's inbox


def check_now(world: "World") -> list[str]:
    """Memory is bounded, no cursor is past what is stored, and no journal gave out an old lap."""
    wrong = list(world.box.stale)
    if world.cloud.most_fill > 1.0:
        wrong.append(f"the aggregator's inbox is {world.cloud.most_fill:.2f} full")
    if world.uplink.left_behind:
        wrong.append(f"left behind: {world.uplink.left_behind}")
    if not world.uplink.is_alive:
        return wrong
    pump = world.uplink.pump
    if len(pump.sender.window.items) > WINDOW_CHUNKS:
        wrong.append(f"{len(pump.sender.window.items)} chunks under way")
    if pump.inbox.qsize() > MOST_WAITING:
        wrong.append(f"{pump.inbox.qsize()} words in the uplink's inbox")
    if world.cloud.is_alive and world.uplink.cursors.generation == world.cloud.store.generation:
        wrong += _past_cursors(world)
    return wrong


def _past_cursors(world: "World") -> list[str]:
    store = world.cloud.store
    wrong = []
    for track in world.uplink.index.tracks.values():
        for incarnation, samples in track.receipted.items():
            for log_id in store.nodes():
                key = StreamKey(log_id, 0, track.ref.stream_id)
                held = Intervals((r.first, r.end) for r in store.ranges(key, {incarnation}))
                wrong += [
                    f"the cursor of {track.ref} counts {incarnation}:{first}-{end}, not stored"
                    for first, end in samples
                    if not held.covers(first, end)
                ]
    return wrong


@dataclass
class End:
    """Rows that were promised, those of them that are not recorded, and what is stored; all that is wrong."""

    acknowledged: int = 0
    lost: int = 0
    stored: int = 0
    duplicated: int = 0  # rows or bytes that are there again
    wrong: list[str] = field(default_factory=list)


def check_end(world: "World") -> End:
    """Promised rows, samples, gaps, the store against the log."""
    box = world.box
    box.close_files()
    recorded, wrong = _recorded(box)
    account = End(acknowledged=sum(rows.total for rows in box.required.values()), wrong=wrong)
    for key, promised in box.required.items():
        for first, end in promised:
            for a, b in recorded.get(key, Intervals()).missing(first, end):
                wrong.append(f"{key}: promised rows {a}-{b} are not recorded")
                account.lost += b - a
    world.cloud.die()
    log_id = read_log_id(box.root, SystemDisk())
    stored = _stored(world.cloud.root, log_id, box, wrong)
    for key in sorted({*recorded, *stored}):
        ours, theirs = recorded.get(key, Intervals()), stored.get(key, Intervals())
        if ours != theirs:
            wrong.append(f"{key}: recorded {list(ours)}, stored {list(theirs)}")
    wrong += _twice(world.cloud.root)
    if not account.acknowledged:
        wrong.append("nothing was promised")
    account.duplicated = sum("twice" in each for each in wrong)
    account.stored = sum(samples.total for samples in stored.values())
    return account


def _recorded(box: Box) -> tuple[dict[Key, Intervals], list[str]]:
    """What the segments hold, each row once and as it was, and each hole named by its size."""
    found: dict[Key, Intervals] = {}
    wrong: list[str] = []
    for folder in sorted(box.root.glob("rec-*")):
        account = verify_recording(folder, decode=decode, disk=SystemDisk())
        if not account.is_clean or any(stream.in_journal for stream in account.streams):
            wrong.append(f"{folder.name} is not clean: {account}"[:1500])
        for stream in account.streams:
            wrong += _gaps(folder / stream.stream_id)
        for path in sorted(folder.glob("*/*.seg")):
            for whole in iter_chunks(path):
                if whole.head.codec >= Codec.DESCRIPTOR:
                    continue
                chunk = whole.chunk()
                key = (path.parent.name, chunk.incarnation)
                held = found.setdefault(key, Intervals())
                if held.missing(chunk.seq, chunk.end) != [(chunk.seq, chunk.end)]:
                    wrong.append(f"{key}: {chunk.seq}-{chunk.end} is recorded twice")
                held.add(chunk.seq, chunk.end)
                wrong += _samples(box, key, chunk, "recorded")
    return found, wrong


def _gaps(folder: Path) -> list[str]:
    """Within an incarnation and a recording a gap is as long as the hole before it."""
    chunks = sorted(
        (
            (chunk.incarnation, chunk.seq, chunk.end, gap_of(chunk))
            for path in folder.glob("*.seg")
            for chunk in (
                whole.chunk() for whole in iter_chunks(path) if whole.head.codec < Codec.DESCRIPTOR
            )
        ),
        key=lambda each: each[:3],
    )
    wrong = []
    for before, after in pairwise(chunks):
        if before[0] != after[0]:
            continue
        named = after[3].n if after[3] is not None else 0
        if after[1] - before[2] != named:
            wrong.append(f"{folder.name}: hole before {after[:2]} of {after[1] - before[2]}, named {named}")  # fmt: skip
    return wrong


def _samples(box: Box, key: Key, chunk: Chunk, where: str) -> list[str]:
    rows = np.frombuffer(decode(chunk), "<i2").reshape(chunk.n_samples, -1)
    first = box.boots[key] * BOOT_ROWS + chunk.seq
    if np.array_equal(rows, rows_of(STREAMS[key[0]], first, chunk.n_samples)):
        return []
    return [f"{key}: {chunk.seq}-{chunk.end} is {where} with other samples"]


def _stored(root: Path, log_id: bytes, box: Box, wrong: list[str]) -> dict[Key, Intervals]:
    reader = StoreReader(root, decode=registry.decode, pack=pack_rows)
    found: dict[Key, Intervals] = {}
    try:
        for stream_id in STREAMS:
            for part, chunk in reader.iter_chunks(log_id, stream_id):
                key = (stream_id, part.incarnation)
                held = found.setdefault(key, Intervals())
                if held.missing(part.first, part.end) != [(part.first, part.end)]:
                    wrong.append(f"{key}: {part.first}-{part.end} is stored twice")
                held.add(part.first, part.end)
                wrong += _samples(box, key, chunk, "stored")
    finally:
        reader.close()
    return found


def _twice(root: Path) -> list[str]:
    """Bytes in the store's packs that no piece needs: something was stored again."""
    catalogue = Database(root / "catalogue.sqlite", read_only=True)
    try:
        needed = {
            place
            for table in ("piece", "other")
            for place in catalogue.query(f'SELECT pack, "offset", length FROM {table}')
        }
        lengths = catalogue.query("SELECT sum(length) FROM pack")
    finally:
        catalogue.close()
    used = sum(length for _, _, length in needed)
    return [] if lengths == [(used,)] else [f"stored twice: {lengths} bytes, {used} are needed"]
