"""A recording into a BIDS dataset, new or begun. Runs in: `brainforge-edge export`.

A recording is one session (`ses-`) of each participant in it; a stream that was described anew in it
goes on in the next run (`run-`). Nothing depends on when or where it is made: the same recordings in
the same order give the same bytes.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.errors import BrainforgeError, StorageError
from brainforge_edge.export.bids import eeg, meg, motion, nirs
from brainforge_edge.export.bids.folder import (
    LOCK,
    PARTICIPANTS,
    RECORDING_ID,
    WHOLE,
    Known,
    commit,
    known,
    start,
)
from brainforge_edge.export.bids.kind import datatype_of, misfit
from brainforge_edge.export.bids.label import PARTICIPANT, PSEUDONYM, distinct, label, subject
from brainforge_edge.export.bids.table import Table, as_json
from brainforge_edge.export.bids.text import SCANS_JSON, acquired, at_the_top, events, sidecar
from brainforge_edge.export.bids.written import Written
from brainforge_edge.export.formats import Exported, unwritten
from brainforge_edge.export.notes import NoNotes, Notes
from brainforge_edge.export.streams import Part, read_streams
from brainforge_edge.recorder.chunk import Opener, unsealed
from brainforge_edge.storage.files import Disk


class Setting(NamedTuple):
    """What a recording does not say of itself."""

    task: str = "unspecified"
    line_hz: float | None = None  # of the mains
    participant: str = ""  # pseudonym, where nobody is noted as wearing a device


DEFAULT = Setting()


class _Placed(NamedTuple):
    part: Part
    datatype: str
    sub: str
    pseudonym: str
    label: str  # of the stream


def export_dataset(
    folder: Path,
    *,
    target: Path,
    disk: Disk,
    setting: Setting = DEFAULT,
    stream_id: str | None = None,
    opened: Opener = unsealed,
    is_partial: bool = False,
    notes: Notes = NoNotes(),  # noqa: B008 (it holds nothing)
) -> Exported:
    """Add a closed recording to the BIDS dataset in `target`, which is made where it is not there.

    All of the recording is there when this returns, and nothing of it before. `notes` are told of the
    folders that it is made in before the first byte, and of each file before it is moved. Streams that
    BIDS has no place for are left out, with the reason. StorageError as for other formats, and for a
    recording that the dataset has already, names that BIDS does not take, and a folder that is none.
    """
    task = label(setting.task, "task")
    read = read_streams(
        folder, disk, stream_id=stream_id, opened=opened, is_partial=is_partial, has_words=True
    )
    exported = Exported([], {}, read.left_out, read.elsewhere)
    parts = _fitting(read.parts, setting.participant, exported.left_out)
    if not parts:
        raise exported.left_out[0]
    known(target, disk)  # before anything of ours is in a folder that is none
    disk.make_folder(target)
    try:
        with disk.exclusive(target / LOCK):
            staged = start(target, disk)
            try:
                there = known(target, disk)
                placed = _placed(parts, setting.participant, there)
                for name in sorted({item.part.stream_id for item in placed}):
                    notes.begins(name, staged)
                made = _Session(staged, task, f"ses-{there.n_sessions + 1:02d}", setting.line_hz)
                _fill(made, placed, exported)
                participants = _joined(there.participants, made.pseudonyms)
                for top, text in at_the_top(participants):
                    if top == PARTICIPANTS or not (target / top).exists():
                        (staged / top).write_text(text, encoding="utf-8", newline="")
                for name, path in made.files:
                    place = target / path.relative_to(staged)
                    notes.is_whole(name, path, place)
                    exported.files.append(place)
                for sub, name in made.first.items():
                    notes.begins(name, target / WHOLE / sub)
                commit(target, disk)
                for sub in made.first:
                    notes.ended(target / WHOLE / sub)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
                if not staged.exists():
                    notes.ended(staged)
    except OSError as error:
        raise unwritten(target, error) from error
    return exported


def recording_id(part: Part) -> str:
    """Of a stream in a recording, whatever its folder is called now; tells nobody the recording's name."""
    said = part.rows.identity
    return hashlib.sha256(
        b"\0".join([said.log_id, said.recording.encode(), part.stream_id.encode()])
    ).hexdigest()[:16]


def _fill(made: "_Session", placed: list[_Placed], exported: Exported) -> None:
    for item in placed:
        try:
            made.add(item)
        except StorageError as error:
            if error.code != "storage.export_misfit":
                raise
            exported.left_out.append(error)
        if item.part.rows.n_damaged:
            exported.damaged[item.part.stream_id] = item.part.rows.n_damaged
    if not made.files:
        raise exported.left_out[0]
    made.end()


def _fitting(
    parts: list[Part], participant: str, left_out: list[BrainforgeError]
) -> list[tuple[Part, str]]:
    found = []
    for part in parts:
        try:
            datatype = datatype_of(part.rows.info)
            if not (part.rows.identity.participant or participant):
                why = "nobody is noted as wearing its device, and BIDS wants a participant"
                raise misfit(part.stream_id, why, "Name the pseudonym with --participant")
        except StorageError as error:
            left_out.append(error)
            continue
        if part.words is not None and datatype != "meg":
            name = part.words.info.stream_id
            why = f"its trigger words go with {part.stream_id}, which is no FIF there"
            left_out.append(misfit(name, why, "Export it as csv or parquet"))
        found.append((part, datatype))
    return found


def _placed(parts: list[tuple[Part, str]], participant: str, there: Known) -> list[_Placed]:
    """Who and what each is called there."""
    participants = there.participants
    placed = []
    names = distinct(sorted({part.stream_id for part, _ in parts}), "stream")
    for part, datatype in parts:
        if recording_id(part) in there.recorded:
            raise StorageError(
                "in_dataset",
                f"stream {part.stream_id} of this recording is in the dataset already",
                why="an export never replaces a file, nor adds one twice",
                remedy="Choose another folder, or remove its sessions there first",
            )
        pseudonym = part.rows.identity.participant or participant
        sub = subject(pseudonym, participants)
        participants = _joined(participants, {sub: pseudonym})
        placed.append(_Placed(part, datatype, sub, pseudonym, names[part.stream_id]))
    return placed


def _joined(participants: Table, pseudonyms: Mapping[str, str]) -> Table:
    for sub, pseudonym in sorted(pseudonyms.items()):
        if sub not in participants.column(PARTICIPANT):
            participants = participants.with_row({PARTICIPANT: sub, PSEUDONYM: pseudonym})
    return participants


class _Session:
    """The folders of one recording, while they are made."""

    def __init__(self, staged: Path, task: str, name: str, line_hz: float | None) -> None:
        self.files: list[tuple[str, Path]] = []  # of which stream
        self.pseudonyms: dict[str, str] = {}  # of those who are in it
        self.first: dict[str, str] = {}  # participant → a stream
        self._staged = staged
        self._task = task
        self._name = name
        self._line_hz = line_hz
        self._scans: dict[str, list[tuple[str, str, str]]] = {}

    def add(self, item: _Placed) -> None:
        """StorageError `export_misfit` leaves nothing of it."""
        folder = self._staged / item.sub / self._name / item.datatype
        folder.mkdir(parents=True, exist_ok=True)
        system = f"_tracksys-{item.label}" if item.datatype == "motion" else f"_acq-{item.label}"
        stem = f"{item.sub}_{self._name}_task-{self._task}{system}_run-{item.part.number:02d}"
        try:
            written = self._written(item, folder, stem)
        except StorageError:
            for path in folder.glob(f"{stem}*"):
                path.unlink()
            raise
        rows = item.part.rows
        info = sidecar(rows, written, self._task, item.datatype, self._line_hz)
        texts = {f"{item.datatype}.json": as_json(info), "channels.tsv": written.channels.text()}
        texts |= events(rows, written.n_filled)
        for suffix, text in texts.items():
            (folder / f"{stem}_{suffix}").write_text(text, encoding="utf-8", newline="")
        self.files += [(item.part.stream_id, path) for path in sorted(folder.glob(f"{stem}*"))]
        self.pseudonyms[item.sub] = item.pseudonym
        self.first.setdefault(item.sub, item.part.stream_id)
        self._scans.setdefault(item.sub, []).extend(
            (f"{item.datatype}/{path.name}", acquired(rows.utc_ns), recording_id(item.part))
            for path in written.scans
        )

    def _written(self, item: _Placed, folder: Path, stem: str) -> Written:
        rows = item.part.rows
        if item.datatype == "eeg":
            return eeg.write(rows, folder, stem)
        if item.datatype == "meg":
            return meg.write(rows, item.part.words, folder, stem)
        if item.datatype == "motion":
            return motion.write(rows, folder, stem, item.label)
        written = nirs.write(rows, folder, stem)
        assert written.optodes is not None
        self._optodes(item, folder, written.optodes.text())
        return written

    def _optodes(self, item: _Placed, folder: Path, text: str) -> None:
        """One table for all runs: BIDS has no other."""
        stem = f"{item.sub}_{self._name}_acq-{item.label}"
        path = folder / f"{stem}_optodes.tsv"
        if path.exists() and path.read_text(encoding="utf-8") != text:
            why = "its optodes lie elsewhere than in the run before, and BIDS has one table for all"
            raise misfit(item.part.stream_id, why, "Export it as snirf")
        if path.exists():
            return
        other = folder / f"{stem}_coordsystem.json"
        path.write_text(text, encoding="utf-8", newline="")
        other.write_text(as_json(nirs.COORDSYSTEM), encoding="utf-8", newline="")
        self.files += [(item.part.stream_id, path), (item.part.stream_id, other)]

    def end(self) -> None:
        """Write `scans.tsv` of each participant, and drop folders of what was left out."""
        for sub, scans in self._scans.items():
            stem = self._staged / sub / self._name / f"{sub}_{self._name}_scans"
            table = Table.of(("filename", "acq_time", RECORDING_ID), sorted(scans))
            texts = {".tsv": table.text(), ".json": as_json(SCANS_JSON)}
            for suffix, text in texts.items():
                path = stem.with_suffix(suffix)
                path.write_text(text, encoding="utf-8", newline="")
                self.files.append((self.first[sub], path))
        for folder in sorted(self._staged.rglob("*"), reverse=True):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
