"""Desired states: judged, counted, applied, told of. Runs in: agent process, thread `orders`.

What is taken is on the disk before anything follows from it, first its counter, then the state. One
that was taken stands until the next, also when it has expired; if its files are lost, it is taken again.
"""

from collections.abc import Callable
from pathlib import Path

from brainforge_edge.core import log, wire
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import BrainforgeError, SecurityError
from brainforge_edge.fleet.orders import Orders, replayed
from brainforge_edge.fleet.rewrapping import Rewrapping
from brainforge_edge.recorder.desiredfile import (
    Standing,
    mend_standing,
    read_standing,
    write_standing,
)
from brainforge_edge.security.desired import checked_state
from brainforge_edge.security.order import (
    OrderFile,
    Signers,
    check_place,
    check_time,
    read_order_file,
)
from brainforge_edge.storage.files import Disk

_WAITS = {"security.order_time_unknown", "security.order_not_yet"}  # for the clock


def is_final(error: BrainforgeError) -> bool:
    """Whether the same order can never be carried out: all but the clock and the disk stay as they are."""
    is_orders = isinstance(error, SecurityError) and error.code.startswith("security.order_")
    return is_orders and error.code not in _WAITS


class DesiredStates:
    """Of one box."""

    def __init__(
        self,
        root: Path,
        *,
        node: str,
        log_id: bytes,
        signers: Callable[[], Signers],
        rewrapping: Rewrapping,
        clock: Clock,
        disk: Disk,
    ) -> None:
        self._root = root
        self._node = node
        self._log_id = log_id.hex()
        self._signers = signers
        self._rewrapping = rewrapping
        self._clock = clock
        self._disk = disk
        self._standing: Standing | None = None
        self._untaken: wire.Untaken | None = None
        self._said = ""  # code of the last refusal: a flood of them is one warning

    def begin(self) -> None:
        """What stands since before this process. StorageError where a damaged file cannot be set aside."""
        try:
            for name in mend_standing(self._root, self._disk):
                log.get().error("desired state damaged, set aside", file=name)
        finally:
            self._stands(read_standing(self._root, self._disk))

    def take(self, payload: bytes) -> tuple[bool, bool]:
        """Whether another state stands now; and whether nothing will change with the same payload."""
        file = None
        try:
            file = read_order_file(payload)
            is_new = self._take(file)
        except BrainforgeError as error:
            self._untaken = wire.Untaken("" if file is None else file.id, error.as_dict())
            (log.get().debug if error.code == self._said else log.get().warning)(
                "desired state not taken", code=error.code, why=error.why
            )
            self._said = error.code
            return False, is_final(error)
        self._untaken, self._said = None, ""
        return is_new, True

    def _take(self, file: OrderFile) -> bool:
        state = checked_state(file, self._signers())
        check_place(state, self._node, self._log_id)
        standing = read_standing(self._root, self._disk)
        if standing is not None and standing.file.id == file.id:
            return False
        if standing is not None and state.counter <= standing.state.counter:
            raise replayed(
                state.counter, standing.state.counter
            )  # whatever became of `orders.json`
        orders = Orders(self._root, self._signers(), self._disk)
        utc_ns = self._clock.utc_ns()
        if not orders.was_taken(file.id):
            check_time(state, utc_ns)
        orders.take(file.id, state.counter)
        mend_standing(self._root, self._disk)  # what is damaged is kept, under another name
        standing = Standing(file, state, utc_ns)
        write_standing(self._root, standing, self._disk)
        self._stands(standing)
        log.get().info("desired state applied", version=state.counter, id=file.id)
        return True

    def _stands(self, standing: Standing | None) -> None:
        self._standing = standing
        self._rewrapping.begin(() if standing is None else standing.state.recipients())

    def reported(self) -> wire.Reported:
        """What is told of it."""
        standing, error = self._standing, self._rewrapping.error
        return wire.Reported(
            node=self._node,
            version=None if standing is None else standing.state.counter,
            id="" if standing is None else standing.file.id,
            applied_utc_ns=None if standing is None else standing.applied_utc_ns,
            left=self._rewrapping.left,
            error=None if error is None else error.as_dict(),
            untaken=self._untaken,
        )
