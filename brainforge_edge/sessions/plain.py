"""What sessions and recordings without one may not do to each other. Pure. Runs in: supervisor; agent process."""

from brainforge_edge.core.errors import SessionError


def refuse_beside(recording: str) -> None:
    """No session begins while a recording of another kind is open."""
    if recording:
        raise SessionError(
            "recording_open", "no session was started",
            why=f"the recording {recording} is open, and it belongs to no session",
            remedy="Stop it first", recording=recording,
        )  # fmt: skip


def session_goes_on(what: str) -> SessionError:
    """The error of `record` and `stop` while a session goes on; `what` did not happen."""
    return SessionError(
        "session_goes_on", what,
        why="a session is going on at this box",
        remedy="End the session: its recording ends with it",
    )  # fmt: skip


def recording_lost() -> SessionError:
    """What ends a session whose recording the box had to close."""
    return SessionError(
        "recording_lost", "the recording ended before the session",
        why="the box had to close it, as it does where the disk is full",
        remedy="Make room on the disk, and start another session",
    )  # fmt: skip
