"""What all devices at once left behind: lost samples, gaps and the place of the pulses, by the ledgers.

The sample index in channel 0 and the emulator's ledger are the truth; what the box says of its own
gaps is checked against them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.emulators.lsl import as_sent
from brainforge_edge.emulators.main import make_source
from brainforge_edge.emulators.source import PulsedSource, PulseTrain, RowSource
from brainforge_edge.export.recording import Run
from tests.faults.pulses import Alignment, errors_ns
from tests.opened import parts_of

SETTLE_NS = 10_000_000_000  # after each connection, while times are flagged as estimated
AROUND_NS = 500_000_000  # of a kill: rows that no journal had yet; what was seen a look later
COMPARED = 64  # rows at the head of each chunk, against the emulator's own


class Kill(NamedTuple):
    """Of a device's worker, on the box clock; `back_ns`: when its streams were seen again."""

    at_ns: int
    back_ns: int


class Told(NamedTuple):
    """How a device tells its time and data."""

    emulator: str
    sfreq: float
    rate_error: float = 0.0
    channels: int | None = None
    starts_late: int = 0  # samples from the start of a run to its first one
    sample_format: str = ""  # of LSL


@dataclass
class Account:
    """One stream. `lost`: samples that are missing and that no kill of its own worker explains."""

    stream_id: str
    rows: int = 0
    lost: int = 0
    gap_samples: int = 0  # missing around the kills of its own worker
    named: int = 0  # … by the gaps in the record
    plus_minus: int = 0
    wrong_rows: int = 0
    connections: int = 0
    alignment: Alignment = field(default_factory=lambda: Alignment.of([]))

    @property
    def is_named(self) -> bool:
        return abs(self.named - self.gap_samples) <= self.plus_minus


class _Born(NamedTuple):
    """A run of the emulator: its first sample on the box clock, what it sent."""

    t0_ns: float
    emitted: int
    source: PulsedSource
    train: PulseTrain


def account_of(
    recording: Path,
    stream_id: str,
    told: Told,
    ledger: dict[str, Any],
    gaps: list[dict[str, Any]],
    kills: list[Kill],
) -> Account:
    """`gaps` as of `verify --json`, `kills` of this device's worker."""
    (rows,) = parts_of(recording, stream_id)
    name = stream_id.partition("-")[2]
    source = make_source(told.emulator, channels=told.channels, stream=name)
    runs = ledger.get("streams", {}).get(name, ledger)["runs"]
    step_ns = 1e9 / told.sfreq / (1 + told.rate_error)
    train = PulseTrain(**ledger["pulses"])
    born = [_born(run, told, source, train, step_ns) for run in runs]
    account = Account(stream_id)
    account.named = sum(gap["n"] for gap in gaps)
    account.plus_minus = sum(gap["plus_minus"] for gap in gaps)
    errors: list[float] = []
    stretch: list[tuple[Run, _Born]] = []
    before: tuple[_Born, int] | None = None
    expected = None
    for run in rows.runs():
        index = int(_counts(run.data[:1, 0], told)[0])
        home = min(born, key=lambda b: abs(b.t0_ns + index * step_ns - run.t_first_ns))
        if expected != (run.incarnation, run.seq):
            account.connections += 1
            errors += _pulse_errors(stretch, told)
            stretch = []
            _miss(account, before, (home, index), step_ns, kills)
        stretch.append((run, home))
        account.rows += len(run.data)
        account.wrong_rows += _wrong(run.data, index, home, told)
        before = (home, index + len(run.data))
        expected = (run.incarnation, run.seq + len(run.data))
    errors += _pulse_errors(stretch, told)
    if before is None or before[0] is not born[-1] or before[1] != born[-1].emitted:
        account.lost += born[-1].emitted - (before[1] if before else 0)  # the end
    account.alignment = Alignment.of(errors)
    return account


def _born(
    run: dict[str, Any], told: Told, source: RowSource, train: PulseTrain, step_ns: float
) -> _Born:
    first_ns = run["started_ns"] + round(told.starts_late * step_ns)
    pulsed = PulsedSource(source, train, first_ns=first_ns, sample_ns=step_ns)
    return _Born(first_ns, run["emitted"], pulsed, train)


def _miss(
    account: Account,
    before: tuple[_Born, int] | None,
    after: tuple[_Born, int],
    step_ns: float,
    kills: list[Kill],
) -> None:
    """What lies between two stretches of the record: of a kill, or lost."""
    if before is None:
        return
    (old, end), (new, index) = before, after
    n = index - end if old is new else round((new.t0_ns - old.t0_ns) / step_ns + index - end)
    begin_ns = old.t0_ns + end * step_ns
    until_ns = new.t0_ns + index * step_ns
    is_explained = any(
        kill.at_ns - AROUND_NS < begin_ns and until_ns < kill.back_ns + AROUND_NS for kill in kills
    )
    if is_explained:
        account.gap_samples += n
    else:
        account.lost += max(1, n)


def _counts(data: NDArray[Any], told: Told) -> NDArray[Any]:
    return np.rint(data).astype(np.int64) if told.sample_format else data.astype(np.int64)


def _wrong(data: NDArray[Any], index: int, home: _Born, told: Told) -> int:
    n = min(COMPARED, len(data))
    wanted = home.source.rows(index, n)
    if told.sample_format:
        wanted = as_sent(wanted, home.source.channels, told.sample_format)
    is_counted = np.array_equal(_counts(data[:, 0], told), index + np.arange(len(data)))
    return int((data[:n] != wanted).any(axis=1).sum()) + (0 if is_counted else 1)


def _pulse_errors(stretch: list[tuple[Run, _Born]], told: Told) -> list[float]:
    """Of one connection, settled; times between the labels of two chunks lie on a line."""
    if len(stretch) < 2:
        return []
    begin = stretch[0][0].seq
    knots = np.array([run.seq - begin for run, _ in stretch], float)
    labels = np.array([run.t_first_ns - stretch[0][0].t_first_ns for run, _ in stretch], float)
    end = stretch[-1][0].seq - begin  # the last chunk has no label behind it
    t_ns = np.interp(np.arange(end), knots, labels)
    home = stretch[0][1]
    first = int(_counts(stretch[0][0].data[:1, 0], told)[0])
    last = np.concatenate([run.data[:, -1] for run, _ in stretch])[:end].astype(float)
    if told.sample_format:  # physical units, as LSL carries them
        unit = np.zeros((1, len(home.source.channels)))
        unit[0, -1] = 1.0
        last = last / float(as_sent(unit, home.source.channels, "double64")[0, -1])
    beneath = home.source.beneath(first, end)[:, -1]
    part = (last - beneath) / home.train.amplitude
    is_settled = t_ns > SETTLE_NS
    nominal_ns = 1e9 / told.sfreq / (1 + told.rate_error)
    box_ns = (stretch[0][0].t_first_ns % round(home.train.period_s * 1e9)) + t_ns
    return errors_ns(part[is_settled], box_ns[is_settled], home.train, nominal_ns)
