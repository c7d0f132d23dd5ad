"""How recovery encodes what a journal left, and what the log says of it: recording waits for it.

Runs in: acquire process, recovery thread.
"""

from brainforge_edge.codec import registry
from brainforge_edge.core import log
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.stream import Codec, StreamInfo
from brainforge_edge.recorder.cut import Encode
from brainforge_edge.recorder.recover import RecoveryReport

_log = log.get()

ENCODE_S = 1.0  # what a crash leaves at 1 kHz takes less; two full journal files take up to 15 s


def encode_within(seconds: float, clock: Clock) -> Encode:
    """As the archive encodes for so long, packed rows as they are from then on: they take twice the
    space, but the two minutes that a journal holds at most are little of a recording."""
    until = clock.monotonic_ns() + round(seconds * 1e9)

    def encode(packed: bytes, info: StreamInfo) -> tuple[Codec, bytes]:
        if clock.monotonic_ns() < until:
            return registry.encode_packed(packed, info)
        return Codec.PACKED, registry.as_packed(packed)

    return encode


def tell(report: RecoveryReport) -> None:
    """What was recovered, and what could not be."""
    if report.rows:
        _log.info("recovered", rows=report.rows, chunks=report.chunks)
    if report.erased:
        _log.warning("journal of erased keys removed", files=[str(path) for path in report.erased])
    if report.holes or report.kept:
        kept = [str(path) for path in report.kept]
        _log.warning("journal damaged", holes=[str(hole) for hole in report.holes], kept=kept)
