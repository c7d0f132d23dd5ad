"""What goes wrong in an emulated device, and when. Runs in: emulator process."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from brainforge_edge.core.errors import ConfigError

KINDS = ("boot", "cell", "fault", "laser", "loop", "overflow", "rail")
CHANNEL = 1  # the one that fails
_FORM = re.compile(r"([a-z]+)@([0-9]+(?:\.[0-9]+)?)(?:\+([0-9]+(?:\.[0-9]+)?))?")
_LASTS_S = 1.0


class Fault(NamedTuple):
    kind: str
    at_s: float  # after the device was switched on first
    lasts_s: float


def parse(text: str) -> Fault:
    """`NAME@SECONDS` or `NAME@SECONDS+DURATION`; ConfigError."""
    found = _FORM.fullmatch(text)
    if found is None or found[1] not in KINDS:
        raise ConfigError(
            "bad_fault",
            f"the fault {text!r} is not known",
            why=f"it has not the form NAME@SECONDS or NAME@SECONDS+DURATION with a name of {', '.join(KINDS)}",
            remedy="Correct --fault",
        )
    return Fault(found[1], float(found[2]), float(found[3]) if found[3] else _LASTS_S)


class Faults:
    """`begin` is box time; `boot` and `fault` happen once, the others last."""

    def __init__(self, faults: Sequence[Fault], begin_ns: int) -> None:
        self._spans = [
            (f.kind, begin_ns + round(f.at_s * 1e9), begin_ns + round((f.at_s + f.lasts_s) * 1e9))
            for f in faults
        ]
        self._once = [(kind, at) for kind, at, _ in self._spans if kind in {"boot", "fault"}]

    def __bool__(self) -> bool:
        return bool(self._spans)

    def active(self, now_ns: int) -> frozenset[str]:
        if not self._spans:
            return frozenset()
        return frozenset(kind for kind, begin, end in self._spans if begin <= now_ns < end)

    def due(self, kind: str, now_ns: int) -> bool:
        """Whether one of this kind is to happen now; each once."""
        for at, (what, when) in enumerate(self._once):
            if what == kind and when <= now_ns:
                del self._once[at]
                return True
        return False
