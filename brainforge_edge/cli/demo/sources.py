"""What the emulators produced: their ledgers, and their rows computed anew. Runs in: the demo process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.emulators.main import make_source

Source = Callable[[int, int], NDArray[Any]]


class Ledger(NamedTuple):
    """What an emulator says it did, and with what it can be computed again."""

    kind: str
    replay: str
    seed: int
    n_channels: int
    emitted: int  # indices produced, dropped ones included
    dropped: int
    stream: str = ""  # "" of a device that has one only, or of its first

    def source(self) -> Source:
        """Rows (n, n_channels) from the index of the first one; the emulator's own function."""
        replay = Path(self.replay) if self.replay else None
        made = make_source(
            self.kind, replay=replay, seed=self.seed, channels=self.n_channels, stream=self.stream
        )
        return made.rows


def read_ledger(path: Path, stream: str = "") -> Ledger:
    """A final ledger, of one stream where it has accounts of several; raises DeviceError for any other."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if not fields["final"]:
            raise ValueError("it is not the final one")
        account = fields.get("streams", {}).get(stream, fields)
        return Ledger(
            kind=str(fields["kind"]),
            replay=str(fields["replay"]),
            seed=int(fields["seed"]),
            n_channels=int(fields["n_channels"]),
            emitted=int(account["emitted"]),
            dropped=sum(int(n) for run in account["runs"] for _, n in run["dropped"]),
            stream=stream,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeviceError(
            "demo_ledger",
            f"the emulator's ledger {path.name} cannot be used",
            why=str(error) or type(error).__name__,
            remedy="Run the demo again with --root DIR and read DIR/logs",
        ) from error
