"""Which orders were begun and done here, so that none is carried out twice. Runs in: agent process, thread `orders`; tools.

The highest counter is on the disk before anything is done. An order that was begun and not finished
may be run again until it expires. Desired states have a counter of their own.
"""

from pathlib import Path

import msgspec

from brainforge_edge.core.config import OrdersConfig
from brainforge_edge.core.errors import SecurityError, StorageError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.security.order import (
    EraseOrder,
    OrderFile,
    Signers,
    check_place,
    check_time,
    refused,
)
from brainforge_edge.security.signfiles import verifier_at
from brainforge_edge.storage.files import Disk

ORDERS_FILE = "orders.json"


class _State(msgspec.Struct, frozen=True):
    counter: int = -1
    unfinished: tuple[str, ...] = ()
    desired: int = -1  # counter of the last desired state that was taken
    desired_id: str = ""


_decoder = msgspec.json.Decoder(_State)


def configured_signers(orders: OrdersConfig) -> Signers:
    """Those of `[orders]`; SecurityError for a key that cannot be used, or one that is missing."""
    return Signers([(each.role, verifier_at(Path(each.key))) for each in orders.signers])


class Orders:
    """`orders.json` below the root of a box or an aggregator."""

    def __init__(self, root: Path, signers: Signers, disk: Disk) -> None:
        self._root = root
        self._signers = signers
        self._disk = disk

    def begin(
        self, file: OrderFile, *, node: str, log_id: str | None, utc_ns: int | None
    ) -> EraseOrder:
        """The order, if it is to be carried out here and now; SecurityError says why not."""
        order = self._signers.checked(file)
        check_place(order, node, log_id)
        check_time(order, utc_ns)
        self._disk.make_folder(self._root)
        with self._disk.exclusive(self._root / ".orders.lock"):
            state = self._read()
            if file.id in state.unfinished:
                return order
            if order.counter <= state.counter:
                raise refused(
                    "order_replayed",
                    f"its counter is {order.counter}, and {state.counter} was carried out here already",
                    "If it is to be done once more, make a new order",
                )
            unfinished = (*state.unfinished, file.id)
            self._write(
                msgspec.structs.replace(state, counter=order.counter, unfinished=unfinished)
            )
        return order

    def was_taken(self, state_id: str) -> bool:
        """Whether this is the desired state that was taken last."""
        return self._read().desired_id == state_id

    def take(self, state_id: str, counter: int) -> None:
        """A desired state is to be applied now; SecurityError `order_replayed` unless it is the newest."""
        self._disk.make_folder(self._root)
        with self._disk.exclusive(self._root / ".orders.lock"):
            state = self._read()
            if state.desired_id == state_id:
                return
            if counter <= state.desired:
                raise replayed(counter, state.desired)
            self._write(msgspec.structs.replace(state, desired=counter, desired_id=state_id))

    def done(self, file: OrderFile) -> None:
        with self._disk.exclusive(self._root / ".orders.lock"):
            state = self._read()
            left = tuple(each for each in state.unfinished if each != file.id)
            if left != state.unfinished:
                self._write(msgspec.structs.replace(state, unfinished=left))

    def _read(self) -> _State:
        if ORDERS_FILE not in self._disk.names(self._root):
            return _State()
        try:
            return _decoder.decode(self._disk.read_file(self._root / ORDERS_FILE))
        except GARBLED as error:
            raise StorageError(
                "orders_damaged",
                f"{self._root / ORDERS_FILE} cannot be read",
                why=f"{error}; without it an old order could pass for a new one",
                remedy='Write {"counter": N, "desired": M} there, the counters of the last order and the last desired state',
            ) from error

    def _write(self, state: _State) -> None:
        self._disk.atomic_write(self._root / ORDERS_FILE, msgspec.json.encode(state))


def replayed(counter: int, taken: int) -> SecurityError:
    """Of a desired state."""
    return refused(
        "order_replayed",
        f"its counter is {counter}, and the desired state of {taken} was taken here already",
        "Make a new one",
    )
