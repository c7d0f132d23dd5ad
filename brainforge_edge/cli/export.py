"""`export`: a closed recording as files of other programs. Runs in: the CLI process."""

from pathlib import Path

import click

from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.errors import StorageError

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

    left_out: list[StorageError] = []
    written = export_recording(
        recording,
        format_name=file_format,
        target=output,
        disk=SystemDisk(),
        stream_id=only,
        left_out=left_out,
    )
    if as_json:
        files = [str(path) for path in written]
        print_json({"ok": True, "files": files, "left_out": [str(error) for error in left_out]})
        return
    for error in left_out:
        click.echo(f"brainforge-edge: {error}", err=True)
    for path in written:
        click.echo(path)
