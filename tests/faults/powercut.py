"""Power cuts: the whole daemon records on ext4, and its disk is cut off at random moments.

    python -m tests.faults powercut --cuts 1000 --seed 1 --json

A helmet and a Cyton are recorded, sealed, on a disk that writes down each write and each flush, while another
process notes what is durable and when. Then the disk is made as a power cut leaves it: with all that
was flushed, and of the rest nothing, or any part of its pages and sectors in any order. It is mounted,
recovered as an acquire process does, and every row that had been acknowledged must be there, once, as
it was. Needs root, FUSE and loop devices; without them it fails. `--mutant` breaks the product first.
A folder that is not synced does no harm on ext4, where the sync of a new file brings its name along;
`tests/unit/recorder_powercut_test.py` has a disk that is stricter, and finds that one.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from brainforge_edge.codec import registry
from brainforge_edge.recorder.recover import recover_device
from brainforge_edge.recorder.sealing import KEYS_FOLDER
from brainforge_edge.security.keystore import box_store
from tests.faults.box import Box, box_in
from tests.faults.cuttable import MODELS, CuttableDisk, Platter, is_possible
from tests.faults.mutants import environment
from tests.faults.reference import Found, Reference
from tests.faults.witness import Witness
from tests.unit.recorder_faulty_disk import UnsyncedDisk

RECORDING = "cut"
STREAMS = {"helmet-mag": "helmet", "cyton-eeg": "cyton"}
DISK_MIB = 1024
SETTLE_S = 1.0
MOST_UNACKNOWLEDGED_MS = 100.0
MUTANTS = {
    "no-sync": """
    from brainforge_edge.recorder.journal import Journal
    Journal.sync = lambda self: self.appended
    """,
    "acknowledged-first": """
    from brainforge_edge.acquisition.record import Record
    write = Record._write
    def early(self, part, upto):
        done = write(self, part, upto)
        if done and upto > part.stream.ring.durable:
            part.stream.ring.set_durable(upto)
        return done
    Record._write = early
    """,
}


class Recorded:
    """What one run left: the disk's events, what was acknowledged when, and the whole recording."""

    def __init__(self, disk: CuttableDisk, witness: Witness, reference: Reference) -> None:
        self.blank = disk.blank
        self.events = disk.events
        self.witness = witness
        self.reference = reference

    def moments(self) -> list[int]:
        """Events since the first acknowledgement."""
        first = max(seen[0].t_ns for seen in self.witness.seen.values())
        last = min(seen[-1].t_ns for seen in self.witness.seen.values())
        return [n for n, event in enumerate(self.events) if first < event.t_ns <= last]


class Campaign:
    """`run` one recording and so many cuts of it; `result` is what came of them."""

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._chance = random.Random(seed)
        self._say = say
        self.cuts = 0
        self.acknowledged = 0
        self.found = Found()
        self.unacknowledged_ms: list[float] = []
        self.lossy = 0

    def run(self, cuts: int, seconds: float, mutant: str) -> None:
        recorded = self._record(seconds, mutant)
        platter = Platter(self._folder, recorded.blank, recorded.events)
        moments = recorded.moments()
        for at in sorted(self._chance.choice(moments) for _ in range(cuts)):
            self._cut(recorded, platter, at)
            self.cuts += 1
            self._say(f"{self.cuts} of {cuts} cuts, {self.found.lost} rows lost")

    def _record(self, seconds: float, mutant: str) -> Recorded:
        folder = self._folder / "box"
        with CuttableDisk(self._folder, mib=DISK_MIB) as disk:
            with _recording(folder, disk.mount, mutant) as box:
                rings = {each: box.run / "rings" / f"{each}.ring" for each in STREAMS}
                with Witness(rings) as witness:
                    until = time.monotonic() + seconds
                    while (left := until - time.monotonic()) > 0:
                        self._say(f"recording, {left:.0f} s left")
                        time.sleep(min(1.0, left))
                box.ask("stop")
                account = box.verify()[RECORDING]
            assert all(not each["gaps"] for each in account.values()), "the recording has gaps"
            reference = Reference(disk.mount / "box" / "recordings" / RECORDING, tuple(STREAMS))
        return Recorded(disk, witness, reference)

    def _cut(self, recorded: Recorded, platter: Platter, at: int) -> None:
        t_ns = recorded.events[at].t_ns
        model = self._chance.choice(MODELS)
        with platter.mounted(at, model, self._chance) as mount:
            recordings = mount / "box" / "recordings"
            if recordings.is_dir():
                for device in STREAMS.values():
                    recover_device(
                        recordings, device, encode=registry.encode_packed,
                        disk=UnsyncedDisk(), random=self._chance.randbytes,
                        private=box_store(mount / "box" / KEYS_FOLDER),
                    )  # fmt: skip
            UnsyncedDisk.bury()
            before = self.found.lost
            for stream, seen in recorded.witness.at(t_ns).items():
                self.found += recorded.reference.compare(
                    recordings / RECORDING, stream, acknowledged=seen.durable
                )
                self.acknowledged += max(0, seen.durable - recorded.reference.first(stream))
                age = recorded.witness.unacknowledged_ns(t_ns, stream)
                self.unacknowledged_ms.append(age / 1e6)
            self.lossy += self.found.lost > before

    def result(self) -> dict[str, Any]:
        late = np.array(self.unacknowledged_ms or [0.0])
        p99 = float(np.quantile(late, 0.99))
        return {
            "campaign": "powercut",
            "runs": self.cuts,
            "acknowledged": self.acknowledged,
            "lost": self.found.lost,
            "duplicated": self.found.duplicated,
            "different": self.found.different,
            "cuts_with_loss": self.lossy,
            "unacknowledged_ms": {"p99": round(p99, 1), "max": round(float(late.max()), 1)},
            "met": bool(self.cuts and self.acknowledged and not self.found.is_bad),
        }


@contextmanager
def _recording(folder: Path, mount: Path, mutant: str) -> Iterator[Box]:
    """A box of a helmet and a Cyton whose recording lies on the disk at `mount`."""
    folder.mkdir()
    with box_in(folder) as box:
        box.device("helmet", "opm")
        box.device("cyton", "openbci")
        box.emulate("helmet", "opm", channels=306)
        box.emulate("cyton", "cyton", channels=16)
        box.write_config(root=mount / "box")
        box.start(environment(folder, MUTANTS.get(mutant, "")))
        for stream in STREAMS:
            box.until_streaming(stream, 20)
        box.ask("record", name=RECORDING)
        box.until(
            lambda: all(box.stream(each).get("recorded") for each in STREAMS), 20, "the recording"
        )
        time.sleep(SETTLE_S)
        yield box


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults powercut")
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=40.0, help="of the recording that is cut")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if not is_possible():
        sys.exit("powercut: this needs root, /dev/fuse (libfuse3-3), losetup and mkfs.ext4")
    started = time.monotonic()

    def say(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{time.monotonic() - started:6.0f} s  {text}")

    with tempfile.TemporaryDirectory(prefix="bf-powercut-") as folder:
        campaign = Campaign(Path(folder), options.seed, say)
        campaign.run(options.cuts, options.seconds, options.mutant)
    found = campaign.result() | {
        "seed": options.seed,
        "mutant": options.mutant,
        "seconds": round(time.monotonic() - started, 1),
    }
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    print(json.dumps(found, indent=None if options.json else 1))
    return 0 if found["met"] else 1
