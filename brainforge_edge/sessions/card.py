"""What a session is: who wears what, which plan, for how long; and what may not be asked for. Runs in: agent process; tools."""

from collections.abc import Collection, Mapping
from enum import StrEnum

import msgspec

from brainforge_edge.core.errors import BrainforgeError, SessionError
from brainforge_edge.core.ids import checked_name
from brainforge_edge.sessions.protocol import MOST_SECONDS, Protocol
from brainforge_edge.sessions.schedule import Schedule, schedule_of

MOST_DEVICES = 64
MOST_NAME = 64  # of whoever did something

_NOT_STARTED = "no session was started"


class Mode(StrEnum):
    RECORD = "record"
    FEEDBACK = "feedback"  # nothing is recorded, and pages say so
    DUAL = "dual"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One session, as it was started."""

    session_id: str
    mode: Mode = Mode.DUAL
    protocol: Protocol
    duration_s: float | None = None  # None: as long as the protocol
    devices: dict[str, str]  # device → pseudonym of the participant who wears it
    recording: str = ""  # "" where nothing is recorded
    by: str = ""  # who started it

    @property
    def schedule(self) -> Schedule:
        return schedule_of(self.protocol, self.duration_s)

    def without(self, devices: Collection[str]) -> "Session":
        """The same for the devices that are left."""
        left = {name: who for name, who in self.devices.items() if name not in devices}
        return msgspec.structs.replace(self, devices=left)


def new_session(
    session_id: str,
    *,
    mode: str,
    protocol: Protocol,
    duration_s: float | None,
    devices: Mapping[str, str],
    known: Collection[str],
    recording: str,
    by: str,
) -> Session:
    """What was asked for, checked; SessionError says what is wrong with it. `known` are the box's devices."""
    if mode not in set(Mode):
        raise SessionError(
            "bad_mode", _NOT_STARTED,
            why=f"there is no mode {mode[:64]!r}",
            remedy=f"Choose one of {', '.join(Mode)}",
        )  # fmt: skip
    check_duration(duration_s, protocol)
    if not 1 <= len(devices) <= MOST_DEVICES:
        raise SessionError(
            "no_devices", _NOT_STARTED,
            why=f"{len(devices)} devices were named, a session has 1 to {MOST_DEVICES}",
            remedy="Choose the devices that are worn",
        )  # fmt: skip
    for device, participant in devices.items():
        if device not in known:
            raise SessionError(
                "unknown_device", _NOT_STARTED,
                why=f"this box has no device called {device[:64]!r}",
                remedy=f"Choose from {', '.join(sorted(known)) or 'none: add one to edge.toml'}",
                device=device,
            )  # fmt: skip
        checked_participant(participant, _NOT_STARTED)
    records = Mode(mode) is not Mode.FEEDBACK
    return Session(
        session_id=session_id,
        mode=Mode(mode),
        protocol=protocol,
        duration_s=duration_s,
        devices=dict(devices),
        recording=recording if records else "",
        by=checked_person(by, _NOT_STARTED),
    )


def check_duration(duration_s: float | None, protocol: Protocol) -> None:
    """SessionError unless it is None or a length within the protocol's, in seconds."""
    if duration_s is None:
        return
    longest = schedule_of(protocol).end_ns / 1e9
    if isinstance(duration_s, bool) or not isinstance(duration_s, int | float):
        why = "the duration is no number"
    elif not -MOST_SECONDS <= duration_s <= MOST_SECONDS:  # nor is a NaN
        why = f"no session lasts so long; the longest have {MOST_SECONDS:g} s"
    elif duration_s < 1:
        why = f"a duration of {duration_s:g} s is shorter than a second"
    elif duration_s > longest:
        why = f"the protocol {protocol.name} ends after {longest:g} s, not after {duration_s:g} s"
    else:
        return
    raise SessionError(
        "bad_duration", _NOT_STARTED,
        why=why, remedy=f"Give 1 to {longest:g} seconds, or leave the duration out",
    )  # fmt: skip


def checked_participant(participant: str, what: str) -> str:
    """A pseudonym that may stand in files and topics, else SessionError; `what` did not happen then."""
    try:
        return checked_name(participant, "the participant's pseudonym")
    except BrainforgeError as error:
        raise SessionError(
            "bad_participant", what,
            why="a participant's pseudonym is 1 to 64 of a-z, 0-9 and -, no - at the ends",
            remedy="Give the pseudonym, never a name",
        ) from error  # fmt: skip


def checked_person(by: str, what: str) -> str:
    """Who did something: one short line, never empty, else SessionError."""
    if not by.strip() or len(by) > MOST_NAME or not by.isprintable():
        raise SessionError(
            "bad_person", what,
            why=f"who did it has to be said in 1 to {MOST_NAME} characters",
            remedy="Log in, or give your role or initials",
        )  # fmt: skip
    return by.strip()
