"""UTC for rows that were recorded before the box knew the time. Runs in: whoever reads a recording.

A box without a clock of its own starts with UTC unknown, and its chunks say so. Box time never steps
within a boot, so any later instant of the same boot that is known on both clocks labels them: a segment's
anchors, or the header of a later chunk.
"""

from brainforge_edge.core.stream import Codec
from brainforge_edge.recorder.catalog import RecordingEntry
from brainforge_edge.recorder.reader import read_first
from brainforge_edge.recorder.segment import read_descriptor
from brainforge_edge.storage.files import Disk


class Labels:
    """Instants by boot. Times of a boot without an id cannot be compared: it has none."""

    def __init__(self) -> None:
        self._instants: dict[str, list[tuple[int, int]]] = {}

    @classmethod
    def of(cls, entry: RecordingEntry, disk: Disk) -> "Labels":
        """Those that the segments of all streams of a recording state."""
        labels = cls()
        for path in (path for segments in entry.streams.values() for path in segments):
            first, _ = read_first(path, disk=disk)
            if first is not None and first.head.codec == Codec.DESCRIPTOR:
                for anchor in read_descriptor(first.chunk().body).identity.anchors:
                    labels.add(anchor.boot_id, anchor.monotonic_ns, anchor.utc_ns)
        return labels

    def add(self, boot: str, t_ns: int, utc_ns: int | None) -> None:
        """One instant, if it is known on both clocks."""
        if boot and utc_ns is not None:
            self._instants.setdefault(boot, []).append((t_ns, utc_ns))

    def utc_of(self, boot: str, t_ns: int) -> int | None:
        """UTC by the instant of that boot that is nearest, None without one."""
        known = self._instants.get(boot)
        if not known:
            return None
        at, utc_ns = min(known, key=lambda instant: abs(instant[0] - t_ns))
        return utc_ns + t_ns - at
