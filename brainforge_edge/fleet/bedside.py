"""The sessions of this box: keeps them going, and says what it wants of recorder, feedback and uplink.

Runs in: agent process, main thread; the account of a recording that ended is read in a thread beside it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core import ipc, log
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.config import EdgeConfig
from brainforge_edge.core.errors import BrainforgeError, StorageError, from_dict
from brainforge_edge.fleet.course import Course
from brainforge_edge.fleet.posting import Posting
from brainforge_edge.fleet.sessionstatus import brief, status
from brainforge_edge.fleet.sessionwords import done, unknown_session
from brainforge_edge.outbox.events import Outbox
from brainforge_edge.sessions.desk import Desk
from brainforge_edge.sessions.ended import ended
from brainforge_edge.sessions.machine import State
from brainforge_edge.sessions.metadata import Participants
from brainforge_edge.sessions.plain import session_goes_on
from brainforge_edge.sessions.preflight import Channels, Facts
from brainforge_edge.sessions.store import SessionStore
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.node import open_node

PROTOCOLS = "protocols"  # the site's own, below the node's root
OVER = frozenset({State.IDLE, State.FAILED})

_log = log.get()


class Bedside:
    """Opens node.sqlite; StorageError. A session that ran when the program ended goes on."""

    def __init__(
        self,
        config: EdgeConfig,
        *,
        clock: Clock,
        random: Callable[[int], bytes],
        boot_id: str,
        disk: Disk,
        send: Callable[[ipc.Message], None],
    ) -> None:
        root = Path(config.node.root)
        self._clock = clock
        self._send = send
        self._boot_id = boot_id
        self._devices = tuple(device.name for device in config.device)
        self._watch: ipc.Watch | None = None
        self._troubles: dict[str, str] = {}  # what failed last → code
        self._database = open_node(root)
        outbox = Outbox(self._database)
        self.protocols = root / PROTOCOLS
        self.store = SessionStore(
            self._database, node_id=config.node.id, clock=clock, random=random, boot_id=boot_id,
            append=outbox.append,
        )  # fmt: skip
        self.participants = Participants(
            self._database, root, node_id=config.node.id, clock=clock, random=random,
            boot_id=boot_id, append=outbox.append, disk=disk,
        )  # fmt: skip
        self.desk = Desk(
            self.store, self.participants, clock=clock, random=random,
            stop_devices=self._stop_devices, protocols=self.protocols,
        )  # fmt: skip
        self._course = Course(
            self.store, recordings=root / "recordings", clock=clock, disk=disk, send=send,
            boot_id=boot_id, preroll_s=config.recording.preroll_s,
        )  # fmt: skip
        self._posting = Posting(outbox, clock=clock, send=send)
        self._has_uplink = config.uplink.enabled

    # ---- what others say --------------------------------------------------------------------

    def watch(self, message: ipc.Watch) -> None:
        """The safety monitor's word, as of when it looked: one that waited here is not older for it."""
        self._watch = message
        self._guarded("seen", lambda: self._course.seen(message))

    def did(self, message: ipc.RecorderDid) -> None:
        """What became of the recording."""
        error = None if message.error is None else from_dict(message.error)
        self._guarded("did", lambda: self._course.did(message, error))

    def delivered(self, message: ipc.Delivered) -> None:
        """The broker has these events."""
        self._guarded("heard", lambda: self._posting.heard(message))

    def command(self, message: ipc.Command) -> None:
        """A person's word; `CommandDone` answers."""
        values: dict[str, Any] = {}
        error = None
        try:
            values = done(self, message.arguments["do"], message.arguments["given"])
        except BrainforgeError as refused:
            error = refused.as_dict()
        self._send(ipc.CommandDone(token=message.token, values=values, error=error))
        self.advance()

    # ---- the time ---------------------------------------------------------------------------

    def advance(self) -> None:
        """All that is due; at each heartbeat, once what the supervisor said was heard."""
        self._guarded("course", self._course.advance)
        if self._has_uplink:
            self._guarded("posting", self._posting.advance)

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        """A disk that does not take a change leaves it undone; markers and other recordings go on."""
        try:
            act()
        except BrainforgeError as error:
            if self._troubles.get(name) != error.code:
                _log.error("session stands still", part=name, **error.as_dict())
                self._send(ipc.Fault(error=error.as_dict()))
            self._troubles[name] = error.code
        else:
            self._troubles.pop(name, None)

    # ---- what people ask --------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The session as it is now, for people and pages."""
        return status(
            self.store, self.participants, ended(self._database),
            now_ns=self._clock.monotonic_ns(), is_written=self._course.is_written,
        )  # fmt: skip

    def brief(self) -> dict[str, Any]:
        """For each heartbeat."""
        return brief(self.store.bedside, self._clock.monotonic_ns(), self._course.is_written)

    def summary(self, session_id: str) -> dict[str, Any]:
        """Of a session that is over, the last one by default; SessionError where there is none."""
        found = ended(self._database, session_id)
        if found is None:
            raise unknown_session(session_id)
        return found._asdict()

    def emergency_stop(self, by: str) -> None:
        """In force whether or not the disk takes the word of it: that is written with the next change."""
        try:
            self.store.emergency_stop(by)
        except StorageError as error:
            _log.error("emergency stop not written yet", **error.as_dict())
            self._send(ipc.Fault(error=error.as_dict()))

    def hand_over(self, by: str) -> None:
        """What the ring still holds is the last participant's, and no recording adopts it."""
        self.desk.hand_over(by=by)
        self._course.emptied()

    def box(self, devices: tuple[str, ...]) -> Facts:
        """What is known of the box now."""
        links = dict.fromkeys(self._devices, "down")
        watch = self._watch
        utc_known = self._clock.utc_ns() is not None
        if watch is None:
            return Facts(devices={}, links=links, utc_known=utc_known)
        known = [watch.bytes_s[name] for name in devices if name in watch.bytes_s]
        return Facts(
            devices={},
            links=links | watch.links,
            channels={name: Channels(*each) for name, each in watch.channels.items()},
            free_bytes=watch.free_bytes,
            bytes_s=sum(known) if len(known) == len(devices) else None,
            disk_refuses=watch.disk_refuses,
            utc_known=utc_known,
        )

    def _stop_devices(self, devices: tuple[str, ...]) -> None:
        session = self.store.bedside.session
        if session is not None and session.recording:
            self._send(
                ipc.RecorderAsk(
                    recording=session.recording,
                    wants="let_go",
                    devices={name: session.devices[name] for name in devices},
                )
            )

    # ---- recordings -------------------------------------------------------------------------

    def refuse_plain(self, message: ipc.OpenRecording) -> BrainforgeError | None:
        """Why a recording may not be opened now: a session goes on, and it is not the session's."""
        bedside = self.store.bedside
        if bedside.session is None or bedside.state in OVER:
            return None
        if message.recording == bedside.session.recording:
            return None
        return session_goes_on("no recording was started")

    def scoped(self, state: ipc.RecordingState) -> ipc.RecordingState:
        """What the agent reports as it starts; of a session's recording also whom it is for."""
        session = self.store.bedside.session
        if session is None or not state.recording or session.recording != state.recording:
            return state
        began = [
            row.t_ns
            for row in self.store.steps(session.session_id)
            if row.cause == "flushed" and row.boot_id == self._boot_id
        ]
        since_ns = began[0] if began else self._clock.monotonic_ns()
        return msgspec.structs.replace(state, worn=session.devices, since_ns=since_ns)

    def close(self) -> None:
        """Before the process ends."""
        self._course.stop()
        self._database.close()
