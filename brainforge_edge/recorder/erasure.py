"""A participant's keys taken out of a recording, and what is left to do with its files then.

Runs in: the CLI process (`erase_keys`), also while others record into the recording; recovery
(`drop_erased`). Each may be killed anywhere and done again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.stream import Codec
from brainforge_edge.recorder import keyscraps
from brainforge_edge.recorder.catalog import JOURNAL_SUFFIX
from brainforge_edge.recorder.chunk import ChunkDamaged
from brainforge_edge.recorder.entry import JournalDamaged, JournalHeader
from brainforge_edge.recorder.identity import Identity
from brainforge_edge.recorder.journalfile import (
    holds_entries,
    journal_files,
    read_journal_header,
)
from brainforge_edge.recorder.keyfile import (
    KEYS_FILE,
    UNKNOWN,
    FoundKeys,
    change_keys,
    find_keys,
    read_damaged,
    set_aside,
)
from brainforge_edge.recorder.keyring import Find
from brainforge_edge.recorder.keyscraps import ErasedKey
from brainforge_edge.recorder.reader import read_first
from brainforge_edge.recorder.segment import read_descriptor, segment_files
from brainforge_edge.recorder.tail import Cut, cut_tails
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.wipe import finish_wiping, replace_wiped


class Said(NamedTuple):
    """Whose rows a segment or journal file holds, as it says itself; None if it cannot be read."""

    path: Path
    identity: Identity | None


class ErasedKeys(NamedTuple):
    ids: tuple[str, ...]  # of the participant's keys that are gone, those of an earlier run, too
    unclear: tuple[
        tuple[str, int], ...
    ]  # damaged keys files, places of which nobody can say whose they are
    doubtful: tuple[tuple[str, str], ...]  # keys that were left, and why: perhaps the participant's


def whose_files(recording: Path, disk: Disk) -> Iterator[Said]:
    """Every segment and journal file of a recording."""
    for name in disk.names(recording):
        folder = recording / name
        if name.endswith(JOURNAL_SUFFIX):
            for path in journal_files(folder, disk):
                yield Said(path, _of_journal(path, disk))
        else:
            for path in segment_files(folder, disk):
                yield Said(path, identity_of(path, disk))


def identity_of(segment: Path, disk: Disk) -> Identity | None:
    """As its descriptor says; None if it has none that is whole."""
    first, _ = read_first(segment, disk=disk)
    if first is None or first.head.codec != Codec.DESCRIPTOR:
        return None
    try:
        return read_descriptor(first.chunk().body).identity
    except ChunkDamaged:
        return None


def participants(segments: tuple[Path, ...], disk: Disk) -> tuple[str, ...]:
    """Of whom a stream's segments are."""
    said = (identity_of(path, disk) for path in segments)
    return tuple(sorted({each.participant for each in said if each is not None}))


def erase_keys(
    recording: Path,
    participant: str,
    *,
    log_id: bytes,
    order: str,
    utc_ns: int | None,
    disk: Disk,
) -> ErasedKeys:
    """No file of the recording has the participant's wrapped keys any more, nor the blocks where they were.

    Which they are is said by the keys file and by the descriptors and journals that name them: a
    damaged label in one hides none, and costs nobody else a key. StorageError if old bytes could not
    be overwritten.
    """
    found = find_keys(recording, disk)
    ids, doubtful = _whose_keys(recording, participant, found, disk)
    known = found.file.erased if found.file is not None else ()
    gone = {each.erased_key for each in known}
    if ids:
        new = tuple(ErasedKey(each, utc_ns, order) for each in sorted(ids - gone))
        log_id = (found.file.log_id if found.file is not None else b"") or log_id
        done = change_keys(recording, log_id, disk, lambda keys: keys, erased=new)
        if done.unwiped is not None:
            raise done.unwiped
    unclear = []
    with disk.exclusive(recording.parent / ".lock"):
        finish_wiping(recording / KEYS_FILE, disk)
        names = set_aside(disk.names(recording))
        if not ids:  # what is damaged has not been set aside then
            names += [each.name for each in found.damaged if each.name == KEYS_FILE]
        for name in names:
            finish_wiping(recording / name, disk)
            n_unclear = _blanked(recording / name, ids, disk)
            if n_unclear:
                unclear.append((name, n_unclear))
    mine = {each.erased_key for each in known if each.order == order}
    left = tuple(each for each in sorted(doubtful.items()) if each[0] not in gone)
    return ErasedKeys(tuple(sorted(ids | mine)), tuple(unclear), left)


def _whose_keys(
    recording: Path, participant: str, found: FoundKeys, disk: Disk
) -> tuple[frozenset[str], dict[str, str]]:
    """The participant's keys; and those of which it is not certain, with the reason.

    A segment or a journal, each under a CRC, is believed before an entry: one flipped bit makes one
    pseudonym of another, also where an entry of a damaged file went into a new one.
    """
    owners: dict[str, set[str]] = {}
    for said in whose_files(recording, disk):
        if said.identity is not None and said.identity.key_id:
            owners.setdefault(said.identity.key_id, set()).add(said.identity.participant)
    scraps = [
        scrap
        for damaged in found.damaged
        for scrap in keyscraps.scraps(read_damaged(recording / damaged.name, disk))
    ]
    labelled = {scrap.key_id for scrap in scraps if scrap.participant == participant}
    entries = found.file.keys if found.file is not None else ()
    labelled |= {entry.key_id for entry in entries if entry.participant == participant}
    named = {key_id for key_id, who in owners.items() if participant in who}
    # Whatever such an entry's own label says, it may be the participant's; that of markers names nobody.
    doubtful = {
        scrap.key_id: "it stands in a damaged keys file, and no segment or journal names it"
        for scrap in scraps
        if scrap.key_id not in owners and (scrap.participant or scrap.key_id in labelled)
    }
    nameless = {entry.key_id for entry in entries if entry.participant == UNKNOWN}
    nameless |= {scrap.key_id for scrap in scraps if scrap.participant is None}
    lost = "whose it is was lost when the keys file was damaged, and no segment names it"
    doubtful |= dict.fromkeys(nameless - set(owners), lost)
    doubtful |= {
        key_id: "a segment or journal says that it is somebody else's"
        for key_id in labelled | named
        if owners.get(key_id, {participant}) != {participant}
    }
    return frozenset((labelled | named) - set(doubtful)), doubtful


def _blanked(path: Path, ids: frozenset[str], disk: Disk) -> int:
    """Blank what a damaged keys file has of these keys; how many places are unclear."""
    data = disk.read_file(path)
    left, n_unclear = keyscraps.without(data, ids)
    if left != data:
        failed = replace_wiped(path, left, disk)
        if failed is not None:
            raise failed
    return n_unclear


def drop_erased(folder: Path, find: Find, disk: Disk) -> tuple[list[Path], list[Cut]]:
    """Journal files whose key was erased hold nothing that anybody could read, and would keep recovery
    from ending: they are removed. If none is left the tails of their segments are cut as recovery does.
    """
    gone: dict[Path, JournalHeader] = {}
    are_others = False
    for path in journal_files(folder, disk):
        try:
            header = read_journal_header(path, disk)
        except JournalDamaged:
            are_others |= holds_entries(path, disk)  # else it was made ahead, and never begun
            continue
        if header.key_id and isinstance(find(header.log_id, header.key_id), ErasedKey):
            gone[path] = header
        else:
            are_others = True
    cut: list[Cut] = []
    if gone and not are_others:
        names = {info.stream_id for header in gone.values() for info in header.streams.values()}
        for stream_id in sorted(names):
            cut += cut_tails(folder.parent / stream_id, disk, held=None)
    for path in gone:
        disk.unlink(path)
    if gone:
        disk.fsync_folder(folder)
    return list(gone), cut


def _of_journal(path: Path, disk: Disk) -> Identity | None:
    try:
        return read_journal_header(path, disk).identity
    except JournalDamaged:
        return None
