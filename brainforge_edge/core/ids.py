"""Identifiers: ULIDs for things that are ordered by time, names for things that people type."""

import re
from collections.abc import Callable

from brainforge_edge.core.errors import ConfigError

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")


def ulid(time_ms: int, random: Callable[[int], bytes]) -> str:
    """26 characters, Crockford base 32: 48 bits of time, 80 random bits (the ULID specification)."""
    value = (time_ms & (2**48 - 1)) << 80 | int.from_bytes(random(10), "big")
    return "".join(_CROCKFORD[(value >> shift) & 31] for shift in range(125, -5, -5))


def is_name(text: str) -> bool:
    """Whether it may stand in topics and paths."""
    return _NAME.fullmatch(text) is not None


def checked_name(name: str, what: str) -> str:
    """`name` if it may stand in topics and paths, else ConfigError."""
    if not is_name(name):
        raise ConfigError(
            "bad_name",
            f"{what} {name!r} is not usable",
            why="names stand in topics and paths: 1 to 64 of a-z, 0-9 and -, no - at the ends",
            remedy="Choose another name",
        )
    return name
