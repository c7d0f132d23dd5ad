"""Products that are wrong in one place: the simulation must find each of them."""

from brainforge_edge.acquisition.continuity import Continuity
from brainforge_edge.acquisition.record import Record
from brainforge_edge.cloud.store.chunks import ChunkStore
from brainforge_edge.recorder.journal import Journal
from tests.faults.edited import Edit
from tests.faults.ioerr_mutants import MUTANTS as DISK_MUTANTS

_COMMIT = (
    "if self._catalogue._connection.in_transaction:\n"
    '            self._catalogue.execute("COMMIT")\n'
)
MUTANTS: dict[str, tuple[Edit, ...]] = {
    "receipt-before-commit": (
        (
            ChunkStore.put,
            "    with self._catalogue.transaction():",
            f"    {_COMMIT}        self._catalogue.execute('BEGIN IMMEDIATE')\n        if True:",
        ),
        (
            ChunkStore.register,
            "    try:\n        with self._catalogue.transaction():",
            f"    {_COMMIT.replace('            ', '        ')}    try:\n"
            "        with self._catalogue.transaction():",
        ),
    ),
    "no-deduplication": (
        (
            ChunkStore._put,
            "new = held.missing(chunk.seq, chunk.end)",
            "new = [(chunk.seq, chunk.end)]",
        ),
        (ChunkStore._put, "INSERT INTO piece", "INSERT OR REPLACE INTO piece"),
    ),
    "written-first": DISK_MUTANTS["written-first"],
    "acknowledged-first": (
        (
            Record._write,
            "stream.ring.set_written(upto)\n",
            "stream.ring.set_written(upto)\n"
            "    if stream.ring.durable < upto:\n        stream.ring.set_durable(upto)\n",
        ),
    ),
    "gaps-not-counted": (
        (Continuity._named, "return Gap(missing, plus_minus", "return Gap(0, plus_minus"),
        (Continuity._named, "return Gap(missing, 0,", "return Gap(0, 0,"),
    ),
    "file-id-again": ((Journal._lap_for, "self._random(FILE_ID_BYTES)", "bytes(FILE_ID_BYTES)"),),
}
