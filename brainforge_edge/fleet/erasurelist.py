"""The list of what an erasure did, kept beside the recordings or the store. Runs in: agent process, thread `orders`; tools."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from brainforge_edge.security.erasure import (
    Erased,
    Erasure,
    NotReached,
    SignedErasure,
    signed_erasure,
)
from brainforge_edge.security.order import EraseOrder, OrderFile
from brainforge_edge.security.sign import Signer
from brainforge_edge.storage.files import Disk

FOLDER = "erasures"  # <order id>.json


def list_path(root: Path, order_id: str) -> Path:
    return root / FOLDER / f"{order_id}.json"


def keep_list(
    root: Path,
    file: OrderFile,
    order: EraseOrder,
    *,
    node: str,
    erased: Sequence[Erased],
    not_reached: Sequence[NotReached],
    signer: Signer | None,
    utc_ns: int | None,
    disk: Disk,
) -> tuple[Erasure, SignedErasure]:
    """On the disk when this returns: before it is told, and before the order counts as done."""
    done = Erasure(
        order=file.id,
        participant=order.participant,
        reason=order.reason,
        node=node,
        done_utc_ns=utc_ns,
        erased=tuple(erased),
        not_reached=tuple(not_reached),
    )
    signed = signed_erasure(done, signer)
    disk.make_folder(root / FOLDER)
    disk.atomic_write(list_path(root, file.id), msgspec.json.encode(signed))
    return done, signed
