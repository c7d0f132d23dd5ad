"""What the box and the aggregator say to each other over MQTT, beside the chunks themselves.

Payloads are msgpack maps; `docs/mqtt.md` lists them. Nothing that correctness needs sits in an
MQTT 5 property.
"""

from typing import Annotated

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


class Refusal(msgspec.Struct, frozen=True):
    """A chunk the aggregator will not store as it is."""

    segment_id: bytes
    chunk_number: int
    reason: str  # "crc", "malformed", "conflict", "oversize", "unknown_stream", "clone"


class Receipt(msgspec.Struct, frozen=True):
    """Aggregator → box, after its own fsync: these samples are stored.

    `ranges` are merged, and complete for every incarnation that they name. `signature` is empty
    until receipts are signed; an empty one never frees archive data.
    """

    log_id: bytes
    product: int
    stream_id: str
    ranges: tuple[Range, ...]
    refused: tuple[Refusal, ...] = ()
    credits: int = 64  # chunks the box may have in flight
    store_generation: Generation = 0  # +1 when the store was restored: cursors move back
    signature: bytes = b""
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


class Ask(msgspec.Struct, frozen=True, tag=True):
    """Aggregator → box on `ack/-`: say hello (again)."""

    reason: str  # "started", "unknown_log", "who_is_there"


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
