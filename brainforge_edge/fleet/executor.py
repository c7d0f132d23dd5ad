"""Carries out what comes signed over the network. Runs in: agent process, thread `orders`; handed over by its main thread.

Slow work beside the agent's main loop, nicer than it, one after another. What is waiting is bounded:
what finds no room is handed over again by the uplink.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core import ipc, log
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.config import EdgeConfig
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.core.events import EventType
from brainforge_edge.core.threads import Bell, Thread, named
from brainforge_edge.fleet.desired import DesiredStates
from brainforge_edge.fleet.jobs import Jobs
from brainforge_edge.fleet.orders import configured_signers
from brainforge_edge.fleet.rewrapping import Rewrapping
from brainforge_edge.recorder.sealing import KEYS_FOLDER
from brainforge_edge.security.keystore import box_store
from brainforge_edge.security.order import Signers
from brainforge_edge.storage.files import Disk

LOOK_S = 10.0  # between two looks at the keys files
RETRY_S = 600.0  # … at those of which some could not be opened
NICE = 10
PAUSE_S = 1.0  # after a fault of our own
MOST_WAITING = 32  # of at most security.order.MOST_BYTES each
MOST_TOLD = 512 * 1024  # bytes of a status: a longer list stays at the box


class Executor:
    """`start`, `hear`, `stop`."""

    def __init__(
        self,
        config: EdgeConfig,
        *,
        log_id: bytes,
        clock: Clock,
        disk: Disk,
        send: Callable[[ipc.Message], None],
        on_applied: Callable[[], None],
        thread: Callable[[str, Callable[[], None]], Thread] = named,
    ) -> None:
        """`on_applied` is called in the thread, when another state stands."""
        root = Path(config.node.root)

        def signers() -> Signers:
            return configured_signers(config.orders)

        self._clock = clock
        self._send = send
        self._on_applied = on_applied
        self._over = threading.Event()
        self._bell = Bell()
        self._waiting: deque[ipc.Directive] = deque()
        self._lock = threading.Lock()
        self._rewrapping = Rewrapping(
            root / "recordings", disk, is_over=self._over.is_set,
            store=lambda: box_store(root / KEYS_FOLDER, config.seal.token),
        )  # fmt: skip
        self._states = DesiredStates(
            root, node=config.node.id, log_id=log_id, signers=signers,
            rewrapping=self._rewrapping, clock=clock, disk=disk,
        )  # fmt: skip
        self._jobs = Jobs(
            root, node=config.node.id, log_id=log_id, signers=signers,
            list_signer=config.orders.list_signer, clock=clock, disk=disk,
        )  # fmt: skip
        self._told: bytes = b""
        self._look_ns = self._retry_ns = 0  # when it is due
        self._thread = thread("orders", self._run)
        self._figures: dict[str, Any] = {"heard": 0, "dropped": 0, "refused": 0, "done": 0}
        self._error: dict[str, Any] | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the order at hand is done."""
        self._over.set()
        self._bell.ring()
        self._thread.join()

    def hear(self, message: ipc.Directive) -> None:
        """From the main thread; at once."""
        with self._lock:
            is_full = len(self._waiting) >= MOST_WAITING
            if not is_full:
                self._waiting.append(message)
        self._figures["dropped" if is_full else "heard"] += 1
        self._bell.ring()

    def stats(self) -> dict[str, Any]:
        """For the heartbeat."""
        return {**self._figures, "rewrapped": self._rewrapping.wrapped, "error": self._error}

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)  # of this thread alone
        is_begun = False
        while not self._over.is_set():
            try:
                if not is_begun:
                    self._begin()
                    is_begun = True
                while not self._over.is_set() and (message := self._next()) is not None:
                    self._carry_out(message)
                self._look()
            except Exception as error:  # noqa: BLE001 - the thread's outermost loop: it goes on, and says so
                log.get().exception("orders failed")
                self._error = _broken(error)
                self._send(ipc.Fault(error=self._error))
                self._over.wait(PAUSE_S)  # a flood of what fails is no flood of its log
            else:
                self._bell.wait(LOOK_S)

    def _begin(self) -> None:
        self._try(self._states.begin)
        self._told = msgspec.json.encode(self._states.reported())
        self._look_ns = self._retry_ns = self._clock.monotonic_ns()

    def _look(self) -> None:
        """At the recordings, when it is due: not for each message of a flood."""
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._look_ns:
            return
        self._look_ns = now_ns + round(LOOK_S * 1e9)
        if now_ns >= self._retry_ns:
            self._retry_ns = now_ns + round(RETRY_S * 1e9)
            self._rewrapping.retry()
        self._try(self._rewrapping.look)
        self._report(is_final=False, only_if_new=True)

    def _try(self, work: Callable[[], None]) -> None:
        """An error is shown until the next work succeeds."""
        try:
            work()
        except BrainforgeError as error:
            log.get().warning("orders", **error.as_dict())
            self._error = error.as_dict()
        else:
            self._error = None

    def _next(self) -> ipc.Directive | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def _carry_out(self, message: ipc.Directive) -> None:
        if message.job:
            self._do_job(message)
            return
        is_new, is_final = self._states.take(message.payload)
        if is_new:
            self._figures["done"] += 1
            self._look_ns = 0  # all recordings are to be looked at, now
            self._on_applied()
        self._report(is_final=is_final)
        said = self._states.reported()
        if is_new:
            data = {"version": str(said.version)}
            self._send(ipc.Event(event_type=EventType.CONFIG_APPLIED, data=data))
        # Told last: the uplink that began with another one begins anew. Not for what was refused: where no
        # file of the state can be read any more, nor be written, it would begin anew for ever.
        if said.id and said.untaken is None:
            self._send(ipc.Applied(id=said.id))

    def _do_job(self, message: ipc.Directive) -> None:
        status, is_final = self._jobs.take(message.job, message.payload)
        self._figures["done" if status.state == "done" else "refused"] += 1
        payload = msgspec.json.encode(status)
        if len(payload) > MOST_TOLD:
            payload = msgspec.json.encode(msgspec.structs.replace(status, done=""))
        self._send(ipc.Report(job=message.job, payload=payload, is_final=is_final))

    def _report(self, *, is_final: bool, only_if_new: bool = False) -> None:
        payload = msgspec.json.encode(self._states.reported())
        if only_if_new and payload == self._told:
            return
        self._told = payload
        self._send(ipc.Report(job="", payload=payload, is_final=is_final))


def _broken(error: Exception) -> dict[str, Any]:
    return {
        "code": "error.orders",
        "what": "a desired state or a job was not carried out",
        "why": f"the thread that does it failed at it ({type(error).__name__}), and goes on with what comes next",
        "remedy": "Report what the daemon's log says, and restart the daemon",
        "transient": False,
        "facts": {},
    }
