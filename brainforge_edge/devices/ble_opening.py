"""The first half second of a connection, held so that the first label is a good one. No I/O, no clock.

A label starts from the arrival it has, and moves by at most 0.5 ms a second (docs/clock.md): a first
packet that is 30 ms late would be felt for a minute. So the first packets wait; a decoder that is
thrown away finds the least late of each stream, and the true one starts from there.
Runs in: acquire process, pull thread.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.gatt import Packet
from brainforge_edge.devices.rows import Rows

HOLD_NS = 500_000_000


class PacketDecoder(Protocol):
    """Notifications to blocks."""

    @property
    def rows(self) -> list[Rows]: ...

    def feed(self, packet: Packet) -> list[SampleBlock]: ...
    def restart(self) -> None: ...


class Opening:
    """`decoder` reads what comes; `make` makes another one like it."""

    def __init__(
        self,
        decoder: PacketDecoder,
        make: Callable[[LinkCounters], PacketDecoder],
        *,
        hold_ns: int = HOLD_NS,
    ) -> None:
        self._decoder = decoder
        self._hold_ns = hold_ns
        self._make = make
        self._held: list[Packet] = []
        self._is_holding = True

    def restart(self) -> None:
        """The device is told to start anew: so does the decoder, with what comes from now on."""
        self._decoder.restart()
        self._is_holding = True

    def feed(self, packets: Sequence[Packet], now_ns: int) -> list[SampleBlock]:
        """Blocks that are complete; `packets` may be empty."""
        blocks: list[SampleBlock] = []
        for packet in packets:
            if not self._is_holding:
                blocks += self._decoder.feed(packet)
                continue
            self._held.append(packet)
            if packet.arrived_ns - self._held[0].arrived_ns >= self._hold_ns:
                blocks += self._release()
        if self._held and now_ns - self._held[0].arrived_ns >= 2 * self._hold_ns:
            blocks += self._release()  # nothing follows: what came is not kept any longer
        return blocks

    def _release(self) -> list[SampleBlock]:
        held, self._held = self._held, []
        self._is_holding = False
        scratch = self._make(LinkCounters())
        for packet in held:
            scratch.feed(packet)
        for rows, tried in zip(self._decoder.rows, scratch.rows, strict=True):
            rows.start_from(tried.quickest)
        return [block for packet in held for block in self._decoder.feed(packet)]
