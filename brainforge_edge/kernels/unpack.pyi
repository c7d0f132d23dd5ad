from typing import Any, final

# BFP/1 item: type, stream, flags, seq, n_frames, ticks, boot, index, n_samples, n_channels, format,
# status_mode, descriptor. The last six are 0 unless type is DATA (0x01).
_Item = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]

def unpack24(data: Any, out: Any) -> None:
    """Packed 24-bit little-endian bytes into int32 `out`. ValueError when the lengths differ."""

def pack24(values: Any, out: Any) -> None:
    """int32 `values` into packed 24-bit little-endian bytes `out`. ValueError when the lengths differ."""

def unpack24_portable(data: Any, out: Any) -> None:
    """The same without CPU instructions: what a machine without them computes."""

def pack24_portable(values: Any, out: Any) -> None:
    """The same without CPU instructions: what a machine without them computes."""

def crc16(data: Any) -> int:
    """CRC-16/CCITT-FALSE (BFP/1 header check)."""

@final
class BfpScanner:
    """BFP/1 frames out of a byte stream (wire format: `docs/`, section BFP/1).

    Keeps what is not yet a whole frame. What it finds depends on the bytes alone, never on how they
    were split into reads. A frame is taken only with both checks right; else one byte is skipped.
    """

    def __init__(self, max_payload: int = 16384) -> None: ...
    def feed(self, data: Any) -> list[_Item]:
        """Scan more bytes (any contiguous buffer; copied); the whole frames found, in order.

        Consecutive DATA frames of one stream become ONE item when boot id and layout are equal, `seq`
        and `index` go on without a gap, and no later frame has flag b0 (first) or b1 (dropped): seq,
        ticks and index are then the first frame's, flags b3 (saturated) is or-ed, n_samples is the
        sum. So a gap, a new boot, a restart or a changed flag always starts an item.
        Items are addressed by their place in this list until the next feed.
        """

    def read(self, fd: int, wake: int, timeout_s: float) -> int:
        """Read `fd` (non-blocking) without the GIL until a frame is whole, and scan; the bytes read.

        Ends as well when `wake` is readable, after `timeout_s` or 64 KiB. What was found: `items`.
        OSError as the link reports it; EOFError when it reports data but gives none.
        """

    def pace(self, sfreq: float) -> None:
        """The link carries one stream of this rate (Hz) in frames that come evenly: `read` may rest
        until the next one should be whole. 0: it may not, as at first."""

    def items(self) -> list[_Item]:
        """What the last feed or read found."""

    def rows(self, item: int, out: Any) -> None:
        """Samples of a DATA item to `out` (n_samples, n_channels), C order: int16 for format 0x02,
        int32 for 0x03 (i24) and 0x04, float32 for 0x14. ValueError when the size differs."""

    def digital(self, item: int, out: Any) -> None:
        """Trigger words of a DATA item with flag b6 to `out`, uint16 (n_samples,)."""

    def payload(self, item: int) -> bytes:
        """Payload of an item, of its last frame if it has several (status block: from byte 16)."""

    def reset(self) -> None:
        """Forget pending bytes (after the link was opened again); counters stay."""

    @property
    def frames(self) -> int:
        """Frames with both checks right, since creation."""

    @property
    def skipped_bytes(self) -> int:
        """Bytes that belong to no whole frame."""

    @property
    def resyncs(self) -> int:
        """Times that a byte had to be skipped right after a good frame."""

    @property
    def bad_headers(self) -> int:
        """Sync words with a wrong version, length or header CRC (a sync word inside samples counts too)."""

    @property
    def bad_crcs(self) -> int:
        """Good headers with a wrong CRC-32C."""

    @property
    def bad_layouts(self) -> int:
        """Whole DATA frames whose payload does not add up; never delivered."""

    @property
    def pending_bytes(self) -> int:
        """Bytes kept for the next feed."""

@final
class CytonScanner:
    """Cyton packets of 33 bytes out of a byte stream: A0, number, 8 × i24 BE, 6 aux, C0..C6.

    In sync a packet needs a right first and last byte; out of sync (also at the start) also A0 right
    behind it, since a sample byte may look like a first byte. Else one byte is skipped. There is no
    checksum: a changed sample byte cannot be seen.
    """

    def feed(self, data: Any) -> int:
        """Scan more bytes; the number of packets found, to be fetched with `take`."""

    def take(self, samples: Any, rest: Any) -> None:
        """Packets of the last feed: `samples` int32 (n, 8); `rest` uint8 (n, 8): number, end byte, 6 aux."""

    @property
    def packets(self) -> int:
        """Packets since creation."""

    @property
    def skipped_bytes(self) -> int:
        """Bytes that belong to no packet."""

    @property
    def resyncs(self) -> int:
        """Times that a byte had to be skipped right after a packet."""
