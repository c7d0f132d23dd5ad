"""BFP/1 in plain Python, from the table in the protocol page: the oracle that the kernel is held against."""

import struct
from typing import NamedTuple

from brainforge_edge.kernels.crc import crc32c_portable

HEAD = struct.Struct("<2sBBHBBIQH")


class Frame(NamedTuple):
    type: int
    stream: int
    flags: int
    seq: int
    ticks: int
    boot: int
    payload: bytes


class Counters(NamedTuple):
    frames: int
    skipped_bytes: int
    resyncs: int
    bad_headers: int
    bad_crcs: int


def crc16(data: bytes) -> int:
    value = 0xFFFF
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x1021 if value & 0x8000 else value << 1) & 0xFFFF
    return value


def build(frame: Frame) -> bytes:
    head = HEAD.pack(
        b"\xbf\x5a",
        1,
        frame.type,
        len(frame.payload),
        frame.stream,
        frame.flags,
        frame.seq,
        frame.ticks,
        frame.boot,
    )
    body = head + struct.pack("<H", crc16(head)) + frame.payload
    return body + struct.pack("<I", crc32c_portable(body))


def data_payload(
    index: int,
    rows: list[list[int]],
    *,
    status: bytes = b"",
    status_mode: int = 0,
    digital: list[int] | None = None,
    descriptor: int = 0,
) -> bytes:
    """Payload of a DATA frame in format i24."""
    head = struct.pack("<QHHBBH", index, len(rows), len(rows[0]), 3, status_mode, descriptor)
    words = b"".join(struct.pack("<H", word) for word in digital or [])
    samples = b"".join(v.to_bytes(3, "little", signed=True) for row in rows for v in row)
    return head + status + words + samples


def parse(stream: bytes, *, max_payload: int = 16384) -> tuple[list[Frame], Counters]:
    """All frames in a whole byte stream, by the parser rule."""
    frames: list[Frame] = []
    at = skipped = resyncs = bad_headers = bad_crcs = 0
    in_sync = False
    while at < len(stream):
        found = None
        head = stream[at : at + 24]
        if head[:2] == b"\xbf\x5a"[: len(head)]:
            if len(head) < 24:
                break
            _, version, kind, length, number, flags, seq, ticks, boot = HEAD.unpack(head[:22])
            check = int.from_bytes(head[22:24], "little")
            if version != 1 or length > max_payload or check != crc16(head[:22]):
                bad_headers += 1
            else:
                end = at + 24 + length + 4
                if end > len(stream):
                    break
                if crc32c_portable(stream[at : end - 4]) == int.from_bytes(
                    stream[end - 4 : end], "little"
                ):
                    payload = stream[at + 24 : end - 4]
                    found = Frame(kind, number, flags, seq, ticks, boot, payload)
                else:
                    bad_crcs += 1
        if found:
            frames.append(found)
            in_sync = True
            at += 24 + len(found.payload) + 4
        else:
            skipped += 1
            resyncs += in_sync
            in_sync = False
            at += 1
    return frames, Counters(len(frames), skipped, resyncs, bad_headers, bad_crcs)
