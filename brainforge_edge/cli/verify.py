"""`verify`: an exact account of a recording, or of all below a folder. Runs in: the CLI process."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brainforge_edge.cli.keyring import keys_option, opener
from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.errors import ExitStatus, StorageError

if TYPE_CHECKING:
    from brainforge_edge.recorder.freed import Freed
    from brainforge_edge.recorder.verify import Account, DamagedChunk, StreamAccount
    from brainforge_edge.storage.audit import AuditState


@click.command()
@click.argument("folder", type=GivenPath())
@keys_option
@click.option(
    "--signer",
    type=GivenPath(),
    help="Public key of who signed for what was freed; else those that the box knows.",
)
@json_option
def verify(folder: Path, *, keys: str | None, signer: Path | None, as_json: bool) -> int:
    """Account for every sample of a recording."""
    accounts = [_account(recording, keys, signer) for recording in recording_folders(folder)]
    audit = _audit(folder)
    is_clean = all(account.is_clean for account in accounts) and not (audit and audit.broken)
    if as_json:
        said = None if audit is None else audit._asdict()
        recordings = [_described(a) for a in accounts]
        print_json({"ok": is_clean, "recordings": recordings, "audit": said})
    else:
        for account in accounts:
            _print(account)
        if audit is not None:
            click.echo(_audit_sentence(audit))
        click.echo("clean" if is_clean else "damaged")
    return ExitStatus.OK if is_clean else ExitStatus.FAILED


def recording_folders(folder: Path) -> list[Path]:
    """The recording itself, or the recordings below a box's root; raises StorageError for others."""
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415 - --help stays light

    if not folder.is_dir():
        raise StorageError(
            "no_recording",
            f"{folder} cannot be read",
            why="it is not a folder" if folder.exists() else "there is no such folder",
            remedy="Name a recording, or the folder that holds recordings",
        )
    disk = SystemDisk()
    for place in (folder, folder / "recordings"):
        disk.names(place)  # a glob takes what may not be listed for empty
    if (folder / "recording.json").exists() or any(folder.glob("*/*.seg")):
        return [folder]
    for place in (folder, folder / "recordings"):
        found = sorted({path.parent.parent for path in place.glob("*/*/*.seg")})
        found += sorted({path.parent for path in place.glob("*/recording.json")} - set(found))
        if found:
            return sorted(found)
    raise StorageError(
        "no_recording",
        f"{folder} is not a recording",
        why="it holds neither a recording nor recordings",
        remedy="Name a recording, or the folder that holds recordings",
    )


def _audit(folder: Path) -> "AuditState | None":
    """Of a box's root or its folder of recordings; one recording has none."""
    from brainforge_edge.storage.audit import AUDIT_FILE, check_audit  # noqa: PLC0415 - --help stays light
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    for root in (folder, folder.absolute().parent):
        if (root / AUDIT_FILE).exists() and (root / "recordings").is_dir():
            return check_audit(root, SystemDisk())
    return None


def _audit_sentence(audit: "AuditState") -> str:
    if audit.broken:
        lines = ", ".join(map(str, audit.broken))
        return f"audit.log: what stood before line {lines} was changed, or lines of it are missing"
    return f"audit.log: {audit.lines} lines, each follows from the one before"


def _account(recording: Path, keys: str | None, signer: Path | None) -> "Account":
    from brainforge_edge.codec import registry  # noqa: PLC0415 - --help stays light
    from brainforge_edge.core.stream import Dtype  # noqa: PLC0415
    from brainforge_edge.recorder.chunk import Chunk  # noqa: PLC0415
    from brainforge_edge.recorder.signers import known_signers  # noqa: PLC0415
    from brainforge_edge.recorder.verify import verify_recording  # noqa: PLC0415
    from brainforge_edge.security.signfiles import verifier_at  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    opened = opener(recording, keys)

    def packed(sealed: Chunk) -> bytes:
        chunk = opened(sealed)
        dtype = Dtype(chunk.dtype)
        rows = registry.decode(chunk.codec, chunk.body, dtype, chunk.n_samples, chunk.n_channels)
        return registry.pack_rows(rows, dtype)

    disk = SystemDisk()
    if signer is not None:
        verifier = verifier_at(signer)
        verifiers = {verifier.id: verifier}
    else:
        # What such a key proved is told of as without evidence; what others proved stands.
        root = recording.absolute().parent.parent
        verifiers = known_signers(root, disk, lambda error: click.echo(str(error), err=True))
    return verify_recording(recording, decode=packed, disk=disk, verifiers=verifiers)


def _described(account: "Account") -> dict[str, Any]:
    return {
        "recording": account.recording,
        "closed": account.is_closed,
        "clean": account.is_clean,
        "problems": account.problems,
        "without_rows": account.without_rows,
        "chain": {
            "head": account.chain.head.hex(),
            "segments": account.chain.segments,
            "holds": account.chain.holds,
            "unchained": account.chain.unchained,
        },
        "streams": [_stream(stream) for stream in account.streams],
    }


def _stream(stream: "StreamAccount") -> dict[str, Any]:
    return {
        "stream_id": stream.stream_id,
        "segments": stream.segments,
        "chunks": stream.chunks,
        "unopened": stream.unopened,
        "erased": stream.erased,
        "rows": stream.rows,
        "markers": stream.markers,
        "clean": stream.is_clean,
        "spans": [[s.incarnation, s.first, s.end] for s in stream.spans],
        "gaps": [
            {
                "incarnation": named.incarnation,
                "before_seq": named.seq,
                "n": named.gap.n,
                "plus_minus": named.gap.plus_minus,
                "basis": named.gap.basis.value,
                "cause": named.gap.cause.value,
            }
            for named in stream.gaps
        ],
        "gap_samples": stream.lost_in_gaps,
        "erased_spans": [[s.incarnation, s.first, s.end] for s in stream.erased_spans],
        "missing": [[s.incarnation, s.first, s.end] for s in stream.missing],
        "damaged": [_damage(chunk) for chunk in stream.damaged],
        "torn": [_damage(chunk) for chunk in stream.torn],
        "duplicates": stream.duplicates,
        "conflicts": [[s.incarnation, s.first, s.end] for s in stream.conflicts],
        "in_journal": stream.in_journal,
        "freed": [
            {
                "segment": gone.segment,
                "size": gone.size,
                "sha256": gone.sha256.hex(),
                "rows": [[r.incarnation, r.first, r.end] for r in gone.held],
                "proof": freed_by(gone),
            }
            for gone in stream.freed
        ],
    }


def freed_by(gone: "Freed") -> str:
    return "release" if gone.attestation is None else "attestation"


def _damage(chunk: "DamagedChunk") -> dict[str, Any]:
    return {
        "file": chunk.file,
        "offset": chunk.offset,
        "end": chunk.end,
        "reason": chunk.reason,
        "chunks": list(chunk.numbers),
    }


def _print(account: "Account") -> None:
    state = "closed" if account.is_closed else "open or not ended in order"
    click.echo(f"{account.recording} ({state})")
    for problem in account.problems:
        click.echo(f"  problem: {problem}")
    if account.without_rows:
        click.echo(f"  nothing came of: {', '.join(account.without_rows)}")
    if account.chain.segments:
        late = f", {len(account.chain.unchained)} not in it yet" if account.chain.unchained else ""
        click.echo(
            f"  chain: {account.chain.segments} segments{late}, head {account.chain.head.hex()}"
        )
    for stream in account.streams:
        _print_stream(stream)


def _freed_sentence(gone: "list[Freed]") -> str:
    from brainforge_edge.recorder.freed import rows_of  # noqa: PLC0415 - --help stays light

    rows = [f"{r.incarnation}:{r.first}–{r.end}" for r in rows_of(gone)]
    how = {
        "attestation": "delivered and attested",
        "release": "copied to a medium and released",
    }
    proofs = " or ".join(sorted({how[freed_by(line)] for line in gone}))
    which = f"; rows {', '.join(rows)}" if rows else ""
    n = f"{len(gone)} {'segment' if len(gone) == 1 else 'segments'}"
    return f"    freed: {n}, {proofs}{which}"


def _print_stream(stream: "StreamAccount") -> None:
    held = (
        f"{stream.markers} markers"
        if stream.markers and not stream.rows
        else f"{stream.rows} rows in {stream.chunks} chunks, "
        f"{len(stream.gaps)} gaps of {stream.lost_in_gaps} samples"
    )
    waiting = f", {stream.in_journal} rows only in the journal" if stream.in_journal else ""
    click.echo(f"  {stream.stream_id}: {held}{waiting}")
    if stream.freed:
        click.echo(_freed_sentence(stream.freed))
    for named in stream.gaps:
        gap = named.gap
        click.echo(
            f"    gap before {named.incarnation}:{named.seq}: {gap.n} ± {gap.plus_minus} samples, "
            f"known by {gap.basis.value}, cause {gap.cause.value}"
        )
    for span in stream.missing:
        click.echo(f"    missing, no gap says so: {span.incarnation}:{span.first}–{span.end}")
    for chunk in (*stream.damaged, *stream.torn):
        numbers = ", ".join(map(str, chunk.numbers)) or "?"
        kind = "torn" if chunk in stream.torn else "damaged"
        click.echo(
            f"    {kind} chunk {numbers}: {chunk.file}, bytes {chunk.offset}–{chunk.end} "
            f"({chunk.reason})"
        )
    if stream.unopened:
        click.echo(
            f"    {stream.unopened} chunks are sealed and no key for them is here: whole by their CRC, "
            "their rows were not looked at (--keys)"
        )
    if stream.erased:
        click.echo(f"    {stream.erased} chunks were erased: nobody can open them any more")
    for span in stream.erased_spans:
        click.echo(f"    erased with a journal: {span.incarnation}:{span.first}–{span.end}")
    if stream.duplicates:
        click.echo(f"    {stream.duplicates} rows lie in two chunks")
    for span in stream.conflicts:
        click.echo(f"    two versions: {span.incarnation}:{span.first}–{span.end}")
