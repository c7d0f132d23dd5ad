"""What `status` shows of a box. Runs in: supervisor, its asyncio loop."""

from collections.abc import Iterable, Mapping
from typing import Any

from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.daemon.child import Child

# What an acquirer's heartbeat adds to its line.
_OF_A_DEVICE = (
    "link",
    "since_ms",
    "reason",
    "counters",
    "error",
    "recording",
    "markers",
    "device",
    "identity",
)


def status(
    *,
    node: str,
    disk: dict[str, Any],
    recording: str,
    meant: Iterable[str] | None,
    agent: Child,
    acquirers: Iterable[Child],
    others: Iterable[Child],
    streams: Mapping[str, tuple[str, StreamInfo]],
) -> dict[str, Any]:
    """`meant`: the devices that the open recording is for, None for all; `streams`: stream_id → (its
    worker, what it is)."""
    acquirers, others = list(acquirers), list(others)
    figures = {child.name: child.stats for child in others}
    return {
        "node": node,
        "recording": recording or None,
        "recording_devices": None if meant is None else sorted(meant),
        "workers": [
            _worker(agent) | {"error": agent.stats.get("error")},
            *(_worker(c) | {key: c.stats.get(key) for key in _OF_A_DEVICE} for c in acquirers),
            *(_worker(child) for child in others),
        ],
        "streams": [
            _stream(info, next((c.stats for c in acquirers if c.name == owner), {}))
            for _, (owner, info) in sorted(streams.items())
        ],
        "uplink": figures.get("uplink", {}),
        "pipeline": figures.get("pipeline", {}),
        "lsl": figures.get("lsl", {}),
        "disk": disk,
        "session": agent.stats.get("session", {}),
        "keeper": agent.stats.get("keeper", {}),
        "certificate": agent.stats.get("certificate", {}),
        "orders": agent.stats.get("orders", {}),
    }


# Of a device whose process is not there, or has not told anything yet.
_NO_PROCESS = {"link": "down", "since_ms": 0, "reason": "no_process"}


def _worker(child: Child) -> dict[str, Any]:
    return {
        "name": child.name,
        "state": child.state,
        "pid": child.pid,
        "restarts": child.restarts,
        "last_exit": child.last_exit,
        "fault": child.last_fault,
    }


def _stream(info: StreamInfo, stats: dict[str, Any]) -> dict[str, Any]:
    own = stats.get("streams", {}).get(info.stream_id, {})
    link = {key: stats.get(key, none) for key, none in _NO_PROCESS.items()}
    named = {"stream_id": info.stream_id, "device": info.device, "state": link.pop("link")}
    return {**named, **link, **own}
