"""An order to erase a participant, carried out at a box. Runs in: the CLI process, beside a running daemon.

Order of the work: nobody of the participant is being recorded · keys · exported files. It may be
killed anywhere and run again: what it has to do it finds in the files once more.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

from brainforge_edge.core.errors import SessionError, StorageError
from brainforge_edge.recorder.catalog import JOURNAL_SUFFIX
from brainforge_edge.recorder.erasure import Said, erase_keys, whose_files
from brainforge_edge.recorder.exports import (
    COPY,
    EXPORTS_FILE,
    PART,
    ExportNote,
    is_called_so,
    mark_erased,
    read_notes,
)
from brainforge_edge.recorder.keyfile import UNKNOWN, read_keys
from brainforge_edge.recorder.leftover import Leftover
from brainforge_edge.recorder.log import read_log_id
from brainforge_edge.security.erasure import NOBODY, Erased, NotReached
from brainforge_edge.security.order import AGGREGATOR, EraseOrder
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.wipe import wipe

_MARKERS = "markers"  # device of their data keys


class BoxErasure:
    """One run of an order on the recordings of a box."""

    def __init__(
        self,
        recordings: Path,
        order: EraseOrder,
        *,
        order_id: str,
        utc_ns: int | None,
        disk: Disk,
        written: Callable[[Path], list[Path]],
    ) -> None:
        """`written`: files below a folder that some process has open for writing."""
        self._recordings = recordings
        self._order = order
        self._order_id = order_id
        self._utc_ns = utc_ns
        self._disk = disk
        self._written = written
        self._is_known = False  # whether anything here is of the participant
        self.erased: list[Erased] = []
        self.not_reached: list[NotReached] = []

    def run(self) -> None:
        """SessionError if the participant is being recorded now: then nothing was touched."""
        log_id = read_log_id(self._recordings, self._disk)
        folders = self._named()
        for folder in folders:
            self._refuse_recorded(folder)
        for folder in folders:
            self._keys(folder, log_id)
            self._exports(folder)
            self._plain(folder)
        if self._order.participant and not self._is_known:
            self._left("participant", "", self._order.participant, NOBODY)
        if AGGREGATOR not in self._order.nodes:
            why = "the order does not name the aggregator"
            self._left("aggregator", "", "its copies of the wrapped keys", why)

    def _named(self) -> list[Path]:
        wanted = self._order.recordings
        found = [
            self._recordings / name
            for name in self._disk.names(self._recordings)
            if (self._recordings / name).is_dir() and (not wanted or name in wanted)
        ]
        for name in sorted(set(wanted) - {folder.name for folder in found}):
            self._left("box", name, "the recording", "there is none of this name here")
        return found

    def _of_participant(self, folder: Path) -> Iterator[Said]:
        for said in whose_files(folder, self._disk):
            if said.identity is None:
                yield said
            elif said.identity.participant == self._order.participant:
                self._is_known = True
                yield said

    def _refuse_recorded(self, folder: Path) -> None:
        written = {path.resolve() for path in self._written(folder)}
        if written and self._order.participant in self._recorded(folder, written):
            raise SessionError(
                "participant_recorded",
                "the order was not carried out",
                why=f"the participant is being recorded into {folder.name} now",
                remedy="Stop the recording, or take the device off, then run the order again",
                recording=folder.name,
            )

    def _recorded(self, folder: Path, written: set[Path]) -> Iterator[str]:
        """Participants of the files that are written to. A journal says whose it is with its first row:
        until then it is of whomever its device has a key for.
        """
        silent: set[str] = set()  # devices whose journal says nothing
        for said in whose_files(folder, self._disk):
            if said.path.resolve() not in written:
                continue
            if said.identity is not None:
                yield said.identity.participant
            elif said.path.parent.name.endswith(JOURNAL_SUFFIX):
                silent.add(said.path.parent.name.removesuffix(JOURNAL_SUFFIX))
        found = read_keys(folder, self._disk)
        for entry in found.keys if found is not None else ():
            if entry.device in silent and not self._speaks(folder, entry.device):
                yield entry.participant

    def _speaks(self, folder: Path, device: str) -> bool:
        """Whether one of the journal's files says whose it is."""
        place = folder / f"{device}{JOURNAL_SUFFIX}"
        files = whose_files(folder, self._disk)
        return any(said.identity is not None and said.path.parent == place for said in files)

    def _keys(self, folder: Path, log_id: bytes) -> None:
        order, disk = self._order, self._disk
        gone = erase_keys(
            folder,
            order.participant,
            log_id=log_id,
            order=self._order_id,
            utc_ns=self._utc_ns,
            disk=disk,
        )
        self.erased += [Erased("key", folder.name, key_id) for key_id in gone.ids]
        self._is_known |= bool(gone.ids)
        for name, n in gone.unclear:
            why = f"{n} places are damaged so that nobody can say whose keys they are"
            self._left("unclear", folder.name, name, why)
        for key_id, why in gone.doubtful:
            self._left("unclear", folder.name, f"key {key_id}", why)
        found = read_keys(folder, disk)
        for entry in found.keys if found is not None else ():
            if entry.device == _MARKERS and not entry.participant and gone.ids:
                why = "they are of the session, and may speak of anybody in it"
                self._left("markers", folder.name, f"markers under key {entry.key_id}", why)

    def _plain(self, folder: Path) -> None:
        for said in self._of_participant(folder):
            what = said.path.relative_to(folder).as_posix()
            if said.identity is None:
                why = "it does not say any more whose rows it holds"
                self._left("unclear", folder.name, what, why)
            elif not said.identity.key_id:
                why = "it was recorded in the clear: remove the recording"
                self._left("plain", folder.name, what, why)

    def _exports(self, folder: Path) -> None:
        try:
            parts = [each for each in self._noted(folder).items() if each[1][0].format == PART]
            for name, noted in parts:
                self._part(folder, name, noted)
            # Anew: of files that did not come to their places it says now that they are erased.
            files = [each for each in self._noted(folder).items() if each[1][0].format != PART]
        except StorageError as error:
            if error.code != "storage.exports_damaged":
                raise
            self._left("unclear", folder.name, EXPORTS_FILE, error.why)
            return
        for name, noted in files:
            objections = [self._objection(folder, note) for note in noted]
            if all(objections):
                self._left("export", folder.name, name, objections[-1])
                continue
            path = Path(name)
            mark_erased(folder, name, self._order_id, self._disk)
            if path.name in self._disk.names(path.parent):
                wipe(path, self._disk)
            self.erased.append(Erased("export", folder.name, name))

    def _noted(self, folder: Path) -> dict[str, list[ExportNote]]:
        """The participant's, by path: one file may have been written more than once."""
        mine: dict[str, list[ExportNote]] = {}
        for note in read_notes(folder, self._disk):
            # Of a copy whose keys could not all be read nobody knows whose are in it.
            is_unclear = note.format == COPY and UNKNOWN in note.participants
            if self._order.participant in note.participants or is_unclear:
                mine.setdefault(note.path, []).append(note)
        self._is_known |= bool(mine)
        return mine

    def _part(self, folder: Path, name: str, noted: list[ExportNote]) -> None:
        """A folder that an export which was killed has left."""
        part = Leftover(Path(name))
        is_begun = any(note.order == self._order_id for note in noted)
        objection = self._part_objection(folder, part, is_begun=is_begun)
        if objection:
            self._left("export", folder.name, name, objection)
            return
        if not part.path.exists():  # not made, removed by its export, or by a run of this order
            if is_begun:
                self.erased.append(Erased("export", folder.name, name))
            return
        with nullcontext() if part.lock is None else self._disk.exclusive(part.lock):
            if not part.path.exists():  # an export has moved it meanwhile
                return
            files = part.files()
            noted_files = self._noted(folder)
            places = [str(place) for _, place in files if not os.path.lexists(place)]
            for each in [name, *(place for place in places if place in noted_files)]:
                mark_erased(folder, each, self._order_id, self._disk)
            for path, _ in files:
                wipe(path, self._disk)
            for each_folder in part.folders():
                self._disk.remove_folder(each_folder)
        self.erased.append(Erased("export", folder.name, name))

    def _part_objection(self, folder: Path, part: Leftover, *, is_begun: bool) -> str:
        """As `_objection`."""
        if not part.is_called_so(folder.name):
            return "what is there is no folder of an export of this recording"
        try:
            if part.is_link():
                return "what is there is no folder of an export of this recording"
            if not is_begun and not part.place.exists():  # on a medium that was taken out, say
                return "the folder that it was made in is not there: moved or removed"
            if not part.path.exists():
                return ""
            if not part.is_of_export():
                return "there is more in it than an export makes: look at it, and remove it by hand"
        except OSError as error:
            return f"it cannot be looked at: {str(error.strerror).lower()}"
        if self._written(part.path if part.lock is None else part.place):
            return "an export is going on: run the order again when it has ended"
        return ""

    def _objection(self, folder: Path, note: ExportNote) -> str:
        """Why this file is not removed, or "": only what `export` wrote, as it wrote it."""
        if note.format == COPY:
            return "it is a copy of the recording and of its wrapped keys: run the order there too, or destroy it"
        path = Path(note.path)
        try:
            found = path.lstat()
        except OSError as error:
            if note.order == self._order_id and isinstance(error, FileNotFoundError):
                return ""  # an earlier run of this order removed it
            return f"it is not there: moved, copied away or removed ({str(error.strerror).lower()})"
        except ValueError as error:
            return f"no file can be called so: {error}"
        if not stat.S_ISREG(found.st_mode) or not is_called_so(note, folder.name):
            return "what is there is no exported file of this recording"
        # An earlier run that has begun with it changed its time, never its size. Whoever can write
        # the notes can name the order in them, too: that alone is no reason to wipe what is there.
        is_begun = note.order == self._order_id
        if found.st_size != note.size or (found.st_mtime_ns != note.mtime_ns and not is_begun):
            return "it was changed since: look at it, and remove it by hand"
        return ""

    def _left(self, kind: str, recording: str, what: str, why: str) -> None:
        self.not_reached.append(NotReached(kind, recording, what, why))
