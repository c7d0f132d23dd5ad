"""One line of a benchmark's table."""

import msgspec


class Row(msgspec.Struct, frozen=True):
    """`ratio` is ours over the peer's, in `unit`; `met` is None where no goal was set."""

    case: str
    ours: float
    peer: float | None
    unit: str
    ratio: float | None
    goal: str = ""
    met: bool | None = None
