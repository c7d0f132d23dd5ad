"""Which values behind the chain rest on bad raw ones: a filter hides them, and remembers them.

Runs in: pipeline worker, a stream's own thread.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.signal.windows import Trouble, rail_troubles

Floats = NDArray[np.float64]
Codes = NDArray[np.int8]


class Troubles:
    """Of consecutive raw rows; a trouble lasts for `hold` rows more. Chunks change nothing."""

    def __init__(
        self,
        n_picks: int,
        *,
        rails: tuple[Floats, Floats] | None,
        sources: tuple[NDArray[np.intp], ...] | None,
        hold: int,
    ) -> None:
        self._rails = rails
        self._sources = sources
        self._hold = hold
        self._since = np.full(n_picks, hold, np.int64)  # rows after the newest bad one
        self._kind = np.zeros(n_picks, np.int8)

    def clear(self) -> None:
        """Rows are missing here, and the filter begins anew."""
        self._since[:] = self._hold

    def take(self, rows: NDArray[Any]) -> Codes | None:
        """Raw rows (n, picks) in their unit: a `Trouble` for each value behind the chain; None: no
        value has any."""
        bad = self._bad(rows)
        n = len(rows)
        if bad is None and (self._since >= self._hold).all():
            return None
        if bad is None:
            bad = np.zeros(rows.shape, np.int8)
        at = np.arange(n)[:, None]
        # The newest bad row so far, counted from this chunk's first; one before it is negative.
        newest = np.where(bad != Trouble.NONE, at, np.iinfo(np.int64).min)
        newest = np.maximum(np.maximum.accumulate(newest, axis=0), -1 - self._since)
        columns = np.broadcast_to(np.arange(rows.shape[1]), rows.shape)
        kind = np.where(newest >= 0, bad[np.maximum(newest, 0), columns], self._kind)
        codes = np.where(at - newest <= self._hold, kind, np.int8(Trouble.NONE)).astype(np.int8)
        self._since = np.minimum(n - 1 - newest[-1], self._hold)
        self._kind = kind[-1].astype(np.int8)
        return self._mapped(codes)

    def _bad(self, rows: NDArray[Any]) -> Codes | None:
        is_finite = np.isfinite(rows)
        bad = None
        if self._rails is not None:
            bad = rail_troubles(rows, *self._rails)
        if not is_finite.all():
            bad = np.zeros(rows.shape, np.int8) if bad is None else bad
            bad[~is_finite] = Trouble.NOT_FINITE
        return bad if bad is not None and bad.any() else None

    def _mapped(self, codes: Codes) -> Codes:
        if self._sources is None:
            return codes
        return np.stack([codes[:, each].max(axis=1) for each in self._sources], axis=1)
