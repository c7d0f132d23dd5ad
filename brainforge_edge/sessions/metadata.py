"""Who takes part, by pseudonym: consent, who wears what, the wrong one corrected. Runs in: agent process, one thread.

Names of people are nowhere in it. A consent or correction is a line in the audit file first, then a row
and its event in one transaction: after a kill in between there is a line too many, never one too few.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import SessionError
from brainforge_edge.core.events import EventType, SystemEvent
from brainforge_edge.sessions.card import Session, checked_participant, checked_person
from brainforge_edge.storage.audit import add_step
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.sqlite import Database

MOST_REASON = 500  # characters


class Consent(NamedTuple):
    """What a participant said last."""

    is_granted: bool
    by: str  # who took it down
    utc_ns: int | None
    session_id: str


class Worn(NamedTuple):
    """Whose data a device's are: as they were recorded, and as a person corrected it since."""

    recorded: str
    corrected: str


class Withdrawal(NamedTuple):
    """What a withdrawal means for a session that runs."""

    stop: tuple[str, ...]  # these devices stop, and what they recorded is sealed
    go_on: tuple[str, ...]

    @property
    def is_end(self) -> bool:
        return bool(self.stop) and not self.go_on


def withdrawal(devices: Mapping[str, str], participant: str) -> Withdrawal:
    """Which devices of a session stop when this participant withdraws. Pure: needs no disk and no network."""
    stop = tuple(name for name, who in devices.items() if who == participant)
    return Withdrawal(stop, tuple(name for name in devices if name not in stop))


class Participants:
    """Consent and seats of a box, in node.sqlite."""

    def __init__(
        self,
        database: Database,
        root: Path,
        *,
        node_id: str,
        clock: Clock,
        random: Callable[[int], bytes],
        boot_id: str,
        append: Callable[[SystemEvent], None],
        disk: Disk,
    ) -> None:
        """`root` holds the audit file; `append` puts an event into the outbox of the same database."""
        self._database = database
        self._root = root
        self._node_id = node_id
        self._clock = clock
        self._random = random
        self._boot_id = boot_id
        self._append = append
        self._disk = disk

    def grant(self, participant: str, *, by: str, session_id: str = "") -> None:
        """A participant agreed; `by` took it down."""
        what = "no consent was noted"
        checked_participant(participant, what)
        self._say(participant, by=checked_person(by, what), session_id=session_id, is_granted=True)

    def withdraw(self, participant: str, *, by: str, session_id: str = "") -> None:
        """A participant does not agree any more. His devices are stopped before this is called."""
        what = "no consent was withdrawn"
        checked_person(by, what)
        if self.consent(participant) is None and participant not in self.seats().values():
            raise SessionError(
                "unknown_participant", what,
                why=f"nobody called {participant[:64]!r} ever took part here",
                remedy="Look at the pseudonym again: the one who withdraws may still be recorded",
            )  # fmt: skip
        self._say(participant, by=by, session_id=session_id, is_granted=False)

    def consent(self, participant: str) -> Consent | None:
        """None for one who never said anything."""
        row = self._database.one(
            "SELECT is_granted, by, utc_ns, session_id FROM consent WHERE participant = ?"
            " ORDER BY id DESC LIMIT 1",
            (participant,),
        )
        return None if row is None else Consent(bool(row[0]), *row[1:])

    def seats(self) -> dict[str, str]:
        """Device → participant who wears it now."""
        return dict(self._database.query("SELECT device, participant FROM seat ORDER BY device"))

    def seat(self, devices: Mapping[str, str]) -> None:
        """These wear these devices now. Someone else's seat is handed over first: SessionError."""
        taken = self.seats()
        for device, participant in devices.items():
            checked_participant(participant, "nobody was seated")
            if taken.get(device, participant) != participant:
                raise SessionError(
                    "not_handed_over", "nobody was seated",
                    why=f"{device} is still noted as worn by another participant",
                    remedy="Hand the box over first: that clears who was there before",
                    device=device,
                )  # fmt: skip
        with self._database.transaction():
            self._database.many("INSERT OR REPLACE INTO seat VALUES (?, ?)", list(devices.items()))

    def hand_over(self, running: Session | None, *, by: str) -> None:
        """Nobody wears anything any more: the next participant starts with an empty page."""
        what = "the box was not handed over"
        checked_person(by, what)
        if running is not None:
            raise SessionError(
                "still_running", what,
                why="a session is running, being saved, or failed and was not looked at",
                remedy="End and acknowledge it first",
            )  # fmt: skip
        with self._database.transaction():
            self._database.execute("DELETE FROM seat")
            self._append(self._event(EventType.HANDED_OVER, {"by": by}, ""))

    def correct(
        self, session_id: str, device: str, participant: str, *, by: str, reason: str
    ) -> Worn:
        """The recording of a device was somebody else's. What was recorded stays as it is; both are kept."""
        what = "nothing was corrected"
        checked_participant(participant, what)
        checked_person(by, what)
        _check_reason(reason, what)
        session = self._ended(session_id, what)
        worn = self.worn(session, device)
        if worn.corrected == participant:
            raise SessionError(
                "nothing_to_correct", what,
                why=f"{device} is already noted as worn by that participant",
                remedy="Nothing needs to be done", device=device,
            )  # fmt: skip
        facts = {
            "session": session_id, "device": device, "was": worn.corrected, "now": participant,
            "by": by, "reason": reason,
        }  # fmt: skip
        utc_ns = self._clock.utc_ns()
        add_step(
            self._root, "participant_corrected", session.recording, facts,
            utc_ns=utc_ns, disk=self._disk,
        )  # fmt: skip
        with self._database.transaction():
            self._database.execute(
                'INSERT INTO correction (session_id, device, was, "now", by, reason, utc_ns)'
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (session_id, device, worn.corrected, participant, by, reason, utc_ns),
            )
            data = {**facts, "recording": session.recording}
            self._append(self._event(EventType.PARTICIPANT_CORRECTED, data, session_id))
        return Worn(worn.recorded, participant)

    def worn(self, session: Session, device: str) -> Worn:
        """Whose data those of a device in a session are; SessionError for a device that was not in it."""
        if device not in session.devices:
            raise SessionError(
                "unknown_device", "nothing was found",
                why=f"the session had no device called {device[:64]!r}",
                remedy=f"Choose from {', '.join(sorted(session.devices))}", device=device,
            )  # fmt: skip
        row = self._database.one(
            'SELECT "now" FROM correction WHERE session_id = ? AND device = ?'
            " ORDER BY id DESC LIMIT 1",
            (session.session_id, device),
        )
        recorded = session.devices[device]
        return Worn(recorded, recorded if row is None else str(row[0]))

    def _ended(self, session_id: str, what: str) -> Session:
        row = self._database.one(
            "SELECT card, outcome FROM session WHERE session_id = ?", (session_id,)
        )
        if row is None:
            raise SessionError(
                "unknown_session", what,
                why=f"this box has no session {session_id[:64]!r}",
                remedy="Look up its id in the list of sessions",
            )  # fmt: skip
        if row[1] is None:
            raise SessionError(
                "still_running", what,
                why="the session is not over", remedy="End it first", transient=True,
            )  # fmt: skip
        return msgspec.json.decode(row[0], type=Session)

    def _say(self, participant: str, *, by: str, session_id: str, is_granted: bool) -> None:
        utc_ns = self._clock.utc_ns()
        word = "consent_granted" if is_granted else "consent_withdrawn"
        facts = {"participant": participant, "by": by, "session": session_id}
        add_step(self._root, word, "", facts, utc_ns=utc_ns, disk=self._disk)
        kind = EventType.CONSENT_GRANTED if is_granted else EventType.CONSENT_WITHDRAWN
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO consent (participant, is_granted, by, boot_id, t_ns, utc_ns,"
                " session_id) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (participant, is_granted, by, self._boot_id, self._clock.monotonic_ns(), utc_ns,
                 session_id),
            )  # fmt: skip
            self._append(self._event(kind, {"participant": participant, "by": by}, session_id))

    def _event(self, kind: EventType, data: dict[str, str], session_id: str) -> SystemEvent:
        return SystemEvent.root(
            kind, source="sessions", node_id=self._node_id, clock=self._clock,
            random=self._random, session_id=session_id, data=data,
        )  # fmt: skip


def _check_reason(reason: str, what: str) -> None:
    if not reason.strip() or len(reason) > MOST_REASON or not reason.isprintable():
        raise SessionError(
            "bad_reason", what,
            why=f"a correction needs its reason, on one line of at most {MOST_REASON} characters",
            remedy="Say what was wrong",
        )  # fmt: skip
