"""What an emulated device really did: the other side of every account. Runs in: emulator process."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainforge_edge.core.errors import StorageError


@dataclass(slots=True)
class Run:
    """One count of the sample index from 0, between two starts."""

    run_id: str
    started_ns: int  # CLOCK_MONOTONIC
    rows: int = 0  # indices produced, dropped ones included
    dropped: list[list[int]] = field(default_factory=list)  # [first, n], in order, apart

    def drop(self, first: int, n: int) -> None:
        """Samples first .. first + n - 1 never left the device; telling it twice counts once."""
        last = self.dropped[-1] if self.dropped else None
        if last is None or first > last[0] + last[1]:
            self.dropped.append([first, n])
        elif first >= last[0]:
            last[1] = max(last[1], first + n - last[0])
        else:  # what was in the memory is older than what did not fit any more
            spans = sorted([*self.dropped, [first, n]])
            self.dropped = []
            for older in spans:
                self.drop(*older)


class Ledger:
    """`emitted` counts produced indices of all runs; `dropped` are those of the last run."""

    def __init__(self, path: Path | None, **facts: Any) -> None:
        self._path = path
        self._facts = facts
        self.runs: list[Run] = []
        self._streams: dict[str, Ledger] = {}

    def of(self, stream: str, **facts: Any) -> "Ledger":
        """The account of one stream of a device that has several; it lies in the same file."""
        return self._streams.setdefault(stream, Ledger(None, **facts))

    def note(self, **facts: Any) -> None:
        """Add facts about the device."""
        self._facts |= facts

    def start(self, run_id: str, now_ns: int) -> Run:
        run = Run(run_id, now_ns)
        self.runs.append(run)
        return run

    def as_dict(self, *, is_final: bool) -> dict[str, Any]:
        runs = [
            {"id": r.run_id, "started_ns": r.started_ns, "emitted": r.rows, "dropped": r.dropped}
            for r in self.runs
        ]
        streams = {name: led.as_dict(is_final=is_final) for name, led in self._streams.items()}
        return {
            **self._facts,
            **({"streams": streams} if streams else {}),
            "final": is_final,
            "emitted": sum(run.rows for run in self.runs),
            "dropped": [span for run in self.runs[-1:] for span in run.dropped],
            "runs": runs,
        }

    def write(self, *, is_final: bool = False) -> None:
        """Replace the file atomically."""
        if self._path is None:
            return
        part = self._path.with_name(self._path.name + ".part")
        try:
            part.write_text(json.dumps(self.as_dict(is_final=is_final)), encoding="utf-8")
            part.replace(self._path)
        except OSError as error:
            raise StorageError(
                "ledger",
                f"cannot write the ledger {self._path}",
                why=str(error.strerror).lower(),
                remedy="Give --ledger a path of a file, where there is room and you may write",
            ) from error
