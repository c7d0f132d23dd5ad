"""Bit rot: every kind of damage to segments and journals, read by all that reads them.

    python -m tests.faults bitrot --n 100000 --seed 1 --json

No changed sample may be given out as good, every chunk that was not touched must be read, and what is gone must be named.
`--n` bits of a full segment of 16 MiB are flipped. From 100,000 on every bit and every end of the one of 16 KiB is tried too,
below that an even part of them. Uses one core.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from brainforge_edge.codec import registry
from brainforge_edge.recorder.reader import iter_chunks
from brainforge_edge.recorder.recover import repair_recording
from tests.faults import bitrot_damage as damages
from tests.faults import bitrot_journal as journal
from tests.faults.bitrot_damage import SECTORS, Damage
from tests.faults.bitrot_material import FULL_BYTES, Target, full, small
from tests.faults.bitrot_mutants import MUTANTS, mutant
from tests.faults.bitrot_readers import Count, Readers
from tests.recordings import helmet
from tests.unit.recorder_material import seeded

PARTS = ("small", "ends", "journals", "full")
ALL = 100_000  # so many bits, and nothing of the small ones is left out
MOST_MEMORY = 64 * 1024 * 1024  # that a length which lies may make a reader take
FAR = 10**6  # first row of the segment that misdirected sectors come from


class Campaign:
    """Classes of damage one after another, counted."""

    def __init__(
        self, n: int, seed: int, work: Path, *, full_bytes: int = FULL_BYTES,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.n = n
        self.every = max(1, ALL // n)
        self.rng = random.Random(seed)
        self.seed = seed
        self.work = work
        self.full_bytes = full_bytes
        self.counts: dict[str, Count] = {}
        self.peak_bytes = 0
        self._say = say

    @property
    def is_met(self) -> bool:
        is_all = all(count.is_met and count.runs for count in self.counts.values())
        return is_all and self.peak_bytes <= MOST_MEMORY

    def run(self, parts: Sequence[str] = PARTS, *, stops: bool = False) -> None:
        """All classes, or those of `parts`; `stops` at the first that shows a fault."""
        for part in parts:
            for _ in getattr(self, f"_{part}")():
                if stops and not self.is_met:
                    return

    def _folder(self, name: str) -> Path:
        folder = self.work / name
        folder.mkdir()
        return folder

    def _part(self, every: Iterable[Damage], step: int) -> Iterator[Damage]:
        """Every `step`-th of them, from a random one on."""
        first = self.rng.randrange(step)
        return (damage for i, damage in enumerate(every) if i % step == first)

    def _over(
        self, readers: Readers, name: str, many: Iterable[Damage], *, whole_each: int = 1
    ) -> Iterator[None]:
        """A class of damages; every `whole_each`-th over all of the recording too."""
        count = self.counts[name] = Count()
        for i, damage in enumerate(many):
            if whole_each > 1:
                readers.read(damage, count, is_whole=False)
            if i % whole_each == 0:
                readers.read(damage, count, is_whole=True)
            if i % 100 == 0:
                self._say(f"{name}: {count.runs}")
        yield

    def _small(self) -> Iterator[None]:
        target = small(self._folder("small"), seed=self.seed)
        other = small(self._folder("other"), seed=self.seed + 1, first=FAR)
        readers = Readers(target, self._folder("small-work"), other=other)
        rng, data = self.rng, target.data
        try:
            every = range(0, 8 * len(data), self.every)
            bits = (damages.bit(data, min(n + rng.randrange(self.every), 8 * len(data) - 1)) for n in every)  # fmt: skip
            yield from self._over(readers, "small: bits", bits, whole_each=61)
            cuts = (Damage("cut", length=n) for n in range(0, len(data), self.every))
            yield from self._over(readers, "small: ends", cuts, whole_each=31)
            sectors = (
                damage
                for size in SECTORS
                for at in range(0, len(data) - size, size)
                for damage in damages.sector(target, other.data, at, size, rng)
            )
            yield from self._over(readers, "small: sectors", self._part(sectors, min(4, self.every)))  # fmt: skip
            every_length = (damage for piece in target.pieces for damage in damages.lengths(piece))
            lengths = self._part(every_length, min(40, self.every))
            with self._measured():
                yield from self._over(readers, "small: lengths", lengths, whole_each=101)
            chunks = [piece for piece in target.pieces if piece.has_rows]
            samples = (damages.samples(rng.choice(chunks), rng) for _ in range(max(60, self.n // 50)))  # fmt: skip
            yield from self._over(readers, "small: samples before C", samples, whole_each=31)
            parts = self._part(damages.transplants(target), min(10, self.every))
            yield from self._over(readers, "small: parts of other chunks", parts, whole_each=31)
            yield from self._padding(target)
        finally:
            readers.close()

    def _ends(self) -> Iterator[None]:
        """The last segment of a recording: nothing behind it tells that rows are gone."""
        target = small(self._folder("last"), seed=self.seed + 2, is_last=True)
        readers = Readers(target, self._folder("last-work"))
        borders = {piece.offset + n for piece in target.pieces for n in (-1, 0, 1)} - {-1}
        cuts = [Damage("cut", length=n) for n in sorted(borders)]
        try:
            yield from self._over(readers, "end of a recording", cuts)
        finally:
            readers.close()

    def _padding(self, target: Target) -> Iterator[None]:
        """Bits in space that was reserved and never written: shown to change nothing, byte by byte, after repair."""
        count = self.counts["reserved space"] = Count()
        folder = self._folder("padding") / "rec-1"
        path = folder / target.path.relative_to(target.folder)
        path.parent.mkdir(parents=True)
        for _ in range(max(50, self.n // 500)):
            space = bytearray(3 * len(target.data))
            bit = self.rng.randrange(8 * len(space))
            space[bit // 8] ^= 1 << bit % 8
            path.write_bytes(target.data + space)
            count.runs += 1
            given = [whole.data for whole in iter_chunks(path)]
            if given != [piece.data for piece in target.pieces]:
                count.wrong("lost", f"bit {bit} of reserved space")
            repair_recording(folder, encode=registry.encode_packed, disk=journal.DISK, random=seeded())  # fmt: skip
            if path.read_bytes() != target.data:
                count.wrong("lost", f"repair with bit {bit} of reserved space")
            count.harmless += 1
            count.acknowledged += sum(piece.head.n_samples for piece in target.pieces)
        yield

    def _journals(self) -> Iterator[None]:
        work = self._folder("journal-work")
        box, targets = journal.crashed(self._folder("journal"), seed=self.seed)
        bits = self.counts["journal: bits"] = Count()
        rest = self.counts["journal: sectors, lengths"] = Count()
        recovery = self.counts["journal: recovery"] = Count()
        for target in targets:
            for n in range(self.rng.randrange(self.every), 8 * len(target.data), self.every):
                journal.read(target, damages.bit(target.data, n, "journal bit"), bits)
                if n % 100 == 0:
                    self._say(f"journal: bits: {bits.runs}")
            many = [*journal.sectors(target, targets, self.rng), *journal.lengths(target)]
            cuts = range(0, len(target.data), 7 * min(10, self.every))
            many += [Damage("journal cut", length=n) for n in cuts]
            for damage in many:
                journal.read(target, damage, rest)
            chosen = self._part(many, min(20, self.every + 1))
            places = [self.rng.randrange(8 * len(target.data)) for _ in range(max(20, self.n // 300))]  # fmt: skip
            tried = [damages.bit(target.data, n, "journal bit") for n in places]
            for damage in [*chosen, *tried]:
                journal.recover(box, target, damage, work, recovery)
                self._say(f"journal: recovery: {recovery.runs}")
        yield

    def _full(self) -> Iterator[None]:
        target = full(self._folder("full"), seed=self.seed, size=self.full_bytes)
        readers = Readers(target, self._folder("full-work"))
        rng, data, n = self.rng, target.data, self.n
        other = small(self._folder("far"), seed=self.seed + 3, first=FAR).data
        try:
            bits = (damages.bit(data, rng.randrange(8 * len(data))) for _ in range(n))
            yield from self._over(readers, "full: bits", bits, whole_each=max(250, n // 20))
            some = max(4, n // 100)
            cuts = (Damage("cut", length=rng.randrange(len(data))) for _ in range(some))
            yield from self._over(readers, "full: ends", cuts, whole_each=max(50, some // 10))
            sectors = (
                damage
                for size in SECTORS
                for _ in range(max(2, some // 8))
                for damage in damages.sector(
                    target, other, rng.randrange(len(data) // size) * size, size, rng
                )
            )
            yield from self._over(readers, "full: sectors", sectors, whole_each=max(50, some // 2))
            chosen = rng.sample(target.pieces, min(3, len(target.pieces)))
            every_length = (damage for piece in chosen for damage in damages.lengths(piece))
            lengths = self._part(every_length, min(40, self.every))
            with self._measured():
                yield from self._over(readers, "full: lengths", lengths, whole_each=10_000)
            chunks = [piece for piece in target.pieces if piece.has_rows]
            samples = (damages.samples(rng.choice(chunks), rng) for _ in range(max(4, some // 10)))
            yield from self._over(readers, "full: samples before C", samples, whole_each=50)
        finally:
            readers.close()

    def _measured(self) -> "_Memory":
        return _Memory(self)


class _Memory:
    """The most memory that Python took inside goes into the campaign."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign

    def __enter__(self) -> None:
        tracemalloc.start()

    def __exit__(self, *_: object) -> None:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self._campaign.peak_bytes = max(self._campaign.peak_bytes, peak)


def result(campaign: Campaign) -> dict[str, Any]:
    """The object that is printed."""
    sums = ("runs", "acknowledged", "lost", "duplicated", "false_accepts", "unnamed", "harmless")
    classes = {
        name: {**{key: getattr(count, key) for key in (*sums, "found")}, "whys": count.whys}
        for name, count in campaign.counts.items()
    }
    totals = {key: sum(found[key] for found in classes.values()) for key in sums}
    return {
        "campaign": "bitrot", "seed": campaign.seed, **totals, "met": campaign.is_met,
        "source": helmet().name, "peak_bytes": campaign.peak_bytes, "classes": classes,
    }  # fmt: skip


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults bitrot")
    parser.add_argument("--n", type=int, default=ALL)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS])
    options = parser.parse_args(arguments)
    os.nice(10)
    started = time.monotonic()

    def say(text: str) -> None:
        if sys.stderr.isatty():
            seconds = time.monotonic() - started
            sys.stderr.write(f"\r\x1b[K{seconds:6.0f} s  {text}")

    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="bf-bitrot-", dir=place) as folder:
        campaign = Campaign(max(1, options.n), options.seed, Path(folder), say=say)
        is_over = False
        with mutant(options.mutant), suppress(KeyboardInterrupt):
            campaign.run(options.parts, stops=bool(options.mutant))
            is_over = True
    found = (
        result(campaign)
        | {"met": campaign.is_met and is_over}
        | {"seconds": round(time.monotonic() - started, 1)}
    )
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    if options.json:
        print(json.dumps(found))
    else:
        for name, count in found.pop("classes").items():
            print(f"{name}: {count}")
        print(json.dumps(found))
    return 0 if found["met"] else 1
