"""What a session asks of others as it goes on: of the recorder, of feedback, of devices. Runs in: agent process, main thread.

Each `advance` looks at the state that is kept, and asks for what it needs; an answer moves it on. So a
process that starts anew in the middle of it asks again, and what was done already is not done twice.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core import ipc
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.core.threads import named
from brainforge_edge.fleet.sessionaccount import Held, held_of
from brainforge_edge.sessions.card import Session
from brainforge_edge.sessions.machine import BEGUN, Bedside, Cause, State
from brainforge_edge.sessions.preflight import Channels
from brainforge_edge.sessions.store import SessionStore
from brainforge_edge.sessions.summary import Summary, summary_of
from brainforge_edge.storage.files import Disk

S = 1_000_000_000
CONNECT_NS = 60 * S  # devices of a new session have to come within this
RESUME_NS = 10 * S  # … of one that goes on; then it does without those that are missing
AGAIN_NS = 240 * S  # the recorder did not answer: it is asked once more
THERE = frozenset({"streaming", "degraded"})
MOST_PREROLL_S = 60.0


class Course:
    """One session after the other."""

    def __init__(
        self,
        store: SessionStore,
        *,
        recordings: Path,
        clock: Clock,
        disk: Disk,
        send: Callable[[ipc.Message], None],
        boot_id: str,
        preroll_s: float,
    ) -> None:
        self._store = store
        self._recordings = recordings
        self._clock = clock
        self._disk = disk
        self._send = send
        self._boot_id = boot_id
        self._preroll_ns = round(min(preroll_s, MOST_PREROLL_S) * S)
        self._watch: ipc.Watch | None = None
        self._state = State.IDLE
        self._since_ns = self._empty_ns = clock.monotonic_ns()
        self._asked: tuple[str, str, int] = ("", "", 0)  # what, of which recording, when
        self._shown: int | None = None  # feedback, as it was told last
        self._account: tuple[threading.Thread, list[Held]] | None = None
        self.is_written = False  # the recorder said that it writes rows of the session

    def emptied(self) -> None:
        """Nobody wears anything any more: no recording adopts rows of before."""
        self._empty_ns = self._clock.monotonic_ns()

    def seen(self, watch: ipc.Watch) -> None:
        """The monitor's word: it renews the lease as of when it looked."""
        self._watch = watch
        if watch.is_safe:
            self._store.renew_as_of(watch.t_ns)

    def advance(self) -> None:
        """What is due now."""
        self._store.tick()
        self._note_state()
        self._show_feedback()
        bedside, session = self._store.bedside, self._store.bedside.session
        if session is None:
            return
        match bedside.state:
            case State.CONNECTING:
                self._connect(bedside, session)
            case State.FLUSHING:
                self._flush(bedside, session)
            case State.RECORDING:
                self._mind_devices(bedside, session)
                self._record(bedside, session)
            case State.SAVING:
                self._save(bedside, session)

    def did(self, message: ipc.RecorderDid, error: BrainforgeError | None) -> None:
        """The recorder's answer; one of another session is left out."""
        self._store.tick()
        bedside, session = self._store.bedside, self._store.bedside.session
        if session is None or session.recording != message.recording:
            return
        if message.wanted == "close" and bedside.state is State.SAVING:
            self._closed(session, error)
        elif message.wanted == "open" and error is None:
            self.is_written = bedside.state is State.RECORDING
        elif message.wanted != "close" and bedside.state in BEGUN:
            self.is_written = False
            said = {} if error is None else {"error": error.as_dict()}
            self._store.move(Cause.RECORDER_FAILED, **said)

    def stop(self) -> None:
        """Wait for what reads the disk."""
        if self._account is not None:
            self._account[0].join(5.0)

    def _note_state(self) -> None:
        state = self._store.bedside.state
        if state is self._state:
            return
        self._state, self._since_ns = state, self._clock.monotonic_ns()
        if state is not State.RECORDING:
            self.is_written = False
        if state in {State.IDLE, State.FAILED}:
            self._empty_ns = self._since_ns
            self._account = None

    def _show_feedback(self) -> None:
        from_ns = self._store.bedside.feedback_from_ns
        if from_ns != self._shown:
            self._shown = from_ns
            self._send(ipc.FeedbackFrom(t_ns=from_ns))

    def _missing(self, session: Session) -> list[str]:
        links = {} if self._watch is None else self._watch.links
        return [device for device in session.devices if links.get(device) not in THERE]

    def _unrecorded(self, bedside: Bedside) -> tuple[str, ...]:
        """Before RECORDING no recorder was told to open anything of this session."""
        is_told = bedside.state is State.RECORDING and bedside.is_open
        return self._watch.unrecorded if is_told and self._watch is not None else ()

    def _connect(self, bedside: Bedside, session: Session) -> None:
        if self._watch is None or self._watch.t_ns < self._since_ns:
            return  # what was seen before says nothing of now
        missing = self._missing(session)
        waited_ns = self._clock.monotonic_ns() - self._since_ns
        if not missing:
            self._store.move(Cause.DEVICES_READY)
        elif bedside.resumed_ns is None and waited_ns > CONNECT_NS:
            self._store.move(Cause.DEVICES_MISSING, missing=missing)
        elif bedside.resumed_ns is not None and waited_ns > RESUME_NS:
            self._mind_devices(bedside, session)
            self._store.move(Cause.DEVICES_READY)

    def _flush(self, bedside: Bedside, session: Session) -> None:
        """Until the longest window of the protocol holds nothing of before."""
        self._mind_devices(bedside, session)
        now_ns = self._clock.monotonic_ns()
        from_ns = bedside.feedback_from_ns
        if from_ns is not None:
            longest_s = max(phase.timescale_s for phase in session.protocol.phase)
            if now_ns < from_ns + longest_s * S:
                return
        if self._store.bedside.is_watched(now_ns):
            self._store.move(Cause.FLUSHED)
            self._note_state()
            self._record(self._store.bedside, session)

    def _mind_devices(self, bedside: Bedside, session: Session) -> None:
        if self._watch is None:
            return
        missing = {*self._missing(session), *self._unrecorded(bedside)}
        for device in session.devices:
            if device in missing and device not in bedside.lost:
                self._store.device_lost(device)
            elif device not in missing and device in bedside.lost:
                self._store.device_back(device)

    def _record(self, bedside: Bedside, session: Session) -> None:
        if not bedside.is_open or self.is_written:
            return
        began_ns = bedside.running_ns or self._since_ns
        lease_ns = began_ns if bedside.lease is None else bedside.lease.since_ns
        since_ns = max(began_ns - self._preroll_ns, lease_ns, self._empty_ns)
        self._ask("open", session, devices=session.devices, since_ns=since_ns)

    def _save(self, bedside: Bedside, session: Session) -> None:
        if self._account is not None:
            thread, held = self._account
            if not thread.is_alive():
                self._finish(session, held[0] if held else Held((), 0))
        elif bedside.is_open:
            self._ask("close", session)
        else:
            self._finish(session, Held((), 0))

    def _closed(self, session: Session, error: BrainforgeError | None) -> None:
        self._asked = ("", "", 0)
        if error is not None:
            self._store.move(Cause.SAVE_FAILED, error=error.as_dict())
        elif self._account is None:
            held: list[Held] = []
            folder, worn = self._recordings / session.recording, self._worn(session)

            def read() -> None:
                held.append(held_of(folder, worn, self._disk))

            self._account = (named("account", read, daemon=True), held)
            self._account[0].start()

    def _worn(self, session: Session) -> dict[str, str]:
        """Devices of the session as it was started: also those whose participant withdrew."""
        started = self._store.session(session.session_id)
        return session.devices if started is None else started.devices

    def _finish(self, session: Session, held: Held) -> None:
        bedside = self._store.bedside
        channels = {} if self._watch is None else self._watch.channels
        whole = msgspec.structs.replace(session, devices=self._worn(session))
        summary: Summary = summary_of(
            whole,
            bedside,
            self._store.steps(session.session_id),
            held.streams,
            now_ns=self._clock.monotonic_ns(),
            boot_id=self._boot_id,
            markers=held.markers,
            channels={
                name: Channels(*each) for name, each in channels.items() if name in whole.devices
            },
        )
        told: dict[str, Any] = msgspec.to_builtins(summary)
        self._store.finish(told)
        self._note_state()

    def _ask(self, wants: str, session: Session, **more: Any) -> None:
        now_ns = self._clock.monotonic_ns()
        what, of, when_ns = self._asked
        if (what, of) == (wants, session.recording) and now_ns - when_ns < AGAIN_NS:
            return
        self._asked = (wants, session.recording, now_ns)
        self._send(ipc.RecorderAsk(recording=session.recording, wants=wants, **more))
