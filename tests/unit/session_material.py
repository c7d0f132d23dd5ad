"""Sessions as tests need them: a plan of three phases, four headsets, and a clock that is set by hand."""

from typing import Any

from brainforge_edge.sessions.card import Session, new_session
from brainforge_edge.sessions.protocol import Phase, Protocol, Text

S = 1_000_000_000
WORN = {"muse-1": "p1", "muse-2": "p2", "hat": "p1"}
KNOWN = (*WORN, "helmet")


def phase(name: str, duration_s: float = 10.0, **more: Any) -> Phase:
    text = Text(key=f"t.{name}", text=name)
    return Phase(name=name, duration_s=duration_s, instruction=text, **more)


def plan(*phases: Phase) -> Protocol:
    return Protocol(
        name="plan",
        title=Text(key="t.plan", text="Plan"),
        phase=phases or (phase("one"), phase("two", 20.0), phase("three", 30.0)),
    )


def session(**changes: Any) -> Session:
    usual: dict[str, Any] = {
        "mode": "dual", "protocol": plan(), "duration_s": None, "devices": WORN,
        "known": KNOWN, "recording": "rec-1", "by": "nurse",
    }  # fmt: skip
    return new_session("s-1", **(usual | changes))


class HandClock:
    """Both clocks, set by hand."""

    def __init__(self, now_ns: int = 1000 * S, utc_ns: int | None = None) -> None:
        self.now_ns = now_ns
        self.utc = utc_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int | None:
        return self.utc

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * S)
        if self.utc is not None:
            self.utc += round(seconds * S)
