"""A recording on another medium: copied, read back from it, and only then given up here. Runs in: `export --to`, `release`.

For boxes without an aggregator. A copy proves something as long as it is there: a release reads it once more.
"""

from pathlib import Path

import msgspec

from brainforge_edge.core.errors import SessionError, StorageError
from brainforge_edge.recorder.attested import FREEING_LOCK
from brainforge_edge.recorder.catalog import read_recording
from brainforge_edge.recorder.chain import CHAIN_FILE, ChainEntry, is_chained, read_lines
from brainforge_edge.recorder.chaining import unchained
from brainforge_edge.recorder.digest import BLOCK_BYTES, FileDigest, file_digest, rows_in
from brainforge_edge.recorder.erasure import whose_files
from brainforge_edge.recorder.exports import forget_copy, note_copy
from brainforge_edge.recorder.freed import (
    COPIED_FILE,
    RELEASED_FILE,
    Copied,
    CopiedSegment,
    Released,
    line_digest,
    lines_by_digest,
    rows_digest,
)
from brainforge_edge.recorder.keyfile import read_keys
from brainforge_edge.recorder.medium import Look, check_medium, on_medium, place_of
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.lines import append_line

CODE_DIGITS = 8
_PART = ".part"  # a copy that is not whole yet


def code_of(copied: Copied) -> str:
    """What an operator repeats to release it: the first digits of the chain's head."""
    return copied.head.hex()[:CODE_DIGITS]


def chained_segments(folder: Path, disk: Disk) -> tuple[bytes, list[ChainEntry]]:
    """Head of a closed recording's chain, and its segments that are here; SessionError `not_closed`,
    StorageError `not_chained` if the chain does not stand for all of them."""
    if not folder.is_dir():
        raise StorageError(
            "no_recording",
            f"{folder} cannot be read",
            why="it is not a folder" if folder.exists() else "there is no such folder",
            remedy="Name a recording",
        )
    recording = read_recording(folder, disk)
    if not recording.is_closed:
        raise SessionError(
            "not_closed",
            f"{folder.name} cannot be given away yet",
            why="it is being recorded, or it was cut off and not recovered",
            remedy="Stop it with brainforge-edge stop, or run brainforge-edge repair on it",
        )
    entries = read_lines(folder / CHAIN_FILE, disk, ChainEntry)
    late = unchained(recording, {(entry.stream_id, entry.segment) for entry in entries}, disk)
    if late or not entries or not is_chained(entries):
        raise StorageError(
            "not_chained",
            f"{folder.name} cannot be given away yet",
            why="its chain does not hold" if not late and entries else "its chain is not complete",
            remedy="Let the daemon run: it completes the chain; brainforge-edge verify tells of one that is damaged",
        )
    present = {(s, path.name) for s, paths in recording.streams.items() for path in paths}
    here = [entry for entry in entries if (entry.stream_id, entry.segment) in present]
    return entries[-1].head, here


def copy_recording(
    folder: Path,
    medium: Path,
    *,
    utc_ns: int | None,
    disk: Disk,
    look: Look = place_of,
) -> Copied:
    """Copy a closed recording as it is to `medium`, read it back from there, and note that in `copied`.

    It is noted for erasures before anything is written there: whatever happens then, keys that lie on
    the medium are named. StorageError for a medium that is none, a copy that is there already, and bytes that differ.
    """
    head, here = chained_segments(folder, disk)
    check_medium(folder, medium, look)
    target = medium / folder.name
    if target.exists():
        raise StorageError(
            "copy_exists",
            f"{target} is there already",
            why="a copy never replaces a file",
            remedy="Remove it, or name another folder on the medium",
        )
    part = medium / f"{folder.name}{_PART}"
    # Both places: killed at the rename, who looks for it finds it at one or the other.
    note_copy(folder, (part, target), _whose_keys(folder, disk), utc_ns=utc_ns, disk=disk)
    with on_medium(medium):
        _write(folder, part, here, disk)
        segments = tuple(_copied(e, part, disk) for e in here)
    copied = Copied(
        medium=str(medium),
        folder=folder.name,
        head=head,
        segments=segments,
        copied_utc_ns=utc_ns,
    )
    with on_medium(medium):
        disk.rename(part, target)
    forget_copy(folder, part, disk)
    with disk.exclusive(folder.parent / FREEING_LOCK):
        append_line(folder / COPIED_FILE, msgspec.json.encode(copied), disk)
    return copied


def _write(folder: Path, part: Path, here: list[ChainEntry], disk: Disk) -> None:
    """Every file, on the medium and read back from it."""
    files = _files(folder, disk)
    for name in files:
        disk.make_folder((part / name).parent)
        _copy(folder / name, part / name, disk)
    for place in sorted({(part / name).parent for name in files} | {part}):
        disk.fsync_folder(place)
    wanted = {f"{e.stream_id}/{e.segment}": FileDigest(e.size, e.sha256) for e in here}
    for name in files:
        _compare(part / name, wanted.get(name) or file_digest(folder / name, disk), disk)


def _copied(entry: ChainEntry, copy: Path, disk: Disk) -> CopiedSegment:
    """Its rows as the copy has them, whose bytes are the chain's."""
    rows = rows_digest(rows_in(copy / entry.stream_id / entry.segment, disk))
    return CopiedSegment(entry.segment_id, entry.size, entry.sha256, rows)


def release_recording(
    folder: Path,
    medium: Path,
    code: str,
    *,
    utc_ns: int | None,
    disk: Disk,
    look: Look = place_of,
) -> tuple[bytes, list[ChainEntry]]:
    """Note that an operator gives up what lies on `medium`: digest of the line in `released`, and the
    segments that may be freed on it. StorageError or SessionError if one thing is not as it was. Where
    nothing is left to free nothing is noted, and there is no digest."""
    head, here = chained_segments(folder, disk)
    if not here:
        return b"", []
    made = lines_by_digest(folder / COPIED_FILE, Copied, disk)
    copies = [item for item in made.items() if item[1].medium == str(medium)]
    if not copies:
        raise _refused(
            folder,
            "no_proof",
            f"no copy of it on {medium} was read back",
            "Make one: brainforge-edge export --to",
        )
    digest, copied = copies[-1]
    if copied.head != head:
        raise _refused(
            folder,
            "proof_old",
            "segments were added to its chain after the copy was made",
            "Copy it once more, to another folder of the medium",
        )
    if code.lower() != code_of(copied):
        raise SessionError(
            "wrong_code",
            f"{folder.name} was not released",
            why=f"{code!r} is not the code of that copy",
            remedy="Give the code that the copy showed with --confirm",
        )
    check_medium(folder, medium, look)
    for entry in here:
        if not any(each.is_of(entry) for each in copied.segments):
            raise _refused(
                folder,
                "no_proof",
                f"{entry.stream_id}/{entry.segment} was not copied",
                "Copy it once more, to another folder of the medium",
            )
        path = folder / entry.stream_id / entry.segment
        if file_digest(path, disk) != FileDigest(entry.size, entry.sha256):
            raise _refused(
                folder,
                "changed",
                f"{path} is not as it was closed",
                "See what brainforge-edge verify says of it",
            )
        copy = medium / copied.folder / entry.stream_id / entry.segment
        with on_medium(medium):
            _compare(copy, FileDigest(entry.size, entry.sha256), disk)
    released = Released(str(medium), digest, utc_ns)
    encoded = msgspec.json.encode(released)
    with disk.exclusive(folder.parent / FREEING_LOCK):
        append_line(folder / RELEASED_FILE, encoded, disk)
    return line_digest(encoded), here


def _whose_keys(folder: Path, disk: Disk) -> tuple[str, ...]:
    """Of whom rows or wrapped keys are in what is copied: `keys` goes as a whole, also when segments are gone."""
    rows = (said.identity for said in whose_files(folder, disk))
    found = read_keys(folder, disk)
    keys = found.keys if found is not None else ()
    named = {each.participant for each in (*rows, *keys) if each is not None}
    return tuple(sorted(named))


def _files(folder: Path, disk: Disk) -> list[str]:
    """Every file of a closed recording that is not hidden, by its path in it."""
    found = []
    for name in disk.names(folder):
        if name.startswith("."):
            continue
        if (folder / name).is_dir():
            found += [f"{name}/{file}" for file in disk.names(folder / name)]
        else:
            found.append(name)
    return found


def _copy(source: Path, target: Path, disk: Disk) -> None:
    is_left = target.name in disk.names(target.parent)  # of a copy that was cut off
    reading = disk.open(source, "read")
    try:
        writing = disk.open(target, "write" if is_left else "new")
        try:
            disk.truncate(writing, 0)
            at = 0
            while block := disk.pread(reading, BLOCK_BYTES, at):
                disk.pwrite_all(writing, block, at)
                at += len(block)
            disk.fdatasync(writing)
        finally:
            disk.close(writing)
    finally:
        disk.close(reading)


def _compare(copy: Path, wanted: FileDigest, disk: Disk) -> None:
    """StorageError unless the medium itself holds that, not memory."""
    if copy.name not in disk.names(copy.parent):
        raise _differs(copy, "it is not there")
    if file_digest(copy, disk, is_cold=True) != wanted:
        raise _differs(copy, "what was read back from it is not what was recorded")


def _differs(copy: Path, why: str) -> StorageError:
    return StorageError(
        "copy_differs",
        f"{copy} is no copy",
        why=why,
        remedy="Nothing is removed here; check the medium, and copy the recording to another one",
    )


def _refused(folder: Path, code: str, why: str, remedy: str) -> StorageError:
    return StorageError(code, f"{folder.name} was not released", why=why, remedy=remedy)
