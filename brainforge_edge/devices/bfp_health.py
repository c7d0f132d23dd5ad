"""What a BFP/1 device tells beside samples: figures, channel states, its start-up. No I/O.

Runs in: acquire process, pull thread; `status` is read and `wait_for` called by others.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from brainforge_edge.core.block import Marker
from brainforge_edge.core.events import EventType
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices.base import Notice
from brainforge_edge.devices.bfp import (
    STATE,
    TESTED,
    ChannelStatus,
    EventCode,
    OpmState,
    bits_of,
    status_of,
)

NAMED = 16  # channels that an event names; it always tells how many there are
_WAITS: dict[int, str] = {OpmState.OFF: "standby"} | dict.fromkeys(
    range(OpmState.RESTART, OpmState.READY), "start_up"
)
_WORDS = {
    ChannelStatus.RAIL: "rail",
    ChannelStatus.LOOP_LIMIT: "loop_limit",
    ChannelStatus.LASER: "laser_unlocked",
    ChannelStatus.CELL: "cell_unlocked",
    ChannelStatus.NOT_ZEROED: "not_zeroed",
    ChannelStatus.STALE: "calibration_stale",
    ChannelStatus.DISABLED: "disabled",
    ChannelStatus.LINK: "link",
}


class Health:
    """`streams`: number on the wire → StreamInfo. A STATUS on stream 0 tells of the first of them."""

    def __init__(self, streams: Mapping[int, StreamInfo], *, has_states: bool) -> None:
        self.status: dict[str, Any] = {}
        self.waits_for = ""  # why the device may send no samples at present
        self._streams = dict(streams)
        self._has_states = has_states
        self._channels: dict[str, bytes] = {}
        self._notices: list[Notice] = []
        self._changed = threading.Condition()
        self._is_over = False
        self.tested = 0  # channel tests that were told of

    def take(self) -> list[Notice]:
        """Notices since the last call."""
        if not self._notices:
            return self._notices
        notices, self._notices = self._notices, []
        return notices

    def note(self, figures: dict[str, Any]) -> None:
        """Add figures to `status`; whoever waits looks again."""
        with self._changed:
            self.status = {**self.status, **figures}
            self._changed.notify_all()

    def wait_for(self, is_done: Callable[[dict[str, Any]], bool], timeout_s: float) -> bool:
        """Until the figures are so, the link ends or `timeout_s` is over; not for the pull thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or is_done(self.status), timeout_s)
            return is_done(self.status)

    def end(self) -> None:
        """The link is closed: nobody waits any longer."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def tell_span(self, marker: Marker) -> None:
        data = {
            "what": marker.description,
            "t_ns": str(marker.t_ns),
            "duration_s": f"{marker.duration_s:.3f}",
        }
        self._notices.append(Notice(EventType.QUALITY_ALERT, "", data))

    def take_status(self, stream: int, payload: bytes) -> tuple[float, ...]:
        """A STATUS frame; one that is too short or of an unknown stream is left out.

        The residual fields of the first stream, pT, if it is one of those that come periodically.
        """
        info = self._streams.get(stream or min(self._streams, default=0))
        status = status_of(payload, info.n_channels if info else 0)
        if status is None or info is None:
            return ()
        figures = {key: value for key, value in status.figures.items() if key != "state"}
        if self._has_states:
            self._follow_state(status.figures["state"], None, b"")
        else:
            self.waits_for = "" if status.figures["state"] else "standby"
        if status.fields_pt and any(status.fields_pt):
            figures["residual_pt"] = [round(field, 1) for field in status.fields_pt]
        if status.channels:
            figures["channels"] = {
                **self.status.get("channels", {}),
                info.stream_id: self._counted(status.channels),
            }
            self._compare(info, status.channels)
        self.note(figures)
        is_first = info is next(iter(self._streams.values()))
        return status.fields_pt if status.is_periodic and is_first else ()

    def take_test(self, body: bytes) -> str:
        """What SELF_TEST found, for people and for whoever waits; as one line. "" if it is too short."""
        info = next(iter(self._streams.values()), None)
        if len(body) < TESTED.size or info is None:
            return ""
        (tests,) = TESTED.unpack_from(body)
        which = bits_of(body[TESTED.size :], info.n_channels)
        named = _named(info, which)
        self.tested += 1
        result = {"tests": tests, "passed": not which, "n_failed": len(which)}
        failed = [info.channels[at].name for at in which]
        self.note({"channel_test": {**result, "failed": failed}})
        verdict = "failed" if which else "passed"
        data = {"what": "channel_test", "change": verdict, **named}
        self._notices.append(Notice(EventType.QUALITY_ALERT, info.stream_id, data))
        more = ", …" if len(which) > NAMED else ""
        return f"channel_test {verdict}" + (
            f": {named['n']} of {info.n_channels} ({named['channels'].replace(',', ', ')}{more})"
            if which
            else ""
        )

    def take_event(self, code: int, body: bytes) -> None:
        if code == EventCode.STATE and self._has_states and len(body) >= STATE.size:
            state, percent = STATE.unpack_from(body)
            self._follow_state(state, percent, body[STATE.size :])

    def _follow_state(self, state: int, percent: int | None, failed: bytes) -> None:
        name = OpmState(state).name.lower() if state in list(OpmState) else f"state {state}"
        self.waits_for = _WAITS.get(state, "")
        before = self.status.get("state")
        figures: dict[str, Any] = {"state": name}
        if percent is not None:
            figures["percent"] = min(100, percent)
        self.note(figures)
        info = next(iter(self._streams.values()), None)
        if (percent is None and before == name) or info is None:
            return
        which = bits_of(failed, info.n_channels)
        data: dict[str, Any] = {"state": name, "was": before or ""}
        if percent is not None:
            data["percent"] = str(min(100, percent))
        if which:
            data |= _named(info, which)
        self._notices.append(Notice(EventType.DEVICE_STATE_CHANGED, "", data))

    def _compare(self, info: StreamInfo, channels: bytes) -> None:
        before = self._channels.get(info.stream_id, bytes(len(channels)))
        self._channels[info.stream_id] = channels
        if before == channels:
            return
        for bit, word in _WORDS.items():
            for verb, old, new in (("began", before, channels), ("ended", channels, before)):
                which = [
                    at
                    for at, (was, now) in enumerate(zip(old, new, strict=True))
                    if now & bit and not was & bit
                ]
                if which:
                    data = {"what": word, "change": verb, **_named(info, which)}
                    self._notices.append(Notice(EventType.QUALITY_ALERT, info.stream_id, data))

    @staticmethod
    def _counted(channels: bytes) -> dict[str, int]:
        counts = {word: sum(1 for c in channels if c & bit) for bit, word in _WORDS.items()}
        return {word: n for word, n in counts.items() if n}


def _named(info: StreamInfo, which: list[int]) -> dict[str, str]:
    names = [info.channels[at].name for at in which[:NAMED]]
    return {"n": str(len(which)), "channels": ",".join(names)}
