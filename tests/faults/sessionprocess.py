"""Runs sessions as fast as the disk lets it, and says after each change how many rows are safe.

python -m tests.faults.sessionprocess ROOT SEED
"""

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from brainforge_edge.core.clock import SystemClock, boot_id
from brainforge_edge.core.errors import SessionError
from brainforge_edge.core.ids import ulid
from brainforge_edge.outbox.events import Outbox
from brainforge_edge.sessions.machine import Cause, State
from brainforge_edge.sessions.store import SessionStore
from brainforge_edge.storage.node import open_node
from tests.unit.session_material import WORN, phase, plan, session


def store_of(root: Path) -> tuple[SessionStore, Outbox]:
    database = open_node(root)
    outbox = Outbox(database)
    store = SessionStore(
        database, node_id="box", clock=SystemClock(), random=os.urandom, boot_id=boot_id(),
        append=outbox.append,
    )  # fmt: skip
    return store, outbox


def acts(store: SessionStore, choice: random.Random) -> list[Callable[[], None]]:
    """What may be done to a store, most of it what a session needs to go on."""
    name = ulid(choice.getrandbits(40), choice.randbytes)
    protocol = plan(phase("one", 0.5), phase("two", 0.5), phase("three", 60.0))
    card = session(protocol=protocol, recording=name.lower())
    started = msgspec.structs.replace(card, session_id=name)
    device = choice.choice(list(WORN))
    return [
        lambda: store.start(started),
        lambda: store.move(Cause.DEVICES_READY),
        lambda: store.move(Cause.FLUSHED),
        lambda: store.device_lost(device),
        lambda: store.device_back(device),
        lambda: store.move(Cause.STOP_ASKED),
        lambda: store.emergency_stop("nurse") if choice.random() < 0.2 else None,
        lambda: store.finish({"lost": 0}),
        lambda: store.move(Cause.ACKNOWLEDGED),
        lambda: store.release_emergency_stop("doctor"),
    ]


def main(root: Path, seed: int) -> None:
    choice = random.Random(seed)
    store, _ = store_of(root)
    while True:
        for act in acts(store, choice):
            store.renew()
            try:
                act()
            except SessionError:
                continue
            count = store._database.one("SELECT count(*) FROM session_step")
            assert count is not None
            print(count[0], store.bedside.state is State.IDLE, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
