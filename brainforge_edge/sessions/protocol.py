"""Protocols: the plan of a session. Runs in: agent process; tools. The file format is in docs/sessions.md."""

from typing import Literal

import msgspec

from brainforge_edge.core.errors import ConfigError

MOST_SECONDS = 24 * 3600.0  # of a phase and of a protocol


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Text(_Section, frozen=True):
    """A sentence for people: pages translate the key and show the text where they have no translation."""

    key: str
    text: str


class Threshold(_Section, frozen=True):
    """Adapts what is asked of a participant to what he reaches; see `threshold.adapted`."""

    feature: str  # a feature of the pipeline, such as "relaxation"
    percentile: float  # … of the last window is aimed at, 0 to 100
    window_s: float
    every_s: float
    step: float  # it moves by this much at a time, at most
    start: float
    least: float
    most: float


class Phase(_Section, frozen=True):
    """A stretch of a session."""

    name: str
    duration_s: float
    instruction: Text
    timescale_s: Literal[1, 2, 4] = 2  # window of the features that feedback shows
    feedback: bool = False
    next: str = ""  # the phase that follows; "" for the next one in the file
    times: int = 0  # how often `next` leads back, before the file goes on


class Protocol(_Section, frozen=True):
    """What a protocol file says, checked."""

    name: str
    title: Text
    phase: tuple[Phase, ...]
    threshold: Threshold | None = None


def bad_protocol(source: str, why: str, remedy: str) -> ConfigError:
    """The error for a protocol file: why it cannot be used, and what to do."""
    return ConfigError(
        "bad_protocol", f"the protocol {source} cannot be used", why=why, remedy=remedy
    )
