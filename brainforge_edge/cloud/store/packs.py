"""Pack files: chunk bytes one after another, only ever appended. Runs in: ingest, writer thread."""

import os
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.errors import StorageError
from brainforge_edge.storage.sqlite import Database

PACK_BYTES = 64 * 1024 * 1024


class Place(NamedTuple):
    """Where the bytes of a chunk lie."""

    pack: int
    offset: int
    length: int


class _Pack:
    def __init__(self, number: int, path: Path, length: int) -> None:
        self.number = number
        self.path = path
        self.length = length
        self.dirty = False
        self.fd = -1


class PackFiles:
    """One open pack per stream; `sync` makes all that was appended durable."""

    def __init__(self, folder: Path, catalogue: Database, *, pack_bytes: int = PACK_BYTES) -> None:
        self._folder = folder
        self._catalogue = catalogue
        self._pack_bytes = pack_bytes
        self._open: dict[int, _Pack] = {}  # stream → its pack
        self._last_read: tuple[int, int] | None = None  # a full pack and its descriptor

    def cut_tails(self) -> int:
        """Cut what a crash left beyond the catalogue; returns bytes cut. Raises for a missing part."""
        cut = 0
        listed = {path for (path,) in self._catalogue.query("SELECT path FROM pack")}
        for file in self._folder.glob("*/*/*.pack"):
            if str(file.relative_to(self._folder)) not in listed:
                cut += file.stat().st_size
                file.unlink()
        for number, path, length in self._catalogue.query("SELECT id, path, length FROM pack"):
            file = self._folder / path
            size = file.stat().st_size if file.exists() else 0
            if size < length:
                raise StorageError(
                    "pack_short",
                    f"the store {self._folder} is damaged",
                    why=f"{path} has {size} bytes, its catalogue says {length}",
                    remedy="Restore the store from its backup and raise its generation: the boxes resend",
                    pack=number,
                )
            if size > length:
                with file.open("r+b") as handle:
                    handle.truncate(length)
                    os.fsync(handle.fileno())
                cut += size - length
        return cut

    def append(self, stream: int, folder: str, data: bytes) -> Place:
        """Write at the end of the stream's pack; not durable before `sync`."""
        pack = self._pack_for(stream, folder)
        place = Place(pack.number, pack.length, len(data))
        view = memoryview(data)
        at = pack.length
        try:
            while view:
                written = os.pwrite(pack.fd, view, at)
                at += written
                view = view[written:]
        except OSError as error:
            raise _failed(pack.path, error) from error
        pack.length = at
        pack.dirty = True
        return place

    def sync(self) -> None:
        """fdatasync every pack that was appended to, and note the lengths (in the caller's transaction)."""
        for pack in self._open.values():
            if pack.dirty:
                try:
                    os.fdatasync(pack.fd)
                except OSError as error:
                    raise _failed(pack.path, error) from error
                self._catalogue.execute(
                    "UPDATE pack SET length = ? WHERE id = ?", (pack.length, pack.number)
                )
                pack.dirty = False

    def read(self, place: Place) -> bytes:
        """Bytes of a chunk, whether durable yet or not."""
        for pack in self._open.values():
            if pack.number == place.pack:
                return os.pread(pack.fd, place.length, place.offset)
        if self._last_read is None or self._last_read[0] != place.pack:
            row = self._catalogue.one("SELECT path FROM pack WHERE id = ?", (place.pack,))
            assert row is not None
            self._forget_last()
            fd = os.open(self._folder / row[0], os.O_RDONLY | os.O_CLOEXEC)
            self._last_read = (place.pack, fd)
        return os.pread(self._last_read[1], place.length, place.offset)

    def close(self) -> None:
        """Drop every descriptor; appending goes on in new files."""
        for pack in self._open.values():
            os.close(pack.fd)
        self._open.clear()
        self._forget_last()

    def _forget_last(self) -> None:
        if self._last_read is not None:
            os.close(self._last_read[1])
            self._last_read = None

    def _pack_for(self, stream: int, folder: str) -> _Pack:
        pack = self._open.get(stream)
        if pack is not None and pack.length < self._pack_bytes:
            return pack
        if pack is not None:
            self.sync()
            os.close(pack.fd)
            del self._open[stream]
        place = self._folder / folder
        try:
            new = not place.exists()
            place.mkdir(parents=True, exist_ok=True)
            numbers = [int(p.stem) for p in place.glob("*.pack")]  # files without a row count too
            path = place / f"{max(numbers, default=0) + 1:04d}.pack"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            try:
                os.fsync(fd)
                folders = (place, *place.parents) if new else (place,)
                for parent in folders:
                    _fsync_folder(parent)
                    if parent == self._folder:
                        break
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            raise _failed(place, error) from error
        number = self._catalogue.execute(
            "INSERT INTO pack (stream, path, length) VALUES (?, ?, 0)",
            (stream, str(path.relative_to(self._folder))),
        )
        pack = self._open[stream] = _Pack(number, path, 0)
        pack.fd = fd
        return pack


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _failed(path: Path, error: OSError) -> StorageError:
    return StorageError(
        "store_write",
        f"the store cannot write {path}",
        why=(error.strerror or str(error)).lower(),
        remedy="Free space or repair the disk; the boxes keep their recordings and send again",
        transient=True,
        errno=error.errno,
    )
