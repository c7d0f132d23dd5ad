"""`export`: a closed recording as files of other programs. Runs in: the CLI process."""

from pathlib import Path

import click

from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.path import GivenPath

FORMATS = ("bdf", "fif", "csv")


@click.command()
@click.argument("recording", type=GivenPath())
@click.option("--format", "file_format", type=click.Choice(FORMATS), required=True)
@click.option(
    "--output",
    type=GivenPath(),
    default=Path(),
    help="Folder for the files, one per stream; here if not given.",
)
@click.option("--stream", "only", help="Export this stream alone.")
@json_option
def export(
    recording: Path, *, file_format: str, output: Path, only: str | None, as_json: bool
) -> None:
    """Write a closed recording as BDF, FIF or CSV."""
    from brainforge_edge.export.formats import export_recording  # noqa: PLC0415 - --help stays light
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    exported = export_recording(
        recording, format_name=file_format, target=output, disk=SystemDisk(), stream_id=only
    )
    if as_json:
        files = [str(path) for path in exported.files]
        left_out = [str(error) for error in exported.left_out]
        print_json({"ok": True, "files": files, "damaged": exported.damaged, "left_out": left_out})
        return
    for error in exported.left_out:
        click.echo(f"brainforge-edge: {error}", err=True)
    for path in exported.files:
        click.echo(path)
    for stream, n in exported.damaged.items():
        click.echo(
            f"{stream}: {n} {'place' if n == 1 else 'places'} in its segments could not be read, the"
            " rows there are marked as a gap; brainforge-edge verify names them.",
            err=True,
        )
