"""The ring file's header. Runs in: any process that makes or maps a ring.

```
   0  8s   magic "BFRING1\\0"          24  u32  stride: bytes from row to row, a multiple of 64
   8  u32  version                     28  u32  n_channels
  12  u32  offset of row 0             32  u32  dtype (core.stream.Dtype)
  16  u64  capacity in rows, 2^k       36  u32  length of the StreamInfo that lies at 4096, msgpack
 512 + 128·k   cursor k as u64, futex counter as u32 behind it: reserve, head, written, durable,
               recording_row (2^64-1 = none), epoch
```
A row: samples in their memory type from byte 0, 40 bytes of metadata at the end of the stride:
seq u64, t_ns i64, incarnation u32, flags u16, gap basis u8, gap cause u8, gap n u64, plus_minus u64.
"""

import os
import struct
from typing import Final, NamedTuple

import msgspec

from brainforge_edge.core.block import BLOCK_FLAGS, GAP_BASES, GAP_CAUSES, BlockFlag, Gap
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.core.stream import Dtype, StreamInfo
from brainforge_edge.kernels.ring import DURABLE, EPOCH, HEAD, META_BYTES, WRITTEN, Ring

MAGIC: Final = b"BFRING1\0"
VERSION: Final = 1
INFO_OFFSET: Final = 4096
NO_ROW: Final = 2**64 - 1
MIN_CAPACITY: Final = 256
_HEADER = struct.Struct("<8sIIQIIII")
_KINDS: Final = {Dtype.I16: "h", Dtype.I24: "i", Dtype.I32: "i", Dtype.F32: "f", Dtype.F64: "d"}
_WIDTHS: Final = {"h": 2, "i": 4, "f": 4, "d": 8}


class Run(NamedTuple):
    """Rows of one incarnation with consecutive seq and no gap inside."""

    row: int  # position in the ring of the first row
    n: int
    incarnation: int
    seq: int
    t_first_ns: int
    flags: BlockFlag  # all that occur in the run; GAP_BEFORE and FIRST are the first row's
    gap: Gap | None


class Layout(NamedTuple):
    """Where things lie in a ring file."""

    info: StreamInfo
    data_offset: int
    capacity: int
    stride: int

    @property
    def file_bytes(self) -> int:
        return self.data_offset + self.capacity * self.stride

    def header(self) -> bytes:
        """The file's bytes up to row 0, cursors zero."""
        packed = msgspec.msgpack.encode(self.info)
        head = _HEADER.pack(
            MAGIC,
            VERSION,
            self.data_offset,
            self.capacity,
            self.stride,
            self.info.n_channels,
            self.info.dtype,
            len(packed),
        )
        return head.ljust(INFO_OFFSET, b"\0") + packed

    def map(self, fd: int, *, writable: bool) -> Ring:
        return Ring(
            fd,
            length=self.file_bytes,
            data_offset=self.data_offset,
            capacity=self.capacity,
            stride=self.stride,
            n_channels=self.info.n_channels,
            kind=_KINDS[self.info.dtype],
            packs_24bit=self.info.dtype is Dtype.I24,
            period_ns=1e9 / self.info.sfreq,
            writable=writable,
        )


class Cursors:
    """Where a mapped ring stands, for its writer and its readers: rows since it was created."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    @property
    def head(self) -> int:
        return self._ring.cursor(HEAD)

    @property
    def written(self) -> int:
        return self._ring.cursor(WRITTEN)

    @property
    def durable(self) -> int:
        return self._ring.cursor(DURABLE)

    @property
    def epoch(self) -> int:
        """+1 at each writer that attaches."""
        return self._ring.cursor(EPOCH)


def plan(info: StreamInfo, *, seconds: float) -> Layout:
    """Layout for at least `seconds` of a stream; capacity is the next power of two."""
    rows = max(MIN_CAPACITY, int(info.sfreq * seconds))
    packed = len(msgspec.msgpack.encode(info))
    row_bytes = info.n_channels * _WIDTHS[_KINDS[info.dtype]] + META_BYTES
    return Layout(
        info=info,
        data_offset=INFO_OFFSET + -(-packed // 4096) * 4096,
        capacity=1 << (rows - 1).bit_length(),
        stride=-(-row_bytes // 64) * 64,
    )


def parse(fd: int) -> Layout | None:
    """The layout of an open file; None when it is no ring of this version, or shorter than it says."""
    head = os.pread(fd, _HEADER.size, 0)
    if len(head) < _HEADER.size:
        return None
    magic, version, data_offset, capacity, stride, _, _, length = _HEADER.unpack(head)
    if magic != MAGIC or version != VERSION:
        return None
    try:
        info = msgspec.msgpack.decode(os.pread(fd, length, INFO_OFFSET), type=StreamInfo)
    except GARBLED:
        return None
    layout = Layout(info=info, data_offset=data_offset, capacity=capacity, stride=stride)
    return layout if os.fstat(fd).st_size >= layout.file_bytes else None


def named_runs(
    found: list[tuple[int, int, int, int, int, int, int, int, int, int]],
) -> list[Run]:
    """The kernel's tuples with names and types."""
    runs = []
    for row, n, incarnation, seq, t_first_ns, flags, basis, cause, gap_n, plus_minus in found:
        gap = None
        if basis:
            gap = Gap(gap_n, plus_minus, GAP_BASES[basis], GAP_CAUSES[cause])
        named = BLOCK_FLAGS[flags] if flags < len(BLOCK_FLAGS) else BlockFlag(flags)
        runs.append(Run(row, n, incarnation, seq, t_first_ns, named, gap))
    return runs
