"""A store over a node.sqlite, and what another process would find in it."""

import random
import shutil
from pathlib import Path
from typing import Any, ClassVar

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.events import SystemEvent
from brainforge_edge.outbox.events import Outbox
from brainforge_edge.sessions.machine import Cause, State
from brainforge_edge.sessions.store import SessionStore
from brainforge_edge.storage.node import NODE_FILE, open_node
from brainforge_edge.storage.sqlite import Database
from tests.unit.session_material import HandClock, S, session

RANDOM = random.Random(1)  # one for all processes: ids never repeat
TOLD = {"session.started", "session.completed", "session.state_changed", "session.phase_changed"}


class FullDatabase(Database):
    """On a disk that takes no more, while `is_full`."""

    is_full: ClassVar[bool] = False

    def execute(self, statement: str, values: Any = ()) -> int:
        if self.is_full and statement.startswith(("INSERT", "UPDATE")):
            raise StorageError("sqlite", "no", why="disk full", remedy="free some", transient=True)
        return super().execute(statement, values)


class Box:
    """One process of the agent."""

    def __init__(
        self, root: Path, clock: HandClock, *, boot: str = "boot-1", seed: int = 1
    ) -> None:
        self.root = root
        self.clock = clock
        self.database: Database = open_node(root)
        self.outbox = Outbox(self.database)
        self.store = SessionStore(
            self.database, node_id="box", clock=clock, random=RANDOM.randbytes,
            boot_id=boot, append=self.outbox.append,
        )  # fmt: skip

    def close(self) -> None:
        self.database.close()

    def goes_on(self, seconds: float) -> None:
        """Time passes, second by second, with a monitor that is alive."""
        for _ in range(round(seconds)):
            self.clock.sleep(1)
            self.store.renew()

    def records(self, **changes: object) -> None:
        self.store.renew()
        self.store.start(session(**changes))
        self.store.move(Cause.DEVICES_READY)
        self.store.move(Cause.FLUSHED)

    def events(self) -> list[SystemEvent]:
        return [each.event for each in self.outbox.unsent(10_000)]

    def check(self) -> None:
        """Every row of a session has its event, and every event its row."""
        told = [each for each in self.events() if each.event_type.value in TOLD]
        told = [each for each in told if "devices" not in each.data or "before" in each.data]
        ids = {each.session_id for each in told}
        rows = [row for each in sorted(ids) for row in self.store.steps(each)]
        assert [
            each.data.get("phase", each.data.get("cause"))
            for each in sorted(told, key=lambda each: each.session_id)
        ] == [row.phase or row.cause for row in rows]
        (n_rows,) = self.database.one("SELECT count(*) FROM session_step") or (0,)
        assert n_rows == len(rows)


def left_behind(root: Path, to: Path) -> Path:
    """What a process that is killed now leaves, as another one finds it."""
    to.mkdir()
    for name in (NODE_FILE, f"{NODE_FILE}-wal"):
        if (root / name).exists():
            shutil.copy(root / name, to / name)
    return to


def state_of(box: Box) -> State:
    return box.store.bedside.state


def left(box: Box) -> float:
    """Seconds that the phase still lasts."""
    position = box.store.position()
    assert position is not None
    return position.left_ns / S
