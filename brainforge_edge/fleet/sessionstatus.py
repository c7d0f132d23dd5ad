"""A session as people and pages see it. Pure. Runs in: agent process, main thread."""

from typing import Any

import msgspec

from brainforge_edge.sessions.ended import Ended
from brainforge_edge.sessions.machine import Bedside
from brainforge_edge.sessions.metadata import Participants
from brainforge_edge.sessions.store import SessionStore

_NS = 1e9


def brief(bedside: Bedside, now_ns: int, is_written: bool) -> dict[str, Any]:
    """What each heartbeat carries, and `status` of the box shows."""
    session = bedside.session
    return {
        "state": bedside.state.value,
        "session_id": "" if session is None else session.session_id,
        "devices": [] if session is None else list(session.devices),
        "is_recording": is_written and bedside.is_recording(now_ns),
        "is_degraded": bedside.is_degraded,
        "is_watched": bedside.is_watched(now_ns),
        "emergency_stop": bedside.latch is not None,
    }


def status(
    store: SessionStore,
    participants: Participants,
    last: Ended | None,
    *,
    now_ns: int,
    is_written: bool,
) -> dict[str, Any]:
    """All of it; times in seconds. `is_written`: the recorder said that it writes rows of the session."""
    bedside, session = store.bedside, store.bedside.session
    end_s = 0.0 if session is None else session.schedule.end_ns / _NS
    elapsed_s = min(bedside.elapsed_at(now_ns) / _NS, end_s)
    since = bedside.unsupervised_since_ns
    open_ns = 0 if since is None else max(0, now_ns - since)
    latch = bedside.latch
    return {
        **brief(bedside, now_ns, is_written),
        "session": None if session is None else _card(store),
        "phase": _phase(store),
        "elapsed_s": round(elapsed_s, 3),
        "left_s": round(end_s - elapsed_s, 3),
        "lost_devices": list(bedside.lost),
        "unsupervised_s": round((bedside.unsupervised_ns + open_ns) / _NS, 3),
        "ended_by": bedside.ended_by.value if bedside.ended_by else None,
        "latch": None
        if latch is None
        else {"by": latch.by, "for_s": round(max(0, now_ns - latch.t_ns) / _NS, 3)},
        "seats": participants.seats(),
        "last": None if last is None else last._asdict(),
    }


def _card(store: SessionStore) -> dict[str, Any]:
    session = store.bedside.session
    assert session is not None
    return {
        "session_id": session.session_id,
        "mode": session.mode.value,
        "protocol": session.protocol.name,
        "title": msgspec.to_builtins(session.protocol.title),
        "devices": session.devices,
        "recording": session.recording,
        "by": session.by,
    }


def _phase(store: SessionStore) -> dict[str, Any] | None:
    position = store.position()
    if position is None:
        return None
    phase = position.phase
    return {
        "name": phase.name,
        "number": position.number,
        "instruction": msgspec.to_builtins(phase.instruction),
        "feedback": phase.feedback,
        "timescale_s": phase.timescale_s,
        "lasted_s": round(position.since_ns / _NS, 3),
        "left_s": round(position.left_ns / _NS, 3),
        "next": None if position.next is None else position.next.name,
    }
