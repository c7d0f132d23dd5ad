"""Whether rows reach the disk, judged from what `status` says, one answer after the other.

Runs in: web process, its asyncio loop. No I/O, no clock: times are arguments.
A box is recording for a person only while what is confirmed on the disk grows.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

FRESH_S: Final = 2.0  # an older answer is not believed
GROWN_S: Final = 1.5  # … and an answer is up to half a second old: together 2 s
# A slower stream cannot grow that often: it may take this many of its periods.
PERIODS: Final = 3.0


class Verdict(StrEnum):
    """What the page says in its largest letters."""

    IDLE = "idle"  # no recording is open
    STARTING = "starting"  # one is, and its first rows are awaited
    RECORDING = "recording"  # rows of every device that it is for reach the disk
    PARTLY = "partly"  # … of some devices they do not
    STALLED = "stalled"  # one is open, and nothing reaches the disk
    UNKNOWN = "unknown"  # the daemon does not answer


class Recorded(NamedTuple):
    """`devices`: whether rows of each reach the disk, of those that the open recording is for."""

    verdict: Verdict
    devices: dict[str, bool]


class _Seen(NamedTuple):
    durable: int
    grown_s: float | None


class Growth:
    """Feed each answer of `status` to `judge`."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._recording = ""
        self._opened_s = 0.0

    def judge(self, status: Mapping[str, Any], now_s: float) -> Recorded:
        """Of the answer that came at `now_s`."""
        recording = status.get("recording") or ""
        if recording != self._recording:  # what grew for the one before proves nothing for this one
            self._recording, self._opened_s = recording, now_s
            self._seen.clear()
        self._look(status.get("streams") or [], now_s)
        if not recording:
            return Recorded(Verdict.IDLE, {})
        workers = {
            worker["name"].partition(":")[2]: worker
            for worker in status.get("workers") or []
            if worker["name"].startswith("acquire:")
        }
        meant = status.get("recording_devices")
        devices = {
            name: name in workers and self._reaches_disk(workers[name], status, now_s)
            for name in (workers if meant is None else meant)
        }
        return Recorded(self._verdict(devices, now_s), devices)

    def _look(self, streams: list[dict[str, Any]], now_s: float) -> None:
        for stream in streams:
            name, durable = stream["stream_id"], int(stream.get("durable") or 0)
            before = self._seen.get(name)
            if before is None:
                self._seen[name] = _Seen(durable, None)
            elif durable != before.durable:  # a ring that begins anew counts from 0: no growth yet
                grown = now_s if durable > before.durable else before.grown_s
                self._seen[name] = _Seen(durable, grown)

    def _reaches_disk(
        self, worker: Mapping[str, Any], status: Mapping[str, Any], now_s: float
    ) -> bool:
        of_worker = worker.get("recording") or {}
        if of_worker.get("name") != self._recording or of_worker.get("fault"):
            return False
        name = worker["name"].partition(":")[2]
        rates = {
            stream["stream_id"]: float(stream.get("sfreq") or 0.0)
            for stream in status.get("streams") or []
            if stream.get("device") == name
        }
        fastest = max(rates.values(), default=0.0)
        within = max(GROWN_S, PERIODS / fastest) if fastest > 0 else GROWN_S
        # The fastest alone counts: a slow one that still grows must not cover for a fast one.
        return any(
            rate == fastest and self._grew(stream_id, now_s, within)
            for stream_id, rate in rates.items()
        )

    def _grew(self, stream_id: str, now_s: float, within_s: float) -> bool:
        seen = self._seen.get(stream_id)
        return seen is not None and seen.grown_s is not None and now_s - seen.grown_s <= within_s

    def _verdict(self, devices: Mapping[str, bool], now_s: float) -> Verdict:
        if devices and all(devices.values()):
            return Verdict.RECORDING
        if any(devices.values()):
            return Verdict.PARTLY
        return Verdict.STARTING if now_s - self._opened_s <= FRESH_S else Verdict.STALLED
