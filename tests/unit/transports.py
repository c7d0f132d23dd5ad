"""Five ways in which bytes arrive: whole, byte by byte, split anywhere, with noise inserted, with bytes dropped."""

import random
from collections.abc import Callable, Iterator

Transport = Callable[[bytes, random.Random], Iterator[bytes]]


def whole(data: bytes, _: random.Random) -> Iterator[bytes]:
    yield data


def byte_by_byte(data: bytes, _: random.Random) -> Iterator[bytes]:
    for i in range(len(data)):
        yield data[i : i + 1]


def random_splits(data: bytes, rng: random.Random) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        n = rng.choice((1, 2, 7, 24, 33, 100, 4095))
        yield data[at : at + n]
        at += n


def noise_inserted(data: bytes, rng: random.Random) -> Iterator[bytes]:
    for part in random_splits(data, rng):
        if rng.random() < 0.15:
            yield rng.randbytes(rng.randrange(1, 40))
        yield part


def bytes_dropped(data: bytes, rng: random.Random) -> Iterator[bytes]:
    for part in random_splits(data, rng):
        if rng.random() < 0.15:
            cut = rng.randrange(len(part))
            yield part[:cut] + part[cut + rng.randrange(1, 5) :]
        else:
            yield part


TRANSPORTS: tuple[Transport, ...] = (
    whole,
    byte_by_byte,
    random_splits,
    noise_inserted,
    bytes_dropped,
)
UNHARMED = TRANSPORTS[:3]
