"""Opens, suspends and closes the recording of one device.

Runs in: acquire process. State changes happen in main (`advance`, each heartbeat); the record, sync
and archive threads are started and joined here. `admit` is the lock under which rows enter a ring.
"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from brainforge_edge.acquisition.archive import Archive
from brainforge_edge.acquisition.record import Record
from brainforge_edge.acquisition.recording import Environment, Part, Recording
from brainforge_edge.acquisition.recovery import ENCODE_S, encode_within, tell
from brainforge_edge.acquisition.since import row_behind, row_since
from brainforge_edge.acquisition.stream import AcquiredStream
from brainforge_edge.acquisition.streams import Streams
from brainforge_edge.acquisition.sync import Sync
from brainforge_edge.core import ipc, log
from brainforge_edge.core.errors import BrainforgeError, SecurityError, StorageError
from brainforge_edge.core.threads import Thread, named
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.recorder.recover import RecoveryReport, recover_device
from brainforge_edge.recorder.tail import last_place
from brainforge_edge.security.seal import DataKey

SUSPEND_S = 20.0
RECOVER_AGAIN_NS = 5_000_000_000

_log = log.get()

Key = tuple[int, int]  # (incarnation, seq)


class _Opened(NamedTuple):
    """What is ready for a recording to start."""

    recording: str
    streams: dict[str, AcquiredStream]
    journal: Journal
    key: DataKey | None
    after: dict[str, Key]


class DeviceRecording:
    """At most one recording is active; a requested one waits for recovery and for streams."""

    def __init__(
        self,
        device: str,
        env: Environment,
        streams: Streams,
        admit: threading.Lock,
        *,
        thread: Callable[[str, Callable[[], None]], Thread] = named,
    ) -> None:
        self._device = device
        self._env = env
        self._streams = streams
        self._admit = admit
        self._thread = thread
        self._wanted = ""
        self._preroll_s = 0.0
        self._since_ns: int | None = None
        self._until_ns: int | None = None
        self._is_announced = False
        self._threads: list[Thread] = []
        self._opener: Thread | None = None
        self._opened: _Opened | BrainforgeError | None = None
        self._draining: Recording | None = None
        self._recovery: Thread | None = None
        self._thread_failed: BaseException | None = None
        self._is_recovered = False
        self._recovered = RecoveryReport()
        self._recover_again_ns = 0
        self._is_close_wanted = False
        self._change = threading.Lock()  # main and pull (layout) change the state one at a time
        self._closing: list[tuple[Recording, list[Thread]]] = []
        self._error: BrainforgeError | None = None
        self._recovery_error: BrainforgeError | None = None
        self._retry_ns = 0
        self.active: Recording | None = None

    def recover_in_background(self) -> None:
        """Chunks from what an earlier process left in its journals; recording waits for it."""
        self._recover_again_ns = self._env.clock.monotonic_ns() + RECOVER_AGAIN_NS
        self._recovery = self._thread("recover", self._recover)
        self._recovery.start()

    def _recover(self) -> None:
        env = self._env
        try:
            report = recover_device(
                env.recordings,
                self._device,
                encode=encode_within(ENCODE_S, env.clock),
                disk=env.disk,
                random=env.random,
                segment_bytes=env.segment_bytes,
                private=env.private,
                report=self._recovered,
            )
        except (StorageError, SecurityError) as error:
            if self._recovery_error is None or self._recovery_error.code != error.code:
                _log.error("recovery failed", **error.as_dict())
            self._error = self._recovery_error = error
            return
        except Exception as error:  # noqa: BLE001  outermost loop of this thread: main raises it
            self._thread_failed = error
            return
        self._is_recovered = True
        if self._error is not None and self._error is self._recovery_error:
            self._error = None
        tell(report)

    def request(
        self,
        recording: str,
        preroll_s: float,
        *,
        participant: str = "",
        since_ns: int | None = None,
        until_ns: int | None = None,
    ) -> None:
        """Record into this recording as soon as it can be; idempotent. A session says who wears the
        device, and `since_ns` when its rows begin: no older ones belong to it, whatever `preroll_s` is.
        From `until_ns` on none does: it ended while nobody recorded.

        An active one of another name ends at this row. What follows waits in the ring for the new
        one, however long the disk takes for the end of the old one; what does not fit is a gap.
        """
        with self._change:
            self._is_close_wanted = False
            self._is_announced = False
            if self._wanted == recording:
                return
            self._wanted = recording
            self._preroll_s = preroll_s
            self._since_ns, self._until_ns = since_ns, until_ns
            if participant:
                self._env.worn[recording] = participant
            self._retry_ns = 0
            if self.active is not None:
                self._end(self.active)

    def request_close(self, recording: str) -> bool:
        """End the recording; False if there is nothing to wait for."""
        with self._change:
            active = self.active
            if active is not None and active.name == recording:
                self._wanted = ""
                self._end(active)
                return True
            if self._wanted != recording:
                return any(closing.name == recording for closing, _ in self._closing)
            if any(s.ring.recording_row is not None for s in self._streams.all.values()):
                self._is_close_wanted = True  # rows wait for their journal: it is opened first
                return True
            self._wanted = ""
        return False

    def advance(self) -> list[ipc.RecordingState]:
        """What main does at each heartbeat: open what waits, finish what closes; answers to send."""
        if self._thread_failed is not None:
            raise self._thread_failed
        answers: list[ipc.RecordingState] = []
        with self._change:
            for entry in list(self._closing):
                recording, threads = entry
                if recording.crashed is not None:
                    raise recording.crashed
                if recording.finished.is_set():
                    for thread in threads:
                        thread.join()
                    self._closing.remove(entry)
                    answers.append(ipc.RecordingState(recording=recording.name, is_open=False))
            if self.active is not None and self.active.crashed is not None:
                raise self.active.crashed
            is_idle = self.active is None and not self._closing and self._opener is None
            if self._opener is not None and self._opened is not None:
                answers += self._finish_open()
            elif is_idle and self._is_recovery_due():
                self.recover_in_background()
            elif self._wanted and self.active is None and not self._closing and self._can_open():
                self._begin_open()
            elif self._wanted and self.active is not None and not self._is_announced:
                self._is_announced = True
                answers.append(ipc.RecordingState(recording=self._wanted, is_open=True))
        return answers

    def _is_recovery_due(self) -> bool:
        """It failed (a full disk): again before the next recording, and while none is open."""
        return (
            self._recovery is not None
            and not self._recovery.is_alive()
            and not self._is_recovered
            and self._env.clock.monotonic_ns() >= self._recover_again_ns
        )

    def _can_open(self) -> bool:
        recovery = self._recovery
        return (
            bool(self._streams.all)
            and self._opener is None
            and (recovery is None or not recovery.is_alive())
            and self._env.clock.monotonic_ns() >= self._retry_ns
        )

    def _begin_open(self) -> None:
        """Make the journal in a thread of its own: on slow flash its zeros take seconds."""
        wanted, streams = self._wanted, self._streams.all

        def make() -> None:
            try:
                self._opened = self._make_journal(wanted, streams)
            except (StorageError, SecurityError) as error:
                self._opened = error
            except Exception as error:  # noqa: BLE001  outermost loop of this thread: main raises it
                self._thread_failed = error

        self._opener = self._thread("open", make)
        self._opener.start()

    def _finish_open(self) -> list[ipc.RecordingState]:
        assert self._opener is not None
        self._opener.join()
        opened, self._opener, self._opened = self._opened, None, None
        if isinstance(opened, _Opened):
            wanted = opened.recording
            if wanted != self._wanted or opened.streams is not self._streams.all:
                opened.journal.close()
                return []
            self._start(opened)
            self._error = None if self._is_recovered else self._recovery_error
            self._is_announced = True
            if self._is_close_wanted:
                self._is_close_wanted = False
                self._wanted = ""
                assert self.active is not None
                self._end(self.active)
                return []
            return [ipc.RecordingState(recording=wanted, is_open=True)]
        if opened is None:
            raise RuntimeError("the opening thread ended without a result")
        self._error = opened
        self._retry_ns = self._env.clock.monotonic_ns() + 1_000_000_000
        if self._is_announced or not self._wanted:
            return []
        self._is_announced = True
        return [ipc.RecordingState(recording=self._wanted, is_open=False, error=opened.as_dict())]

    def _make_journal(self, wanted: str, streams: dict[str, AcquiredStream]) -> "_Opened":
        env = self._env
        after = self._recorded_before(wanted, streams)
        key = env.data_key(wanted)
        bytes_s = sum(s.info.row_bytes * s.info.sfreq for s in streams.values())
        journal = Journal.create(
            env.recordings / wanted / f"{self._device}.journal",
            streams={stream.number: stream.info for stream in streams.values()},
            log_id=env.log_id,
            file_bytes=max(env.journal_bytes, round(1.08 * env.journal_s * bytes_s)),
            disk=env.disk,
            random=env.random,
            identity=env.identity(wanted, key),
            key=key,
        )
        return _Opened(wanted, streams, journal, key, after)

    def _recorded_before(self, wanted: str, streams: dict[str, AcquiredStream]) -> dict[str, Key]:
        """Where each stream ended in this recording: its ring may have gone with the power, and the next
        one holds rows of a process that died before it journalled the first of them."""
        env = self._env
        if not self._is_recovered:
            return {}  # rows of it are still to come out of the journal
        folder = env.recordings / wanted
        places = {key: last_place(folder / key, env.disk) for key in streams}
        return {key: place for key, place in places.items() if place is not None}

    def _start(self, opened: "_Opened") -> None:
        wanted, streams, journal, key, after = opened
        with self._admit:
            parts = {name: self._part(stream) for name, stream in streams.items()}
            for name, place in after.items():
                parts[name].after = place
            recording = Recording(
                wanted, self._device, parts, journal, self._env, self._let_go, key
            )
            self.active = recording
        bodies = (("record", Record), ("sync", Sync), ("archive", Archive))
        self._threads = [self._thread(name, body(recording).run) for name, body in bodies]
        for thread in self._threads:
            thread.start()
        recording.poke()

    @property
    def is_wanted(self) -> bool:
        """Whether rows that come now belong to a recording, also while its journal is being made."""
        return bool(self._wanted)

    @property
    def gates_written(self) -> bool:
        """Whether `written` belongs to a record thread; else the pull thread moves it."""
        return self.active is not None or self._draining is not None

    def _part(self, stream: AcquiredStream) -> Part:
        """Where the recording begins: `preroll_s` back, but not before what was recorded already."""
        ring = stream.ring
        head = ring.head
        now = self._env.clock.monotonic_ns()
        oldest = max(0, head - (ring.capacity - 2 * ring.guard))
        is_silent = now - stream.last_push_ns > self._preroll_s * 1e9  # what it has is of long ago
        first = head if is_silent else head - round(self._preroll_s * stream.info.sfreq)
        if self._since_ns is not None:
            first = row_since(ring, oldest, head, self._since_ns)
        first = max(oldest, first, ring.durable)
        if ring.recording_row is not None:  # it goes on; what is not written is never overwritten
            first = min(ring.written, head)
        # Recovery made chunks of what a killed process journalled and had no time to mark.
        held = self._recovered.held.pop(stream.info.stream_id, {})
        first = row_behind(ring, first, head, held)
        if ring.recording_row is None and first == head:
            stream.begins_ns = now
        ring.recording_row = first
        if first > ring.written:
            ring.set_written(first)
        if first > ring.durable:
            ring.set_durable(first)
        stream.archived_row = first
        part = Part(stream, first=first, journaled=first, archived=first)
        if self._until_ns is not None:
            part.close_at = max(first, row_since(ring, oldest, head, self._until_ns))
        return part

    def _end(self, recording: Recording) -> None:
        with self._admit:
            self._draining = recording
            recording.close({key: part.end for key, part in recording.parts.items()})
            self.active = None
        self._closing.append((recording, self._threads))
        self._threads = []

    def _let_go(self, recording: Recording) -> None:
        """Record thread: the last row is journalled; from here `written` follows `head` again."""
        with self._admit:
            if self._draining is not recording:
                return
            self._draining = None
            for part in recording.parts.values():
                ring = part.stream.ring
                if self._wanted:
                    continue  # it goes on: after a cut or a change of layout, or in the next process
                ring.recording_row = part.stream.begins_ns = None
                ring.set_written(ring.head)

    def suspend(self) -> None:
        """The process ends: bring the recording to the disk whole, leave it to be resumed."""
        with self._change:
            if self.active is not None:
                self._end(self.active)
            closing = list(self._closing)
        for recording, threads in closing:
            until = self._env.clock.monotonic_ns() + round(SUSPEND_S * 1e9)
            while not recording.finished.wait(0.1):
                if recording.crashed or self._env.clock.monotonic_ns() > until:
                    break
            if not recording.finished.is_set():
                recording.abort.set()  # the journal keeps what could not be archived
            for thread in threads:
                thread.join(5.0)
        for waiting in (self._recovery, self._opener):
            if waiting is not None:
                waiting.join(SUSPEND_S)

    def suspend_for_layout(self) -> None:
        """Pull thread: the device's streams changed; what follows goes into new files."""
        with self._change:
            if self.active is not None:
                self._end(self.active)

    def poke(self) -> None:
        active = self.active
        if active is not None:
            active.wake.ring()  # with each frame: by the shortest way

    def stats(self) -> dict[str, Any]:
        active = self.active
        sealing = self._env.sealing
        failed = self._error or (None if sealing is None else sealing.error)
        error = None if failed is None else failed.as_dict()
        figures = active.stats() if active else {"fault": None, "sync_p99_ms": None}
        return {"name": active.name if active else "", "error": error, **figures}
