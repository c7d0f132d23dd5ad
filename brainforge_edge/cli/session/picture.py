"""A session in lines for people. Pure. Runs in: the CLI process."""

from collections.abc import Iterator
from typing import Any

from brainforge_edge.cli.output import escaped

_SIGNS = {"passed": "+", "failed": "!", "unknown": "?"}


def lines(said: dict[str, Any]) -> Iterator[str]:
    """How it stands: state and flags, phase, who wears what, how the last one ended."""
    yield _headline(said)
    card, phase = said.get("session"), said.get("phase")
    if card is not None:
        left = clock_time(said["left_s"])
        yield f"protocol {card['protocol']}, mode {card['mode']}, {left} left, started by {escaped(card['by'])}"
        if card["mode"] == "feedback":
            yield "NOT RECORDING: this session shows feedback only"
        elif card["recording"]:
            yield f"recording {card['recording']}"
    if phase is not None:
        then = f", then {phase['next']}" if phase["next"] else ", the last one"
        yield f"phase {phase['name']}: {clock_time(phase['left_s'])} left{then}"
        yield f"  {escaped(phase['instruction']['text'])}"
    worn = said.get("seats") or {}
    for device, participant in sorted((card["devices"] if card else worn).items()):
        is_lost = device in said.get("lost_devices", [])
        yield f"  {device}: {participant}{'  MISSING' if is_lost else ''}"
    if said.get("unsupervised_s"):
        yield f"{said['unsupervised_s']:.1f} s were recorded without the safety monitor"
    if latch := said.get("latch"):
        yield f"EMERGENCY STOP, pressed by {escaped(latch['by'])} {latch['for_s']:.0f} s ago; release it"
    yield from _last(said.get("last"))


def check_lines(said: dict[str, Any]) -> Iterator[str]:
    """Each check with its reason, and what to do."""
    for check in said["checks"]:
        need = "" if check["is_needed"] else "  (a session may start all the same)"
        is_open = check["outcome"] != "passed"
        yield f"{_SIGNS[check['outcome']]} {check['name']}: {check['reason']['text']}{need if is_open else ''}"
        if is_open and check["remedy"]:
            yield f"    {check['remedy']['text']}"
    yield "the session may start" if said["may_start"] else "the session may not start"


def clock_time(seconds: float) -> str:
    """`m:ss`, or `h:mm:ss`."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def _headline(said: dict[str, Any]) -> str:
    flags = [
        word
        for word, is_so in (
            ("REC", said["is_recording"]),
            ("DEGRADED", said["is_degraded"]),
            ("NO MONITOR", not said["is_watched"]),
            ("EMERGENCY STOP", said["emergency_stop"]),
        )
        if is_so
    ]
    why = f" after {said['ended_by']}" if said.get("ended_by") else ""
    return "  ".join([f"session {said['state'].upper()}{why}", *flags])


def _last(last: dict[str, Any] | None) -> Iterator[str]:
    if last is None:
        return
    summary = last["summary"]
    yield f"last session {last['session_id']}: {last['outcome']}"
    if summary is None:
        yield "  it was not saved as a whole"
        return
    rows = sum(each["n_samples"] or 0 for each in summary["streams"])
    yield f"  {len(summary['streams'])} streams, {rows} samples, {summary['markers']} markers"
    yield from (f"  {escaped(each)}" for each in summary["lost"] or ["nothing was lost"])
