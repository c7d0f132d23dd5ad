"""Makes a device's rings while its link is read on.

The kernel zeroes a helmet's ring of 84 MB first: on a busy or small machine that takes longer than
the second that a device remembers. Runs in: acquire process, pull thread; the rings are made in a
thread `rings_0` that ends before `adopt_and_read` returns.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from brainforge_edge.acquisition.stream import AcquiredStream
from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices.base import Driver

READ_S = 0.02
MOST_BYTES = 64 * 1024 * 1024  # held in this process; what comes then waits in the device

Streams = dict[str, AcquiredStream]
Adopt = Callable[[tuple[StreamInfo, ...]], Streams]


class Adopted(NamedTuple):
    """The streams, and what came before their rings were there."""

    streams: Streams
    held: list[tuple[SampleBlock, str]]  # each with the proof of its run, as it was then
    failure: BrainforgeError | None  # how the link ended after them


def adopt_and_read(adopt: Adopt, infos: tuple[StreamInfo, ...], driver: Driver) -> Adopted:
    """Raises what `adopt` raises; what came meanwhile is lost then, as nothing can hold it."""
    held: list[tuple[SampleBlock, str]] = []
    failure: BrainforgeError | None = None
    n_bytes = 0
    with ThreadPoolExecutor(1, thread_name_prefix="rings") as rings:
        made = rings.submit(adopt, infos)
        while not made.done() and n_bytes < MOST_BYTES:
            try:
                blocks = driver.read(READ_S)
            except BrainforgeError as error:
                failure = error
                break
            held += [(block, driver.proof(block.stream_id)) for block in blocks]
            n_bytes += sum(block.data.nbytes for block in blocks)
        return Adopted(made.result(), held, failure)
