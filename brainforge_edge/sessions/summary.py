"""What came of a session. Pure: its steps and the recorder's account in, a summary out. Runs in: agent process.

"Nothing was lost" is said only of what was counted: a stream that could not be read is named, never 0.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec

from brainforge_edge.sessions.card import Session
from brainforge_edge.sessions.machine import Bedside, State
from brainforge_edge.sessions.preflight import GOOD_SHARE, Channels
from brainforge_edge.sessions.store import StepRow

_NS = 1e9


class StreamAccount(msgspec.Struct, frozen=True, kw_only=True):
    """What the recorder holds of a stream."""

    stream_id: str
    device: str
    sfreq: float = 0.0  # Hz; 0 for an irregular stream
    n_samples: int | None  # None: could not be read
    gaps: tuple[
        tuple[int, int], ...
    ] = ()  # samples that are missing, and by how much that may be wrong


class PhaseSummary(msgspec.Struct, frozen=True):
    name: str
    planned_s: float
    lasted_s: float


class StreamSummary(msgspec.Struct, frozen=True, kw_only=True):
    stream_id: str
    n_samples: int | None
    n_gaps: int
    lost: int | None  # samples; None: not known
    lost_plus_minus: int
    lost_s: float | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """All times in seconds."""

    outcome: str
    phases: tuple[PhaseSummary, ...]
    states: dict[str, float]  # how long each lasted, pauses of the box left out
    restarts: int
    reboots: int
    unsupervised_s: float
    markers: int
    streams: tuple[StreamSummary, ...]
    poor: tuple[str, ...]  # devices with too few good channels at the end
    lost: tuple[str, ...]  # one sentence for each loss; empty: nothing was lost

    @property
    def is_whole(self) -> bool:
        return not self.lost


def summary_of(
    session: Session,
    bedside: Bedside,
    steps: Sequence[StepRow],
    streams: Sequence[StreamAccount],
    *,
    now_ns: int,
    boot_id: str,
    markers: int,
    channels: Mapping[str, Channels],
) -> Summary:
    """`bedside` and `now_ns` are of the moment at which the recording was closed, in boot `boot_id`."""
    told = tuple(_stream(each) for each in streams)
    since = bedside.unsupervised_since_ns
    open_ns = 0 if since is None else max(0, now_ns - since)
    boots = [row.boot_id for row in steps] + [boot_id]
    return Summary(
        outcome=bedside.ended_by.value if bedside.ended_by else "",
        phases=_phases(session, steps, bedside.elapsed_at(now_ns)),
        states=_states(steps, now_ns, boot_id),
        restarts=sum(row.cause == "resumed" for row in steps),
        reboots=sum(one != two for one, two in pairwise(boots)),
        unsupervised_s=(bedside.unsupervised_ns + open_ns) / _NS,
        markers=markers,
        streams=told,
        poor=tuple(
            device for device, each in channels.items()
            if each.n > 0 and each.good < GOOD_SHARE * each.n
        ),
        lost=_losses(session, streams, told),
    )  # fmt: skip


def _phases(
    session: Session, steps: Sequence[StepRow], elapsed_ns: int
) -> tuple[PhaseSummary, ...]:
    """By the protocol's own clock, which a reboot does not confuse."""
    began = [(row.phase, row.elapsed_ns) for row in steps if row.cause == "phase"]
    ends = [begin for _, begin in began[1:]] + [elapsed_ns]
    plans = session.schedule.stretches
    return tuple(
        PhaseSummary(
            name,
            (plan.end_ns - plan.begin_ns) / _NS,
            max(0, min(end, plan.end_ns) - begin) / _NS,
        )
        for (name, begin), end, plan in zip(began, ends, plans, strict=False)
    )


def _states(steps: Sequence[StepRow], now_ns: int, boot_id: str) -> dict[str, float]:
    transitions = [row for row in steps if row.cause != "phase"]
    lasted = dict.fromkeys((state.value for state in State), 0.0)
    following = [(row.boot_id, row.t_ns) for row in transitions[1:]] + [(boot_id, now_ns)]
    for row, (boot, t_ns) in zip(transitions, following, strict=True):
        if row.boot_id == boot:
            lasted[row.state] += max(0, t_ns - row.t_ns) / _NS
    return {state: seconds for state, seconds in lasted.items() if seconds}


def _stream(account: StreamAccount) -> StreamSummary:
    lost = None if account.n_samples is None else sum(n for n, _ in account.gaps)
    is_timed = lost is not None and account.sfreq > 0
    return StreamSummary(
        stream_id=account.stream_id,
        n_samples=account.n_samples,
        n_gaps=len(account.gaps),
        lost=lost,
        lost_plus_minus=sum(plus_minus for _, plus_minus in account.gaps),
        lost_s=(lost or 0) / account.sfreq if is_timed else None,
    )


def _losses(
    session: Session, streams: Sequence[StreamAccount], told: Sequence[StreamSummary]
) -> tuple[str, ...]:
    if not session.recording:
        return ("nothing was recorded: the session showed feedback only",)
    silent = [
        device
        for device in session.devices
        if not any(each.device == device and each.n_samples != 0 for each in streams)
    ]
    lost = [f"{device}: nothing was recorded" for device in silent]
    for each in told:
        if each.lost is None:
            lost.append(f"{each.stream_id}: could not be read, so what is lost is not known")
        elif each.lost or each.lost_plus_minus:
            many = f" ± {each.lost_plus_minus}" if each.lost_plus_minus else ""
            lost.append(f"{each.stream_id}: {each.lost}{many} samples in {each.n_gaps} gaps")
    return tuple(lost)
