"""What `features` at the control socket is answered: the newest figures, for a person's eyes.

Runs in: pipeline worker, main thread.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from brainforge_edge.core import ipc, wire
from brainforge_edge.core.errors import ConfigError, SessionError
from brainforge_edge.signal.quality import REASONS as QUALITIES
from brainforge_edge.signal.windows import REASONS as TROUBLES

MOST_CHANNELS: Final = 128  # in one answer: it stays below 256 KiB


class Source(Protocol):
    def newest(self) -> wire.Features | None: ...


def answer(message: ipc.Command, streams: Mapping[str, Source], now_ns: int) -> dict[str, Any]:
    """`stream` "": a line for each; else its figures, of `n` channels from `first` on.

    ConfigError `unknown_stream`; SessionError: another command.
    """
    if message.name != "features":
        raise SessionError(
            "unknown_command",
            "the pipeline was asked for what it does not do",
            why=f"it knows no {message.name!r}",
            remedy="Use the brainforge-edge command of the daemon's own version",
        )
    wanted = str(message.arguments.get("stream", ""))
    if not wanted:
        return {"streams": [_line(key, streams[key], now_ns) for key in sorted(streams)]}
    if wanted not in streams:
        known = ", ".join(sorted(streams)) or "no stream"
        raise ConfigError(
            "unknown_stream",
            f"there are no features of {wanted!r}",
            why=f"they are computed of {known}",
            remedy="Name one of these; `brainforge-edge streams` lists all, and `features` in "
            "[[pipeline.stream]] switches them on",
        )
    first = int(message.arguments.get("first", 0))
    n = min(MOST_CHANNELS, int(message.arguments.get("n", MOST_CHANNELS)))
    return _whole(wanted, streams[wanted].newest(), slice(first, first + n), now_ns)


def _line(stream_id: str, source: Source, now_ns: int) -> dict[str, Any]:
    newest = source.newest()
    if newest is None:
        return {"stream_id": stream_id, "state": "warming up"}
    counts: dict[str, int] = {}
    for word in newest.quality:
        counts[word or "not judged"] = counts.get(word or "not judged", 0) + 1
    return {
        "stream_id": stream_id,
        "state": "computed",
        "n_channels": len(newest.channels),
        "rate_hz": newest.rate_hz,
        "age_ms": round((now_ns - newest.t_last_ns) / 1e6, 1),
        "quality": counts,
    }


def _whole(
    stream_id: str, newest: wire.Features | None, part: slice, now_ns: int
) -> dict[str, Any]:
    if newest is None:
        return {"stream_id": stream_id, "state": "warming up", "features": None}
    shown = msgspec.structs.replace(
        newest,
        channels=newest.channels[part],
        quality=newest.quality[part],
        windows=[_window(window, part) for window in newest.windows],
        slow=_slow(newest.slow, part),
        coupling=_coupling(newest.coupling),
    )
    troubles = {word for window in shown.windows for word in window.trouble if word}
    return {
        "stream_id": stream_id,
        "state": "computed",
        "n_channels": len(newest.channels),
        "first": part.start,
        "age_ms": round((now_ns - newest.t_last_ns) / 1e6, 1),
        "features": msgspec.to_builtins(shown),
        "reasons": {
            t.name.lower(): why for t, why in TROUBLES.items() if t.name.lower() in troubles
        },
        "quality_reasons": {q.value: why for q, why in QUALITIES.items() if q in shown.quality},
    }


def _rounded(values: wire.Figures) -> wire.Figures:
    """Four digits: more would be the noise of a window, and three times the bytes."""
    return [None if value is None else float(f"{value:.4g}") for value in values]


def _cut(figures: Mapping[str, wire.Figures], part: slice) -> dict[str, wire.Figures]:
    return {name: _rounded(values[part]) for name, values in figures.items()}


def _window(window: wire.WindowFigures, part: slice) -> wire.WindowFigures:
    return msgspec.structs.replace(
        window,
        trouble=window.trouble[part],
        powers=_cut(window.powers, part),
        relative=_cut(window.relative, part),
        ratios=_cut(window.ratios, part),
        asymmetry=_cut(window.asymmetry, slice(None)),
    )


def _slow(slow: list[wire.SlowWindow], part: slice) -> list[wire.SlowWindow]:
    return [
        msgspec.structs.replace(
            window,
            figures=_cut(window.figures, part),
            octaves=None
            if window.octaves is None
            else [_rounded(values[part]) for values in window.octaves],
        )
        for window in slow
    ]


def _coupling(coupling: wire.CouplingFigures | None) -> wire.CouplingFigures | None:
    if coupling is None:
        return None
    measures = {name: _cut(bands, slice(None)) for name, bands in coupling.measures.items()}
    return msgspec.structs.replace(coupling, measures=measures)
