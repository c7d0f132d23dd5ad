"""`release`: free what was copied to a medium and read back from it. Runs in: the CLI process, beside a daemon or not."""

from pathlib import Path

import click

from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.errors import StorageError


@click.command()
@click.argument("recording", type=GivenPath())
@click.option("--medium", type=GivenPath(), required=True, help="The folder of `export --to`.")
@click.option("--confirm", "code", required=True, help="The code that `export --to` showed.")
@json_option
def release(recording: Path, *, medium: Path, code: str, as_json: bool) -> None:
    """Free a recording that was copied to a medium."""
    from brainforge_edge.core.clock import SystemClock  # noqa: PLC0415 - --help stays light
    from brainforge_edge.recorder.copies import release_recording  # noqa: PLC0415
    from brainforge_edge.recorder.freeing import free_segment  # noqa: PLC0415
    from brainforge_edge.recorder.log import node_root, read_log_id  # noqa: PLC0415
    from brainforge_edge.recorder.medium import place_of  # noqa: PLC0415
    from brainforge_edge.recorder.signers import NOBODY  # noqa: PLC0415
    from brainforge_edge.storage.audit import add_step  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    recording, medium, disk = recording.absolute(), medium.absolute(), SystemDisk()
    root, utc_ns = node_root(recording, disk), SystemClock().utc_ns()
    if root is None:
        raise StorageError(
            "not_of_a_box",
            f"{recording} was not released",
            why="it is not among the recordings of a box",
            remedy="Name a recording below a box's root; a copy of one is removed by hand",
        )
    log_id = read_log_id(recording.parent, disk)
    proof, segments = release_recording(
        recording, medium, code, utc_ns=utc_ns, disk=disk, look=place_of
    )
    if not segments:
        if as_json:
            print_json({"ok": True, "recording": recording.name, "freed": 0, "bytes": 0})
        else:
            click.echo(f"{recording.name}: nothing is left to free")
        return
    size = sum(entry.size for entry in segments)
    facts: dict[str, str | int] = {"medium": str(medium), "segments": len(segments), "bytes": size}
    add_step(root, "released", recording.name, facts, utc_ns=utc_ns, disk=disk)
    for entry in segments:
        free_segment(
            recording,
            entry,
            log_id=log_id,
            proof=proof,
            verifiers=NOBODY,
            utc_ns=utc_ns,
            disk=disk,
        )
    add_step(root, "freed", recording.name, {**facts, "proof": "release"}, utc_ns=utc_ns, disk=disk)
    if as_json:
        print_json({"ok": True, "recording": recording.name, "freed": len(segments), "bytes": size})
    else:
        click.echo(
            f"{recording.name}: {len(segments)} segments freed, {size} bytes; its copy is on {medium}"
        )
