"""Signed documents on their way to boxes, and what boxes said of them. Runs in: ingest, writer thread; the CLI process.

    ROOT/desired/<node>.json        desired state     ROOT/reported/<node>.json       wire.Reported
    ROOT/jobs/<id>.json             order             ROOT/jobs/<id>/<node>.json      wire.JobStatus

Nothing here knows whose signatures count: boxes do.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from brainforge_edge.core.errors import BrainforgeError, CloudError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.core.wire import JobStatus, Reported
from brainforge_edge.security.desired import DesiredState, desired_statement
from brainforge_edge.security.order import (
    AGGREGATOR,
    EraseOrder,
    OrderFile,
    read_order_file,
    statement,
)
from brainforge_edge.storage.files import Disk

_SUFFIX = ".json"
_reported = msgspec.json.Decoder(Reported)
_status = msgspec.json.Decoder(JobStatus)


class Desired(NamedTuple):
    file: OrderFile
    state: DesiredState


class Job(NamedTuple):
    file: OrderFile
    order: EraseOrder

    @property
    def boxes(self) -> tuple[str, ...]:
        return tuple(node for node in self.order.nodes if node != AGGREGATOR)


class Outbound:
    """The folders, below the aggregator's root."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self._root = root
        self._disk = disk

    # ---- desired states ------------------------------------------------------------------------

    def set_desired(self, file: OrderFile) -> DesiredState:
        """For each of its nodes, in place of an older one; CloudError if one has a newer one."""
        state = desired_statement(file)
        _refuse_unsigned(file)
        for node in state.nodes:
            known = self.desired(node)
            if known is None or known.file.id == file.id:
                continue
            if known.state.counter >= state.counter:
                raise CloudError(
                    "desired_older",
                    "the desired state was not set",
                    why=f"its counter is {state.counter}, and {node} has one of {known.state.counter} already",
                    remedy="Make a new one",
                )
        self._disk.make_folder(self._root / "desired")
        for node in state.nodes:
            self._disk.atomic_write(self._path("desired", node), msgspec.json.encode(file))
        return state

    def desired(self, node: str) -> Desired | None:
        """What is set for a node; None for nothing. BrainforgeError for what cannot be read."""
        data = self._read(self._path("desired", node))
        if data is None:
            return None
        file = read_order_file(data)
        return Desired(file, desired_statement(file))

    def nodes(self) -> list[str]:
        """Those for which something is set."""
        return self._stems("desired")

    def keep_reported(self, said: Reported, payload: bytes) -> None:
        self._disk.make_folder(self._root / "reported")
        self._disk.atomic_write(self._path("reported", said.node), payload)

    def reported(self, node: str) -> Reported | None:
        data = self._read(self._path("reported", node))
        return None if data is None else read_reported(data)

    # ---- jobs ----------------------------------------------------------------------------------

    def add_job(self, file: OrderFile) -> EraseOrder:
        """SecurityError for what is none. Added again it is offered again to boxes that refused it: one of
        them may know its signers now."""
        order = statement(file)
        _refuse_unsigned(file)
        self._disk.make_folder(self._root / "jobs" / file.id)
        for node in order.nodes:
            said = self.status(file.id, node)
            if said is not None and said.state == "refused":
                self._disk.unlink(self._path(f"jobs/{file.id}", node))
        self._disk.atomic_write(self._path("jobs", file.id), msgspec.json.encode(file))
        return order

    def job(self, job_id: str) -> Job | None:
        data = self._read(self._path("jobs", job_id))
        if data is None:
            return None
        file = read_order_file(data)
        return Job(file, statement(file))

    def job_ids(self) -> list[str]:
        return self._stems("jobs")

    def keep_status(self, said: JobStatus, payload: bytes) -> None:
        self._disk.make_folder(self._root / "jobs" / said.job)
        self._disk.atomic_write(self._path(f"jobs/{said.job}", said.node), payload)

    def status(self, job_id: str, node: str) -> JobStatus | None:
        """What the box said last; None for nothing."""
        data = self._read(self._path(f"jobs/{job_id}", node))
        return None if data is None else read_status(data)

    def version(self, kind: str, name: str) -> tuple[int, int] | None:
        """Another one when a file was replaced; None while there is none."""
        try:
            found = self._path(kind, name).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def all_jobs(self) -> Iterator[tuple[str, Job | BrainforgeError]]:
        """By counter; those that cannot be read last."""
        found: list[tuple[int, str, Job | BrainforgeError]] = []
        for job_id in self.job_ids():
            try:
                job = self.job(job_id)
            except BrainforgeError as error:
                found.append((2**63, job_id, error))
                continue
            if job is not None:
                found.append((job.order.counter, job_id, job))
        yield from ((job_id, job) for _, job_id, job in sorted(found, key=lambda each: each[:2]))

    def _path(self, kind: str, name: str) -> Path:
        return self._root / kind / f"{name}{_SUFFIX}"

    def _stems(self, kind: str) -> list[str]:
        names = self._disk.names(self._root / kind)
        return [Path(n).stem for n in names if n.endswith(_SUFFIX) and not n.startswith(".")]

    def _read(self, path: Path) -> bytes | None:
        return self._disk.read_file(path) if path.is_file() else None


def read_reported(payload: bytes) -> Reported | None:
    """None for what is none."""
    try:
        return _reported.decode(payload)
    except GARBLED:
        return None


def read_status(payload: bytes) -> JobStatus | None:
    """None for what is none."""
    try:
        return _status.decode(payload)
    except GARBLED:
        return None


def _refuse_unsigned(file: OrderFile) -> None:
    if not file.signatures:
        raise CloudError(
            "not_signed",
            f"{file.id} was not taken",
            why="nobody has signed it, and no box would carry it out",
            remedy="Have it signed: brainforge-edge erase sign, or cloud desired sign",
        )
