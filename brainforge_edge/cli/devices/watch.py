"""What changed from one look to the next. Pure."""

import msgspec

from brainforge_edge.devices.sighting import GONE, Sighting

NEW_S = 15.0  # a row is marked as new for this long
GONE_S = 60.0  # … and one that nobody knows stays in the list for this long after it was seen last


class Watch:
    """Marks: "+" came while one watched, "-" went, "" neither."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Sighting] = {}
        self._came: dict[tuple[str, str], float] = {}
        self._went: dict[tuple[str, str], float] = {}
        self._is_first = True

    def take(self, rows: list[Sighting], now_s: float) -> list[tuple[str, Sighting]]:
        """The rows of this look and those that are missing from it, each with its mark."""
        present = {row.key: row for row in rows}
        for key, row in present.items():
            was = self._rows.get(key)
            if row.state == GONE:
                if was is not None and was.state != GONE:
                    self._went[key] = now_s
                self._came.pop(key, None)
            else:
                if (was is None or was.state == GONE) and not self._is_first:
                    self._came[key] = now_s
                self._went.pop(key, None)
        for key, row in self._rows.items():
            if key not in present:
                since = self._went.setdefault(key, now_s)
                self._came.pop(key, None)
                if now_s - since < GONE_S:
                    present[key] = msgspec.structs.replace(row, state=GONE, alive="")
                else:
                    del self._went[key]
        self._rows, self._is_first = present, False
        return [(self._mark(key, now_s), row) for key, row in present.items()]

    def _mark(self, key: tuple[str, str], now_s: float) -> str:
        if key in self._went:
            return "-"
        return "+" if now_s - self._came.get(key, -NEW_S) < NEW_S else ""
