"""What the box and the aggregator say to each other over MQTT, beside the chunks themselves.

Payloads are msgpack maps, some JSON; `docs/mqtt.md` lists them. Nothing that correctness needs sits in an
MQTT 5 property.
"""

from typing import Annotated, Any, Literal

import msgspec

PRODUCT_ARCHIVE = 0
Generation = Annotated[int, msgspec.Meta(ge=0, le=2**62)]  # SQLite keeps signed 64 bits


class Range(msgspec.Struct, frozen=True, array_like=True):
    """Samples first <= seq < end of one incarnation."""

    incarnation: int
    first: int
    end: int


class StreamInventory(msgspec.Struct, frozen=True):
    """What a log holds of one stream."""

    stream_id: str
    number: int
    ranges: tuple[Range, ...]


class Hello(msgspec.Struct, frozen=True):
    """Box → aggregator at each connect: which log, and what lies in it."""

    node: str
    log_id: bytes
    connection: str  # random per connection: two live ones with one log_id are a clone
    streams: tuple[StreamInventory, ...]
    token: str = ""  # random per hello; the Resume that answers it repeats it
    leaving: bool = False  # goodbye, or the Will of a connection that died


MOST_RECIPIENTS = 16  # that one SealedKey may name


class SealedKey(msgspec.Struct, frozen=True):
    """A data key of a log, wrapped to public keys; nothing in it is secret (docs/sealing.md)."""

    key_id: str  # hex
    participant: str
    device: str
    wrapped: tuple[tuple[str, str, bytes], ...]  # recipient id, role, HPKE message


class Keys(msgspec.Struct, frozen=True):
    """Box → aggregator before the chunks that they open: stored durably, or the chunks are refused."""

    log_id: bytes
    keys: tuple[SealedKey, ...]


class Refusal(msgspec.Struct, frozen=True):
    """A chunk the aggregator will not store as it is."""

    segment_id: bytes
    chunk_number: int
    reason: (
        str  # "crc", "malformed", "conflict", "oversize", "unknown_stream", "unknown_key", "clone"
    )


class Receipt(msgspec.Struct, frozen=True):
    """Aggregator → box, after its own fsync: these samples are stored.

    `ranges` are merged, and complete for every incarnation that they name.
    """

    log_id: bytes
    product: int
    stream_id: str
    ranges: tuple[Range, ...]
    refused: tuple[Refusal, ...] = ()
    credits: int = 64  # chunks the box may have in flight
    store_generation: Generation = 0  # +1 when the store was restored: cursors move back
    others: tuple[tuple[bytes, int], ...] = ()  # stored chunks without samples: segment id, number


class Resume(msgspec.Struct, frozen=True, tag=True):
    """Aggregator → box on `ack/-`, the answer to a hello: all that is stored of the log.

    What is not listed is not stored, whatever earlier receipts said.
    """

    log_id: bytes
    answers: str  # the hello's token
    streams: tuple[tuple[int, StreamInventory], ...]  # product, ranges
    others: tuple[tuple[bytes, int], ...] = ()  # stored descriptors: segment id, number
    credits: int = 64
    store_generation: Generation = 0
    refused: str = ""  # "clone": another live connection has this log id


class ClosedSegment(msgspec.Struct, frozen=True):
    """A segment that grows no more, as the box has it on its disk."""

    stream_id: str
    product: int
    segment_id: bytes
    chunks: int
    size: int  # bytes
    sha256: bytes  # of its chunks, one after another
    ranges: tuple[Range, ...]  # of the samples in it
    head: bytes  # of the recording's chain, this segment included


class Claim(msgspec.Struct, frozen=True):
    """Box → aggregator: do you have these segments, byte for byte?"""

    log_id: bytes
    token: str  # random per claim; each answer repeats it
    segments: tuple[ClosedSegment, ...]


class Attestation(msgspec.Struct, frozen=True):
    """Aggregator → box, signed: the segment was read back from the store, and is this."""

    log_id: bytes
    segment: ClosedSegment
    store_generation: Generation
    attested_utc_ns: int


class Answer(msgspec.Struct, frozen=True, tag=True):
    """Aggregator → box on `ack/-`, to one segment of a claim."""

    log_id: bytes
    answers: str  # the claim's token
    segment_id: bytes
    statement: bytes = (
        b""  # security.sign.Signed as msgpack, its body an Attestation; empty: denied
    )
    reason: str = ""  # of a denial: "missing", "different", "unreadable", "impossible", "unsigned"


class Ask(msgspec.Struct, frozen=True, tag=True):
    """Aggregator → box on `ack/-`: say hello (again)."""

    reason: str  # "started", "unknown_log", "who_is_there"


class Untaken(msgspec.Struct, frozen=True):
    """A desired state that a box did not take."""

    id: str  # of the document, "" where it has none
    error: dict[str, Any]  # BrainforgeError.as_dict


class Reported(msgspec.Struct, frozen=True):
    """Box → aggregator on `reported`, JSON: which desired state stands there."""

    node: str
    version: int | None  # its counter; None: there is none
    id: str
    applied_utc_ns: int | None
    left: int | None  # data keys that are not wrapped for its recipients; None: not counted yet
    error: dict[str, Any] | None  # why they are not
    untaken: Untaken | None  # what came last, if it is not what stands


# Waiting: for the clock or the disk. Begun: its counter is taken, it is tried again until it expires.
JobState = Literal["waiting", "begun", "done", "refused"]


class JobStatus(msgspec.Struct, frozen=True):
    """Box → aggregator on `job/{id}/status`, JSON."""

    node: str
    job: str
    state: JobState
    utc_ns: int | None
    error: dict[str, Any] | None = None
    done: str = ""  # the list that the job returns, JSON text, signed where the box has a key


class LiveHeader(msgspec.Struct, frozen=True):
    """Head of a `live` payload; float32 rows (n_samples, n_channels), little-endian, follow.

    A payload is a u16 length, this head as msgpack, then the rows in physical units.
    """

    stream_id: str
    incarnation: int
    seq: int  # of the last row at full rate
    t_last_ns: int  # box clock of the last row
    sent_ns: int
    sfreq: float  # of the rows in this message
    n_samples: int
    n_channels: int


# ---- features of a stream ----------------------------------------------------------------------

Figures = list[float | None]  # one a channel (or pair); None: there is no figure
FEATURES = b"\0\0"  # a `live` payload of features begins so: the head of live rows is never empty


class WindowFigures(msgspec.Struct, frozen=True):
    """Of one window, each list in the order of `Features.channels`."""

    window_s: int
    trouble: list[str]  # "" or why the window has no figures: start, gap, rail, not_finite
    powers: dict[str, Figures]  # band → unit²
    relative: dict[str, Figures]  # band → part of all bands' power
    ratios: dict[str, Figures]
    asymmetry: dict[str, Figures] = {}  # band → ln(right) - ln(left), in the order of `pairs`


class SlowWindow(msgspec.Struct, frozen=True):
    """Of one window, what does not stand in `WindowFigures`: about once a second, after the message of
    its row."""

    window_s: int
    seq: int
    t_last_ns: int
    figures: dict[str, Figures]
    octaves: list[Figures] | None = None  # from the fastest on, unit²


class CouplingFigures(msgspec.Struct, frozen=True):
    """How pairs hang together; measure → band → one figure a pair."""

    t_last_ns: int
    pairs: list[tuple[str, str]]
    n_segments: list[int]
    measures: dict[str, dict[str, Figures]]  # coherence, plv, wpli2


class EyeFlags(msgspec.Struct, frozen=True):
    """What the channels beside the eyes showed in the newest second that was looked at."""

    t_last_ns: int
    blink: list[str]
    movement: list[str]


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of the windows that end with row `seq`. On the wire after `FEATURES`, as msgpack."""

    stream_id: str
    incarnation: int
    seq: int  # of the newest row in the windows
    t_last_ns: int  # box clock of that row
    computed_ns: int
    age_ms: float  # between the two; a window is older still by half of its length
    sfreq: float  # of the rows in the windows
    unit: str
    channels: list[str]
    rate_hz: float  # of these messages now
    shed: list[str]  # what is left out for want of time
    quality: list[str]  # a word for each channel, "" while none was judged
    quality_ns: int | None  # box clock of the last row that was judged
    eyes_removed: bool | None = None  # None: not wanted; False: not fitted yet
    motion_removed: float | None = None  # part of the hop's rows; None: not wanted
    windows: list[WindowFigures]
    pairs: list[tuple[str, str]] = []  # of `asymmetry`
    slow: list[SlowWindow] = []  # those that were computed since the message before
    coupling: CouplingFigures | None = None
    eyes: EyeFlags | None = None


# Learned before there is a second thread, for the reason told in `core/stream.py`.
msgspec.msgpack.Decoder(Features)
