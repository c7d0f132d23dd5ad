"""Looks at daemon and store while the demo runs. Runs in: the demo process, main thread."""

from pathlib import Path
from typing import Any

from brainforge_edge.cli.client import request
from brainforge_edge.cli.demo.display import Progress, StreamProgress
from brainforge_edge.cli.demo.plan import Plan
from brainforge_edge.cloud.store.reader import StoreReader
from brainforge_edge.codec import registry
from brainforge_edge.codec.packed import pack_rows
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.config import SOCKET_NAME
from brainforge_edge.core.errors import BrainforgeError


class Watch:
    """Remembers the last look, for rates."""

    def __init__(self, plan: Plan, *, clock: Clock) -> None:
        self._plan = plan
        self._clock = clock
        self._started_ns = clock.monotonic_ns()
        self._last: dict[str, tuple[int, int]] = {}
        self._store: StoreReader | None = None
        self.status: dict[str, Any] = {}

    def elapsed_s(self) -> float:
        return (self._clock.monotonic_ns() - self._started_ns) / 1e9

    def restart_clock(self) -> None:
        """The time that is shown starts now."""
        self._started_ns = self._clock.monotonic_ns()

    def look(self, phase: str) -> Progress:
        """One look; a daemon that is not there yet shows no streams."""
        try:
            self.status = request(self._plan.run / SOCKET_NAME, "status", timeout_s=5.0)
        except BrainforgeError as error:
            if not error.code.startswith("daemon."):
                raise
            self.status = {}
        uplink = self.status.get("uplink") or {}
        return Progress(
            phase=phase,
            elapsed_s=self.elapsed_s(),
            seconds=self._plan.seconds,
            lag_chunks=int(uplink.get("lag_chunks") or 0),
            lag_bytes=int(uplink.get("lag_bytes") or 0),
            streams=tuple(self._stream(s) for s in self.status.get("streams", [])),
        )

    def heads(self) -> dict[str, int]:
        """Rows acquired, by stream, at the last look."""
        return {s["stream_id"]: int(s.get("head") or 0) for s in self.status.get("streams", [])}

    def stored(self, stream_id: str) -> int:
        """Rows in the aggregator's store."""
        reader = self.store()
        if reader is None:
            return 0
        return sum(
            part.end - part.first
            for stream in reader.streams()
            if stream.stream_id == stream_id and stream.product == 0
            for part in reader.ranges(stream.log_id, stream_id)
        )

    def store(self) -> StoreReader | None:
        """The store, None before the aggregator made it."""
        if self._store is None and (self._plan.cloud / "catalogue.sqlite").exists():
            self._store = StoreReader(self._plan.cloud, decode=registry.decode, pack=pack_rows)
        return self._store

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _stream(self, figures: dict[str, Any]) -> StreamProgress:
        stream_id = figures["stream_id"]
        head = int(figures.get("head") or 0)
        now = self._clock.monotonic_ns()
        before, then = self._last.get(stream_id, (head, now))
        self._last[stream_id] = (head, now)
        return StreamProgress(
            stream_id=stream_id,
            state=str(figures.get("state", "")),
            rate=(head - before) * 1e9 / (now - then) if now > then else 0.0,
            head=head,
            written=int(figures.get("written") or 0),
            durable=int(figures.get("durable") or 0),
            log_bytes=int(figures.get("log_bytes") or 0),
            stored=self.stored(stream_id),
            gaps=int(figures.get("gaps") or 0),
        )


def recording_folders(recordings: Path) -> list[Path]:
    """Every recording that the box made."""
    return sorted(path.parent for path in recordings.glob("*/recording.json"))
