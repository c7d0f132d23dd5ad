"""Words of a box when it comes and goes. Runs in: uplink process, pump thread. No I/O."""

from collections.abc import Callable

import msgspec

from brainforge_edge.core import wire


def greeting(
    hello: wire.Hello,
    streams: tuple[wire.StreamInventory, ...],
    token: str,
    *,
    fits: Callable[[int], bool],
) -> bytes:
    """The payload, without ranges if it would be too long: they are for people, names and numbers for the aggregator."""
    hello = msgspec.structs.replace(hello, streams=streams, token=token)
    payload = msgspec.msgpack.encode(hello)
    if fits(len(payload)):
        return payload
    streams = tuple(msgspec.structs.replace(stream, ranges=()) for stream in streams)
    return msgspec.msgpack.encode(msgspec.structs.replace(hello, streams=streams))


def parting(hello: wire.Hello) -> bytes:
    """A goodbye, and the Will of the same connection."""
    return msgspec.msgpack.encode(msgspec.structs.replace(hello, leaving=True))
