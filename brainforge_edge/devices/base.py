"""What every driver is made of: the words between the pull thread and a device.

Runs in: acquire process, pull thread; `close` and `command` also from its main thread.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec

from brainforge_edge.core.block import Marker, SampleBlock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.events import EventType
from brainforge_edge.core.stream import DeviceInfo, StreamInfo


@dataclass(slots=True)
class LinkCounters:
    """What happened on the wire since `open`. Only ever counts up."""

    bytes_read: int = 0
    frames: int = 0  # accepted, of every type
    skipped_bytes: int = 0  # passed over in search of the next frame
    resyncs: int = 0  # stretches of skipped bytes
    bad_header_crc: int = 0
    bad_frame_crc: int = 0
    lost_frames: int = 0  # named by a frame counter
    lost_samples: int = 0  # named by gaps
    device_dropped: int = 0  # frames that say the device dropped data before them
    broken_pairs: int = 0  # samples of which only one half came (Cyton with Daisy)
    repeated_frames: int = 0  # frames of samples that had come before; left out
    implausible: int = 0  # packets whose counter and clock contradict each other; left out
    wrong_schema: int = 0  # whole frames that do not fit the descriptor; not decoded
    restarts: int = 0  # the device's counter started again: a new incarnation
    late_frames: int = 0  # came after frames that were sent later; their gap is named already
    broken_rows: int = 0  # samples of which some channels did not come; left out
    degraded_rows: int = 0  # samples that rest on a lost one (Ganglion, firmware 2); left out
    unparsed_bytes: int = 0  # inside whole packets, of a kind that is not known
    dropped_packets: int = 0  # notifications or datagrams for which the box's queue had no room

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


class DeviceCommand(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be done by a device; `name` and `arguments` belong to its driver."""

    name: str
    arguments: dict[str, Any] = {}
    recording: str = ""  # the one that is open at the box: a device may refuse to disturb it


class DeviceReply(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    values: dict[str, Any] = {}


class FrameSink(Protocol):
    """A scanner that reads a descriptor itself, so that the pieces of a frame cost no Python."""

    def read(self, fd: int, wake: int, timeout_s: float) -> int:
        """Bytes read when a frame is whole, `wake` is readable, or the time is over.

        OSError when the link fails, EOFError when it reports data but gives none.
        """
        ...


class Transport(Protocol):
    """Bytes to and from a device. One thread reads; any thread may write or close."""

    @property
    def dropped_packets(self) -> int:
        """Datagrams that came while the kernel's buffer of this link was full; 0 for streams of bytes."""
        ...

    def read(self, timeout_s: float) -> bytes:
        """All bytes that have come, empty on time-out. DeviceError when the link is gone or closed."""
        ...

    def fill(self, sink: FrameSink, timeout_s: float) -> int:
        """Let `sink` read until it has a whole frame; the bytes read, 0 on time-out. Errors as `read`."""
        ...

    def write(self, data: bytes) -> None:
        """Send all of `data`. DeviceError when the link is gone or takes nothing for a second."""
        ...

    def close(self) -> None:
        """Idempotent, from any thread; a running `read` ends with DeviceError `device.closed`."""
        ...


class Decoder(Protocol):
    """Bytes to blocks. No I/O, no clock. Garbage is counted, never raised."""

    @property
    def counters(self) -> LinkCounters: ...

    def feed(self, data: bytes, arrived_ns: int) -> list[SampleBlock]: ...


class Driver(Protocol):
    """One device, blocking. Runs in: acquire process, pull thread."""

    @property
    def counters(self) -> LinkCounters:
        """As they stand now; any thread may ask."""
        ...

    info: DeviceInfo | None  # who answered; None before `open`

    def open(self) -> tuple[StreamInfo, ...]:
        """Handshake; identity is verified before data is trusted. DeviceError says what is wrong."""
        ...

    def read(self, timeout_s: float) -> Sequence[SampleBlock]:
        """Blocks that have come, empty on time-out. DeviceError (transient) when the link is lost."""
        ...

    def proof(self, stream_id: str) -> str:
        """What names the run of the device's own counter; "" if the device proves nothing.

        Two equal proofs, also of two connections, mean one counter that was never restarted:
        a jump of seq between them is an exact gap.
        """
        ...

    def clock(self, stream_id: str) -> ClockState | None:
        """How the stream's times are estimated at present; None until that is settled."""
        ...

    def command(self, command: DeviceCommand) -> DeviceReply:
        """Do it and answer within `arguments["timeout_s"]` where it takes long. DeviceError says why not."""
        ...

    def close(self) -> None:
        """Idempotent, from any thread; unblocks `read`."""
        ...


class Notice(NamedTuple):
    """Something that people should hear of: an event, told by the driver."""

    event_type: EventType
    stream_id: str  # "" for the whole device
    data: dict[str, Any]


@runtime_checkable
class MarksTime(Protocol):
    """A driver whose device brings markers, alone or beside samples."""

    def markers(self) -> list[Marker]:
        """What has come since the last call, which was 0.1 s ago at most while it reads; by that thread."""
        ...


@runtime_checkable
class TellsNews(Protocol):
    """A driver that tells of its device's states and of the quality of its channels."""

    def notices(self) -> list[Notice]:
        """What has come since the last call, which was 0.1 s ago at most while it reads; by that thread."""
        ...


@runtime_checkable
class WaitsForDevice(Protocol):
    """A driver whose device may be connected and well without samples."""

    @property
    def waits_for(self) -> str:
        """Why the device sends none at present ("start_up", "standby"); "" where it should."""
        ...


@runtime_checkable
class ReportsStatus(Protocol):
    """A driver whose device tells its figures: battery, supply, temperature, states."""

    status: dict[str, Any]  # replaced as a whole, so that another thread may read it


@runtime_checkable
class GuardsRecording(Protocol):
    """A driver whose device itself refuses what would spoil a recording."""

    def guard(self, *, is_recorded: bool) -> None:
        """A recording is open, or none is; from any thread but the one that reads. DeviceError."""
        ...


def not_open(device: str) -> DeviceError:
    """The error for a device that is used before `open` or after `close`."""
    return DeviceError(
        "not_open",
        f"{device} is not connected",
        why="it was not opened, or was closed",
        remedy="Wait until it is connected",
        transient=True,
    )


# What some devices can do: another one says that it cannot, not that there is no such thing.
VERBS = frozenset({"calibrate", "impedance", "mark", "self_test"})


def unsupported(device: str, command: DeviceCommand) -> DeviceError:
    """The error for a command that this driver does not do, or no driver knows."""
    if command.name in VERBS:
        return DeviceError(
            "unsupported",
            f"{device} cannot do {command.name!r}",
            why="devices of its kind have nothing for that",
            remedy="See in brainforge_edge/docs/devices.md which devices can",
        )
    return DeviceError(
        "unknown_command",
        f"{device} cannot do {command.name!r}",
        why="its driver knows no such command",
        remedy="Look up the device's commands in brainforge_edge/docs/devices.md",
    )


def protected(device: str, command: DeviceCommand) -> DeviceError:
    """The error for a command that would spoil samples of an open recording."""
    return DeviceError(
        "protected",
        f"{device} refuses {command.name!r}",
        why=f"the recording {command.recording} is open, and it would spoil samples",
        remedy="Stop the recording first, or force it: the stretch is then marked BAD",
        recording=command.recording,
    )


def silent(device: str, silent_s: float) -> DeviceError:
    """The error for a link that is up but carries no samples."""
    return DeviceError(
        "silent",
        f"{device} sends no samples",
        why=f"nothing came for {silent_s:g} s over a link that is up",
        remedy="The connection is made anew by itself; if this repeats, switch the device off and on",
        transient=True,
    )
