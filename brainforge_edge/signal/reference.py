"""Which channels are looked at: bad ones filled from their neighbours, then a common reference.

First the repair, then the reference: a bad channel must reach no other one through an average, nor does
its filling count in one. The rows that are given, and so the record, stay as they are.
Runs in: pipeline worker, one thread per stream.
"""

from math import isfinite
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.errors import ConfigError

Floats = NDArray[np.float64]

MOST_NEIGHBOURS: Final = 32
MOST_PAIRS: Final = 1024
_LARGEST: Final = 1e30  # larger values are no numbers of any unit


class Repair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bad channel and the weights by which its neighbours fill it, the caller's (by distance, by splines)."""

    channel: str
    neighbours: dict[str, float]


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is subtracted from each row.

    `average`, `median`: of all channels that are not bad. `channels`: the mean of those named (linked
    mastoids). `bipolar`: channels are differences, first less second, of `pairs`.
    """

    kind: Literal["none", "average", "median", "channels", "bipolar"] = "none"
    channels: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()


NO_REFERENCE: Final = Reference()


class Montage:
    """Repair and reference of one stream; holds no state between rows."""

    def __init__(
        self,
        names: tuple[str, ...],
        reference: Reference = NO_REFERENCE,
        repairs: tuple[Repair, ...] = (),
    ) -> None:
        """`names`: the stream's channels in their order. ConfigError: a name that is not there, weights
        that are none, a reference that is bad."""
        if len(set(names)) != len(names) or not names:
            raise _refused("channels", "their names are not different", "Give each channel its own")
        self._place = {name: i for i, name in enumerate(names)}
        bad = [repair.channel for repair in repairs]
        if len(set(bad)) != len(bad):
            raise _refused(
                "repair.channel", "a channel is named twice", "Name each bad channel once"
            )
        self._fillings = [self._filling(repair, bad) for repair in repairs]
        self._reference = reference
        self._among = np.array([i for i, name in enumerate(names) if name not in bad], np.intp)
        self._first = self._second = np.zeros(0, np.intp)
        self.names = names  # of the channels that come out
        if reference.kind == "channels":
            self._among = self._named(reference.channels, bad)
        elif reference.kind == "bipolar":
            self._first, self._second = self._paired(reference.pairs)
            self.names = tuple(f"{first}-{second}" for first, second in reference.pairs)
        elif reference.kind != "none" and len(self._among) < 2:
            raise _refused(
                "reference.kind",
                "fewer than two channels are good",
                "Take 'channels' or 'none', or repair fewer channels",
            )
        for key, used, kind in (
            ("channels", reference.channels, "channels"),
            ("pairs", reference.pairs, "bipolar"),
        ):
            if used and reference.kind != kind:
                raise _refused(
                    f"reference.{key}",
                    f"kind is {reference.kind!r}",
                    f"Set kind to {kind!r} or remove {key}",
                )

    def _at(self, key: str, name: str) -> int:
        if name not in self._place:
            raise _refused(
                key,
                f"{name!r} is no channel of the stream",
                "Name channels as the device lists them",
            )
        return self._place[name]

    def _filling(self, repair: Repair, bad: list[str]) -> tuple[int, list[tuple[int, float]]]:
        at = self._at("repair.channel", repair.channel)
        if not 1 <= len(repair.neighbours) <= MOST_NEIGHBOURS:
            raise _refused(
                "repair.neighbours",
                f"{repair.channel!r} has {len(repair.neighbours)}",
                f"Give it 1 to {MOST_NEIGHBOURS}",
            )
        parts = []
        for name, weight in repair.neighbours.items():
            if name in bad:
                raise _refused(
                    "repair.neighbours", f"{name!r} is bad itself", "Fill from good channels only"
                )
            if not isfinite(weight) or abs(weight) > 100:
                raise _refused(
                    "repair.neighbours",
                    f"{name!r} has weight {weight}",
                    "Give numbers within ± 100",
                )
            parts.append((self._at("repair.neighbours", name), weight))
        return at, parts

    def _named(self, names: tuple[str, ...], bad: list[str]) -> NDArray[np.intp]:
        if not names or len(set(names)) != len(names):
            raise _refused("reference.channels", "it names none, or one twice", "Name each once")
        for name in names:
            if name in bad:
                raise _refused("reference.channels", f"{name!r} is bad", "Name good channels only")
        return np.array([self._at("reference.channels", name) for name in names], np.intp)

    def _paired(
        self, pairs: tuple[tuple[str, str], ...]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        if not 1 <= len(set(pairs)) == len(pairs) <= MOST_PAIRS:
            raise _refused(
                "reference.pairs", "there is none, or one twice", f"Give 1 to {MOST_PAIRS} pairs"
            )
        for first, second in pairs:
            if first == second:
                raise _refused(
                    "reference.pairs", f"{first!r} is paired with itself", "Pair different channels"
                )
        places = np.array([[self._at("reference.pairs", name) for name in pair] for pair in pairs])
        return places[:, 0].astype(np.intp), places[:, 1].astype(np.intp)

    def apply(self, rows: NDArray[np.floating]) -> NDArray[Any]:
        """Rows (n, n_channels) to (n, channels that come out), in their type.

        Each row for itself: chunks change no bit. A value that is no number stays one, and is left out
        of average and median; a filling of which a neighbour is none is NaN, and so is a row without
        any reference. ValueError: another shape.
        """
        if rows.ndim != 2 or rows.shape[1] != len(self._place):
            msg = f"rows of shape {rows.shape}, not (n, {len(self._place)})"
            raise ValueError(msg)
        x = np.array(rows, dtype=np.float64, order="C")
        x[~(np.abs(x) < _LARGEST)] = np.nan
        for at, parts in self._fillings:
            x[:, at] = 0
            for neighbour, weight in parts:
                x[:, at] += weight * x[:, neighbour]
        if self._reference.kind == "bipolar":
            x = x[:, self._first] - x[:, self._second]
        elif self._reference.kind != "none":
            x -= self._common(x)[:, None]
        return x.astype(rows.dtype)

    def _common(self, x: Floats) -> Floats:
        among = np.ascontiguousarray(x[:, self._among])
        is_there = ~np.isnan(among)
        n = is_there.sum(axis=1)
        found = np.full(len(x), np.nan)
        if self._reference.kind == "median":
            among.sort(axis=1)  # what is no number comes last
            rows = np.arange(len(x))
            low, high = among[rows, np.maximum(n - 1, 0) // 2], among[rows, n // 2]
            found[n > 0] = (0.5 * (low + high))[n > 0]
            return found
        among[~is_there] = 0
        np.divide(among.sum(axis=1), n, out=found, where=n > 0)
        return found


def _refused(key: str, why: str, remedy: str) -> ConfigError:
    return ConfigError("montage", f"{key} cannot be used", why=why, remedy=remedy, key=key)
