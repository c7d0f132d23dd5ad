"""Jobs: signed orders that came over the network, carried out here. Runs in: agent process, thread `orders`.

A job is the order that is also carried by hand, under the same counter. What it did is on the disk
before it is told; asked again, it tells the same.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from brainforge_edge.core import log, wire
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.fleet.desired import is_final
from brainforge_edge.fleet.erasure import BoxErasure
from brainforge_edge.fleet.erasurelist import FOLDER, keep_list, list_path
from brainforge_edge.fleet.orders import Orders
from brainforge_edge.security.order import (
    OrderFile,
    Signers,
    check_place,
    read_order_file,
    refused,
)
from brainforge_edge.security.signfiles import signer_at
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.openfiles import open_below


class Jobs:
    """Of one box."""

    def __init__(
        self,
        root: Path,
        *,
        node: str,
        log_id: bytes,
        signers: Callable[[], Signers],
        list_signer: str,
        clock: Clock,
        disk: Disk,
    ) -> None:
        """`list_signer`: file of the private key that signs what was done, "" for none."""
        self._root = root
        self._node = node
        self._log_id = log_id.hex()
        self._signers = signers
        self._list_signer = list_signer
        self._clock = clock
        self._disk = disk
        self._is_begun = False  # the one at hand
        self._said = ""  # code of the last refusal: a flood of them is one warning

    def take(self, job: str, payload: bytes) -> tuple[wire.JobStatus, bool]:
        """What became of it, and whether nothing will change with the same payload."""
        try:
            done = self._take(job, payload)
        except BrainforgeError as error:
            final = is_final(error)
            state: wire.JobState = "refused" if final else "begun" if self._is_begun else "waiting"
            (log.get().debug if error.code == self._said else log.get().warning)(
                "job not carried out", job=job, code=error.code, why=error.why
            )
            self._said = error.code
            return self._status(job, state, error=error.as_dict()), final
        self._said = ""
        return self._status(job, "done", done=done), True

    def _status(self, job: str, state: wire.JobState, **more: Any) -> wire.JobStatus:
        return wire.JobStatus(self._node, job, state, self._clock.utc_ns(), **more)

    def _take(self, job: str, payload: bytes) -> str:
        self._is_begun = False
        file = read_order_file(payload)
        if file.id != job:
            raise refused(
                "order_of_another_job",
                f"it came as job {job}, and is order {file.id}",
                "Give it to the aggregator once more: brainforge-edge cloud job add",
            )
        signers = self._signers()
        order = signers.checked(file)
        check_place(order, self._node, self._log_id)
        orders = Orders(self._root, signers, self._disk)
        path = list_path(self._root, file.id)
        if path.name in self._disk.names(self._root / FOLDER):
            orders.done(file)  # cut off between the two, or run by hand
            return self._disk.read_file(path).decode("utf-8", "replace")
        return self._erase(file, orders)

    def _erase(self, file: OrderFile, orders: Orders) -> str:
        signer = signer_at(Path(self._list_signer)) if self._list_signer else None
        utc_ns = self._clock.utc_ns()
        order = orders.begin(file, node=self._node, log_id=self._log_id, utc_ns=utc_ns)
        self._is_begun = True
        erasure = BoxErasure(
            self._root / "recordings",
            order,
            order_id=file.id,
            utc_ns=utc_ns,
            disk=self._disk,
            written=lambda folder: [each.path for each in open_below(folder) if each.is_written],
        )
        erasure.run()
        keep_list(
            self._root, file, order, node=self._node, signer=signer, utc_ns=utc_ns,
            disk=self._disk, erased=erasure.erased, not_reached=erasure.not_reached,
        )  # fmt: skip
        orders.done(file)
        log.get().info("job carried out", job=file.id, erased=len(erasure.erased))
        return self._disk.read_file(list_path(self._root, file.id)).decode()
