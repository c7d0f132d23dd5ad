"""`repair`: cut torn tails, archive what journals hold. Runs in: the CLI process, not beside a daemon."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from brainforge_edge.cli.keyring import key_store, keys_option
from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.cli.verify import recording_folders
from brainforge_edge.core.errors import SessionError

if TYPE_CHECKING:
    from brainforge_edge.recorder.recover import RecoveryReport


@click.command()
@click.argument("folder", type=GivenPath())
@keys_option
@json_option
def repair(folder: Path, *, keys: str | None, as_json: bool) -> None:
    """Cut torn tails and archive what journals hold."""
    recordings = recording_folders(folder)
    for recording in recordings:
        _refuse_open(recording)
    reports = [_repaired(recording, keys) for recording in recordings]
    # A table remade while a journal waits would not know the incarnations in it.
    remade = None if recordings == [folder] else _remade(recordings[0].parent)
    if as_json:
        print_json(
            {
                "ok": True,
                "recordings": [
                    {
                        "recording": report.recordings[0],
                        "rows_from_journal": report.rows,
                        "chunks": report.chunks,
                        "cut": [
                            {"file": str(cut.path), "end": cut.end, "was": cut.was}
                            for cut in report.cut
                        ],
                        "written": [str(path) for path in report.written],
                        "damaged": [
                            {"file": str(hole.path), "offset": hole.offset, "end": hole.end}
                            for hole in report.holes
                        ],
                        "kept": [str(path) for path in report.kept],
                        "erased": [str(path) for path in report.erased],
                    }
                    for report in reports
                ],
                "streams_remade": remade or [],
            }
        )
        return
    for report in reports:
        rows = ", ".join(f"{n} rows of {stream}" for stream, n in report.rows.items()) or "no rows"
        click.echo(f"{report.recordings[0]}: {rows} from the journal, {len(report.cut)} tails cut")
        for cut in report.cut:
            click.echo(f"  {cut.path}: cut from {cut.was} to {cut.end} bytes")
        for hole in report.holes:
            click.echo(f"  {hole.path}: no whole entry in bytes {hole.offset} to {hole.end}")
        for path in report.kept:
            click.echo(f"  {path}: no entry can be read, set aside")
        for path in report.erased:
            click.echo(f"  {path}: its key was erased, removed")
    if remade:
        click.echo(f"streams.json was remade from the segments of {', '.join(remade)}")


def _repaired(recording: Path, keys: str | None) -> "RecoveryReport":
    """Recover, then close the recording: nothing goes on with it."""
    from brainforge_edge.codec import registry  # noqa: PLC0415 - --help stays light
    from brainforge_edge.recorder import catalog  # noqa: PLC0415
    from brainforge_edge.recorder.recover import repair_recording  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    disk = SystemDisk()
    report = repair_recording(
        recording,
        encode=registry.encode_packed,
        disk=disk,
        random=os.urandom,
        private=key_store(recording, keys),
    )
    file = catalog.read_recording(recording, disk).file
    if file is not None and (not file.closed or file.segments is None):
        catalog.close_recording(recording, disk)
    return report


def _remade(recordings: Path) -> list[str] | None:
    from brainforge_edge.recorder.catalog import rebuilt_streams  # noqa: PLC0415
    from brainforge_edge.recorder.log import remake_streams  # noqa: PLC0415 - --help stays light
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    disk = SystemDisk()
    return remake_streams(recordings, rebuilt_streams(recordings, disk), disk)


def _refuse_open(recording: Path) -> None:
    """A journal that a recorder writes to is not ours to touch."""
    from brainforge_edge.storage.openfiles import open_below  # noqa: PLC0415 - --help stays light

    for found in open_below(recording):
        raise SessionError(
            "in_use",
            f"{recording.name} was not repaired",
            why=f"process {found.pid} has files of it open",
            remedy="Stop the recording first; a running daemon repairs by itself",
        )
