"""Where a session stands in its protocol: which phase at which time, and what comes next. Pure. Runs in: agent process; tools."""

from bisect import bisect_right
from typing import NamedTuple

from brainforge_edge.sessions.protocol import (
    MOST_SECONDS,
    Phase,
    Protocol,
    bad_protocol,
)

END = "end"
MOST_STEPS = 5000
_NS = 1_000_000_000


class Stretch(NamedTuple):
    """A phase in its place; times are nanoseconds since the protocol began."""

    phase: Phase
    begin_ns: int
    end_ns: int


class Position(NamedTuple):
    """Where the protocol is at a time."""

    number: int  # of the stretch, from 0
    phase: Phase
    since_ns: int  # how long the phase has lasted
    left_ns: int  # … and will last
    next: Phase | None  # None: the protocol ends then


class Schedule(NamedTuple):
    """Stretches in their order, without holes, from 0 on."""

    stretches: tuple[Stretch, ...]

    @property
    def end_ns(self) -> int:
        return self.stretches[-1].end_ns

    def number_at(self, elapsed_ns: int) -> int:
        """Number of the stretch; one beyond the last at and after the end."""
        return bisect_right([each.end_ns for each in self.stretches], max(0, elapsed_ns))

    def at(self, elapsed_ns: int) -> Position | None:
        """None at the end and after it."""
        number = self.number_at(elapsed_ns)
        if number >= len(self.stretches):
            return None
        here = self.stretches[number]
        rest = self.stretches[number + 1 :]
        elapsed_ns = max(0, elapsed_ns)
        return Position(
            number,
            here.phase,
            elapsed_ns - here.begin_ns,
            here.end_ns - elapsed_ns,
            rest[0].phase if rest else None,
        )


def schedule_of(protocol: Protocol, duration_s: float | None = None) -> Schedule:
    """The protocol from beginning to end, cut after `duration_s` if that comes first."""
    stretches = []
    at = 0
    end = None if duration_s is None else round(duration_s * _NS)
    for phase in unroll(protocol, protocol.name):
        until = at + round(phase.duration_s * _NS)
        if end is not None:
            until = min(until, end)
        if until == at:
            break
        stretches.append(Stretch(phase, at, until))
        at = until
    return Schedule(tuple(stretches))


def unroll(protocol: Protocol, source: str) -> list[Phase]:
    """Phases in the order in which they come; ConfigError `bad_protocol` for one that never ends or never comes."""
    places = {phase.name: number for number, phase in enumerate(protocol.phase)}
    places[END] = len(protocol.phase)
    targets = [_target(number, protocol, places, source) for number in range(len(protocol.phase))]
    left = [phase.times for phase in protocol.phase]
    order: list[Phase] = []
    at, seconds = 0, 0.0
    while at < len(protocol.phase):
        phase = protocol.phase[at]
        order.append(phase)
        seconds += phase.duration_s
        if seconds > MOST_SECONDS or len(order) > MOST_STEPS:
            raise bad_protocol(
                source,
                f"it lasts longer than {MOST_SECONDS:g} s, or has more than {MOST_STEPS} stretches",
                "Shorten its phases, or lead back less often",
            )
        if targets[at] > at:
            at = targets[at]
        elif left[at]:
            left[at] -= 1
            at = targets[at]
        else:
            left[at] = phase.times  # for a loop around this one
            at += 1
    came = {phase.name for phase in order}
    for number, phase in enumerate(protocol.phase):
        if phase.name not in came:
            raise bad_protocol(
                source,
                f"phase[{number}] {phase.name!r} never comes: nothing leads to it",
                "Delete it, or correct the `next` that leads past it",
            )
    return order


def _target(number: int, protocol: Protocol, places: dict[str, int], source: str) -> int:
    phase = protocol.phase[number]
    if not phase.next:
        if phase.times:
            raise bad_protocol(
                source, f"phase[{number}].times is {phase.times} without `next`",
                "Name the phase to go back to with `next`, or delete `times`",
            )  # fmt: skip
        return number + 1
    if phase.next not in places:
        raise bad_protocol(
            source, f"phase[{number}].next is {phase.next[:80]!r}, and no phase is called so",
            f"Name one of {', '.join(list(places)[:20])}",
        )  # fmt: skip
    target = places[phase.next]
    if (target <= number) != bool(phase.times):
        back = "leads back and would never end" if target <= number else "leads on, once"
        raise bad_protocol(
            source, f"phase[{number}].next {back}, with `times` {phase.times}",
            "Give `times` to what leads back, and to nothing else",
        )  # fmt: skip
    return target
