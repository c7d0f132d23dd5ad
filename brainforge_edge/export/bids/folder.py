"""The dataset's folder: what it holds, and how a recording comes into it as a whole. Runs in: `brainforge-edge export`.

One export at a time holds the folder. A recording is made in `.brainforge-part`, which is renamed to
`.brainforge-whole` when all of it is on the disk; from there its folders move to their places. A process
that was killed before the renaming left nothing; what one left behind it the next export moves first.
"""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.errors import StorageError
from brainforge_edge.export.bids.label import PARTICIPANT
from brainforge_edge.export.bids.table import ABSENT, Table, damaged, read_table
from brainforge_edge.export.formats import sync
from brainforge_edge.recorder.leftover import DATASET_LOCK, DATASET_PART, DATASET_WHOLE
from brainforge_edge.storage.files import Disk

LOCK, PART, WHOLE = DATASET_LOCK, DATASET_PART, DATASET_WHOLE
DESCRIPTION, PARTICIPANTS = "dataset_description.json", "participants.tsv"
RECORDING_ID = "recording_id"  # column of scans.tsv


class Known(NamedTuple):
    """What a dataset has already."""

    participants: Table
    recorded: frozenset[str]  # recording ids
    n_sessions: int  # the highest number there is


def known(folder: Path, disk: Disk) -> Known:
    """StorageError `no_dataset` for a folder with other files, `dataset_damaged` for tables that are none."""
    names = [name for name in disk.names(folder) if not name.startswith(".")]
    if DESCRIPTION not in names:
        if names:
            raise StorageError(
                "no_dataset",
                f"nothing was exported to {folder}",
                why=f"it holds other files and no {DESCRIPTION}: it is no BIDS dataset",
                remedy="Choose a folder that is empty, or a dataset",
            )
        return Known(Table((PARTICIPANT,), ()), frozenset(), 0)
    _check(folder / DESCRIPTION, disk)
    participants = Table((PARTICIPANT,), ())
    if PARTICIPANTS in names:
        participants = read_table(folder / PARTICIPANTS, disk)
    if PARTICIPANT not in participants.columns:
        raise damaged(folder / PARTICIPANTS, f"it has no column {PARTICIPANT}")
    recorded: set[str] = set()
    numbers = [0]
    for session in folder.glob("sub-*/ses-*"):
        number = session.name.removeprefix("ses-")
        numbers.append(int(number) if number.isascii() and number.isdigit() else 0)
        for scans in session.glob("*_scans.tsv"):
            recorded.update(read_table(scans, disk).column(RECORDING_ID))
    return Known(participants, frozenset(recorded - {ABSENT}), max(numbers))


def _check(description: Path, disk: Disk) -> None:
    try:
        fields = json.loads(disk.read_file(description))
    except (ValueError, RecursionError) as error:
        raise damaged(description, str(error)) from error
    if not isinstance(fields, dict) or "BIDSVersion" not in fields:
        raise damaged(description, "it has no BIDSVersion")


def start(folder: Path, disk: Disk) -> Path:
    """An empty folder to make a recording in, after what an earlier export left has moved."""
    move(folder, disk)
    part = folder / PART
    if part.exists():
        shutil.rmtree(part)
    part.mkdir()
    return part


def commit(folder: Path, disk: Disk) -> None:
    """What lies in `.brainforge-part` is in the dataset when this returns, also after an end of power."""
    part = folder / PART
    for path in sorted(part.rglob("*"), reverse=True):
        if path.is_dir():
            disk.fsync_folder(path)
        else:
            sync(path, disk)
    disk.fsync_folder(part)
    part.rename(folder / WHOLE)
    disk.fsync_folder(folder)
    move(folder, disk)


def move(folder: Path, disk: Disk) -> None:
    """Everything in `.brainforge-whole` to its place; nothing where there is none. May be done again."""
    whole = folder / WHOLE
    if not whole.is_dir():
        return
    for path in sorted(whole.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        place = folder / path.name
        if not path.is_dir():
            path.replace(place)
            continue
        disk.make_folder(place)
        for session in sorted(path.iterdir()):
            if (place / session.name).exists():
                raise StorageError(
                    "target_exists",
                    f"{place / session.name} is there already",
                    why="an export never replaces a file",
                    remedy=f"Remove it, or move {session} away",
                )
            session.rename(place / session.name)
        disk.fsync_folder(place)
        path.rmdir()
    disk.fsync_folder(folder)
    whole.rmdir()
