"""The box's wall clock steps, starts at 1970 or stands while the box sleeps: order and gaps stay as they were.

    python -m tests.faults clock --n 20 --seed 1 --json

The real record, sync and archive bodies record one stream on a clock that is set (`unit/archive_box`): its
monotonic side never steps, its UTC is stepped at a random second. What is read back must be, row for row
and time for time, what the same recording is without a step; and where UTC was not known at first, every
chunk must have the right one, from what the box knew later in that boot. The machine's own clock is left
alone. `--mutant` breaks the product first.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainforge_edge.core.clock import known_utc
from brainforge_edge.export import recording as export
from brainforge_edge.recorder.labels import Labels
from tests.faults.edited import edited_all
from tests.unit.archive_box import FAST, ArchiveBox, SetClock, account, check_stored
from tests.unit.recorder_faulty_disk import UnsyncedDisk

TRUE_NS = 1_796_000_000_000_000_000  # UTC at box time 0
YEAR_S = 31_557_600
SECONDS = 24  # of each recording: several segments
CASES = {  # how far the box's UTC is from the true one: before the step, after it
    "plus 1 h": (0, 3600),
    "minus 1 h": (0, -3600),
    "plus 20 years": (0, 20 * YEAR_S),
    "minus 20 years": (0, -20 * YEAR_S),
    "leap second": (0, -1),
    "cold boot at 1970": (-TRUE_NS // 10**9, 0),
    "suspend of 8 h": (-8 * 3600, 0),  # box time stood meanwhile
}
REPAIRED = {"cold boot at 1970", "minus 20 years"}  # one side of the step is no time at all
MUTANTS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "orders-by-utc": (
        export._index,
        "item.incarnation, item.seq, -item.end",
        "item.t_first_utc_ns or 0, item.seq, -item.end",
    ),
    "labels-not-repaired": (Labels.utc_of, "if not known:", "if True:"),
}


class SteppedClock(SetClock):
    """UTC is `before` seconds from the true one, from box time `step_ns` on `after`."""

    def __init__(self, step_ns: int, before: int, after: int) -> None:
        super().__init__()
        self._step_ns = step_ns
        self._before, self._after = before, after

    def utc_ns(self) -> int | None:
        wrong = self._after if self.now_ns >= self._step_ns else self._before
        return known_utc(TRUE_NS + self.now_ns + wrong * 10**9)


@dataclass(frozen=True)
class Recorded:
    """Chunks of a recording as they are read back."""

    lines: list[
        tuple[int, int, int, int, int]
    ]  # place on the line, incarnation, seq, end, box time
    gaps: int
    n_rows: int
    labels: list[tuple[int, int | None]]  # box time, UTC


def recorded(folder: Path, clock: SetClock) -> Recorded:
    """`SECONDS` of rows, and the account of them; AssertionError if one is not there once, as it was."""
    folder.mkdir()
    box = ArchiveBox(folder / "recordings", folder / "rings", UnsyncedDisk())
    box.clock = clock
    try:
        box.start()
        box.seconds(SECONDS)
        box.finish()
    finally:
        box.close()
    n_rows = SECONDS * 1000
    check_stored(box.root, n_rows, n_rows)
    (rows,) = export.read_parts(box.root / "rec-1", FAST.stream_id, UnsyncedDisk())
    return Recorded(
        [(p.row, p.incarnation, p.seq, p.end, p.t_first_ns) for p in rows.placed],
        len(account(box.root).gaps) + len(rows.skips),
        rows.n_rows,
        [(p.t_first_ns, p.t_first_utc_ns) for p in rows.placed],
    )


def campaign(folder: Path, *, n: int, seed: int) -> dict[str, Any]:
    """Each case `n` times; what is wrong by case."""
    chance = random.Random(seed)
    plain = recorded(folder / "plain", SteppedClock(0, 0, 0))
    wrong: list[str] = []
    runs = lost = 0
    for name, (before, after) in CASES.items():
        for _ in range(n):
            runs += 1
            step_ns = 10**9 + chance.randrange(2 * 10**9, (SECONDS - 2) * 10**9)
            try:
                found = recorded(folder / str(runs), SteppedClock(step_ns, before, after))
            except AssertionError as error:
                lost += plain.n_rows  # not all of them are there once: none is trusted
                wrong.append(f"{name}: {error}")
                continue
            if (found.lines, found.gaps, found.n_rows) != (plain.lines, plain.gaps, plain.n_rows):
                wrong.append(f"{name}: order or gaps are others")
            right = [(t_ns, TRUE_NS + t_ns) for t_ns, _ in found.labels]
            if name in REPAIRED and found.labels != right:
                wrong.append(f"{name}: labels were not repaired")
    rows = runs * plain.n_rows
    return {
        "campaign": "clock", "seed": seed, "runs": runs, "cases": list(CASES), "acknowledged": rows,
        "lost": lost, "duplicated": 0, "wrong": wrong, "met": bool(runs and not wrong),
    }  # fmt: skip


def run(folder: Path, *, n: int, seed: int, mutant: str = "") -> dict[str, Any]:
    """The campaign, with a product that is wrong in one place if `mutant` names one."""
    if not mutant:
        return campaign(folder, n=n, seed=seed)
    with edited_all((MUTANTS[mutant],)):
        return campaign(folder, n=n, seed=seed)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults clock")
    parser.add_argument("--n", type=int, default=20, help="of each case")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bf-clock-") as folder:
        found = run(Path(folder), n=options.n, seed=options.seed, mutant=options.mutant)
    print(json.dumps(found | {"mutant": options.mutant}, indent=None if options.json else 1))
    return 0 if found["met"] else 1
