"""A process that keeps a session is killed at random moments: each change is there with its event."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.sessionprocess import store_of
from tests.structure.tree import ROOT

ROUNDS = 8
SEED = int(os.environ.get("SEED", "1"))


def killed(root: Path, seed: int, after_s: float) -> int:
    """Rows that the process said were safe before it was killed."""
    command = [sys.executable, "-m", "tests.faults.sessionprocess", str(root), str(seed)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline()]  # it is at work
        time.sleep(after_s)  # the random moment
        os.kill(child.pid, signal.SIGKILL)
        lines += child.stdout.read().splitlines()
    said = [line.split() for line in lines if line.strip()]
    return int(said[-1][0])


def test_a_killed_process_has_lost_no_change_that_it_told_of(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    choice = random.Random(SEED)
    for number in range(ROUNDS):
        safe = killed(tmp_path, SEED * 1000 + number, choice.uniform(0.0, 0.1))
        store, outbox = store_of(tmp_path)
        database = store._database
        try:
            rows = database.query("SELECT session_id, cause, phase FROM session_step ORDER BY id")
            events = [each.event for each in sorted(outbox.unsent(100_000))]
            told = [
                (each.session_id, "phase" if "phase" in each.data else each.data["cause"])
                for each in events
                if "before" in each.data or "phase" in each.data
            ]
            assert len(rows) >= safe
            assert told == [(row[0], row[1]) for row in rows]
            done = database.query("SELECT session_id FROM session WHERE outcome IS NOT NULL")
            completed = [each.session_id for each in events if "outcome" in each.data]
            assert sorted(completed) == sorted(row[0] for row in done)
        finally:
            database.close()
