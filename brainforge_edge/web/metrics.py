"""The figures of `status` as Prometheus reads them. Runs in: web process. No I/O."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from brainforge_edge.web.growth import Verdict
from brainforge_edge.web.watch import Seen

# Of each stream: key of `status`, name, type, help.
_OF_STREAMS: Final = (
    ("head", "rows_total", "counter", "Rows that came, since the ring was made"),
    ("durable", "rows_durable_total", "counter", "Rows up to which all is confirmed on the disk"),
    ("recorded", "rows_recorded_total", "counter", "Rows recorded since the process began"),
    ("gaps", "gaps_total", "counter", "Named gaps"),
    ("gap_samples", "gap_samples_total", "counter", "Samples in named gaps"),
    ("box_drops", "box_drops_total", "counter", "Samples that the box itself had no room for"),
    ("data_age_ms", "data_age_milliseconds", "gauge", "Age of the newest row"),
)


def text(seen: Seen) -> str:
    """The exposition format, version 0.0.4."""
    status = seen.status
    recorded = seen.recorded
    parts = [
        _metric("up", "gauge", "The daemon answers", [({}, recorded.verdict != Verdict.UNKNOWN)]),
        _metric("status_age_seconds", "gauge", "Age of these figures", [({}, seen.age_s)]),
        _metric(
            "recording",
            "gauge",
            "Rows of every device reach the disk",
            [({}, recorded.verdict == Verdict.RECORDING)],
        ),
        _metric(
            "device_recording",
            "gauge",
            "Rows of this device reach the disk",
            [({"device": name}, is_so) for name, is_so in sorted(recorded.devices.items())],
        ),
    ]
    streams = status.get("streams") or []
    for key, name, kind, said in _OF_STREAMS:
        values = [
            ({"stream": s["stream_id"], "device": s["device"]}, s[key])
            for s in streams
            if s.get(key) is not None
        ]
        parts.append(_metric(f"stream_{name}", kind, said, values))
    workers = status.get("workers") or []
    parts.append(
        _metric(
            "worker_restarts_total",
            "counter",
            "Times that a process was started again",
            [({"worker": w["name"]}, w["restarts"]) for w in workers],
        )
    )
    disk, uplink = status.get("disk") or {}, status.get("uplink") or {}
    parts += [
        _one("disk_free_bytes", "Room on the disk", disk.get("free_bytes")),
        _one("disk_hours_left", "Hours of recording that fit still", disk.get("hours_left")),
        _one("uplink_connected", "A broker is there", uplink.get("connected")),
        _one("uplink_waiting_chunks", "Chunks without a receipt", uplink.get("lag_chunks")),
        _one("uplink_waiting_seconds", "Age of the oldest of them", uplink.get("lag_s")),
    ]
    return "".join(parts)


def _one(name: str, said: str, value: float | None) -> str:
    return _metric(name, "gauge", said, [] if value is None else [({}, value)])


def _metric(
    name: str, kind: str, said: str, values: Iterable[tuple[Mapping[str, Any], float]]
) -> str:
    lines = [
        f"brainforge_{name}{_labels(labels)} {float(value):.16g}\n" for labels, value in values
    ]
    if not lines:
        return ""
    return f"# HELP brainforge_{name} {said}\n# TYPE brainforge_{name} {kind}\n" + "".join(lines)


def _labels(labels: Mapping[str, Any]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(str(v))}"' for key, v in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
