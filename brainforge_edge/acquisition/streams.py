"""The rings of one device: made when it announces its streams, found again after a restart.

Runs in: acquire process; `adopt` in the pull thread, the rest in main before that thread starts.
"""

from collections.abc import Callable
from pathlib import Path

from brainforge_edge.acquisition.continuity import Continuity
from brainforge_edge.acquisition.stream import AcquiredStream
from brainforge_edge.core import log
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.rings.reader import RingReader
from brainforge_edge.rings.ring import SampleRing

_log = log.get()

RING_S = 72.0  # 63 s beside the ring's own guard


class Streams:
    """`all`: stream_id → stream. Replaced as a whole, so that readers need no lock."""

    def __init__(
        self, device: str, *, rings: Path, log: RecordingLog, ring_s: float = RING_S
    ) -> None:
        self._device = device
        self._ring_s = ring_s
        self._folder = rings
        self._log = log
        self.all: dict[str, AcquiredStream] = {}

    def attach_left(self, *, is_resumed: bool) -> None:
        """Find the rings that an earlier process of this device left.

        Rows in (written, head] are journalled when its recording is resumed; when none is, nothing
        is open any more and `written` follows `head`.
        """
        for path in sorted(self._folder.glob(f"{self._device}-*.ring")):
            try:
                info = RingReader(path).info
            except StorageError as error:
                # Whose it is cannot be known. If it is of a stream of this device, `_open` replaces it.
                _log.warning("ring left alone", **error.as_dict())
                continue
            if info.device == self._device:
                stream = self._open(info)
                if not is_resumed:
                    stream.ring.recording_row = None
                    stream.ring.set_written(stream.ring.head)
                self.all = {**self.all, info.stream_id: stream}

    def adopt(
        self,
        infos: tuple[StreamInfo, ...],
        *,
        layout_changes: Callable[[], None],
        is_recorded: Callable[[], bool],
    ) -> dict[str, AcquiredStream]:
        """Streams for what the device announces; a changed layout gets new rings.

        With `is_recorded` a new ring's rows belong to a recording from the first one on, also those
        that come before its journal is there.
        """
        known = {stream_id: stream.info for stream_id, stream in self.all.items()}
        wanted = {info.stream_id: info for info in infos}
        if known == wanted:
            return self.all
        if known:
            layout_changes()
        kept = {key: stream for key, stream in self.all.items() if wanted.get(key) == stream.info}
        for key, stream in self.all.items():
            if key not in kept:
                stream.ring.close()
        streams: dict[str, AcquiredStream] = {}
        try:
            for key, info in wanted.items():
                streams[key] = kept.get(key) or self._open(info, self.all.get(key))
        except StorageError:
            for key, stream in streams.items():
                if key not in kept:
                    stream.ring.close()  # else the next try would find it busy
            raise
        for key, stream in streams.items():
            if key not in kept and is_recorded() and stream.ring.recording_row is None:
                stream.ring.recording_row = stream.ring.head
        self.all = streams
        return self.all

    def _open(self, info: StreamInfo, before: AcquiredStream | None = None) -> AcquiredStream:
        number = self._log.stream_number(info.stream_id)  # may fail: before a ring is held
        path = self._folder / f"{info.stream_id}.ring"
        ring = SampleRing.create(path, info, seconds=self._ring_s)
        continuity = Continuity(
            info.sfreq, lambda proof: self._log.open_incarnation(info.stream_id, proof)
        )
        if before is not None and before.info.sfreq == info.sfreq:
            continuity = (
                before.continuity
            )  # described anew: the device counts on, so the gap is known
        elif ring.is_attached and ring.head > 0:
            last = ring.runs(ring.head - 1, ring.head)[0]
            continuity.resume(
                incarnation=last.incarnation,
                next_seq=last.seq + 1,
                t_next_ns=last.t_first_ns + round(1e9 / info.sfreq),
            )
        return AcquiredStream(info, number, ring, continuity, path)

    def close(self) -> None:
        for stream in self.all.values():
            stream.ring.close()
