"""How a session goes on by itself: its monitor, its phases, its end. Pure. Runs in: agent process."""

from typing import NamedTuple

import msgspec

from brainforge_edge.sessions.machine import Bedside, Cause, Step, moved, watched
from brainforge_edge.sessions.schedule import Schedule


class PhaseBegan(NamedTuple):
    """The protocol entered a phase; `due_ns` is when it did, which may be before anyone looked."""

    number: int  # of the stretch
    name: str
    due_ns: int
    elapsed_ns: int  # of the protocol, then


class Course(NamedTuple):
    """What the time brought about."""

    bedside: Bedside
    steps: tuple[Step, ...]
    phases: tuple[PhaseBegan, ...]


def course(bedside: Bedside, schedule: Schedule | None, now_ns: int) -> Course:
    """All that is due by now, each phase that has begun since included."""
    bedside, steps = watched(bedside, now_ns)
    if schedule is None or bedside.running_ns is None:
        return Course(bedside, steps, ())
    elapsed = bedside.elapsed_at(now_ns)
    number = schedule.number_at(elapsed)
    began = []
    for each in range(bedside.stretch + 1, min(number + 1, len(schedule.stretches))):
        phase, begin_ns, _ = schedule.stretches[each]
        began.append(PhaseBegan(each, phase.name, now_ns - (elapsed - begin_ns), begin_ns))
    if began:
        bedside = msgspec.structs.replace(bedside, stretch=began[-1].number)
    if number >= len(schedule.stretches):
        bedside, further = moved(bedside, Cause.PROTOCOL_ENDED, now_ns)
        steps += further
    return Course(bedside, steps, tuple(began))
