"""What a session may do next, and what it does by itself. Pure: the box clock (ns) enters as an argument. Runs in: agent process.

IDLE → CONNECTING → FLUSHING → RECORDING → SAVING → IDLE, and FAILED until a person has seen it. Every
end leads through SAVING, so what is open is closed. RECORDING without a live safety monitor does not
exist: its lease is renewed all the time, and `watched` ends what it lapsed for. The recorder is told to
open once RECORDING has begun and to close once SAVING has, never before: rows until then are kept,
whatever the reason.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec

from brainforge_edge.core.errors import SessionError
from brainforge_edge.sessions.card import Mode, Session, checked_person

LEASE_NS = 3_000_000_000  # how long the monitor's word counts
RESUME_NS = 30_000_000_000  # after a restart the monitor has to be back within this


class State(StrEnum):
    IDLE = "idle"
    CONNECTING = "connecting"
    FLUSHING = "flushing"
    RECORDING = "recording"
    SAVING = "saving"
    FAILED = "failed"


class Cause(StrEnum):
    """Why a session changes its state."""

    START_ASKED = "start_asked"
    DEVICES_READY = "devices_ready"
    DEVICES_MISSING = "devices_missing"  # in the time that they were given
    FLUSHED = "flushed"  # windows hold nothing of before
    RECORDER_FAILED = "recorder_failed"  # it could not open, or not go on
    PROTOCOL_ENDED = "protocol_ended"
    STOP_ASKED = "stop_asked"
    CONSENT_WITHDRAWN = "consent_withdrawn"  # of the last participant who was left
    MONITOR_LAPSED = "monitor_lapsed"
    EMERGENCY_STOP = "emergency_stop"
    RESUMED = "resumed"  # the program started again in the middle of it
    SAVED = "saved"
    SAVE_FAILED = "save_failed"
    SAVE_ASKED = "save_asked"
    ACKNOWLEDGED = "acknowledged"  # a person has seen why it failed


BEGUN = (State.CONNECTING, State.FLUSHING, State.RECORDING)

TRANSITIONS: dict[Cause, dict[State, State]] = {
    Cause.START_ASKED: {State.IDLE: State.CONNECTING},
    Cause.DEVICES_READY: {State.CONNECTING: State.FLUSHING},
    Cause.DEVICES_MISSING: {State.CONNECTING: State.SAVING},
    Cause.FLUSHED: {State.FLUSHING: State.RECORDING},
    Cause.RECORDER_FAILED: dict.fromkeys(BEGUN, State.SAVING),
    Cause.PROTOCOL_ENDED: dict.fromkeys(BEGUN, State.SAVING),
    Cause.STOP_ASKED: dict.fromkeys(BEGUN, State.SAVING),
    Cause.CONSENT_WITHDRAWN: dict.fromkeys(BEGUN, State.SAVING),
    Cause.MONITOR_LAPSED: dict.fromkeys(BEGUN, State.SAVING),
    Cause.EMERGENCY_STOP: dict.fromkeys(BEGUN, State.SAVING),
    Cause.RESUMED: dict.fromkeys(BEGUN, State.CONNECTING),
    Cause.SAVED: {State.SAVING: State.IDLE},  # FAILED, where it ended for one of FAULTS
    Cause.SAVE_FAILED: {State.SAVING: State.FAILED},
    Cause.SAVE_ASKED: {State.FAILED: State.SAVING},
    Cause.ACKNOWLEDGED: {State.FAILED: State.IDLE},
}
OWN = (
    Cause.MONITOR_LAPSED,
    Cause.EMERGENCY_STOP,
    Cause.CONSENT_WITHDRAWN,
    Cause.RESUMED,
)  # by functions of their own
FAULTS = (
    Cause.DEVICES_MISSING,
    Cause.RECORDER_FAILED,
    Cause.MONITOR_LAPSED,
    Cause.EMERGENCY_STOP,
)


class Lease(NamedTuple):
    """The monitor was alive from `since_ns` on without a pause, and counts as alive before `until_ns`."""

    since_ns: int
    until_ns: int


class Latch(msgspec.Struct, frozen=True):
    """An emergency stop that nobody released yet."""

    by: str
    t_ns: int


class Bedside(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a box. Times are of the box clock of one boot; `resumed` carries them over a restart."""

    state: State = State.IDLE
    session: Session | None = None
    ended_by: Cause | None = None
    is_open: bool = False  # the recorder writes rows of this session, or was not seen to have ended
    feedback_from_ns: int | None = None  # feedback shows rows from here on; None: there is none
    lost: tuple[str, ...] = ()  # devices of the session that are not there
    latch: Latch | None = None
    lease: Lease | None = None
    elapsed_ns: int = 0  # of the protocol, up to …
    running_ns: int | None = None  # … this time, from which on it runs; None: it stands
    stretch: int = -1  # number of the protocol's stretch that was told of last
    threshold: float | None = (
        None  # that feedback compares with; None: the protocol's first, or none
    )
    resumed_ns: int | None = (
        None  # the program started again then, and it does not record again yet
    )
    unsupervised_ns: int = 0  # rows were recorded without a live monitor for that long …
    unsupervised_since_ns: int | None = None  # … and are since then

    @property
    def is_degraded(self) -> bool:
        return bool(self.lost) or self.unsupervised_since_ns is not None

    def is_watched(self, now_ns: int) -> bool:
        return self.lease is not None and now_ns < self.lease.until_ns

    def is_recording(self, now_ns: int) -> bool:
        """What a page may show: false as soon as the lease lapsed, whether or not anyone noticed yet,
        and where no device is left of which rows could come."""
        worn = () if self.session is None else self.session.devices
        is_there = any(device not in self.lost for device in worn)
        is_told = self.state is State.RECORDING and self.is_open
        return is_told and is_there and self.is_watched(now_ns)

    def elapsed_at(self, now_ns: int) -> int:
        """How far the protocol is."""
        ran = 0 if self.running_ns is None else max(0, now_ns - self.running_ns)
        return self.elapsed_ns + ran

    def preroll_ns(self, now_ns: int, wanted_ns: int) -> int:
        """How much of the ring a recording may adopt: only what the monitor was alive for."""
        if self.lease is None or not self.is_watched(now_ns):
            return 0
        return max(0, min(wanted_ns, now_ns - self.lease.since_ns))


class Step(NamedTuple):
    """A transition that took place."""

    cause: Cause
    before: State
    after: State
    t_ns: int


class Moved(NamedTuple):
    """What came of it; no steps where the state stayed."""

    bedside: Bedside
    steps: tuple[Step, ...] = ()


def moved(bedside: Bedside, cause: Cause, now_ns: int, *, session: Session | None = None) -> Moved:
    """One transition; SessionError where it is not allowed, and then nothing has changed.

    `session` belongs to START_ASKED alone. What the time alone has ended is ended first. Causes in `OWN`
    are not asked for.
    """
    if cause in OWN or (session is not None) != (cause is Cause.START_ASKED):
        raise ValueError(cause)
    if session is not None and bedside.state is State.IDLE:
        _refuse_latched(bedside)
        bedside = Bedside(latch=None, lease=bedside.lease, session=session)
    return _moved(bedside, cause, now_ns)


def _moved(bedside: Bedside, cause: Cause, now_ns: int) -> Moved:
    bedside, steps = watched(bedside, now_ns)
    after = TRANSITIONS[cause].get(bedside.state)
    if after is None:
        raise _illegal(bedside, cause)
    changes: dict[str, object] = {}
    if cause is Cause.DEVICES_READY:
        shows = bedside.session is not None and bedside.session.mode is not Mode.RECORD
        changes["feedback_from_ns"] = now_ns if shows else None
    elif cause is Cause.FLUSHED:
        _refuse_unwatched(bedside, now_ns)
        records = bedside.session is not None and bedside.session.mode is not Mode.FEEDBACK
        changes |= {"is_open": records, "resumed_ns": None}
        if bedside.running_ns is None:
            changes["running_ns"] = now_ns
    elif cause is Cause.SAVED:
        bedside = _supervised(bedside, now_ns)
        changes["is_open"] = False
        if bedside.ended_by in FAULTS:
            after = State.FAILED
    elif cause is Cause.SAVE_ASKED and not bedside.is_open:
        raise _illegal(bedside, cause)
    if after is State.SAVING and cause is not Cause.SAVE_ASKED:
        changes |= _ending(bedside, cause, now_ns)
    step = _stepped(bedside, steps, cause, after, now_ns, changes)
    if after is not State.IDLE:
        return step
    return Moved(Bedside(latch=bedside.latch, lease=bedside.lease), step.steps)


def watched(bedside: Bedside, now_ns: int) -> Moved:
    """What the time alone brings about: a session that the monitor does not watch any more is saved."""
    if bedside.lease is not None and not bedside.is_watched(now_ns):
        since = bedside.lease.until_ns if bedside.is_open else None
        bedside = msgspec.structs.replace(bedside, lease=None, unsupervised_since_ns=since)
    if bedside.lease is not None or bedside.state not in BEGUN:
        return Moved(bedside)
    since = bedside.resumed_ns
    if since is not None:
        since = max(since, bedside.unsupervised_since_ns or 0)
    is_over = since is not None and now_ns - since >= RESUME_NS
    if bedside.state is not State.RECORDING and not is_over:
        return Moved(bedside)
    ending = _ending(bedside, Cause.MONITOR_LAPSED, now_ns)
    return _stepped(bedside, (), Cause.MONITOR_LAPSED, State.SAVING, now_ns, ending)


def renewed(bedside: Bedside, now_ns: int, lease_ns: int = LEASE_NS) -> Moved:
    """The monitor looked at everything and found it safe. A lease that lapsed is not mended by it."""
    bedside, steps = watched(bedside, now_ns)
    since = now_ns if bedside.lease is None else bedside.lease.since_ns
    bedside = _supervised(bedside, now_ns)
    return Moved(msgspec.structs.replace(bedside, lease=Lease(since, now_ns + lease_ns)), steps)


def emergency_stopped(bedside: Bedside, now_ns: int, by: str) -> Moved:
    """Latches in every state; a second one changes nothing. Feedback ends at once, the recording is saved."""
    bedside, steps = watched(bedside, now_ns)
    if bedside.latch is None:
        bedside = msgspec.structs.replace(bedside, latch=Latch(by[:64] or "unknown", now_ns))
    if bedside.state not in BEGUN:
        return Moved(bedside, steps)
    further = _moved(bedside, Cause.EMERGENCY_STOP, now_ns)
    return Moved(further.bedside, steps + further.steps)


def emergency_released(bedside: Bedside, by: str) -> Bedside:
    """The one way to open the latch: by a person, by name, when nothing goes on any more."""
    what = "the emergency stop was not released"
    checked_person(by, what)
    if bedside.latch is None:
        raise SessionError(
            "not_latched", what,
            why="no emergency stop is in force", remedy="Nothing needs to be done",
        )  # fmt: skip
    if bedside.state not in {State.IDLE, State.FAILED}:
        raise SessionError(
            "still_saving", what,
            why="the session that it ended is still being saved",
            remedy="Wait until it is saved, then release it", transient=True,
        )  # fmt: skip
    return msgspec.structs.replace(bedside, latch=None)


def device_lost(bedside: Bedside, device: str) -> Bedside:
    """A device is not there: the session goes on with the others, DEGRADED."""
    _refuse_foreign(bedside, device)
    return msgspec.structs.replace(bedside, lost=tuple(sorted({*bedside.lost, device})))


def device_back(bedside: Bedside, device: str) -> Bedside:
    _refuse_foreign(bedside, device)
    lost = tuple(name for name in bedside.lost if name != device)
    return msgspec.structs.replace(bedside, lost=lost)


def released(bedside: Bedside, devices: tuple[str, ...], now_ns: int) -> Moved:
    """Devices leave the session, for their participant withdrew; without any left it is saved."""
    for device in devices:
        _refuse_foreign(bedside, device)
    assert bedside.session is not None
    session = bedside.session.without(devices)
    lost = tuple(name for name in bedside.lost if name not in devices)
    bedside = msgspec.structs.replace(bedside, session=session, lost=lost)
    if session.devices or bedside.state not in BEGUN:
        return Moved(bedside)
    return _moved(bedside, Cause.CONSENT_WITHDRAWN, now_ns)


def resumed(bedside: Bedside, now_ns: int, *, seen_ns: int, is_same_boot: bool) -> Moved:
    """As the program finds it when it starts again; `seen_ns` is when it was last known to run.

    In the same boot the protocol went on with the box clock. Over a reboot the clock is another one:
    the protocol stood still since `seen_ns`, and goes on when the session records again.
    """
    began = seen_ns if is_same_boot else now_ns
    changes: dict[str, object] = {"lease": None, "feedback_from_ns": None, "lost": ()}
    if bedside.is_open:
        changes["unsupervised_since_ns"] = began
        if bedside.unsupervised_since_ns is not None:
            gone = max(0, seen_ns - bedside.unsupervised_since_ns)
            changes["unsupervised_ns"] = bedside.unsupervised_ns + gone
    if not is_same_boot and bedside.running_ns is not None:
        changes |= {"elapsed_ns": bedside.elapsed_at(seen_ns), "running_ns": None}
    bedside = msgspec.structs.replace(bedside, **changes)
    if bedside.state not in BEGUN:
        return Moved(bedside)
    change = {"resumed_ns": now_ns}
    return _stepped(bedside, (), Cause.RESUMED, State.CONNECTING, now_ns, change)


def _stepped(
    bedside: Bedside,
    steps: tuple[Step, ...],
    cause: Cause,
    after: State,
    now_ns: int,
    changes: Mapping[str, object],
) -> Moved:
    step = Step(cause, bedside.state, after, now_ns)
    return Moved(msgspec.structs.replace(bedside, state=after, **changes), (*steps, step))


def _ending(bedside: Bedside, cause: Cause, now_ns: int) -> dict[str, object]:
    return {
        "ended_by": cause,
        "feedback_from_ns": None,
        "elapsed_ns": bedside.elapsed_at(now_ns),
        "running_ns": None,
    }


def _supervised(bedside: Bedside, now_ns: int) -> Bedside:
    """What was recorded without a monitor ends here."""
    since = bedside.unsupervised_since_ns
    if since is None:
        return bedside
    return msgspec.structs.replace(
        bedside,
        unsupervised_ns=bedside.unsupervised_ns + max(0, now_ns - since),
        unsupervised_since_ns=None,
    )


def _refuse_unwatched(bedside: Bedside, now_ns: int) -> None:
    if not bedside.is_watched(now_ns):
        raise SessionError(
            "no_monitor", "the recording does not begin",
            why="the safety monitor is not running",
            remedy="Wait some seconds; if it stays so, restart the box", transient=True,
        )  # fmt: skip


def _refuse_latched(bedside: Bedside) -> None:
    if bedside.latch is not None:
        raise SessionError(
            "emergency_stop", "no session was started",
            why=f"the emergency stop that {bedside.latch.by} pressed is in force",
            remedy="Look after the participant, then release the emergency stop",
        )  # fmt: skip


def _refuse_foreign(bedside: Bedside, device: str) -> None:
    if bedside.session is None or device not in bedside.session.devices:
        raise SessionError(
            "unknown_device", "nothing was changed",
            why=f"the device {device[:64]!r} is not part of a running session",
            remedy="Choose a device of the session", device=device,
        )  # fmt: skip


_HINTS = {
    State.IDLE: ("not_running", "no session is running", "Start a session first"),
    State.CONNECTING: ("already_running", "a session is connecting its devices", "Stop it first"),
    State.FLUSHING: ("already_running", "a session is about to record", "Stop it first"),
    State.RECORDING: ("already_running", "a session is recording", "Stop it first"),
    State.SAVING: ("still_saving", "a session is being saved", "Wait until it is saved"),
    State.FAILED: ("not_acknowledged", "the last session failed", "Look why, and acknowledge it"),
}
_DONE = {
    Cause.START_ASKED: "no session was started",
    Cause.STOP_ASKED: "no session was stopped",
    Cause.ACKNOWLEDGED: "nothing was acknowledged",
    Cause.SAVE_ASKED: "nothing was saved again",
}


def _illegal(bedside: Bedside, cause: Cause) -> SessionError:
    code, why, remedy = _HINTS[bedside.state]
    if cause is Cause.ACKNOWLEDGED and code == "already_running":
        code = "not_failed"
    elif code == "not_acknowledged" and cause is Cause.SAVE_ASKED:
        code, why, remedy = "nothing_to_save", "all of it is saved", "Acknowledge it"
    return SessionError(
        code, _DONE.get(cause, f"the step {cause.value} was not taken"),
        why=why, remedy=remedy, transient=bedside.state is State.SAVING,
        state=bedside.state, cause=cause,
    )  # fmt: skip
