"""Derives what people see live. It may lag or die: the recording goes on.

Runs in: pipeline process, main thread; up to two threads per stream beside it, for waves and for
features.
"""

import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from brainforge_edge.core import ipc
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.core.events import EventType
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.core.threads import named
from brainforge_edge.core.worker import WorkerChannel, run_worker
from brainforge_edge.pipeline.answer import answer
from brainforge_edge.pipeline.featurestream import FeatureStream
from brainforge_edge.pipeline.live import LiveStream, is_shown
from brainforge_edge.pipeline.outs import Outs
from brainforge_edge.pipeline.pacing import Pacing, shed
from brainforge_edge.pipeline.plan import live_mode, plan

# A thread that computes features gives way to one that shows rows after this long, not after 5 ms.
SWITCH_S = 0.0005


class Followed(NamedTuple):
    """One stream; either may be None."""

    live: LiveStream | None
    features: FeatureStream | None
    threads: list[threading.Thread]

    @property
    def bodies(self) -> list[LiveStream | FeatureStream]:
        return [body for body in (self.live, self.features) if body is not None]

    def goes_on(self) -> bool:
        return (
            bool(self.threads)
            and all(thread.is_alive() for thread in self.threads)
            and not any(body.is_replaced for body in self.bodies)
        )

    def end(self) -> None:
        for body in self.bodies:
            body.stop.set()
        for thread in self.threads:
            thread.join(5.0)


class Pipeline:
    """The streams of this node, each followed by its threads."""

    def __init__(self, worker: WorkerChannel) -> None:
        self._worker = worker
        self._config = worker.config.pipeline
        self._clock = SystemClock()
        self._out = socket.socket(fileno=worker.live_fd)
        self._screen = socket.socket(fileno=worker.screen_fd) if worker.screen_fd >= 0 else None
        self._rings: dict[str, Path] = {}
        self._streams: dict[str, Followed] = {}
        self._pacing = Pacing()
        self.feedback_from_ns: int | None = None  # box clock; None: no session shows feedback

    def opened(self, message: ipc.StreamOpened) -> None:
        """Follow a stream; one that is followed already is left alone unless its ring changed."""
        info = msgspec.msgpack.decode(message.stream, type=StreamInfo)
        key = info.stream_id
        self._rings[key] = Path(message.ring)
        known = self._streams.get(key)
        if known is not None:
            if known.goes_on():
                return
            known.end()
        live, features = self._live(info), self._features(info)
        bodies = [("live", live), ("feat", features)]
        threads = [
            named(f"{name}-{key}", body.run, daemon=True)
            for name, body in bodies
            if body is not None
        ]
        self._streams[key] = Followed(live, features, threads)
        for thread in threads:
            thread.start()

    def _live(self, info: StreamInfo) -> LiveStream | None:
        is_sent = live_mode(info.stream_id, self._config) == "preview"
        if not is_shown(info) or not (is_sent or self._screen):
            return None
        ring, outs = self._rings[info.stream_id], Outs(self._out if is_sent else None, self._screen)
        try:
            return LiveStream(ring, self._config, out=outs, clock=self._clock)
        except BrainforgeError as error:
            self._worker.send(ipc.Fault(error=error.as_dict()))
            return None

    def _features(self, info: StreamInfo) -> FeatureStream | None:
        try:
            wanted = plan(info, self._config)
            if wanted is None:
                return None
            return FeatureStream(
                self._rings[info.stream_id],
                wanted,
                pacing=self._pacing,
                out=self._out if wanted.is_sent else None,
                clock=self._clock,
                motion_ring=lambda: self._rings.get(wanted.motion),
            )
        except BrainforgeError as error:
            self._worker.send(ipc.Fault(error=error.as_dict()))
            return None

    def show_from(self, message: ipc.FeedbackFrom) -> None:
        """A session moves the cursor of feedback; without one features are figures of the device alone."""
        self.feedback_from_ns = message.t_ns
        if message.t_ns is not None:
            self.feedback_from(message.t_ns)

    def feedback_from(self, t_ns: int) -> None:
        """Windows of all streams begin anew with the rows of that box time; nothing older is shown."""
        for features in self._computed().values():
            features.feedback_from(t_ns)

    def command(self, message: ipc.Command) -> None:
        """`features`: what a person asks for at the control socket."""
        try:
            values = answer(message, self._computed(), self._clock.monotonic_ns())
        except BrainforgeError as error:
            done = ipc.CommandDone(token=message.token, error=error.as_dict())
        else:
            done = ipc.CommandDone(token=message.token, values=values)
        self._worker.send(done)

    def _computed(self) -> dict[str, FeatureStream]:
        return {
            key: followed.features
            for key, followed in self._streams.items()
            if followed.features is not None
        }

    def beat(self) -> dict[str, Any]:
        for followed in self._streams.values():
            for body in followed.bodies:
                if body.crashed is not None:
                    raise body.crashed
        computed = self._computed()
        self._pace(computed)
        for features in computed.values():
            if features.refused is not None:
                refused, features.refused = features.refused, None
                self._worker.send(ipc.Fault(error=refused.as_dict()))
        return {
            "feedback_from_ns": self.feedback_from_ns,
            "streams": {
                key: followed.live.stats()
                for key, followed in self._streams.items()
                if followed.live is not None
            },
            "features": {key: features.stats() for key, features in computed.items()},
            "pace": {
                "level": int(self._pacing.level),
                "shed": shed(self._pacing.level),
                "busy": round(self._pacing.busy, 3),
                "behind_s": round(self._pacing.behind_s, 3),
                "changes": self._pacing.changes,
            },
        }

    def _pace(self, computed: dict[str, FeatureStream]) -> None:
        loads = {key: features.load() for key, features in computed.items()}
        if self._pacing.look(loads, self._clock.monotonic_ns()):
            level = self._pacing.level
            data = {"level": int(level), "shed": shed(level), "busy": round(self._pacing.busy, 3)}
            self._worker.send(ipc.Event(event_type=EventType.PACE_CHANGED.value, data=data))

    def stop(self) -> None:
        for followed in self._streams.values():
            followed.end()


def _run(worker: WorkerChannel) -> None:
    sys.setswitchinterval(SWITCH_S)
    pipeline = Pipeline(worker)
    handlers: dict[type, Callable[[Any], None]] = {
        ipc.StreamOpened: pipeline.opened,
        ipc.Command: pipeline.command,
        ipc.FeedbackFrom: pipeline.show_from,
    }
    worker.serve(handlers, pipeline.beat)
    pipeline.stop()


def main() -> int:
    """Process entry."""
    return run_worker("pipeline", _run)


if __name__ == "__main__":
    sys.exit(main())
