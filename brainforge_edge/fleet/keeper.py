"""Keeps the chains of recordings, and lets go of what is proven to lie elsewhere. Runs in: agent process, thread `keep`.

Beside the agent's main loop, nicer than it, one file at a time, and with a rest of three times as long
behind each block: a recorder on the same disk comes first. If it fails, markers and heartbeats go on.
"""

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from brainforge_edge.core import log
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.config import EdgeConfig
from brainforge_edge.core.errors import BrainforgeError, StorageError
from brainforge_edge.core.threads import Bell, Thread, named
from brainforge_edge.fleet.freedaudit import catch_up, facts_of
from brainforge_edge.fleet.retention import Retention
from brainforge_edge.recorder.catalog import list_recordings, read_recording
from brainforge_edge.recorder.chain import ChainEntry
from brainforge_edge.recorder.chaining import extend_chain
from brainforge_edge.security.sign import Verifier
from brainforge_edge.storage.audit import add_step
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.room import Room

LOOK_S = 5.0  # between two looks at the recordings that grow
FREE_S = 60.0  # … and at all of them, for what may go
NICE = 10
RESTS = 3.0  # a quarter of the time is spent reading
LONGEST_BLOCK_NS = 200_000_000


class Keeper:
    """`start`, `tell` of recordings that began or ended, `stop`."""

    def __init__(
        self,
        config: EdgeConfig,
        *,
        log_id: bytes,
        verifier: Verifier | None,
        clock: Clock,
        disk: Disk,
        thread: Callable[[str, Callable[[], None]], Thread] = named,
    ) -> None:
        self._root = Path(config.node.root)
        self._recordings = self._root / "recordings"
        self._clock = clock
        self._disk = disk
        self._over = threading.Event()
        self._rested_ns = 0
        self._bell = Bell()
        self._lock = threading.Lock()
        self._told: set[str] = set()  # by the main thread, not looked at yet
        self._growing: set[str] = set()  # recordings whose chain is not complete
        self._room = Room(self._root, config.disk)
        self._alarm_percent = config.disk.alarm_percent
        self._retention = Retention(
            self._recordings,
            config.retention,
            log_id=log_id,
            verifier=verifier,
            disk=disk,
            utc_ns=clock.utc_ns,
            is_full=self._is_full,
            rest=self._rest,
            is_over=self._over.is_set,
            on_freed=self._tell_freed,
        )
        self._thread = thread("keep", self._run)
        self._figures = {"chained": 0, "freed": 0, "freed_bytes": 0}  # since the start
        self._errors: dict[str, BrainforgeError] = {}  # by what was tried
        self._is_finished = (
            False  # with what the last process, or an operator, left half done or untold
        )
        self._crash: dict[str, Any] | None = None

    def start(self) -> None:
        self._thread.start()

    def tell(self, recording: str) -> None:
        """It began or ended. From the main thread."""
        with self._lock:
            self._told.add(recording)
        self._bell.ring()

    def trust(self, verifier: Verifier | None) -> None:
        """Whose word frees from now on. From any thread."""
        self._retention.trust(verifier)

    def stop(self) -> None:
        """Returns when the file at hand is done."""
        self._over.set()
        self._bell.ring()
        self._thread.join()

    def stats(self) -> dict[str, Any]:
        """For the heartbeat."""
        errors = list(self._errors.values())
        return {
            "keeper": dict(self._figures),
            "error": self._crash or (errors[0].as_dict() if errors else None),
        }

    def _run(self) -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)  # of this thread alone
            self._try("list", self._list)
            due_ns = self._clock.monotonic_ns()
            while not self._over.is_set():
                self._extend_all()
                if self._clock.monotonic_ns() >= due_ns and not self._over.is_set():
                    self._try("retention", self._free)
                    due_ns = self._clock.monotonic_ns() + round(FREE_S * 1e9)
                self._bell.wait(LOOK_S)
        except Exception as error:  # noqa: BLE001 - the thread's outermost loop: markers go on without it
            log.get().exception("keeper failed")
            self._crash = {
                "code": "error.keeper",
                "what": "chains are not continued and nothing is freed",
                "why": f"the thread that does it failed ({type(error).__name__})",
                "remedy": "Restart the daemon, and report what its log says",
                "transient": False,
                "facts": {},
            }

    def _list(self) -> None:
        growing = self._growing  # also one that cannot be read: it is told of when its turn comes
        for found in list_recordings(
            self._recordings, self._disk, lambda name, _: growing.add(name)
        ):
            growing.add(found.name)

    def _extend_all(self) -> None:
        with self._lock:
            self._growing |= self._told
            self._told.clear()
        for name in sorted(self._growing):
            if self._over.is_set():
                return
            self._try(f"chain of {name}", partial(self._extend, name))

    def _extend(self, name: str) -> None:
        if name not in self._disk.names(self._recordings):
            self._growing.discard(name)
            return
        folder = self._recordings / name
        is_closed = read_recording(folder, self._disk).is_closed
        for _ in extend_chain(folder, self._disk, self._rest):
            self._figures["chained"] += 1
            if self._over.is_set():
                return
        if is_closed:  # asked before: what was closed since is seen at the next look
            self._growing.discard(name)

    def _free(self) -> None:
        errors = [] if self._is_finished else self._finish()
        errors = self._retention.once().errors + errors
        if errors:
            raise errors[0]

    def _finish(self) -> list[BrainforgeError]:
        errors = self._retention.finish().errors
        try:
            catch_up(
                self._root, self._disk, self._clock.utc_ns, lambda _, error: errors.append(error)
            )
        except StorageError as error:
            errors.append(error)
        self._is_finished = not errors
        return errors

    def _tell_freed(self, recording: str, entries: Sequence[ChainEntry]) -> None:
        """Of each recording by itself: who is killed is at most one behind, and the next start catches up."""
        facts = facts_of([entry.size for entry in entries])
        self._figures["freed"] += len(entries)
        self._figures["freed_bytes"] += sum(entry.size for entry in entries)
        self._is_finished, was_finished = False, self._is_finished
        utc_ns = self._clock.utc_ns()
        add_step(self._root, "freed", recording, facts, utc_ns=utc_ns, disk=self._disk)
        self._is_finished = was_finished
        log.get().info("segments freed", recording=recording, **facts)

    def _try(self, what: str, work: Callable[[], None]) -> None:
        """An error is shown until the same work succeeds."""
        try:
            work()
        except BrainforgeError as error:
            if what not in self._errors:
                log.get().warning("keeper", tried=what, **error.as_dict())
            self._errors[what] = error
        else:
            self._errors.pop(what, None)

    def _is_full(self) -> bool:
        return self._room.look()[1] >= self._alarm_percent

    def _rest(self) -> None:
        """`RESTS` times as long as the block before took; between two files nobody waited for one."""
        took_ns = min(self._clock.monotonic_ns() - self._rested_ns, LONGEST_BLOCK_NS)
        self._over.wait(RESTS * took_ns / 1e9)
        self._rested_ns = self._clock.monotonic_ns()
