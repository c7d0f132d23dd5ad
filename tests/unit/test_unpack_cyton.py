"""The Cyton scanner and 24-bit rows against plain Python."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainforge_edge.kernels.crc import crc32c, crc32c_portable
from brainforge_edge.kernels.unpack import (
    CytonScanner,
    pack24,
    pack24_portable,
    unpack24,
    unpack24_portable,
)
from tests.unit.transports import TRANSPORTS, UNHARMED, Transport

Packet = tuple[int, list[int], int, bytes]


def made(rng: random.Random, n: int) -> list[Packet]:
    packets = []
    for k in range(n):
        values = [rng.randrange(-(2**23), 2**23) for _ in range(8)]
        if rng.random() < 0.2:
            values[rng.randrange(8)] = -0x5F5F60  # bytes A0 A0 A0
        aux = rng.choice((bytes(6), rng.randbytes(6), b"\xa0\xc0\xa0\xc0\xa0\xc0"))
        packets.append((k % 256, values, rng.randrange(0xC0, 0xC7), aux))
    return packets


def build(packet: Packet) -> bytes:
    number, values, end, aux = packet
    samples = b"".join(v.to_bytes(3, "big", signed=True) for v in values)
    return bytes([0xA0, number]) + samples + aux + bytes([end])


def parse(stream: bytes) -> tuple[list[Packet], int, int]:
    packets: list[Packet] = []
    at = skipped = resyncs = 0
    in_sync = False
    while len(stream) - at >= (33 if in_sync else 34):
        p = stream[at : at + 34]
        if p[0] == 0xA0 and 0xC0 <= p[32] <= 0xC6 and (in_sync or p[33] == 0xA0):
            values = [int.from_bytes(p[i : i + 3], "big", signed=True) for i in range(2, 26, 3)]
            packets.append((p[1], values, p[32], p[26:32]))
            in_sync = True
            at += 33
        else:
            resyncs += in_sync
            in_sync = False
            skipped += 1
            at += 1
    return packets, skipped, resyncs


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda t: t.__name__)
def test_the_scanner_finds_what_the_plain_parser_finds(transport: Transport, seed: int) -> None:
    rng = random.Random(seed)
    packets = made(rng, 120)
    parts = list(transport(b"".join(map(build, packets)), rng))
    scanner = CytonScanner()
    found: list[Packet] = []
    for part in parts:
        n = scanner.feed(part)
        samples, rest = np.empty((n, 8), np.int32), np.empty((n, 8), np.uint8)
        scanner.take(samples, rest)
        for values, r in zip(samples.tolist(), rest, strict=True):
            found.append((int(r[0]), values, int(r[1]), r[2:].tobytes()))
    assert (found, scanner.skipped_bytes, scanner.resyncs) == parse(b"".join(parts))
    assert scanner.packets == len(found)
    if transport in UNHARMED:
        assert found == packets
        assert scanner.resyncs == 0


def test_after_noise_a_packet_needs_the_next_one_behind_it() -> None:
    good = [build(p) for p in made(random.Random(1), 3)]
    false = b"\xa0" + bytes(31) + b"\xc0"
    scanner = CytonScanner()
    assert scanner.feed(b"\x01" + false + b"\x02" + good[0]) == 0
    assert scanner.feed(good[1]) == 2
    assert scanner.skipped_bytes == 35


def test_take_needs_arrays_for_exactly_the_packets_found() -> None:
    scanner = CytonScanner()
    scanner.feed(b"".join(map(build, made(random.Random(1), 2))))
    with pytest.raises(ValueError, match="n_packets"):
        scanner.take(np.empty((3, 8), np.int32), np.empty((3, 8), np.uint8))


@given(st.lists(st.integers(-(2**23), 2**23 - 1), max_size=70))
def test_24_bit_rows_survive_packing_with_and_without_cpu_instructions(values: list[int]) -> None:
    x = np.array(values, np.int32)
    plain = b"".join(v.to_bytes(3, "little", signed=True) for v in values)
    for pack, unpack in ((pack24, unpack24), (pack24_portable, unpack24_portable)):
        guarded = np.full(3 * len(x) + 16, 0xEE, np.uint8)
        pack(x, guarded[: 3 * len(x)])
        assert guarded[: 3 * len(x)].tobytes() == plain
        assert (guarded[3 * len(x) :] == 0xEE).all()
        out = np.full(len(x) + 8, -7, np.int32)
        unpack(np.frombuffer(plain, np.uint8), out[: len(x)])
        assert out[: len(x)].tolist() == values
        assert (out[len(x) :] == -7).all()


@pytest.mark.parametrize("n", [0, 1, 7, 8, 33, 767, 768, 769, 6143, 6144, 7443, 20000])
def test_crc32c_is_the_same_with_and_without_cpu_instructions(n: int) -> None:
    data = random.Random(n).randbytes(n)
    assert crc32c(data) == crc32c_portable(data)
    assert crc32c(data[n // 3 :], crc32c(data[: n // 3])) == crc32c(data)
    assert crc32c(b"123456789") == 0xE3069283
