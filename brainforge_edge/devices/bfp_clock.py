"""TIME round trips of a BFP/1 device: when to ask, and what came back. No I/O, no clock of its own.

Runs in: acquire process, pull thread.
"""

from typing import NamedTuple

from brainforge_edge.devices.bfp import TIME_REPLY, TIME_REQUEST, FrameType, build_frame

EVERY_NS = 983_900_000  # odd on purpose: no rhythm of the device or the box hides behind it
MOST_NS = 1_000_000_000  # an answer that took longer tells nothing


class RoundTrip(NamedTuple):
    """Sorts by duration: the quickest is the best."""

    rtt_ns: int
    ticks: int  # the device's clock in its middle
    host_ns: int  # the box's clock in its middle
    boot: int


class Probes:
    """Asks each 0.98 s; `seen` holds what came since `seen` was cleared last."""

    def __init__(self) -> None:
        self.seen: list[RoundTrip] = []
        self.due_ns = 0  # when to ask again

    def ask(self, now_ns: int) -> bytes:
        """The question that is due."""
        self.due_ns = now_ns + EVERY_NS
        return self.question(now_ns)

    @staticmethod
    def question(now_ns: int) -> bytes:
        return build_frame(FrameType.TIME, TIME_REQUEST.pack(now_ns))

    def answer(self, payload: bytes, boot: int, now_ns: int) -> RoundTrip | None:
        """None for what is no answer of ours."""
        if len(payload) != TIME_REPLY.size:
            return None
        sent, arrived, left = TIME_REPLY.unpack(payload)
        rtt_ns = now_ns - sent
        if not 0 <= rtt_ns <= MOST_NS or left < arrived:
            return None
        trip = RoundTrip(rtt_ns, (arrived + left) // 2, (sent + now_ns) // 2, boot)
        self.seen.append(trip)
        del self.seen[:-16]
        return trip
