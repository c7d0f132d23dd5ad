"""Files that are there after a power cut. Runs in: any process and thread; a `SystemDisk` is stateless but for names.

All of the recorder's disk access goes through a `Disk`, so that tests can fail, tear and count it.
What root makes belongs to whom its place belongs: a command run with sudo leaves the daemon's user
nothing that it could not open. All that is made here is made in `_create` and `make_folder`.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, TypeVar

from brainforge_edge.core.errors import StorageError

T = TypeVar("T")
Mode = Literal["read", "write", "new"]
Buffer = bytes | bytearray | memoryview

_FLAGS = {
    "read": os.O_RDONLY,
    "write": os.O_RDWR | os.O_NOFOLLOW,  # what is overwritten is never what a link leads to
}
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL
_PAGE = bytes(4096)

# errno → (code, cause, remedy, can trying again help)
_CAUSES: dict[int, tuple[str, str, str, bool]] = {
    errno.ENOSPC: ("full", "the disk is full", "Free space on the disk of the recordings", True),
    errno.EDQUOT: ("full", "the quota is used up", "Raise the quota or free space", True),
    errno.EIO: ("io", "the disk reports an I/O error", "Check the disk with smartctl, replace it if it reports errors", False),
    errno.EROFS: ("read_only", "the file system is read-only", "Check the system log for disk errors and mount it writable", False),
    errno.EACCES: ("permission", "permission was refused", "Give the folder to the user that runs brainforge-edge", False),
    errno.EPERM: ("permission", "permission was refused", "Give the folder to the user that runs brainforge-edge", False),
    errno.ENOENT: ("missing", "there is no such file or folder", "Check the path", False),
    errno.ENOTDIR: ("not_a_folder", "a part of the path is a file", "Check the path", False),
    errno.ELOOP: ("symlink", "it is a symbolic link", "Put the file itself there", False),
    errno.EEXIST: ("exists", "it is there already", "Check that no second process writes here", False),
    errno.EMFILE: ("descriptors", "this process has too many open files", "Raise LimitNOFILE", True),
    errno.ENFILE: ("descriptors", "the system has too many open files", "Raise fs.file-max", True),
}  # fmt: skip


class Disk(Protocol):
    """What the recorder asks of a file system. Every method raises StorageError with the fact `errno`."""

    def open(self, path: Path, mode: Mode) -> int: ...
    def close(self, fd: int) -> None: ...
    def size(self, fd: int) -> int: ...
    def pread(self, fd: int, n: int, at: int) -> bytes:
        """Up to `n` bytes at offset `at`; fewer only at the end of the file."""
        ...

    def pwrite_all(self, fd: int, data: Buffer, at: int) -> None:
        """All of `data` at offset `at`, or StorageError with an unknown part of it written."""
        ...

    def fdatasync(self, fd: int) -> None: ...
    def drop_cache(self, fd: int) -> None:
        """What is read next comes from the medium; of what is not synced this is not so."""
        ...

    def fsync_folder(self, path: Path) -> None: ...
    def preallocate(self, fd: int, size: int) -> None:
        """Space for `size` bytes, read as zero; the file's size becomes at least `size`."""
        ...

    def zero_fill(self, fd: int, size: int) -> None:
        """Write `size` zero bytes, in 4 KiB writes: larger ones leave large folios behind, which
        Linux accounts whole at each later small write."""
        ...

    def truncate(self, fd: int, size: int) -> None: ...
    def unlink(self, path: Path) -> None: ...
    def rename(self, old: Path, new: Path) -> None:
        """Move a file within the file system; both folders are synced."""
        ...

    def link(self, path: Path, other: Path) -> None:
        """`other` as a second name of the file, in the same folder, which is synced."""
        ...

    def make_folder(self, path: Path) -> None:
        """`path` and its missing parents, each synced into its own parent."""
        ...

    def remove_folder(self, path: Path) -> None: ...
    def names(self, path: Path) -> list[str]:
        """Sorted names in a folder; what is absent or no folder has none."""
        ...

    def read_file(self, path: Path) -> bytes: ...
    def atomic_write(self, path: Path, data: bytes) -> None:
        """Replace `path` by a file with `data`: after a power cut either the old or the new one is there."""
        ...

    def write_new(self, path: Path, data: bytes, mode: int) -> None:
        """A file that was not there, with these permissions, durably."""
        ...

    def exclusive(self, path: Path) -> Any:
        """Context manager: an advisory lock between processes, on a file that is made if absent."""
        ...


class SystemDisk:
    """The kernel's file system."""

    def __init__(self) -> None:
        self._paths: dict[int, Path] = {}
        self._unsynced: set[Path] = set()  # folders that were made and not synced into their parent

    def syscall(self, name: str, function: Callable[..., T], *args: Any) -> T:  # noqa: ARG002 (tests fail calls by name)
        """Every call to the system passes here: the one place where tests inject faults."""
        return function(*args)

    def open(self, path: Path, mode: Mode) -> int:
        if mode == "new":
            fd = self._create(path, "open", like=path.parent)
        else:
            with _translated("open", path):
                fd = self.syscall("open", os.open, path, _FLAGS[mode] | os.O_CLOEXEC)
        self._paths[fd] = path
        return fd

    def _create(self, path: Path, verb: str, *, like: Path) -> int:
        """A file that was not there, of the owner of `like` where root makes it."""
        with _translated(verb, path):
            fd = self.syscall("open", os.open, path, _NEW | os.O_CLOEXEC, 0o640)
        try:
            self._give(fd, path, like)
        except StorageError:
            os.close(fd)
            self.unlink(path)  # else it would be in the way of the user that it is not for
            raise
        return fd

    def _give(self, fd: int, path: Path, like: Path) -> None:
        """Of what this call made alone: a name that others can put in its place is not handed on."""
        if os.geteuid() != 0:
            return
        with _translated("set the owner of", path):
            wanted = like.lstat() if like == path else like.stat()
            found = os.fstat(fd)
            if (found.st_uid, found.st_gid) != (wanted.st_uid, wanted.st_gid):
                self.syscall("fchown", os.fchown, fd, wanted.st_uid, wanted.st_gid)

    def close(self, fd: int) -> None:
        with _translated("close", self._paths.pop(fd, fd)):
            self.syscall("close", os.close, fd)

    def size(self, fd: int) -> int:
        with _translated("read", self._paths.get(fd, fd)):
            return self.syscall("fstat", os.fstat, fd).st_size

    def pread(self, fd: int, n: int, at: int) -> bytes:
        parts: list[bytes] = []
        with _translated("read", self._paths.get(fd, fd)):
            while n > 0:
                data = self.syscall("pread", os.pread, fd, n, at)
                if not data:
                    break
                parts.append(data)
                n -= len(data)
                at += len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pwrite_all(self, fd: int, data: Buffer, at: int) -> None:
        view = memoryview(data)
        while view:
            try:
                done = self.syscall("pwrite", os.pwrite, fd, view, at)
                if done == 0:
                    raise OSError(errno.EIO, "nothing was written")
            except InterruptedError:
                continue
            except OSError as error:
                raise failed_to("write", self._paths.get(fd, fd), error) from error
            view = view[done:]
            at += done

    def fdatasync(self, fd: int) -> None:
        with _translated("sync", self._paths.get(fd, fd)):
            self._until_done("fdatasync", os.fdatasync, fd)

    def drop_cache(self, fd: int) -> None:
        with _translated("read", self._paths.get(fd, fd)):
            self.syscall("fadvise", os.posix_fadvise, fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def fsync_folder(self, path: Path) -> None:
        with _translated("sync", path):
            fd = self.syscall("open", os.open, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._until_done("fsync", os.fsync, fd)
            finally:
                os.close(fd)

    def preallocate(self, fd: int, size: int) -> None:
        with _translated("reserve space for", self._paths.get(fd, fd)):
            self._until_done("fallocate", os.posix_fallocate, fd, 0, size)

    def zero_fill(self, fd: int, size: int) -> None:
        for at in range(0, size, len(_PAGE)):
            self.pwrite_all(fd, _PAGE[: size - at], at)

    def truncate(self, fd: int, size: int) -> None:
        with _translated("truncate", self._paths.get(fd, fd)):
            self._until_done("ftruncate", os.ftruncate, fd, size)

    def unlink(self, path: Path) -> None:
        with _translated("remove", path):
            self.syscall("unlink", os.unlink, path)

    def rename(self, old: Path, new: Path) -> None:
        with _translated("rename", old):
            self.syscall("rename", os.rename, old, new)
        self.fsync_folder(new.parent)
        self.fsync_folder(old.parent)

    def link(self, path: Path, other: Path) -> None:
        with _translated("link", path):
            self.syscall("link", os.link, path, other)
        self.fsync_folder(path.parent)

    def make_folder(self, path: Path) -> None:
        if path.is_dir() and path not in self._unsynced:
            return
        self.make_folder(path.parent)
        with _translated("make the folder", path):
            try:
                self.syscall("mkdir", os.mkdir, path, 0o750)
                is_ours = True
            except FileExistsError:
                if not path.is_dir():
                    raise
                is_ours = False
        self._unsynced.add(path)
        try:
            if is_ours:
                self._give_folder(path)
            self.fsync_folder(path.parent)
        except StorageError:
            # Else another process would find it, and hold it for synced; this one knows better.
            with suppress(OSError):
                self.syscall("rmdir", os.rmdir, path)
            raise
        self._unsynced.discard(path)

    def _give_folder(self, path: Path) -> None:
        if os.geteuid() != 0:
            return
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        with _translated("set the owner of", path):
            fd = os.open(path, flags)
        try:
            self._give(fd, path, path.parent)
        finally:
            os.close(fd)

    def remove_folder(self, path: Path) -> None:
        with _translated("remove the folder", path):
            self.syscall("rmdir", os.rmdir, path)
        self.fsync_folder(path.parent)

    def names(self, path: Path) -> list[str]:
        with _translated("list", path):
            try:
                return sorted(self.syscall("listdir", os.listdir, path))
            except (FileNotFoundError, NotADirectoryError):
                return []

    def read_file(self, path: Path) -> bytes:
        fd = self.open(path, "read")
        try:
            return self.pread(fd, self.size(fd), 0)
        finally:
            self.close(fd)

    def atomic_write(self, path: Path, data: bytes) -> None:
        new = path.with_name(f".{path.name}.new")
        if new.exists():  # left by a process that was killed here; the caller holds the lock
            self.unlink(new)
        fd = self._create(new, "open", like=path if os.path.lexists(path) else path.parent)
        self._paths[fd] = new
        try:
            self.pwrite_all(fd, data, 0)
            self.fdatasync(fd)
        finally:
            self.close(fd)
        with _translated("replace", path):
            self.syscall("rename", os.replace, new, path)
        self.fsync_folder(path.parent)

    def write_new(self, path: Path, data: bytes, mode: int) -> None:
        fd = self.open(path, "new")
        try:
            with _translated("protect", path):
                self.syscall("fchmod", os.fchmod, fd, mode)
            self.pwrite_all(fd, data, 0)
            self.fdatasync(fd)
        finally:
            self.close(fd)
        self.fsync_folder(path.parent)

    @contextmanager
    def exclusive(self, path: Path) -> Iterator[None]:
        fd = self._open_lock(path)
        try:
            with _translated("lock", path):
                self._until_done("flock", fcntl.flock, fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _open_lock(self, path: Path) -> int:
        if not os.path.lexists(path):
            try:
                return self._create(path, "lock", like=path.parent)
            except StorageError as error:
                if error.facts["errno"] != errno.EEXIST:  # else another process made it meanwhile
                    raise
        with _translated("lock", path):
            return self.syscall("open", os.open, path, os.O_RDWR | os.O_CLOEXEC)

    def _until_done(self, name: str, function: Callable[..., object], *args: Any) -> None:
        while True:
            try:
                self.syscall(name, function, *args)
            except InterruptedError:
                continue
            return


class _translated:  # noqa: N801  used as `with _translated(…)`
    """OSError inside → StorageError."""

    __slots__ = ("_target", "_verb")

    def __init__(self, verb: str, target: Path | int) -> None:
        self._verb = verb
        self._target = target

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError):
            raise failed_to(self._verb, self._target, error) from error


def failed_to(verb: str, target: Path | int, error: OSError) -> StorageError:
    """What the system's error means to a person."""
    number = error.errno or 0
    code, why, remedy, transient = _CAUSES.get(
        number,
        ("failed", os.strerror(number).lower(), "Check the disk and the system log", False),
    )
    return StorageError(
        code,
        f"cannot {verb} {target}",
        why=why,
        remedy=remedy,
        transient=transient,
        errno=number,
        path=str(target),
    )
