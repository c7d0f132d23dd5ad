"""What a person may ask of sessions, word for word, and what is answered. Runs in: agent process, main thread.

Docs: docs/sessions.md. Every answer is the session as it is then, and what was asked for beside it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from brainforge_edge.core.errors import ConfigError, SessionError
from brainforge_edge.sessions.card import checked_person
from brainforge_edge.sessions.desk import Wish
from brainforge_edge.sessions.machine import Cause
from brainforge_edge.sessions.preflight import Check
from brainforge_edge.sessions.protocolfile import load_protocol, shipped

if TYPE_CHECKING:
    from brainforge_edge.fleet.bedside import Bedside

T = TypeVar("T")


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a request may carry besides a start."""

    by: str = ""
    participant: str = ""
    session: str = ""
    device: str = ""
    reason: str = ""


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A session as a request asks for it."""

    protocol: str
    devices: dict[str, str]
    by: str
    mode: str = "dual"
    duration: Any = None  # seconds; None: as long as the protocol

    @property
    def wish(self) -> Wish:
        return Wish(
            protocol=self.protocol, devices=self.devices, by=self.by, mode=self.mode,
            duration_s=self.duration,
        )  # fmt: skip


def done(host: "Bedside", do: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What `do` leads to; SessionError or ConfigError, and then nothing has changed."""
    if do in {"look", "start"}:
        return _begun(host, do, _taken(given, Start).wish)
    if do not in _ACTS:
        raise _wrong(f"do {do[:64]!r} is none of {', '.join(['look', 'start', *_ACTS])}")
    more = _ACTS[do](host, _taken(given, Asked))
    return {**host.status(), **more}


def _status(_: "Bedside", __: Asked) -> dict[str, Any]:
    return {}


def _protocols(host: "Bedside", _: Asked) -> dict[str, Any]:
    return {"protocols": protocols(host.protocols)}


def _summary(host: "Bedside", asked: Asked) -> dict[str, Any]:
    return {"summary": host.summary(asked.session)}


def _stop(host: "Bedside", asked: Asked) -> dict[str, Any]:
    host.store.move(Cause.STOP_ASKED, by=checked_person(asked.by, "no session was stopped"))
    return {}


def _acknowledge(host: "Bedside", asked: Asked) -> dict[str, Any]:
    host.store.move(Cause.ACKNOWLEDGED, by=checked_person(asked.by, "nothing was acknowledged"))
    return {}


def _save_again(host: "Bedside", asked: Asked) -> dict[str, Any]:
    host.store.move(Cause.SAVE_ASKED, by=checked_person(asked.by, "nothing was saved again"))
    return {}


def _emergency_stop(host: "Bedside", asked: Asked) -> dict[str, Any]:
    host.emergency_stop(asked.by)
    return {}


def _release(host: "Bedside", asked: Asked) -> dict[str, Any]:
    host.store.release_emergency_stop(asked.by)
    return {}


def _consent(host: "Bedside", asked: Asked) -> dict[str, Any]:
    session = host.store.bedside.session
    is_in_it = session is not None and asked.participant in session.devices.values()
    host.participants.grant(
        asked.participant,
        by=asked.by,
        session_id=session.session_id if session is not None and is_in_it else "",
    )
    return {}


def _withdraw(host: "Bedside", asked: Asked) -> dict[str, Any]:
    parted = host.desk.withdraw(asked.participant, by=asked.by)
    return {"stopped": list(parted.stop), "going_on": list(parted.go_on)}


def _hand_over(host: "Bedside", asked: Asked) -> dict[str, Any]:
    host.hand_over(asked.by)
    return {}


def _correct(host: "Bedside", asked: Asked) -> dict[str, Any]:
    worn = host.participants.correct(
        asked.session, asked.device, asked.participant, by=asked.by, reason=asked.reason
    )
    return {"worn": worn._asdict()}


_ACTS: dict[str, Callable[["Bedside", Asked], dict[str, Any]]] = {
    "status": _status,
    "protocols": _protocols,
    "summary": _summary,
    "stop": _stop,
    "acknowledge": _acknowledge,
    "save_again": _save_again,
    "emergency_stop": _emergency_stop,
    "release": _release,
    "consent": _consent,
    "withdraw": _withdraw,
    "hand_over": _hand_over,
    "correct": _correct,
}


def protocols(folder: Path) -> list[dict[str, Any]]:
    """Those that can be started, with their titles; one that cannot be used is left out here and told
    of when it is asked for."""
    names = {*shipped(), *(path.stem for path in folder.glob("*.toml"))}
    found = []
    for name in sorted(names):
        try:
            protocol = load_protocol(name, folder)
        except ConfigError as error:
            found.append({"name": name, "error": error.as_dict()})
            continue
        found.append({"name": name, "title": msgspec.to_builtins(protocol.title)})
    return found


def told(checks: tuple[Check, ...]) -> list[dict[str, Any]]:
    """Checks for a page: `reason` and `remedy` have a key and a text."""
    return [msgspec.to_builtins(each._asdict()) for each in checks]


def _begun(host: "Bedside", do: str, wish: Wish) -> dict[str, Any]:
    box = host.box(tuple(wish.devices))
    if do == "start":
        host.desk.begin(wish, box)
        return host.status()
    checks = host.desk.look(host.desk.plan(wish, box), box)
    may_start = all(each.outcome == "passed" for each in checks if each.is_needed)
    return {**host.status(), "checks": told(checks), "may_start": may_start}


def _taken(given: Mapping[str, Any], to: type[T]) -> T:
    try:
        return msgspec.convert(given, to)
    except msgspec.ValidationError as error:
        raise _wrong(str(error)) from error


def _wrong(why: str) -> ConfigError:
    return ConfigError(
        "bad_argument", "the request was refused",
        why=why, remedy="Correct it; brainforge_edge/docs/sessions.md lists what can be asked",
    )  # fmt: skip


def unknown_session(session_id: str) -> SessionError:
    """The error for an id that this box does not know, or whose session is not over."""
    return SessionError(
        "unknown_session", "nothing was found",
        why=f"this box has no session {session_id[:64]!r} that is over",
        remedy="Look up its id in the session's status",
    )  # fmt: skip
