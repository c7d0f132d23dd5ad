"""The one place that removes recorded data. Runs in: agent process, thread `keep`; `brainforge-edge release`.

Order of the work on one segment, each step safe to be killed in and to be done again:
 1. its bytes have the chain's digest, and its evidence is proven;
 2. a line in `freed` says so, durably;
 3. the file is removed, then its folder synced.
A file that is there beside its line was left by a kill between 2 and 3, or came back with a power cut:
all of it is looked at anew, but the line is written once.
"""

import stat
from pathlib import Path

import msgspec

from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder.attested import FREEING_LOCK
from brainforge_edge.recorder.catalog import is_closed
from brainforge_edge.recorder.chain import FREED_FILE, ChainEntry
from brainforge_edge.recorder.digest import FileDigest, Rest, file_digest, no_rest, rows_in
from brainforge_edge.recorder.freed import Freed
from brainforge_edge.recorder.proofs import Proofs
from brainforge_edge.recorder.signers import Verifiers
from brainforge_edge.security.sign import Signed
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.lines import append_line, settle


def free_segment(
    folder: Path,
    entry: ChainEntry,
    *,
    log_id: bytes,
    proof: Signed | bytes,
    verifiers: Verifiers,
    utc_ns: int | None,
    disk: Disk,
    rest: Rest = no_rest,
    proofs: Proofs | None = None,
) -> bool:
    """Remove a closed recording's segment; False if it was gone. `proof`: an attestation, or the digest of a release.

    StorageError `not_proven`, `changed`, `void` or `no_file` where it must stay. `proofs` of this recording spare
    who frees many segments the reading of its lines for each.
    """
    path = folder / entry.stream_id / entry.segment
    proofs = proofs or Proofs(folder, disk, verifiers)
    with disk.exclusive(folder.parent / FREEING_LOCK):
        if not _is_here(path):
            return False
        if not is_closed(folder, disk):
            raise _kept(path, "not_proven", "its recording is not closed", "Wait until it is")
        rows = rows_in(path, disk)
        made = Freed(
            log_id=log_id,
            stream_id=entry.stream_id,
            number=rows.number,
            segment=entry.segment,
            segment_id=entry.segment_id,
            size=entry.size,
            sha256=entry.sha256,
            held=rows.held,
            named=rows.named,
            freed_utc_ns=utc_ns,
            attestation=proof if isinstance(proof, Signed) else None,
            release=proof if isinstance(proof, bytes) else None,
        )
        evidence = proofs.evidence()
        if fault := evidence.fault(made, has_rows=False):
            raise _kept(path, "not_proven", fault, "Nothing is to be done: it is kept")
        if file_digest(path, disk, rest) != FileDigest(entry.size, entry.sha256):
            remedy = "See what brainforge-edge verify says of it; it is kept"
            raise _kept(path, "changed", "its bytes are not those that were closed", remedy)
        if fault := evidence.fault(made):
            raise _kept(path, "not_proven", fault, "Nothing is to be done: it is kept")
        # Hashing took long: what proved it then may be void by now.
        is_proven = not proofs.evidence().fault(made)
        if not is_proven or not _still_attested(entry, made, proofs):
            remedy = "Nothing is to be done: it goes when it is attested anew"
            raise _kept(path, "void", "its proof was set aside meanwhile", remedy, transient=True)
        line = proofs.freed().get((entry.stream_id, entry.segment))
        if line is not None and _is_said(line, made):
            settle(folder / FREED_FILE, disk)
        else:
            append_line(folder / FREED_FILE, msgspec.json.encode(made), disk)
            proofs.added(made)
        disk.unlink(path)
        disk.fsync_folder(path.parent)
    return True


def finish_freeing(
    folder: Path,
    *,
    log_id: bytes,
    verifiers: Verifiers,
    disk: Disk,
    rest: Rest = no_rest,
) -> list[Freed]:
    """Remove what a line in `freed` says is gone and is still there, on the same terms; what was.

    The statement in a line tells what was so when it was written. Where `attested` proves it no more the
    file stays, whoever brought it back: the store was restored, and the box may have the only copy.
    """
    done: list[Freed] = []
    proofs = Proofs(folder, disk, verifiers)
    lines = list(proofs.freed().values())
    if not lines:
        return done
    entries = {(entry.stream_id, entry.segment): entry for entry in proofs.evidence().entries}
    here = {name: set(disk.names(folder / name)) for name in {line.stream_id for line in lines}}
    for line in lines:
        entry = entries.get((line.stream_id, line.segment))
        proof = line.attestation or line.release
        if entry is None or proof is None or line.log_id != log_id:
            continue  # no words of this box: the file stays
        if line.segment not in here[line.stream_id] or not _still_attested(entry, line, proofs):
            continue
        if free_segment(
            folder,
            entry,
            log_id=log_id,
            proof=proof,
            verifiers=verifiers,
            utc_ns=line.freed_utc_ns,
            disk=disk,
            rest=rest,
            proofs=proofs,
        ):
            done.append(line)
    return done


def _is_here(path: Path) -> bool:
    """Whether there is such a file; StorageError `no_file` where something else has its name."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        why = f"it cannot be looked at ({error.strerror})"
        raise _kept(path, "io", why, "Check the disk and the system log", transient=True) from error
    if not stat.S_ISREG(mode) or path.parent.is_symlink():
        remedy = "Put the file itself there; nothing that lies behind a link is removed"
        raise _kept(path, "no_file", "it is a link, or no file", remedy)
    return True


def _still_attested(entry: ChainEntry, freed: Freed, proofs: Proofs) -> bool:
    """Whether what the aggregator signed stands; of a release nothing is asked."""
    return freed.attestation is None or entry.segment_id in proofs.attested(freed.log_id)


def _is_said(line: Freed, made: Freed) -> bool:
    """Whether a line says all of this, whenever it was written."""
    return msgspec.structs.replace(line, freed_utc_ns=made.freed_utc_ns) == made


def _kept(path: Path, code: str, why: str, remedy: str, *, transient: bool = False) -> StorageError:
    what = f"{path} was not removed"
    return StorageError(code, what, why=why, remedy=remedy, transient=transient, path=str(path))
