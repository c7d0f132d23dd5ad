"""What can happen to bytes on a disk: bits, ends, sectors, lengths, and parts of chunks in the wrong place. Seeded."""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.recorder.chunk import FOOTER_BYTES, HEADER_BYTES, footer_crc
from tests.faults.bitrot_material import Piece, Target

SECTORS = (512, 4096)
# offset and struct code of what says how long something is, or how many
_LENGTHS = {"header": (6, "H"), "channels": (16, "I"), "rows": (20, "I"), "body": (108, "I"), "extension": (112, "I")}  # fmt: skip
_BODIES = {"rows", "channels"}  # with right CRCs only P can tell that these are wrong


@dataclass(frozen=True)
class Damage:
    """`patches` are (offset, bytes) to be written over; `length`: where the file ends after that."""

    kind: str
    patches: tuple[tuple[int, bytes], ...] = ()
    length: int | None = None
    is_sealed: bool = False  # C was made right again: the chunk lies, only P can tell

    def of(self, data: bytes) -> bytes:
        """The damaged file."""
        changed = bytearray(data)
        for at, new in self.patches:
            changed[at : at + len(new)] = new
        return bytes(changed[: self.length])


def bit(data: bytes, n: int, kind: str = "bit") -> Damage:
    """Bit `n` of a file flipped."""
    return Damage(kind, ((n // 8, bytes([data[n // 8] ^ 1 << n % 8])),))


def sector(
    target: Target, other: bytes, at: int, size: int, rng: random.Random
) -> Iterator[Damage]:
    """Every kind of wrong sector at offset `at`; `other` are the bytes of another file."""
    data = target.data
    yield Damage(f"sector {size} zeroed", ((at, bytes(len(data[at : at + size]))),))
    ends = len(data) - size
    far = rng.randrange(0, ends // size) * size
    near = at + size if at + 2 * size <= len(data) else at - size
    for second in {far, near} - {at}:
        patches = ((at, data[second : second + size]), (second, data[at : at + size]))
        yield Damage(f"sector {size} swapped", patches)
    hit = target.pieces[target.at(at)]
    piece = rng.choice(target.pieces)
    stale = min(max(0, piece.offset + at - hit.offset), ends)
    yield Damage(f"sector {size} stale", ((at, data[stale : stale + size]),))
    yield Damage(f"sector {size} misdirected", ((at, other[at % len(other) :][:size]),))
    moved = rng.randrange(0, ends)
    yield Damage(f"sector {size} misdirected", ((at, data[moved : moved + size]),))


def lengths(piece: Piece) -> Iterator[Damage]:
    """Everything that says how long a chunk is, with all kinds of values: CRCs wrong, H right, both right."""
    for name, (at, code) in _LENGTHS.items():
        value = struct.unpack_from("<" + code, piece.data, at)[0]
        top = 8 * struct.calcsize(code)
        values = {value ^ 1 << n for n in range(top)}
        values |= {0, 1, value - 1, value + 1, 2 * value, 2**20, 2**20 + 1, 2**(top - 1) - 1, 2**top - 1}  # fmt: skip
        for changed in sorted(v for v in values if 0 <= v < 2**top and v != value):
            patch = struct.pack("<" + code, changed)
            yield Damage(f"length of {name}", ((piece.offset + at, patch),))
            head = bytearray(piece.data[: HEADER_BYTES - 4])
            head[at : at + len(patch)] = patch
            crc = struct.pack("<I", crc32c(head))
            patches = ((piece.offset, bytes(head) + crc),)
            yield Damage(f"length of {name}, H right", patches)
            if name in _BODIES and piece.has_rows:
                yield sealed(piece, bytes(head) + crc + piece.data[HEADER_BYTES:-FOOTER_BYTES], f"{name}, CRCs right")  # fmt: skip


def sealed(piece: Piece, data: bytes, kind: str) -> Damage:
    """`data` (a chunk without its C) in the place of `piece`, with a C that is right."""
    header_crc = data[HEADER_BYTES - 4 : HEADER_BYTES]
    footer = struct.pack("<I", footer_crc(header_crc, data[HEADER_BYTES:]))
    return Damage(kind, ((piece.offset, data + footer),), is_sealed=True)


def samples(piece: Piece, rng: random.Random) -> Damage:
    """A bit of the body flipped before C was made, as by a bad RAM."""
    data = bytearray(piece.data[:-FOOTER_BYTES])
    at = rng.randrange(8 * (HEADER_BYTES + piece.head.extension_bytes), 8 * len(data))
    data[at // 8] ^= 1 << at % 8
    return sealed(piece, bytes(data), "body before C")


def transplants(target: Target) -> Iterator[Damage]:
    """Header, body or end of a chunk, whole in itself, at that of another with the same length."""
    chunks = [piece for piece in target.pieces if piece.has_rows]
    for one in chunks:
        for two in chunks:
            same = one.head.body_bytes, one.head.extension_bytes
            if one is two or same != (two.head.body_bytes, two.head.extension_bytes):
                continue
            size = len(one.data)
            for first, end in (
                (0, HEADER_BYTES), (HEADER_BYTES, size - FOOTER_BYTES), (0, size - FOOTER_BYTES),
                (HEADER_BYTES, size), (0, HEADER_BYTES - 4), (HEADER_BYTES - 4, size),
            ):  # fmt: skip
                if one.data[first:end] == two.data[first:end]:
                    continue
                yield Damage("part of another chunk", ((one.offset + first, two.data[first:end]),))
                if one.number < two.number:
                    yield Damage(
                        "parts swapped",
                        (
                            (one.offset + first, two.data[first:end]),
                            (two.offset + first, one.data[first:end]),
                        ),
                    )
