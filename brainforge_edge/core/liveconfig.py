"""What is computed live of a stream: `[[pipeline.stream]]` of `edge.toml`. Runs in: any process; no I/O.

What depends on the stream's own rate and channels is judged when it opens, by `pipeline/plan.py`.
"""

from typing import Final, Literal

import msgspec

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.core.ids import checked_name

LiveMode = Literal["off", "features", "preview"]
MOST_PAIRS: Final = 256  # of one stream: what is sent of them fits into a message
MOST_HARMONICS: Final = 7


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class RepairTable(_Table, frozen=True):
    """A bad channel, filled from its neighbours by weights."""

    channel: str
    neighbours: dict[str, float]


class ReferenceTable(_Table, frozen=True):
    """What is subtracted from each row; docs/signal.md."""

    kind: Literal["none", "average", "median", "channels", "bipolar"] = "none"
    channels: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()


class StreamTable(_Table, frozen=True):
    """One `[[pipeline.stream]]`; what is left out is as for a stream without a table."""

    id: str  # of the stream
    live: LiveMode | None = None  # what goes to `live/{stream}`; None: `pipeline.live`
    features: bool | None = None  # None: `pipeline.features`
    channels: tuple[str, ...] = ()  # looked at; none named: those of a head
    repairs: tuple[RepairTable, ...] = ()
    reference: ReferenceTable = ReferenceTable()
    dc_hz: float = 0.0  # high-pass of order 1, 0 for none
    l_freq: float | None = None  # None: 0.5 Hz
    h_freq: float | None = None  # None: `pipeline.h_freq`
    notch: float | None = None  # None: `pipeline.notch`
    harmonics: int = 2  # multiples of `notch`, itself included
    resample_hz: float = 0.0  # windows at another rate, 0 for the stream's own
    rails: tuple[float, float] | None = None  # ends of the input's range, in the channels' unit
    asymmetry: tuple[tuple[str, str], ...] = ()  # left, right
    coupling: tuple[tuple[str, str], ...] = ()
    wavelets: bool = False
    eog: tuple[str, ...] = ()  # channels beside the eyes, taken out of the others
    eog_fit_s: float = 60.0  # … by what the first good rows of so many seconds say
    motion: str = ""  # id of an accelerometer's stream, taken out of all channels


def check_streams(tables: tuple[StreamTable, ...], source: str) -> None:
    """ConfigError for the first entry that its type alone cannot judge, by its path."""
    seen: set[str] = set()
    for i, table in enumerate(tables):
        at = f"pipeline.stream[{i}]"
        checked_name(table.id, "the id of a stream")
        if table.id in seen:
            raise _wrong(source, f"{at}.id is {table.id!r} again", "Write one table for a stream")
        seen.add(table.id)
        _check_filter(table, at, source)
        for key, pairs in (("asymmetry", table.asymmetry), ("coupling", table.coupling)):
            if len(pairs) > MOST_PAIRS:
                raise _wrong(
                    source, f"{at}.{key} has {len(pairs)} pairs", f"Give at most {MOST_PAIRS}"
                )
            if any(first == second for first, second in pairs) or len(set(pairs)) != len(pairs):
                raise _wrong(
                    source,
                    f"{at}.{key} pairs a channel with itself, or has a pair twice",
                    "Pair different channels, each pair once",
                )
        if table.motion == table.id:
            raise _wrong(
                source, f"{at}.motion is the stream itself", "Name an accelerometer's stream"
            )
        if table.motion:
            checked_name(table.motion, "the stream of a motion reference")
        if table.rails is not None and not table.rails[0] < table.rails[1]:
            raise _wrong(source, f"{at}.rails are not in order", "Give the lower end first")


def _check_filter(table: StreamTable, at: str, source: str) -> None:
    limits: tuple[tuple[str, float | None, float], ...] = (
        ("dc_hz", table.dc_hz, 10_000),
        ("l_freq", table.l_freq, 10_000),
        ("h_freq", table.h_freq, 100_000),
        ("notch", table.notch, 1000),
        ("harmonics", table.harmonics, MOST_HARMONICS),
        ("resample_hz", table.resample_hz, 20_000),
        ("eog_fit_s", table.eog_fit_s, 600),
    )
    least = {"harmonics": 1, "eog_fit_s": 10}
    for key, value, most in limits:
        if value is not None and not least.get(key, 0) <= value <= most:
            raise _wrong(
                source,
                f"{at}.{key} is {value:g}, allowed are {least.get(key, 0)} to {most:g}",
                "Correct that entry",
                code="out_of_range",
            )
    if table.l_freq and table.h_freq and not table.l_freq < table.h_freq:
        raise _wrong(
            source,
            f"{at}.l_freq, {table.l_freq:g} Hz, is not below h_freq, {table.h_freq:g} Hz",
            "Give a pass-band from low to high",
        )


def _wrong(source: str, why: str, remedy: str, *, code: str = "invalid") -> ConfigError:
    return ConfigError(code, f"{source} has a wrong entry", why=why, remedy=remedy)
