"""One LSL stream as a device. Knows nothing of the library: an inlet is handed in.

Protocol: the inlet of `devices/lsl.py`. Quirks: LSL has no sample counter, so each connection is a
new incarnation and every gap rests on clocks; stamps may lie in a foreign clock (they should be
the sender's monotonic one), then the time of arrival is used. A stream without a rate is not
sampled: its rows become markers.
Runs in: acquire process, pull thread; `close` also from its main thread.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, Marker, SampleBlock
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.clockfit import ClockFit, ClockState
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import DeviceInfo, Dtype, StreamInfo
from brainforge_edge.devices.base import (
    DeviceCommand,
    DeviceReply,
    LinkCounters,
    silent,
    unsupported,
)
from brainforge_edge.devices.lsl_description import Description, describe, row_text
from brainforge_edge.devices.lsl_stamps import ClockJumped, Piece, Stamps

PULL_S = 0.01  # rows are gathered for this long: a block, not a call for each sample
PULL_ROWS = 512
CORRECTION_NS = 5_000_000_000
FIRST_S = 60.0  # an outlet may be there long before its program has something to send
SILENT_PERIODS = 20  # a slow stream is not silent between two of its samples, or of its pushes
FOREIGN_S = 10.0  # a first stamp this far from now is not on the sender's monotonic clock
MIN_SFREQ, MAX_SFREQ, MAX_BYTES_S = 0.01, 100_000.0, 32e6
MAX_TEXT = 1000  # characters of a marker
# LSL's format → ours. int64 has no place in the recorder; strings are markers.
FORMATS = {
    "int8": Dtype.I16,
    "int16": Dtype.I16,
    "int32": Dtype.I32,
    "float32": Dtype.F32,
    "double64": Dtype.F64,
}


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[device.settings]` of kind "lsl": at least one of `stream`, `type` and `source_id`."""

    stream: str = ""  # the stream's name
    type: str = ""  # its content type: EEG, MEG, Gaze, Markers …
    source_id: str = ""  # names it for good; needed where two have one name
    unit: str = ""  # what holds where a channel names none: "uV", "fT" …
    # Stamps later than this may be a gap.
    jitter_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.02
    # Without samples for this long the link is made anew.
    silent_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 1.0
    # How long is searched; a slow network needs more.
    resolve_s: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 1.0
    prefix: str = ""  # put before the text of markers


class Found(NamedTuple):
    """What an outlet says before it is opened."""

    name: str
    type: str
    source_id: str
    uid: str  # of this run of the outlet
    hostname: str
    n_channels: int
    sfreq: float  # 0: irregular
    format: str


class Inlet(Protocol):
    """A subscription to one outlet; DeviceError `device.lsl_lost` when the outlet is gone."""

    found: Found

    def description(self) -> str:
        """XML."""
        ...

    def correction(self) -> float:
        """Seconds to add to a stamp to have it on the box's clock."""
        ...

    def subscribe(self) -> None:
        """Rows are sent from now on."""
        ...

    def pull(self, timeout_s: float, most: int) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Rows (n, n_channels) and their stamps, s; waits until `most` came or the time is over."""
        ...

    def texts(self, timeout_s: float, most: int) -> tuple[list[list[str]], list[float]]:
        """The same for a stream of strings."""
        ...

    def close(self) -> None: ...


class LslDriver:
    """One stream; see `devices.base.Driver`. `markers` has what an irregular stream brought."""

    def __init__(
        self, config: Config, *, device: str, clock: Clock, open_inlet: Callable[[], Inlet]
    ) -> None:
        self.counters = LinkCounters()
        self.info: DeviceInfo | None = None
        self._config = config
        self._device = device
        self._clock = clock
        self._open_inlet = open_inlet
        self._inlet: Inlet | None = None
        self._is_closed = False
        self._stream_id = f"{device}-lsl"
        self._description: Description | None = None
        self._stamps: Stamps | None = None
        self._sfreq = 0.0
        self._silent_s = config.silent_s
        self._fit = ClockFit()
        self._markers: list[Marker] = []
        self._correction_s = 0.0
        self._correction_due_ns = 0
        self._is_foreign: bool | None = None
        self._is_first = True
        self._last_data_ns = 0
        self._has_data = False
        self._failure: DeviceError | None = None

    def open(self) -> tuple[StreamInfo, ...]:
        self._inlet = inlet = self._open_inlet()
        found = inlet.found
        if found.format not in FORMATS and found.format != "string":
            raise DeviceError(
                "lsl_format",
                f"{self._device} cannot be recorded",
                why=f"the stream {found.name!r} sends {found.format}",
                remedy="Let its program send int8, int16, int32, float32, double64 or strings",
            )
        described = describe(
            inlet.description(), found.n_channels, kind=found.type, unit=self._config.unit
        )
        self._description = described
        self._correct(inlet)
        self._last_data_ns = self._clock.monotonic_ns()
        self.info = DeviceInfo(
            who_am_i=found.name,
            serial_number=found.source_id,
            hardware_version=" ".join(filter(None, (described.manufacturer, described.model))),
            operation_mode="active",
        )
        if found.format == "string" or not found.sfreq > 0:
            inlet.subscribe()
            return ()
        self._sfreq = found.sfreq
        self._silent_s = max(self._config.silent_s, SILENT_PERIODS / found.sfreq)
        self._stamps = Stamps(found.sfreq, jitter_s=self._config.jitter_s)
        self._refuse_flood(found)
        inlet.subscribe()  # last: rows that wait here would look as if they came late
        self._stream_id = f"{self._device}-{_slug(found.type) or 'lsl'}"
        return (
            StreamInfo(
                stream_id=self._stream_id,
                device=self._device,
                sfreq=found.sfreq,
                dtype=FORMATS[found.format],
                channels=described.channels,
            ),
        )

    def read(self, timeout_s: float) -> Sequence[SampleBlock]:
        inlet = self._inlet
        if inlet is None or self._is_closed:
            raise DeviceError(
                "closed",
                f"{self._device} is not connected",
                why="it was not opened, or was closed",
                remedy="Wait until it is connected",
                transient=True,
            )
        if self._failure is not None:
            raise self._failure
        if self._clock.monotonic_ns() >= self._correction_due_ns:
            self._correct(inlet)
        try:
            return self._pulled(inlet, timeout_s)
        except DeviceError as error:  # what was held back is given before the loss is told
            rest = [] if self._stamps is None else self._stamps.settle(0, at_once=True)
            if not rest:
                raise
            self._failure = error
            return self._blocks(rest, self._clock.monotonic_ns())

    def markers(self) -> list[Marker]:
        """What an irregular stream has brought since the last call."""
        taken, self._markers = self._markers, []
        return taken

    def proof(self, stream_id: str) -> str:  # noqa: ARG002  one stream, and it proves nothing
        return ""

    def clock(self, stream_id: str) -> ClockState | None:  # noqa: ARG002
        return None if self._is_first else self._fit.state

    def command(self, command: DeviceCommand) -> DeviceReply:
        raise unsupported(self._device, command)

    def close(self) -> None:
        """The inlet ends when the call that runs in it has returned: within `PULL_S` while reading."""
        self._is_closed = True
        inlet = self._inlet
        if inlet is not None:
            inlet.close()

    def _pulled(self, inlet: Inlet, timeout_s: float) -> list[SampleBlock]:
        until = self._clock.monotonic_ns() + round(timeout_s * 1e9)
        while True:
            if inlet.found.format == "string":
                texts, times = inlet.texts(PULL_S, PULL_ROWS)
                self._take_texts(texts, times)
                n = len(times)
            else:
                data, stamps = inlet.pull(PULL_S, PULL_ROWS)
                n = len(stamps)
                self.counters.bytes_read += data.nbytes
                self.counters.frames += n > 0
                if n and self._stamps is None:
                    self._take_rows(data, stamps)
            now = self._clock.monotonic_ns()
            if self._stamps is not None:
                try:
                    pieces = self._stamps.feed(data, stamps, now)
                except ClockJumped:
                    raise self._jumped() from None
                if n:
                    self._last_data_ns = now
                    self._has_data = True
                limit_s = self._silent_s if self._has_data else max(FIRST_S, self._silent_s)
                if now - self._last_data_ns > limit_s * 1e9:
                    raise silent(self._device, limit_s)
                if pieces:
                    return self._blocks(pieces, now)
            if now >= until or self._is_closed or (n and self._stamps is None):
                return []

    def _blocks(self, pieces: list[Piece], now: int) -> list[SampleBlock]:
        return [self._block(piece, now) for piece in pieces]

    def _block(self, piece: Piece, now: int) -> SampleBlock:
        """On the box's clock: a line under the corrected stamps, or under the arrivals."""
        n = len(piece.data)
        if self._is_stamped(piece.best_stamp, now):
            box_ns = round((piece.best_stamp + self._correction_s) * 1e9)
            self._fit.observe(self._device_ns(piece.seq + piece.best), box_ns)
            flags = BlockFlag(0)
        else:
            self._fit.observe(self._device_ns(piece.seq + n - 1), now)
            flags = BlockFlag.ESTIMATED_TIME
        if self._description is not None and self._description.is_emulated:
            flags |= BlockFlag.EMULATED
        if self._fit.take_step():
            flags |= BlockFlag.CLOCK_STEP
        gap = None
        if piece.missing:
            flags |= BlockFlag.GAP_BEFORE
            gap = Gap(piece.missing, piece.plus_minus, GapBasis.CLOCK)
            self.counters.lost_samples += piece.missing
        if self._is_first:
            flags |= BlockFlag.FIRST
            self._is_first = False
        return SampleBlock(
            self._stream_id,
            0,
            piece.seq,
            self._fit.to_box(self._device_ns(piece.seq)),
            piece.data,
            flags,
            gap,
        )

    def _device_ns(self, seq: int) -> int:
        return round(seq * 1e9 / self._sfreq)

    def _take_texts(self, texts: list[list[str]], stamps: list[float]) -> None:
        for row, stamp in zip(texts, stamps, strict=True):
            self._mark(" ".join(row), stamp)

    def _take_rows(self, data: NDArray[Any], stamps: NDArray[np.float64]) -> None:
        assert self._description is not None
        names = [channel.name for channel in self._description.channels]
        for row, stamp in zip(data.tolist(), stamps.tolist(), strict=True):
            self._mark(row_text(names, row), stamp)

    def _mark(self, text: str, stamp: float) -> None:
        now = self._clock.monotonic_ns()
        is_stamped = np.isfinite(stamp) and self._is_stamped(stamp, now)
        t_ns = round((stamp + self._correction_s) * 1e9) if is_stamped else now
        whole = (self._config.prefix + text)[:MAX_TEXT]
        self._markers.append(Marker(t_ns, 0.0, whole))

    def _is_stamped(self, stamp: float, now: int) -> bool:
        """Decided once for a connection, by its first stamp."""
        if self._is_foreign is None:
            self._is_foreign = abs(stamp + self._correction_s - now / 1e9) > FOREIGN_S
        return not self._is_foreign

    def _correct(self, inlet: Inlet) -> None:
        self._correction_s = inlet.correction()
        self._correction_due_ns = self._clock.monotonic_ns() + CORRECTION_NS

    def _refuse_flood(self, found: Found) -> None:
        """What a stream announces decides how much memory the box takes: it has bounds."""
        rate = found.sfreq * found.n_channels * FORMATS[found.format].packed_bytes
        if not (MIN_SFREQ <= found.sfreq <= MAX_SFREQ and rate <= MAX_BYTES_S):
            raise DeviceError(
                "lsl_rate",
                f"{self._device} cannot be recorded",
                why=f"{found.n_channels} channels at {found.sfreq:g} Hz are announced, the box"
                f" takes {MIN_SFREQ:g} to {MAX_SFREQ:g} Hz and {MAX_BYTES_S / 1e6:g} MB/s",
                remedy="Let its program send fewer channels or a lower rate",
            )

    def _jumped(self) -> DeviceError:
        return DeviceError(
            "lsl_clock_jumped",
            f"the stamps of {self._device} make no sense any more",
            why="they stepped back, far ahead, or are no numbers",
            remedy="The connection is made anew by itself; if this repeats, see to the clock of "
            "the sending program",
            transient=True,
        )


def _slug(text: str) -> str:
    words = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower())
    return "-".join(filter(None, words.split("-")))[:24].strip("-")
