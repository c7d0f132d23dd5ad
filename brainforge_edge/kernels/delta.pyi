from typing import Any, final

@final
class SendOnDelta:
    """An event where a channel has moved by more than its threshold since its last event.

    One instance belongs to one thread at a time. Chunks of any size give the same events.
    """

    def __init__(self, thresholds: Any, refractory: int = 0) -> None:
        """`thresholds`: float64, one a channel, in the rows' unit. After an event its channel has none for
        `refractory` rows. ValueError: a threshold that is not finite or below 0."""

    def push(
        self, rows: Any, index: Any, channel: Any, direction: Any, value: Any
    ) -> tuple[int, int]:
        """Events of float32 rows into the four arrays; how many rows were looked at, and how many events there are.

        Fewer rows than given: the arrays are full, call again with the rest. `index` (int64) counts rows since the
        start, `direction` (int8) is 0 for a channel's first value, else its sign, `value` (float32) the row's own.
        A value that is not finite is passed over. Releases the GIL.
        """

    def reset(self) -> None:
        """Start anew: after a gap, or with a new incarnation. Rows count from 0 again."""
