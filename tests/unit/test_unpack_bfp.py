"""The BFP/1 scanner against a parser in plain Python, over five transports."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from brainforge_edge.kernels.unpack import BfpScanner, crc16
from tests.unit import bfp_oracle
from tests.unit.bfp_oracle import Counters, Frame
from tests.unit.transports import TRANSPORTS, UNHARMED, Transport

DATA, STATUS, EVENT = 1, 2, 3


def made(rng: random.Random, n: int) -> list[Frame]:
    """Frames of two data streams with control frames between, some samples full of sync words."""
    frames = []
    seq = {0: 0, 1: 0, 2: 0}
    index = {1: 0, 2: 1000}
    for k in range(n):
        stream = rng.choice((1, 1, 1, 2, 0))
        flags = rng.choice((0, 0, 0, 8, 2, 1))
        if stream == 0:
            payload = rng.randbytes(rng.randrange(30))
            frames.append(Frame(rng.choice((STATUS, EVENT)), 0, 0, seq[0], k, 7, payload))
        else:
            n_rows = rng.randrange(1, 4)
            rows = [[rng.randrange(-(2**23), 2**23) for _ in range(5)] for _ in range(n_rows)]
            if rng.random() < 0.3:
                rows[0][:2] = [0x015ABF, -1]
            if rng.random() < 0.2:
                index[stream] += rng.randrange(1, 9)
            digital = [rng.randrange(65536) for _ in rows] if stream == 2 else None
            payload = bfp_oracle.data_payload(
                index[stream],
                rows,
                status=b"\x01" if stream == 1 else b"",
                status_mode=int(stream == 1),
                digital=digital,
                descriptor=0xABCD,
            )
            flags |= 0x40 if digital else 0
            frames.append(Frame(DATA, stream, flags, seq[stream], k * 80_000, 7, payload))
            index[stream] += n_rows
        seq[stream] += 1
    return frames


def scanned(parts: list[bytes]) -> tuple[list[Any], Counters]:
    """What the kernel finds, in a form that does not depend on how DATA frames were joined."""
    scanner = BfpScanner()
    found: list[Any] = []
    for part in parts:
        for place, item in enumerate(scanner.feed(part)):
            found.extend(exploded(scanner, place, item))
    counters = Counters(
        scanner.frames,
        scanner.skipped_bytes,
        scanner.resyncs,
        scanner.bad_headers,
        scanner.bad_crcs,
    )
    return found, counters


def exploded(scanner: BfpScanner, place: int, item: Any) -> list[Any]:
    kind, stream, flags, seq, _, _, boot, index, n_rows, n_channels, _, _, descriptor = item
    if kind != DATA:
        return [(kind, stream, seq, boot, scanner.payload(place))]
    rows = np.empty((n_rows, n_channels), np.int32)
    scanner.rows(place, rows)
    words: NDArray[Any] = np.zeros(n_rows, np.uint16)
    if flags & 0x40:
        scanner.digital(place, words)
    return [
        (stream, boot, descriptor, index + i, rows[i].tolist(), int(words[i]))
        for i in range(n_rows)
    ]


def expected(frames: list[Frame]) -> list[Any]:
    out: list[Any] = []
    for frame in frames:
        if frame.type != DATA:
            out.append((frame.type, frame.stream, frame.seq, frame.boot, frame.payload))
            continue
        data = frame.payload
        index = int.from_bytes(data[:8], "little")
        n_rows, n_channels = data[8], data[10]
        at = 16 + (data[13] == 1)
        words = [0] * n_rows
        if frame.flags & 0x40:
            words = list(np.frombuffer(data, "<u2", n_rows, at))
            at += 2 * n_rows
        values = [
            int.from_bytes(data[i : i + 3], "little", signed=True) for i in range(at, len(data), 3)
        ]
        for i in range(n_rows):
            row = values[i * n_channels : (i + 1) * n_channels]
            out.append((frame.stream, frame.boot, 0xABCD, index + i, row, int(words[i])))
    return out


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda t: t.__name__)
def test_the_kernel_finds_what_the_plain_parser_finds(transport: Transport, seed: int) -> None:
    rng = random.Random(seed)
    frames = made(rng, 60)
    parts = list(transport(b"".join(map(bfp_oracle.build, frames)), rng))
    reference, counters = bfp_oracle.parse(b"".join(parts))
    found, counted = scanned(parts)
    assert found == expected(reference)
    assert counted == counters
    if transport in UNHARMED:
        assert reference == frames
        assert counters == Counters(60, 0, 0, 0, 0)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2**32), st.integers(0, 80))
def test_any_damage_is_skipped_alike_and_never_delivered(noise: bytes, seed: int, at: int) -> None:
    rng = random.Random(seed)
    frames = made(rng, 6)
    stream = bytearray(b"".join(map(bfp_oracle.build, frames)))
    for _ in range(3):
        stream[rng.randrange(len(stream))] ^= 1 << rng.randrange(8)
    stream[at:at] = noise + b"\xbf\x5a\x01"
    found, counters = scanned([bytes(stream)])
    reference, counted = bfp_oracle.parse(bytes(stream))
    assert found == expected(reference)
    assert counters == counted
    assert all(frame in frames for frame in reference)


def test_data_frames_that_go_on_are_one_item_and_a_gap_or_flag_starts_another() -> None:
    def frame(seq: int, index: int, *, flags: int = 0, boot: int = 7) -> bytes:
        payload = bfp_oracle.data_payload(index, [[index, -index], [index + 1, 5]])
        return bfp_oracle.build(Frame(DATA, 1, flags, seq, index * 10, boot, payload))

    stream = b"".join([
        frame(0, 0, flags=1), frame(1, 2), frame(2, 4, flags=8),
        frame(4, 8), frame(5, 10),  # a lost frame
        frame(6, 14, flags=2),  # dropped by the device
        frame(7, 16), frame(8, 18, flags=4), frame(9, 20, flags=4, boot=8),
    ])  # fmt: skip
    scanner = BfpScanner()
    items = scanner.feed(stream)
    assert [(i[2], i[3], i[4], i[5], i[7], i[8]) for i in items] == [
        (9, 0, 3, 0, 0, 6),
        (0, 4, 2, 80, 8, 4),
        (2, 6, 2, 140, 14, 4),
        (4, 8, 1, 180, 18, 2),
        (4, 9, 1, 200, 20, 2),
    ]
    rows = np.empty((6, 2), np.int32)
    scanner.rows(0, rows)
    assert rows.tolist() == [[0, 0], [1, 5], [2, -2], [3, 5], [4, -4], [5, 5]]


@pytest.mark.parametrize(("code", "dtype"), [(2, "<i2"), (4, "<i4"), (0x14, "<f4")])
def test_other_sample_formats_come_out_in_their_type(code: int, dtype: str) -> None:
    data = np.array([[1, -2, 3], [4, 5, -6]], dtype)
    payload = bfp_oracle.data_payload(5, [[0, 0, 0]] * 2)[:16]
    payload = payload[:12] + bytes([code]) + payload[13:] + data.tobytes()
    scanner = BfpScanner()
    (item,) = scanner.feed(bfp_oracle.build(Frame(DATA, 1, 0, 0, 0, 7, payload)))
    out = np.empty((2, 3), dtype)
    scanner.rows(0, out)
    assert item[10] == code
    assert np.array_equal(out, data)


@pytest.mark.parametrize("change", [(8, 3), (10, 9), (12, 9), (13, 3), (13, 1), (8, 0)])
def test_a_whole_frame_whose_payload_does_not_add_up_is_counted_not_delivered(
    change: tuple[int, int],
) -> None:
    payload = bytearray(bfp_oracle.data_payload(0, [[1, 2, 3]] * 2))
    payload[change[0]] = change[1]
    scanner = BfpScanner()
    assert scanner.feed(bfp_oracle.build(Frame(DATA, 1, 0, 0, 0, 7, bytes(payload)))) == []
    assert (scanner.frames, scanner.bad_layouts) == (1, 1)


def test_out_of_the_wrong_size_and_items_that_do_not_exist_are_refused() -> None:
    scanner = BfpScanner()
    payload = bfp_oracle.data_payload(0, [[1, 2, 3]] * 2)
    assert len(scanner.feed(bfp_oracle.build(Frame(DATA, 1, 0, 0, 0, 7, payload)))) == 1
    with pytest.raises(ValueError, match="exactly the item's rows"):
        scanner.rows(0, np.empty((2, 2), np.int32))
    with pytest.raises(ValueError, match="no digital words"):
        scanner.digital(0, np.empty(2, np.uint16))
    with pytest.raises(IndexError):
        scanner.rows(1, np.empty((2, 3), np.int32))
    assert scanner.feed(b"") == []
    with pytest.raises(IndexError):
        scanner.payload(0)


def test_reset_forgets_the_rest_of_a_cut_frame() -> None:
    frame = bfp_oracle.build(Frame(STATUS, 0, 0, 0, 0, 7, b"abc"))
    scanner = BfpScanner()
    scanner.feed(frame[:-1])
    assert scanner.pending_bytes == len(frame) - 1
    scanner.reset()
    assert len(scanner.feed(frame)) == 1
    assert scanner.skipped_bytes == 0


def test_crc16_has_the_published_check_value() -> None:
    assert crc16(b"123456789") == 0x29B1
    assert crc16(b"") == 0xFFFF
