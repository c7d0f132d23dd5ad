"""`export`: a closed recording as files of other programs. Runs in: the CLI process."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from brainforge_edge.cli.keyring import keys_option, opener
from brainforge_edge.cli.number import Number
from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.clock import SystemClock

if TYPE_CHECKING:
    from brainforge_edge.core.errors import StorageError
    from brainforge_edge.export.formats import Exported
    from brainforge_edge.export.notes import RecordingNotes
    from brainforge_edge.storage.files import Disk

FORMATS = ("bdf", "edf", "fif", "csv", "parquet", "brainvision", "xdf", "snirf")
BIDS = "bids"


@click.command()
@click.argument("recordings", metavar="RECORDING...", nargs=-1, required=True, type=GivenPath())
@click.option("--format", "file_format", type=click.Choice((*FORMATS, BIDS)))
@click.option(
    "--output",
    type=GivenPath(),
    default=Path(),
    help="Folder for the files, one per stream; here if not given. With bids, the dataset's.",
)
@click.option("--stream", "only", help="Export this stream alone.")
@click.option(
    "--partial", is_flag=True, help="Also where rows were freed on this box: gaps in the files."
)
@click.option(
    "--lossy", is_flag=True, help="With edf: round off the bits of values that 16 bits do not hold."
)
@click.option("--task", help="With bids: what the participant did, letters and digits.")
@click.option(
    "--line-freq",
    "line_hz",
    type=Number(least=1.0, most=1000.0),
    help="With bids: frequency of the mains in Hz, 50 or 60.",
)
@click.option("--participant", help="With bids: pseudonym, where a recording names nobody.")
@click.option(
    "--to",
    "medium",
    type=GivenPath(),
    help="Instead of --format: copy the recording as it is to this folder of another medium, "
    "and read it back from there.",
)
@keys_option
@json_option
def export(
    recordings: tuple[Path, ...],
    *,
    file_format: str | None,
    output: Path,
    only: str | None,
    partial: bool,
    lossy: bool,
    task: str | None,
    line_hz: float | None,
    participant: str | None,
    medium: Path | None,
    keys: str | None,
    as_json: bool,
) -> None:
    """Write closed recordings as BDF, EDF, FIF, CSV, Parquet, BrainVision, XDF, SNIRF or a BIDS dataset, or copy one to a medium."""
    if (file_format is None) == (medium is None):
        raise click.UsageError("Give either --format or --to.")
    if lossy and file_format != "edf":
        raise click.UsageError("--lossy goes with --format edf alone: no other format rounds.")
    if file_format != BIDS and (task or line_hz is not None or participant):
        raise click.UsageError("--task, --line-freq and --participant go with --format bids alone.")
    if medium is not None:
        if len(recordings) > 1:
            raise click.UsageError("--to copies one recording at a time.")
        _copy(recordings[0], medium, as_json=as_json)
        return
    assert file_format is not None
    from brainforge_edge.export.formats import Exported  # noqa: PLC0415 - --help stays light
    from brainforge_edge.export.notes import RecordingNotes  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    disk = SystemDisk()
    unnoted: list[StorageError] = []
    exported = Exported([], {}, [], [])
    for recording in recordings:
        notes = RecordingNotes(recording, file_format, clock=SystemClock(), disk=disk)
        made = (
            _into_dataset(
                recording,
                output,
                only,
                (task, line_hz, participant),
                keys,
                notes,
                disk,
                partial=partial,
            )
            if file_format == BIDS
            else _exported(
                recording,
                output,
                file_format,
                only,
                keys,
                notes,
                disk,
                partial=partial,
                lossy=lossy,
            )
        )
        if not as_json:
            _tell(made)  # at once: the next one may be refused, and this one stays
        exported.files.extend(made.files)
        for stream, n in made.damaged.items():
            exported.damaged[stream] = exported.damaged.get(stream, 0) + n
        exported.left_out.extend(made.left_out)
        exported.elsewhere.extend(made.elsewhere)
        if notes.failed is not None:
            unnoted.append(notes.failed)
    if unnoted:  # a copy on a disk that is read only, say
        click.echo(
            f"brainforge-edge: {unnoted[0]} The recording does not know of this export: an erasure will not find it.",
            err=True,
        )
    if as_json:
        files = [str(path) for path in exported.files]
        left_out = [str(error) for error in exported.left_out]
        print_json(
            {
                "ok": True,
                "files": files,
                "damaged": exported.damaged,
                "left_out": left_out,
                "elsewhere": exported.elsewhere,
                "noted": not unnoted,
            }
        )


def _tell(made: "Exported") -> None:
    for error in made.left_out:
        click.echo(f"brainforge-edge: {error}", err=True)
    for path in made.files:
        click.echo(path)
    for stream, n in made.damaged.items():
        click.echo(
            f"{stream}: {n} {'place' if n == 1 else 'places'} in its segments could not be read, the"
            " rows there are marked as a gap; brainforge-edge verify names them.",
            err=True,
        )
    for words in made.elsewhere:
        click.echo(f"{words} were freed on this box; they are gaps in the files.", err=True)


def _exported(
    recording: Path,
    output: Path,
    file_format: str,
    only: str | None,
    keys: str | None,
    notes: "RecordingNotes",
    disk: "Disk",
    *,
    partial: bool,
    lossy: bool,
) -> "Exported":
    from brainforge_edge.export.formats import export_recording  # noqa: PLC0415 - --help stays light

    return export_recording(
        recording,
        format_name=file_format,
        target=output,
        disk=disk,
        stream_id=only,
        opened=opener(recording, keys),
        is_partial=partial,
        is_lossy=lossy,
        notes=notes,
    )


def _into_dataset(
    recording: Path,
    output: Path,
    only: str | None,
    said: tuple[str | None, float | None, str | None],
    keys: str | None,
    notes: "RecordingNotes",
    disk: "Disk",
    *,
    partial: bool,
) -> "Exported":
    from brainforge_edge.export.bids.dataset import DEFAULT, Setting, export_dataset  # noqa: PLC0415 - --help stays light

    task, line_hz, participant = said
    return export_dataset(
        recording,
        target=output,
        disk=disk,
        setting=Setting(task or DEFAULT.task, line_hz, participant or ""),
        stream_id=only,
        opened=opener(recording, keys),
        is_partial=partial,
        notes=notes,
    )


def _copy(recording: Path, medium: Path, *, as_json: bool) -> None:
    """The first of two steps with which a box without an aggregator frees data; `release` is the second."""
    from brainforge_edge.core.clock import SystemClock  # noqa: PLC0415 - --help stays light
    from brainforge_edge.recorder.copies import code_of, copy_recording  # noqa: PLC0415
    from brainforge_edge.recorder.log import node_root  # noqa: PLC0415
    from brainforge_edge.recorder.medium import place_of  # noqa: PLC0415
    from brainforge_edge.storage.audit import add_step  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    recording, medium, disk = recording.absolute(), medium.absolute(), SystemDisk()
    utc_ns = SystemClock().utc_ns()
    copied = copy_recording(recording, medium, utc_ns=utc_ns, disk=disk, look=place_of)
    size = sum(segment.size for segment in copied.segments)
    facts: dict[str, str | int] = {"medium": str(medium), "head": copied.head.hex(), "segments": len(copied.segments), "bytes": size}  # fmt: skip
    root = node_root(recording, disk)
    if root is not None:  # else there is no box whose data it could be said of
        add_step(root, "copied", recording.name, facts, utc_ns=utc_ns, disk=disk)
    code = code_of(copied)
    if as_json:
        print_json({"ok": True, "copy": str(medium / copied.folder), "code": code, **facts})
        return
    click.echo(
        f"{medium / copied.folder}: {len(copied.segments)} segments, {size} bytes, read back and the same"
    )
    if root is None:
        click.echo("It is not among the recordings of a box: nothing can be released here.")
        return
    click.echo(
        f"To free the space here: brainforge-edge release {recording} --medium {medium} --confirm {code}"
    )
