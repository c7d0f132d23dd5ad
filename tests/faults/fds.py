"""A recording process without descriptors, then without memory, while it records.

    python -m tests.faults fds --n 3 --seed 1 --json

The daemon records a Cyton. Before its first segment is opened, the process of the device is given no more
descriptors (prlimit): it must record on in the files that it has, the box must raise the alarm, and chunks
must follow when there are descriptors again. Then its address space is bounded where it stands and it is
given more to do: it may go on or die, and is there again by itself. Every row that another process saw
acknowledged must be there once. `--mutant` breaks the product first. Pressure of the whole machine's memory cannot be had here: the kernel's
answer to it is a `kill -9`, which `kill9` has.
"""

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.box import Box, box_in, is_root
from tests.faults.diskfull import STREAM, WAIT_S, Found, comes, count
from tests.faults.mutants import environment
from tests.faults.witness import Witness

NO_LIMIT = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
WORKER = "acquire:cyton"
MUTANTS = {
    "drops-what-it-cannot-store": """
    from brainforge_edge.acquisition.streamarchive import StreamArchive
    from brainforge_edge.core.errors import StorageError
    append = StreamArchive._append
    def forgetful(self, run, rows):
        try:
            append(self, run, rows)
        except StorageError as error:
            self._recording.faults[self._part.stream.info.stream_id] = error
            self._rows.passed(run)
    StreamArchive._append = forgetful
    """,
}


def campaign(folder: Path, *, n: int, seed: int, mutant: str = "") -> Found:
    """`n` recordings, each with both."""
    chance = random.Random(seed)
    found = Found()
    with box_in(folder) as box:
        box.device("cyton", "openbci")
        box.emulate("cyton", "cyton", channels=16)
        box.write_config()
        box.start(environment(folder, MUTANTS.get(mutant, "")))
        box.until_streaming(STREAM, WAIT_S)
        for _ in range(n):
            found.runs += 1
            _round(box, chance, found)
    return found


def _round(box: Box, chance: random.Random, found: Found) -> None:
    name = f"night-{found.runs}"
    box.ask("record", name=name)
    box.until(lambda: box.stream(STREAM).get("recorded"), WAIT_S, "a recorded row")
    ring = {STREAM: box.run / "rings" / f"{STREAM}.ring"}
    with Witness(ring) as witness:
        pid = int(box.worker(WORKER)["pid"])
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (_lowest_free(pid), hard))
        found.check(
            comes(box, lambda: _fault(box) == "storage.descriptors"), "the fault is not shown"
        )
        before = int(box.stream(STREAM)["durable"])
        found.check(
            comes(box, lambda: box.stream(STREAM)["durable"] > before + 100), "it did not go on"
        )
        found.check(comes(box, lambda: _alarms(box) >= found.runs), "no alarm was raised")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
        found.check(comes(box, lambda: _fault(box) is None), "the fault is still there")
        found.check(
            comes(box, lambda: box.stream(STREAM)["archived_rows"] > before), "no chunk followed"
        )
        size = _address_space(pid)
        resource.prlimit(pid, resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
        time.sleep(chance.uniform(2.0, 6.0))
        if box.worker(WORKER).get("pid") == pid:
            resource.prlimit(pid, resource.RLIMIT_AS, NO_LIMIT)
        before = int(box.stream(STREAM).get("durable") or 0)
        found.check(
            comes(box, lambda: (box.stream(STREAM).get("durable") or 0) > before + 100),
            "it does not record after the want of memory",
        )
    box.ask("stop", timeout_s=120.0)
    count(box.verify()[name][STREAM], witness.seen[STREAM], found)


def _lowest_free(pid: int) -> int:
    """A limit with which the next descriptor is refused: none below it is free."""
    used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number in range(len(used) + 1) if number not in used)


def _address_space(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _fault(box: Box) -> str | None:
    fault = (box.worker(WORKER).get("recording") or {}).get("fault")
    return fault["code"] if fault else None


def _alarms(box: Box) -> int:
    """How often the daemon's log says that descriptors are out."""
    logs = (path.read_text(errors="replace") for path in box.logs.glob("daemon*"))
    return sum(
        "storage.descriptors" in line and '"disk"' in line
        for text in logs
        for line in text.splitlines()
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults fds")
    parser.add_argument("--n", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if not is_root():
        sys.exit("fds: this needs root, to bound another process")
    with tempfile.TemporaryDirectory(prefix="bf-fds-") as folder:
        found = campaign(Path(folder), n=options.n, seed=options.seed, mutant=options.mutant)
    result = found.result("fds") | {"seed": options.seed, "mutant": options.mutant}
    print(json.dumps(result, indent=None if options.json else 1))
    return 0 if result["met"] else 1
