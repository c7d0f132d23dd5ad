"""The door to SQLite: WAL, synchronous=FULL asserted, numbered migrations. Runs in: uplink pump, agent, cloud writer.

`user_version` counts the migrations that were applied. A `Database` belongs to one thread at a time.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from brainforge_edge.core.errors import StorageError
from brainforge_edge.storage.files import SystemDisk

_FULL = 2
Row = tuple[Any, ...]


class Database:
    """One connection; sqlite3's exceptions leave it as StorageError."""

    def __init__(
        self, path: Path, *, migrations: Sequence[str] = (), read_only: bool = False
    ) -> None:
        self.path = path
        if not read_only:
            _make_private(path)
        with self._translated():
            self._connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=10.0,
            )
        try:
            with self._translated():
                if not read_only:
                    self._prepare(migrations)
        except StorageError:
            self._connection.close()
            raise

    def _prepare(self, migrations: Sequence[str]) -> None:
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("PRAGMA foreign_keys=ON")
        mode = self._connection.execute("PRAGMA journal_mode").fetchone()[0]
        synchronous = self._connection.execute("PRAGMA synchronous").fetchone()[0]
        if mode != "wal" or synchronous != _FULL:
            raise StorageError(
                "sqlite_mode",
                f"{self.path} cannot be used",
                why=f"it is in mode {mode}, synchronous {synchronous}, where wal and FULL are needed",
                remedy="Put it on a local file system that supports memory mapping",
            )
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(migrations):
            raise StorageError(
                "newer_database",
                f"{self.path} cannot be used",
                why=f"it is of version {version}, this program knows up to {len(migrations)}",
                remedy="Install the newer program again",
            )
        for number, script in enumerate(migrations[version:], version + 1):
            self._connection.executescript(
                f"BEGIN IMMEDIATE;\n{script}\n;PRAGMA user_version={number};\nCOMMIT;"
            )

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run one statement; returns the row id of an INSERT."""
        with self._translated():
            return self._connection.execute(statement, values).lastrowid or 0

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._translated():
            self._connection.executemany(statement, rows)

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        with self._translated():
            return self._connection.execute(statement, values).fetchall()

    def one(self, statement: str, values: Sequence[Any] = ()) -> Row | None:
        with self._translated():
            row: Row | None = self._connection.execute(statement, values).fetchone()
            return row

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Durable as a whole when the block ends, undone when it raises."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
            raise StorageError(
                "sqlite",
                f"the database {self.path} failed",
                why=str(error),
                remedy="Free space on the disk" if full else "Check the disk and the file's owner",
                transient=full or "locked" in str(error),
                sqlite=getattr(error, "sqlite_errorname", type(error).__name__),
            ) from error


def _make_private(path: Path) -> None:
    """A new file is nobody else's to read, whatever the umask, and SQLite gives its own files beside it the
    same; what it cannot open it names itself."""
    disk = SystemDisk()  # which also knows whose it is to be
    with suppress(StorageError):
        disk.close(disk.open(path, "new"))
