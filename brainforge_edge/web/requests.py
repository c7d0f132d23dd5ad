"""What may be asked of the API: checked here, and described by /openapi.json from these structs."""

from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct

Text = Annotated[str, Meta(max_length=1000)]
Words = Annotated[str, Meta(min_length=1, max_length=1000)]


class Record(Struct, frozen=True, forbid_unknown_fields=True):
    """Start a recording; without a name it gets one."""

    name: Annotated[str, Meta(max_length=64)] = ""
    preroll: Annotated[float, Meta(ge=0.0, le=60.0)] | None = None  # s before now


class Marker(Struct, frozen=True, forbid_unknown_fields=True):
    """An instant, or a stretch that begins now."""

    description: Words
    duration: Annotated[float, Meta(ge=0.0, le=86_400.0)] = 0.0


class Scan(Struct, frozen=True, forbid_unknown_fields=True):
    """Start a session: who wears what, under which plan."""

    protocol: Words
    devices: dict[str, Text]  # device → pseudonym of the participant
    by: Text | None = None
    mode: Text | None = None
    duration: float | None = None  # what is too long is the protocol's to say


class Step(StrEnum):
    """What can be done with sessions, or asked of them."""

    STOP = "stop"
    LOOK = "look"
    CONSENT = "consent"
    WITHDRAW = "withdraw"
    HAND_OVER = "hand_over"
    CORRECT = "correct"
    EMERGENCY_STOP = "emergency_stop"
    RELEASE = "release"
    ACKNOWLEDGE = "acknowledge"
    SAVE_AGAIN = "save_again"
    SUMMARY = "summary"
    PROTOCOLS = "protocols"


class Status(Struct, frozen=True):
    """`recorded.verdict` is `recording` only while rows of every device were confirmed on the disk
    within 2 s; `status` is what the daemon said `age_ms` ago."""

    age_ms: int
    verdict: str
    devices: dict[str, bool]  # whether rows of each reach the disk
    status: dict[str, Any]
    error: dict[str, Any] | None
