"""The session that goes on at a box, in node.sqlite: each change and its event in one transaction. Runs in: agent process, one thread.

In the file stands what was decided, never the monitor's lease: a program that starts again has seen no
monitor yet. What is refused, or cannot be written, has not happened; an emergency stop has, at once.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.events import EventType, SystemEvent
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.sessions.card import Session
from brainforge_edge.sessions.course import PhaseBegan, course
from brainforge_edge.sessions.machine import (
    Bedside,
    Cause,
    Moved,
    State,
    Step,
    device_back,
    device_lost,
    emergency_released,
    emergency_stopped,
    moved,
    released,
    renewed,
    resumed,
)
from brainforge_edge.sessions.schedule import Position, Schedule
from brainforge_edge.sessions.threshold import adapted
from brainforge_edge.storage.sqlite import Database

CHECKPOINT_NS = (
    4_000_000_000  # with a tick each second, 5 s of a phase may come again after a power cut
)
SOURCE = "sessions"


class _Kept(msgspec.Struct, frozen=True):
    """What the row `bedside` holds."""

    bedside: Bedside
    correlation_id: str = ""  # of the session's events
    causation_id: str = ""  # the last one of them


class StepRow(NamedTuple):
    """A transition of a session, or a phase of it that began, as it was kept."""

    boot_id: str
    t_ns: int
    utc_ns: int | None
    cause: str  # "phase" where the protocol went on
    state: str
    phase: str
    elapsed_ns: int


class SessionStore:
    """Every change of a session at this box goes through here."""

    def __init__(
        self,
        database: Database,
        *,
        node_id: str,
        clock: Clock,
        random: Callable[[int], bytes],
        boot_id: str,
        append: Callable[[SystemEvent], None],
    ) -> None:
        """`append` puts an event into the outbox of the same database. A session that ran goes on."""
        self._database = database
        self._node_id = node_id
        self._clock = clock
        self._random = random
        self._boot_id = boot_id
        self._append = append
        self._kept = _Kept(Bedside())
        self._seen_ns = clock.monotonic_ns()
        self._owed: list[Callable[[], None]] = []  # of an emergency stop that the disk refused
        self._schedule: tuple[str, Schedule] | None = None
        self._resume()

    @property
    def bedside(self) -> Bedside:
        """As it is now; times are of this boot's clock."""
        return self._kept.bedside

    def position(self) -> Position | None:
        """Where the protocol is; None before and after it."""
        schedule = self._schedule_now()
        if schedule is None or (self.bedside.stretch < 0 and self.bedside.running_ns is None):
            return None
        return schedule.at(self.bedside.elapsed_at(self._clock.monotonic_ns()))

    def start(self, session: Session) -> None:
        """IDLE → CONNECTING; SessionError where that may not be."""
        self.tick()
        after = moved(self.bedside, Cause.START_ASKED, self._clock.monotonic_ns(), session=session)
        self._commit(after)

    def move(self, cause: Cause, **told: Any) -> None:
        """A transition that is asked for; `told` is added to its event."""
        self.tick()
        self._commit(moved(self.bedside, cause, self._clock.monotonic_ns()), told=told)
        self.tick()  # a phase may begin with it

    def finish(self, summary: dict[str, Any]) -> None:
        """The recorder closed the recording, and every row of it is on the disk."""
        self.tick()
        after = moved(self.bedside, Cause.SAVED, self._clock.monotonic_ns())
        self._commit(after, told={"summary": summary})

    def renew(self) -> None:
        """The safety monitor's word; nothing is written for it."""
        self.renew_as_of(self._clock.monotonic_ns())
        self.tick()

    def renew_as_of(self, seen_ns: int) -> None:
        """The same, of when it looked: what waited to be heard is not older for it. The rest is `tick`'s."""
        self._commit(renewed(self.bedside, min(seen_ns, self._clock.monotonic_ns())))

    def tick(self) -> None:
        """What the time brings about; to be called at least once a second."""
        now_ns = self._clock.monotonic_ns()
        due = course(self.bedside, self._schedule_now(), now_ns)
        self._commit(Moved(due.bedside, due.steps), phases=due.phases)
        if self.bedside.session is not None and now_ns - self._seen_ns >= CHECKPOINT_NS:
            self._settle()

    def emergency_stop(self, by: str) -> None:
        """In force when this returns or raises: a disk that fails keeps the word of it back, not the stop."""
        now_ns = self._clock.monotonic_ns()
        is_first = self.bedside.latch is None
        after = emergency_stopped(self.bedside, now_ns, by)
        before, self._kept = self._kept, msgspec.structs.replace(self._kept, bedside=after.bedside)
        if is_first:
            session = before.bedside.session
            name = "" if session is None else session.session_id
            stop = self._event(EventType.EMERGENCY_STOP, {"by": by[:64]}, name)
            self._owed.append(lambda: self._append(stop))
        if after.steps:
            self._owed.append(lambda: self._tell(before.bedside, after, (), {"by": by[:64]}))
        self._settle()

    def release_emergency_stop(self, by: str) -> None:
        """By a person, by name."""
        self.tick()
        after = emergency_released(self.bedside, by)
        self._commit(Moved(after), note=(EventType.EMERGENCY_RELEASED, {"by": by}))

    def device_lost(self, device: str) -> None:
        """DEGRADED; the session goes on."""
        self.tick()
        self._devices(Moved(device_lost(self.bedside, device)), "device_lost", (device,))

    def device_back(self, device: str) -> None:
        """As good as before."""
        self.tick()
        self._devices(Moved(device_back(self.bedside, device)), "device_back", (device,))

    def withdraw(self, devices: tuple[str, ...]) -> None:
        """These devices leave the session, since their participant withdrew."""
        self.tick()
        after = released(self.bedside, devices, self._clock.monotonic_ns())
        self._devices(after, "devices_released", devices)

    def _devices(self, after: Moved, cause: str, devices: tuple[str, ...]) -> None:
        if after.bedside == self.bedside:
            return
        data = {
            "cause": cause, "devices": list(devices), "state": self.bedside.state.value,
            "is_degraded": after.bedside.is_degraded,
        }  # fmt: skip
        self._commit(after, note=(EventType.SESSION_STATE_CHANGED, data))

    def adapt(self, values: Sequence[float]) -> float | None:
        """The threshold for what the feature was in the last window; None where the session has none."""
        session = self.bedside.session
        rule = None if session is None else session.protocol.threshold
        if rule is None:
            return None
        was = rule.start if self.bedside.threshold is None else self.bedside.threshold
        if self.bedside.state is not State.RECORDING:
            return was
        now = adapted(was, rule, values)
        if now != was:
            after = msgspec.structs.replace(self.bedside, threshold=now)
            data = {"feature": rule.feature, "was": was, "threshold": now}
            self._commit(Moved(after), note=(EventType.THRESHOLD_CHANGED, data))
        return now

    def steps(self, session_id: str) -> list[StepRow]:
        """What happened in a session, in order."""
        rows = self._database.query(
            "SELECT boot_id, t_ns, utc_ns, cause, state, phase, elapsed_ns FROM session_step"
            " WHERE session_id = ? ORDER BY id",
            (session_id,),
        )
        return [StepRow(*row) for row in rows]

    def session(self, session_id: str) -> Session | None:
        """A session of this box, as it was started."""
        row = self._database.one("SELECT card FROM session WHERE session_id = ?", (session_id,))
        return None if row is None else _decoded(row[0], Session)

    def _resume(self) -> None:
        row = self._database.one("SELECT boot_id, seen_ns, seen_utc_ns, kept FROM bedside")
        if row is None:
            return
        boot_id, seen_ns, seen_utc_ns, data = row
        self._kept = _decoded(data, _Kept)
        now_ns, utc_ns = self._clock.monotonic_ns(), self._clock.utc_ns()
        is_same_boot = boot_id == self._boot_id
        away_ns: int | None = now_ns - seen_ns
        if not is_same_boot:
            is_known = utc_ns is not None and seen_utc_ns is not None
            away_ns = max(0, utc_ns - seen_utc_ns) if is_known else None
        after = resumed(self.bedside, now_ns, seen_ns=seen_ns, is_same_boot=is_same_boot)
        self._commit(after, told={"reboot": not is_same_boot, "away_ns": away_ns}, is_kept=True)

    def _schedule_now(self) -> Schedule | None:
        session = self.bedside.session
        if session is None:
            return None
        if self._schedule is None or self._schedule[0] != session.session_id:
            self._schedule = (session.session_id, session.schedule)
        return self._schedule[1]

    def _commit(
        self,
        after: Moved,
        *,
        told: dict[str, Any] | None = None,
        phases: tuple[PhaseBegan, ...] = (),
        note: tuple[EventType, dict[str, Any]] | None = None,
        is_kept: bool = False,
    ) -> None:
        """On the disk as a whole, or not at all; without anything to tell it stays in memory."""
        before = self._kept
        self._kept = msgspec.structs.replace(before, bedside=after.bedside)
        if not (after.steps or phases or note or is_kept or self._owed):
            return

        def write() -> None:
            if note is not None:
                self._follow(note[0], before.bedside.session, note[1])
            self._tell(before.bedside, after, phases, told or {})

        try:
            self._settle(write)
        except BaseException:
            self._kept = before
            raise

    def _settle(self, write: Callable[[], None] = lambda: None) -> None:
        kept = self._kept
        try:
            with self._database.transaction():
                for owed in self._owed:
                    owed()
                write()
                self._write(self._kept)
        except BaseException:
            self._kept = kept
            raise
        self._owed.clear()
        self._seen_ns = self._clock.monotonic_ns()

    def _write(self, kept: _Kept) -> None:
        data = msgspec.structs.replace(
            kept, bedside=msgspec.structs.replace(kept.bedside, lease=None)
        )
        self._database.execute(
            "INSERT OR REPLACE INTO bedside VALUES (1, ?, ?, ?, ?)",
            (self._boot_id, self._clock.monotonic_ns(), self._clock.utc_ns(),
             msgspec.json.encode(data)),
        )  # fmt: skip

    def _tell(
        self, before: Bedside, after: Moved, phases: tuple[PhaseBegan, ...], told: dict[str, Any]
    ) -> None:
        """Rows and events of what came of it."""
        session = after.bedside.session or before.session
        for phase in phases:
            assert session is not None
            self._phase(session, after.bedside, phase)
        for step in after.steps:
            assert session is not None
            self._step(session, before, after.bedside, step, told)

    def _phase(self, session: Session, bedside: Bedside, phase: PhaseBegan) -> None:
        self._row(session, phase.due_ns, "phase", bedside.state.value, phase.name, phase.elapsed_ns)
        self._follow(
            EventType.PHASE_CHANGED, session,
            {"phase": phase.name, "number": phase.number, "due_ns": phase.due_ns},
        )  # fmt: skip

    def _step(
        self, session: Session, before: Bedside, after: Bedside, step: Step, told: dict[str, Any]
    ) -> None:
        if step.cause is Cause.START_ASKED:
            self._database.execute(
                "INSERT INTO session (session_id, card) VALUES (?, ?)",
                (session.session_id, msgspec.json.encode(session)),
            )
        elapsed_ns = (after if after.session else before).elapsed_at(step.t_ns)
        self._row(session, step.t_ns, step.cause.value, step.after.value, "", elapsed_ns)
        data = {
            "cause": step.cause.value, "before": step.before.value, "state": step.after.value,
            "is_degraded": after.is_degraded, **told,
        }  # fmt: skip
        if step.cause is Cause.START_ASKED:
            self._follow(EventType.SESSION_STARTED, session, data | _card(session), is_first=True)
        elif step.cause is Cause.SAVED or (step.after is State.IDLE and before.is_open):
            ended = before.ended_by.value if step.cause is Cause.SAVED and before.ended_by else ""
            outcome = ended or "unsaved"
            summary = msgspec.json.encode(told.get("summary"))
            self._database.execute(
                "UPDATE session SET outcome = ?, summary = ? WHERE session_id = ?",
                (outcome, summary, session.session_id),
            )
            self._follow(EventType.SESSION_COMPLETED, session, data | {"outcome": outcome})
        else:
            self._follow(EventType.SESSION_STATE_CHANGED, session, data)

    def _row(
        self, session: Session, t_ns: int, cause: str, state: str, phase: str, elapsed_ns: int
    ) -> None:
        utc_ns = self._clock.utc_ns()
        if utc_ns is not None:
            utc_ns += t_ns - self._clock.monotonic_ns()
        self._database.execute(
            "INSERT INTO session_step (session_id, boot_id, t_ns, utc_ns, cause, state, phase,"
            " elapsed_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (session.session_id, self._boot_id, t_ns, utc_ns, cause, state, phase, elapsed_ns),
        )

    def _event(self, kind: EventType, data: dict[str, Any], session_id: str) -> SystemEvent:
        return SystemEvent.root(
            kind, source=SOURCE, node_id=self._node_id, clock=self._clock, random=self._random,
            session_id=session_id, data=data,
        )  # fmt: skip

    def _follow(
        self,
        kind: EventType,
        session: Session | None,
        data: dict[str, Any],
        *,
        is_first: bool = False,
    ) -> None:
        """An event, joined to the one before it where it is a session's."""
        event = self._event(kind, data, "" if session is None else session.session_id)
        if session is not None:
            if not is_first:
                event = event.after(
                    correlation_id=self._kept.correlation_id,
                    causation_id=self._kept.causation_id,
                )
            self._kept = _Kept(self._kept.bedside, event.correlation_id, event.event_id)
        self._append(event)


def _card(session: Session) -> dict[str, Any]:
    return {
        "mode": session.mode.value,
        "protocol": session.protocol.name,
        "duration_s": session.schedule.end_ns / 1e9,
        "devices": session.devices,
        "recording": session.recording,
        "by": session.by,
    }


def _decoded(data: bytes, to: type[Any]) -> Any:
    try:
        return msgspec.json.decode(data, type=to)
    except GARBLED as error:
        raise StorageError(
            "session_unreadable", "the session that was kept cannot be read",
            why=f"its row in node.sqlite is damaged or of another version ({str(error)[:200]})",
            remedy="Set node.sqlite aside and start the box again; recordings are not touched by it",
        ) from error  # fmt: skip
