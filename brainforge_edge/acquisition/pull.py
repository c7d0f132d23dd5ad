"""Device → ring. Never writes to a disk, never logs or sends inside its loop.

Runs in: acquire process, pull thread.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from brainforge_edge.acquisition.adoption import Adopt, Adopted, adopt_and_read
from brainforge_edge.acquisition.continuity import within
from brainforge_edge.acquisition.linkstate import Link, LinkState
from brainforge_edge.acquisition.stream import AcquiredStream
from brainforge_edge.core.block import Marker, SampleBlock
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.core.events import EventType
from brainforge_edge.core.retry import backoff
from brainforge_edge.core.stream import DeviceInfo
from brainforge_edge.devices.base import (
    DeviceCommand,
    DeviceReply,
    Driver,
    GuardsRecording,
    LinkCounters,
    MarksTime,
    ReportsStatus,
    TellsNews,
    WaitsForDevice,
    not_open,
)

READ_S = 0.1
CLOCK_NS = 250_000_000  # a fit changes once a second: looked at this often, not with each block
HEAR_NS = 100_000_000  # what comes beside the samples is for people: looked for this often
MOST_MARKERS = 10_000  # that wait for the main thread
RETRY_MOST_S = 1.0  # a cable that is put back is found within this time
# What is shown is older by a heartbeat (0.25 s) and a read: within a second of the last sample.
DEGRADED_NS = 400_000_000
DEGRADED_PERIODS = 4  # of a slow stream


class Pull:
    """Opens the device, reads it, and opens it again for as long as the process lives.

    `trust(info)` raises unless who answered may be trusted; `adopt(infos)` makes or finds the rings;
    `admit` is the lock under which a row enters a ring, so that a recording can be opened between
    two blocks. Notices for people wait in `notices` until the main thread sends them.
    """

    def __init__(
        self,
        *,
        make_driver: Callable[[], Driver],
        adopt: Adopt,
        trust: Callable[[DeviceInfo | None], None] = lambda _: None,
        admit: threading.Lock,
        is_recording: Callable[[], bool],
        wake_record: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._make_driver = make_driver
        self._adopt = adopt
        self._trust = trust
        self._admit = admit
        self._is_recording = is_recording
        self._wake_record = wake_record
        self._clock = clock
        self._stop = threading.Event()
        self._driver: Driver | None = None
        self._is_open = False
        self._adopted = Adopted({}, [], None)
        self._streams: dict[str, AcquiredStream] = {}
        self.last_error: BrainforgeError | None = None
        self.reconnects = 0
        self.last_data_ns = 0
        self.notices: deque[tuple[EventType, str, dict[str, Any]]] = deque(maxlen=10_000)
        self.markers: deque[Marker] = deque()
        self.markers_dropped = 0
        self.crashed: BaseException | None = None
        self.link = Link(clock, lambda *notice: self.notices.append(notice))
        self._degraded_ns = DEGRADED_NS

    @property
    def state(self) -> LinkState:
        return self.link.state

    @property
    def counters(self) -> dict[str, int]:
        """Of the present link, or of the last one."""
        driver = self._driver
        return (LinkCounters() if driver is None else driver.counters).as_dict()

    @property
    def status(self) -> dict[str, Any]:
        """What the device tells of itself; {} for one that tells nothing."""
        driver = self._driver
        return driver.status if isinstance(driver, ReportsStatus) else {}

    def command(self, command: DeviceCommand) -> DeviceReply:
        """Hand it to the driver, in the caller's thread. DeviceError, also when none is connected."""
        driver = self._driver
        if driver is None or not self._is_open:  # one without samples yet may be told to give some
            raise not_open("the device")
        return driver.command(command)

    @property
    def connection(self) -> int | None:
        """Counts the links that were made; None while there is none."""
        return self.reconnects if self._is_open else None

    def guard(self, is_recorded: bool) -> None:
        """Tell the device, in the caller's thread, whether a recording is open. DeviceError."""
        driver = self._driver
        if self._is_open and isinstance(driver, GuardsRecording):
            driver.guard(is_recorded=is_recorded)

    def part(self) -> None:
        """Give the link up, from any thread: it is made anew, and who answers is judged again."""
        driver = self._driver
        if driver is not None:
            driver.close()

    def stop(self) -> None:
        """Ask the loop to end; unblocks a running read."""
        self._stop.set()
        self.part()

    def run(self) -> None:
        """Thread body."""
        delays = backoff(0.25, RETRY_MOST_S)
        try:
            while not self._stop.is_set():
                if self._connect():
                    delays = backoff(0.25, RETRY_MOST_S)
                    self._stream()
                if not self._stop.is_set():
                    self._stop.wait(next(delays))
        except Exception as error:  # noqa: BLE001  outermost loop: main ends the process
            self.crashed = error
        self.link.turn(LinkState.STOPPED, "crashed" if self.crashed else "stopped")

    def _connect(self) -> bool:
        if self._driver is None:
            self.link.turn(LinkState.CONNECTING, "opening")
        driver: Driver | None = None
        try:
            self._driver = driver = self._make_driver()
            infos = driver.open()
            self._trust(driver.info)
            self._adopted = adopt_and_read(self._adopt, infos, driver)
            self._streams = self._adopted.streams
        except BrainforgeError as error:
            if driver is not None:
                driver.close()
            if self.last_error is None or _is_news(self.last_error, error):
                self.last_error = error
            was_there = self.last_data_ns or self.reconnects
            self.link.turn(LinkState.LOST if was_there else LinkState.SEARCHING, error.code)
            return False
        for stream in self._streams.values():
            stream.continuity.reconnected()
        self.last_error = None
        fastest = max((info.sfreq for info in infos), default=0.0)
        slow_ns = DEGRADED_PERIODS * 1e9 / fastest if fastest else 0.0
        self._degraded_ns = max(DEGRADED_NS, round(slow_ns))
        self.notices.append((EventType.DEVICE_CONNECTED, "", {"reconnects": str(self.reconnects)}))
        return True

    def _stream(self) -> None:
        driver = self._driver
        assert driver is not None
        marks = driver if isinstance(driver, MarksTime) else None
        news = driver if isinstance(driver, TellsNews) else None
        waits = driver if isinstance(driver, WaitsForDevice) else None
        opened_ns = hear_ns = self._clock.monotonic_ns()
        self._is_open = True
        try:
            self._take_held(driver)
            while not self._stop.is_set():
                blocks = driver.read(READ_S)
                now = self._clock.monotonic_ns()
                if not blocks or now >= hear_ns:
                    hear_ns = now + HEAR_NS
                    self._hear(marks, news)
                if blocks:
                    self._take(driver, blocks, now)
                else:
                    self._miss(opened_ns, waits.waits_for if waits is not None else "")
        except BrainforgeError as error:
            if not self._stop.is_set():
                self.last_error = error
                self.link.turn(LinkState.LOST, error.code)
                self.reconnects += 1
                self.notices.append(
                    (EventType.DEVICE_DISCONNECTED, "", {"code": error.code, "why": str(error)})
                )
        finally:
            self._is_open = False
            driver.close()
            self._hear(marks, news)  # what the cut ended

    def _miss(self, opened_ns: int, waits_for: str) -> None:
        """Nothing came; `waits_for` is the device's own reason for it."""
        if not self._streams:
            self.link.turn(LinkState.STREAMING, "markers")  # alone: silence is no fault
        elif self.last_data_ns < opened_ns:
            self.link.turn(LinkState.CONNECTING, waits_for or "no_samples_yet")
        elif self._clock.monotonic_ns() - self.last_data_ns > self._degraded_ns:
            self.link.turn(LinkState.DEGRADED, waits_for or "no_samples")

    def _hear(self, marks: MarksTime | None, news: TellsNews | None) -> None:
        """What came beside the samples."""
        if marks is not None:
            self._keep(marks.markers())
        if news is not None:
            self.notices.extend(news.notices())

    def _keep(self, markers: list[Marker]) -> None:
        room = max(0, MOST_MARKERS - len(self.markers))
        self.markers.extend(markers[:room])
        self.markers_dropped += max(0, len(markers) - room)

    def _take_held(self, driver: Driver) -> None:
        """What came while the rings were made, and then how the link ended, if it did."""
        _, held, failure = self._adopted
        self._adopted = Adopted({}, [], None)
        now = self._clock.monotonic_ns()
        for block, proof in held:
            stream = self._streams[block.stream_id]
            stream.clock = driver.clock(block.stream_id)
            is_known = stream.continuity.knows(block.incarnation)
            self._push(stream, block, "" if is_known else proof, now)
        if held:
            self._taken(now)
        if failure is not None:
            raise failure

    def _take(self, driver: Driver, blocks: Sequence[SampleBlock], now: int) -> None:
        for block in blocks:
            stream = self._streams[block.stream_id]
            if now >= stream.clock_due_ns:
                stream.clock = driver.clock(block.stream_id)
                stream.clock_due_ns = now + CLOCK_NS
            is_known = stream.continuity.knows(block.incarnation)
            proof = "" if is_known else driver.proof(block.stream_id)
            self._push(stream, block, proof, now)
        self._taken(now)

    def _taken(self, now: int) -> None:
        self.last_data_ns = now
        self.link.turn(LinkState.STREAMING, "samples")
        self._wake_record()

    def _push(self, stream: AcquiredStream, block: SampleBlock, proof: str, now: int) -> None:
        admitted, repeated = stream.continuity.admit(block, proof)
        stream.overlaps += repeated
        if admitted is None:
            return
        n = admitted.data.shape[0]
        with self._admit:
            if stream.begins_ns is not None:
                admitted = within(admitted, stream.begins_ns, stream.info.sfreq)
            if stream.ring.room() < n:
                stream.box_drops += n
                stream.continuity.box_dropped()
                return
            head = stream.ring.push(admitted)
            stream.begins_ns = None
            # A recording that an earlier process left open begins again at `written`.
            if stream.ring.recording_row is None and not self._is_recording():
                stream.ring.set_written(head)
        stream.continuity.kept(admitted)
        stream.last_push_ns = now
        gap = admitted.gap
        if gap is not None:
            stream.gaps += 1
            stream.gap_samples += gap.n
            data = {
                "n": str(gap.n),
                "plus_minus": str(gap.plus_minus),
                "basis": str(gap.basis),
                "cause": str(gap.cause),
                "seq": str(admitted.seq),
                "incarnation": str(admitted.incarnation),
            }
            self.notices.append((EventType.STREAM_GAP, stream.info.stream_id, data))


def _is_news(before: BrainforgeError, error: BrainforgeError) -> bool:
    return before.code != error.code or before.facts.get("answered") != error.facts.get("answered")
