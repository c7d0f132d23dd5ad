"""Control plane: length-prefixed msgpack on a socketpair between the supervisor and a worker.

Never carries samples. Messages are tagged structs; an unknown one is an error, not a guess.
"""

import asyncio
import select
import socket
import struct
import threading
from typing import Any

import msgspec

from brainforge_edge.core.errors import TransportError
from brainforge_edge.core.garbled import GARBLED

_PREFIX = struct.Struct("<I")
MAX_MESSAGE = 4 * 1024 * 1024


class Message(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Root of what travels between supervisor and workers."""


# ---- supervisor → worker ---------------------------------------------------------------------


class Start(Message, frozen=True):
    """First message to every worker: its whole world."""

    config: bytes  # msgpack of EdgeConfig
    worker: str  # "acquire:helmet", "pipeline", …
    rings: dict[str, str] = {}  # stream_id → ring file (pipeline)
    open_recording: str = ""  # recording that was open when the worker died, to be resumed
    bound: dict[str, str] = {}  # device name → identity, as last known (acquire)
    participant: str = ""  # of the session to which `open_recording` belongs (acquire)
    since_ns: int | None = None  # … before which none of its rows belong to it
    until_ns: int | None = None  # … and from which on none does: it ended while the worker was away


class OpenRecording(Message, frozen=True):
    """Journal rows from now (or from `preroll_s` ago) into this recording."""

    recording: str
    preroll_s: float
    participant: str = ""  # to acquire: who wears the device in this session
    since_ns: int | None = None  # of a session, in place of `preroll_s`: box clock
    until_ns: int | None = None  # it ended then
    devices: tuple[str, ...] | None = None  # to the agent: those of a session; None: all


class CloseRecording(Message, frozen=True):
    recording: str


class Marks(Message, frozen=True):
    """Markers, to be made durable by the agent: all of them or none. A device's come from acquire.

    MarkStored answers, from the agent and to acquire. After that the lsl worker hears of them.
    """

    marks: tuple[tuple[int, float, str], ...]  # t_ns, duration_s, description
    token: int
    recording: str = ""  # the supervisor knows


class Command(Message, frozen=True):
    """Something to do for a device (acquire) or for the registry (agent); `CommandDone` answers."""

    token: int
    name: str
    arguments: dict[str, Any] = {}
    recording: str = ""  # the one that is open


class StreamOpened(Message, frozen=True):
    """A device streams: its ring can be mapped. Acquire → supervisor → pipeline, uplink."""

    stream: bytes  # msgpack of StreamInfo
    ring: str


class Archived(Message, frozen=True):
    """Bytes of a segment up to `end` are on the disk. Acquire or agent → supervisor → uplink."""

    recording: str
    stream_id: str
    segment: str  # file name inside recordings/<recording>/<stream_id>/
    end: int


class Directive(Message, frozen=True):
    """What came on `desired` or `job/{id}`, as it came. Uplink → supervisor → agent, which judges it."""

    job: str  # "" for `desired`
    payload: bytes


class Report(Message, frozen=True):
    """What became of it, to be published. Agent → supervisor → uplink."""

    job: str
    payload: bytes  # wire.Reported or wire.JobStatus as JSON
    is_final: bool  # the same need not be handed over again


class Applied(Message, frozen=True):
    """Which desired state stands. Agent → supervisor → uplink, which begins anew if it began with another."""

    id: str


class Watch(Message, frozen=True):
    """What the safety monitor saw. Supervisor → agent, once a second."""

    t_ns: int  # box clock: when it looked
    is_safe: bool  # it saw everything that it has to see: the lease is renewed
    links: dict[str, str]  # state of each device's link
    unrecorded: tuple[str, ...] = ()  # devices whose recorder could not open what it was told to
    channels: dict[
        str, tuple[int, int]
    ] = {}  # of a device whose channels are judged: good ones, all
    bytes_s: dict[str, float] = {}  # that a device records
    free_bytes: int | None = None
    disk_refuses: bool | None = None  # no recording may begin


class RecorderAsk(Message, frozen=True):
    """A session wants its recording opened or closed, or a device let go. Agent → supervisor."""

    recording: str
    wants: str  # "open", "close", "let_go"
    devices: dict[str, str] = {}  # device → pseudonym
    since_ns: int = 0  # open: rows before it do not belong to it


class RecorderDid(Message, frozen=True):
    """What became of `RecorderAsk`, or of a recording that ended by itself. Supervisor → agent."""

    recording: str
    wanted: str  # "open", "close", "lost"
    devices: dict[str, str] = {}  # device → what it says
    error: dict[str, Any] | None = None


class FeedbackFrom(Message, frozen=True):
    """Feedback shows rows from here on (box clock); None: it shows nothing. Agent → supervisor → pipeline."""

    t_ns: int | None


class Outgoing(Message, frozen=True):
    """Events that wait for the broker. Agent → supervisor → uplink."""

    events: tuple[tuple[int, str, bytes], ...]  # number, type, SystemEvent as MessagePack


class Delivered(Message, frozen=True):
    """The broker has these events. Uplink → supervisor → agent, which forgets them."""

    numbers: tuple[int, ...]
    begins: bool = False  # from the supervisor: the uplink has just started, and holds none


class Bound(Message, frozen=True):
    """Device name → identity. Agent → supervisor at its start; supervisor → acquire at each change
    and in answer to `Answered`."""

    bound: dict[str, str]


class Stop(Message, frozen=True):
    """Finish in order, then exit 0."""


# ---- worker → supervisor ---------------------------------------------------------------------


class Ready(Message, frozen=True):
    """The worker has read its Start and runs."""


class Answered(Message, frozen=True):
    """A device answered. Acquire → supervisor → agent, which remembers it."""

    device: str
    kind: str
    link: str
    identity: str
    info: dict[str, str] = {}  # DeviceInfo
    binds: bool = False  # the first under this name: its identity is to be the name's
    is_refused: bool = False  # … it is another than the bound one


class Heartbeat(Message, frozen=True):
    """At least once a second, from the main thread; `stats` is shown by `status`."""

    stats: dict[str, Any] = {}


class RecordingState(Message, frozen=True):
    """A worker's answer to Open- or CloseRecording."""

    recording: str
    is_open: bool
    error: dict[str, Any] | None = None
    # From the agent as it starts: the open one is a session's, of these devices, from then on.
    worn: dict[str, str] | None = None  # device → pseudonym
    since_ns: int = 0


class CommandDone(Message, frozen=True):
    """What the device answered, or why it did not do it."""

    token: int
    values: dict[str, Any] = {}
    error: dict[str, Any] | None = None


class MarkStored(Message, frozen=True):
    token: int
    error: dict[str, Any] | None = None


class Event(Message, frozen=True):
    """Something happened that people or the cloud should know (`core.events.EventType`)."""

    event_type: str
    stream_id: str = ""
    data: dict[str, Any] = {}


class Fault(Message, frozen=True):
    """An error that a person should see; the worker goes on or exits as `fatal` says."""

    error: dict[str, Any]
    fatal: bool = False


AnyMessage = (
    Start
    | OpenRecording
    | CloseRecording
    | Marks
    | Command
    | StreamOpened
    | Archived
    | Directive
    | Report
    | Applied
    | Watch
    | RecorderAsk
    | RecorderDid
    | FeedbackFrom
    | Outgoing
    | Delivered
    | Bound
    | Stop
    | Ready
    | Answered
    | Heartbeat
    | RecordingState
    | CommandDone
    | MarkStored
    | Event
    | Fault
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


def _body_length(prefix: bytes) -> int:
    length: int = _PREFIX.unpack(prefix)[0]
    if length > MAX_MESSAGE:
        raise TransportError(
            "ipc_oversize",
            "a control message was refused",
            why=f"it announces {length} bytes, allowed are {MAX_MESSAGE}",
            remedy="Restart the daemon; report this if it happens again",
        )
    return length


def _decoded(body: bytes) -> AnyMessage:
    try:
        return _decoder.decode(body)
    except GARBLED as error:
        raise TransportError(
            "ipc_garbled",
            "a control message was refused",
            why=f"it is none of ours ({error})",
            remedy="Restart the daemon; report this if it happens again",
        ) from error


def encode(message: Message) -> bytes:
    body = _encoder.encode(message)
    return _PREFIX.pack(len(body)) + body


class Channel:
    """A worker's end: blocking, thread-safe for sending. `receive` returns None at end of file."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.setblocking(True)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        with self._lock:
            self._sock.sendall(encode(message))

    def receive(self, timeout_s: float | None = None) -> AnyMessage | None:
        """Next message; None when the supervisor is gone. Raises TimeoutError.

        The socket itself has no time-out: that would cut what another thread is sending.
        """
        if not self._poll.poll(None if timeout_s is None else timeout_s * 1000.0):
            raise TimeoutError
        prefix = self._exactly(_PREFIX.size)
        if prefix is None:
            return None
        body = self._exactly(_body_length(prefix))
        return None if body is None else _decoded(body)

    @property
    def has_message(self) -> bool:
        """Whether `receive` would return at once."""
        return bool(self._poll.poll(0))

    def _exactly(self, n: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < n:
            try:
                part = self._sock.recv(n - len(parts))
            except ConnectionResetError:
                return None
            if not part:
                return None
            parts += part
        return bytes(parts)


async def read(reader: asyncio.StreamReader) -> AnyMessage | None:
    """Supervisor's end: next message, None at end of file."""
    try:
        prefix = await reader.readexactly(_PREFIX.size)
        return _decoded(await reader.readexactly(_body_length(prefix)))
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return None
