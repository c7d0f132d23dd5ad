"""How far the time of a marker is from the moment at which it was sent, while a session of two caps records.

Both by the box clock: just before the request is written to the control socket, and as it is stored. Beside
it the lateness of a bare timer in the same process.
"""

import tempfile
import time
from pathlib import Path

from tests.benchmarks.row import Row
from tests.faults.sessionbox import session_box

N = 300
PAUSE_S = 0.02
GOAL_MS = 5.0


def run() -> list[Row]:
    errors, late = [], []
    with tempfile.TemporaryDirectory() as name, session_box(Path(name), ("rest", 3600.0)) as box:
        box.begin()
        box.until_recording()
        for number in range(N):
            due = time.monotonic_ns() + round(PAUSE_S * 1e9)
            time.sleep(PAUSE_S)
            sent_ns = time.monotonic_ns()
            late.append((sent_ns - due) / 1e6)
            reply = box.ask("mark", description=f"mark {number}")
            errors.append((reply["t_ns"] - sent_ns) / 1e6)
        box.session("stop")
        box.until_state("idle")
    return [
        _row("median", errors, late, N // 2),
        _row("99 of 100", errors, late, N * 99 // 100),
        _row("worst", errors, late, N - 1),
    ]


def _row(case: str, errors: list[float], late: list[float], place: int) -> Row:
    ours, bare = sorted(errors)[place], sorted(late)[place]
    return Row(
        f"marker, {case} of {N}", ours, bare, "ms",
        ours / bare if bare else None, f"<= {GOAL_MS:g} ms", ours <= GOAL_MS,
    )  # fmt: skip
