"""The session and its feedback, told to all who look. Runs in: web process, its asyncio loop.

Both are asked for once for all viewers, and only while there are some.
"""

import asyncio
from statistics import median
from typing import Any, Final

import msgspec

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.web.daemon import Daemon
from brainforge_edge.web.live import Live

TICK_S: Final = 0.2  # feedback: windows move on ten times a second at most
SESSION_TICKS: Final = 2
LIST_TICKS: Final = 10
ASK_S: Final = 5.0
CHANNELS: Final = 64
RATIO: Final = "alpha/beta"
_SHOWING: Final = {"feedback", "dual"}


class Bedside:
    """Run `run` as a task."""

    def __init__(self, daemon: Daemon, live: Live, clock: Clock) -> None:
        self._daemon = daemon
        self._live = live
        self._clock = clock
        self._now: dict[str, Any] = {}
        self._measured: set[str] = set()  # streams of which there are features

    async def run(self) -> None:
        tick = 0
        while True:
            if self._live.n_viewers:
                await self._look(tick)
                tick += 1
            else:
                tick = 0
            await asyncio.sleep(TICK_S)

    async def _look(self, tick: int) -> None:
        """What cannot be asked for now is not told: a viewer sees that its news are old."""
        try:
            if tick % SESSION_TICKS == 0:
                self._now = await self._daemon.ask("session", timeout_s=ASK_S, do="status")
                self._live.tell("session", _text("session", said=self._now))
            if not shows_feedback(self._now):
                self._live.forget("feedback_update")
                return
            if tick % LIST_TICKS == 0 or not self._measured:
                lines = (await self._daemon.ask("features", timeout_s=ASK_S))["streams"]
                self._measured = {line["stream_id"] for line in lines}
            await self._feedback()
        except BrainforgeError:
            self._now = {}

    async def _feedback(self) -> None:
        devices = {}
        for device, subject in sorted(self._now["session"]["devices"].items()):
            mine = self._live.streams_of(device)
            stream_id = next((each for each in mine if each in self._measured), None)
            reply = None
            if stream_id is not None:
                reply = await self._daemon.ask(
                    "features", timeout_s=ASK_S, stream=stream_id, first=0, n=CHANNELS
                )
            devices[device] = {"subject": subject, **of_device(reply)}
        utc_ns = self._clock.utc_ns()
        text = _text(
            "feedback_update",
            type="feedback_update",
            timestamp=None if utc_ns is None else utc_ns / 1e9,
            session_id=self._now["session_id"],
            phase=self._now["phase"]["name"],
            timescale_s=self._now["phase"]["timescale_s"],
            devices=devices,
        )
        self._live.tell("feedback_update", text)


def shows_feedback(now: dict[str, Any]) -> bool:
    """Whether state, mode and phase of a session let feedback be seen."""
    session, phase = now.get("session"), now.get("phase")
    if now.get("state") != "recording" or session is None or phase is None:
        return False
    return bool(phase["feedback"]) and session["mode"] in _SHOWING and not now["emergency_stop"]


def of_device(reply: dict[str, Any] | None) -> dict[str, Any]:
    """Of an answer of `features`: the ratio for each window, over the channels with good contact."""
    figures = (reply or {}).get("features")
    if reply is None or figures is None:
        unknown = {"data_age_ms": None, "signal_quality": None}
        return {"relaxation": {}, "missing": {}, "quality": unknown}
    words: list[str] = figures["quality"]
    is_usable = [word in {"", "good"} for word in words]
    relaxation: dict[str, float | None] = {}
    missing: dict[str, str] = {}
    for window in figures["windows"]:
        name = f"{window['window_s']}s"
        ratios = window["ratios"].get(RATIO, [])
        values = [
            value
            for value, usable in zip(ratios, is_usable, strict=False)
            if usable and value is not None
        ]
        relaxation[name] = float(f"{median(values):.4g}") if values else None
        if not values:
            troubles = [word for word in window["trouble"] if word]
            missing[name] = troubles[0] if troubles else "contact"
    judged = [word for word in words if word]
    quality = {
        "data_age_ms": reply["age_ms"],
        "signal_quality": round(judged.count("good") / len(judged), 3) if judged else None,
    }
    return {"relaxation": relaxation, "missing": missing, "quality": quality}


def _text(kind: str, **said: object) -> bytes:
    return msgspec.json.encode({"kind": kind, **said})
