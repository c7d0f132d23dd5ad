"""Mutations from a seed, for machines without atheris. Pure."""

import random
from collections.abc import Iterator

_NUMBERS = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)
_WIDTHS = (1, 2, 4, 8)


def mutated(seeds: list[bytes], *, seed: int, n: int, max_bytes: int) -> Iterator[bytes]:
    """`n` inputs: the seeds themselves, then ones with one to eight changes each."""
    rng = random.Random(seed)
    yield from seeds[:n]
    for _ in range(n - len(seeds)):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 2, 3, 8))):
            _change(data, seeds, rng)
        yield bytes(data[:max_bytes])


def _change(data: bytearray, seeds: list[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    n = rng.choice((1, 2, 3, 4, 8, 20, 64))
    match rng.randrange(8):
        case 0 if data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        case 1 if data:
            data[at % len(data)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        case 2:
            del data[at : at + n]
        case 3:
            data[at:at] = rng.randbytes(n)
        case 4:
            data[at:at] = data[at : at + n]
        case 5:
            other = rng.choice(seeds)
            start = rng.randrange(len(other) + 1)
            data[at : at + n] = other[start : start + n]
        case 6:
            width = rng.choice(_WIDTHS)
            number = rng.choice(_NUMBERS) + rng.choice((-1, 0, 0, 1)) & (1 << 8 * width) - 1
            data[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
        case _:
            del data[at:]
