"""What a person asks of sessions: look, begin, withdraw, hand over. Runs in: agent process, one thread.

A wish that is refused has changed nothing. Devices of who withdraws are stopped before anything is written.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.ids import ulid
from brainforge_edge.sessions.card import Mode, Session, checked_person, new_session
from brainforge_edge.sessions.machine import Cause, moved
from brainforge_edge.sessions.metadata import Participants, Withdrawal, withdrawal
from brainforge_edge.sessions.preflight import Check, Facts, preflight, refuse_unfit
from brainforge_edge.sessions.protocolfile import load_protocol
from brainforge_edge.sessions.store import SessionStore


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A session as it is asked for; nothing of it is checked yet."""

    protocol: str
    devices: dict[str, str]  # device → pseudonym
    by: str
    mode: str = Mode.DUAL.value
    duration_s: Any = None  # None: as long as the protocol


class Desk:
    """The store and the participants of a box, behind one counter."""

    def __init__(
        self,
        store: SessionStore,
        participants: Participants,
        *,
        clock: Clock,
        random: Callable[[int], bytes],
        stop_devices: Callable[[tuple[str, ...]], None],
        protocols: Path | None = None,
    ) -> None:
        """`stop_devices` makes devices stop and seal at once; `protocols` is the folder of the site's own."""
        self._store = store
        self._participants = participants
        self._clock = clock
        self._random = random
        self._stop_devices = stop_devices
        self._protocols = protocols

    def look(self, session: Session, box: Facts) -> tuple[Check, ...]:
        """The preflight of a session; what consent, monitor and latch are is known here, the rest says `box`."""
        said = {who: self._participants.consent(who) for who in set(session.devices.values())}
        bedside = self._store.bedside
        facts = msgspec.structs.replace(
            box,
            devices=session.devices,
            consents={who: each.is_granted for who, each in said.items() if each is not None},
            records=session.mode is not Mode.FEEDBACK,
            duration_s=session.schedule.end_ns / 1e9,
            is_watched=bedside.is_watched(self._clock.monotonic_ns()),
            latched_by="" if bedside.latch is None else bedside.latch.by,
        )
        return preflight(facts)

    def plan(self, wish: Wish, box: Facts) -> Session:
        """The session that a wish would become; SessionError for what cannot be wished."""
        utc_ns = self._clock.utc_ns()
        moment_ns = self._clock.monotonic_ns() if utc_ns is None else utc_ns
        session_id = ulid(moment_ns // 1_000_000, self._random).lower()
        return new_session(
            session_id,
            mode=wish.mode,
            protocol=load_protocol(wish.protocol, self._protocols),
            duration_s=wish.duration_s,
            devices=wish.devices,
            known=box.links,
            recording=f"ses-{session_id}",
            by=wish.by,
        )

    def begin(self, wish: Wish, box: Facts) -> Session:
        """Connects the devices of a new session. SessionError or ConfigError, and nothing has changed."""
        self._store.tick()
        session = self.plan(wish, box)
        # Whether it may start at all comes before whether it is fit to.
        moved(self._store.bedside, Cause.START_ASKED, self._clock.monotonic_ns(), session=session)
        refuse_unfit(self.look(session, box))
        self._participants.seat(session.devices)
        self._store.start(session)
        return session

    def withdraw(self, participant: str, *, by: str) -> Withdrawal:
        """One participant does not agree any more: his devices stop, the others go on."""
        checked_person(by, "no consent was withdrawn")
        session = self._store.bedside.session
        told = withdrawal({} if session is None else session.devices, participant)
        if told.stop:
            self._stop_devices(told.stop)
            self._store.withdraw(told.stop)
        session_id = session.session_id if session is not None and told.stop else ""
        self._participants.withdraw(participant, by=by, session_id=session_id)
        return told

    def hand_over(self, *, by: str) -> None:
        """The next participant starts with an empty page."""
        self._participants.hand_over(self._store.bedside.session, by=by)
