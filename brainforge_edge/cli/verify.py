"""`verify`: an exact account of a recording, or of all below a folder. Runs in: the CLI process."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.errors import ExitStatus, StorageError

if TYPE_CHECKING:
    from brainforge_edge.recorder.verify import Account, DamagedChunk, StreamAccount


@click.command()
@click.argument("folder", type=GivenPath())
@json_option
def verify(folder: Path, *, as_json: bool) -> int:
    """Account for every sample of a recording."""
    accounts = [_account(recording) for recording in recording_folders(folder)]
    is_clean = all(account.is_clean for account in accounts)
    if as_json:
        print_json({"ok": is_clean, "recordings": [_described(a) for a in accounts]})
    else:
        for account in accounts:
            _print(account)
        click.echo("clean" if is_clean else "damaged")
    return ExitStatus.OK if is_clean else ExitStatus.FAILED


def recording_folders(folder: Path) -> list[Path]:
    """The recording itself, or the recordings below a box's root; raises StorageError for others."""
    if not folder.is_dir():
        raise StorageError(
            "no_recording",
            f"{folder} cannot be read",
            why="it is not a folder" if folder.exists() else "there is no such folder",
            remedy="Name a recording, or the folder that holds recordings",
        )
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


def _account(recording: Path) -> "Account":
    from brainforge_edge.codec import registry  # noqa: PLC0415 - --help stays light
    from brainforge_edge.core.stream import Dtype  # noqa: PLC0415
    from brainforge_edge.recorder.chunk import Chunk  # noqa: PLC0415
    from brainforge_edge.recorder.verify import verify_recording  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    def packed(chunk: Chunk) -> bytes:
        dtype = Dtype(chunk.dtype)
        rows = registry.decode(chunk.codec, chunk.body, dtype, chunk.n_samples, chunk.n_channels)
        return registry.pack_rows(rows, dtype)

    return verify_recording(recording, decode=packed, disk=SystemDisk())


def _described(account: "Account") -> dict[str, Any]:
    return {
        "recording": account.recording,
        "closed": account.is_closed,
        "clean": account.is_clean,
        "problems": account.problems,
        "without_rows": account.without_rows,
        "streams": [_stream(stream) for stream in account.streams],
    }


def _stream(stream: "StreamAccount") -> dict[str, Any]:
    return {
        "stream_id": stream.stream_id,
        "segments": stream.segments,
        "chunks": stream.chunks,
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
        "missing": [[s.incarnation, s.first, s.end] for s in stream.missing],
        "damaged": [_damage(chunk) for chunk in stream.damaged],
        "torn": [_damage(chunk) for chunk in stream.torn],
        "duplicates": stream.duplicates,
        "conflicts": [[s.incarnation, s.first, s.end] for s in stream.conflicts],
        "in_journal": stream.in_journal,
    }


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
    for stream in account.streams:
        _print_stream(stream)


def _print_stream(stream: "StreamAccount") -> None:
    held = (
        f"{stream.markers} markers"
        if stream.markers and not stream.rows
        else f"{stream.rows} rows in {stream.chunks} chunks, "
        f"{len(stream.gaps)} gaps of {stream.lost_in_gaps} samples"
    )
    waiting = f", {stream.in_journal} rows only in the journal" if stream.in_journal else ""
    click.echo(f"  {stream.stream_id}: {held}{waiting}")
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
    if stream.duplicates:
        click.echo(f"    {stream.duplicates} rows lie in two chunks")
    for span in stream.conflicts:
        click.echo(f"    two versions: {span.incarnation}:{span.first}–{span.end}")
